#include "latchwork/stream.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <variant>
#include <vector>

#include "latchwork/network.hpp"
#include "layer/cell_step.hpp"
#include "layer/strategy.hpp"
#include "machine/float_state.hpp"
#include "machine/parallel.hpp"
#include "network/linear.hpp"
#include "network/network_parts.hpp"
#include "network/pooling.hpp"
#include "weights/module_sizes.hpp"
#include "weights/snapshot.hpp"

namespace latchwork {

namespace {

// The state of one layer. h has two copies: each step reads one and writes the other.
template <class T>
class StreamLayer {
 public:
  StreamLayer(const LstmOptions& options, Index layer, const PackedLayer<T>& packed, Index row_count)
      : weights(&packed),
        rows(row_count),
        hidden_(2 * rows * packed.output_size()),
        large_(step_work(packed, rows) >= smallest_split_step),
        pointers_(rows),
        sums_(options.residual && layer > 0 ? rows * packed.output_size() : 0),
        rooms_(rows * room_size(packed)) {
    for (auto& copy : hidden_rows_) copy.resize(static_cast<std::size_t>(rows));
    for (Index row = 0; row < rows; ++row) point(row);
    pointers_.hidden_dropout = nullptr;
    pointers_.candidate_dropout = nullptr;
    if (packed.hidden_zoneout.size() == 0) pointers_.hidden_zoneout = nullptr;
    if (packed.cell_zoneout.size() == 0) pointers_.cell_zoneout = nullptr;
    if (packed.projection == 0) pointers_.unprojected_hidden = nullptr;
    if (packed.variant.norm_ih_weight == nullptr) pointers_.gates = nullptr;
    for (Index row = 0; row < rows; ++row) restart(row);
  }

  T* hidden(Index row) const { return hidden_rows_[current_][static_cast<std::size_t>(row)]; }
  T* cell(Index row) { return rooms_.data() + row * room_size(*weights); }
  const T* cell(Index row) const { return rooms_.data() + row * room_size(*weights); }

  // Takes over the state and the last results of the same layer with other weights, which may be packed otherwise.
  void take_state(const StreamLayer& other) noexcept {
    std::copy_n(other.sums_.data(), sums_.size(), sums_.data());
    for (Index row = 0; row < rows; ++row) {
      std::copy_n(other.hidden(row), weights->output_size(), hidden(row));
      std::copy_n(other.cell(row), weights->units, cell(row));
    }
  }

  // Sets a row to the layer's own start state.
  void restart(Index row) noexcept {
    std::copy_n(weights->start_hidden.data(), weights->output_size(), hidden(row));
    std::copy_n(weights->start_cell.data(), weights->padded, cell(row));
  }

  // Reads the rows that `inputs` points to, and lets it point to the rows that the next layer reads.
  void step(const Kernels<T>& kernels, std::vector<const T*>& inputs) noexcept {
    const std::size_t next = 1 - current_;
    for (Index row = 0; row < rows; ++row) {
      const auto at = static_cast<std::size_t>(row);
      pointers_.x[row] = inputs[at];
      pointers_.h_prev[row] = hidden_rows_[current_][at];
      pointers_.output[row] = hidden_rows_[next][at];
    }
    if (rows > 0) cell_step(*weights, kernels, rows, static_cast<Index>(current_), pointers_, split());
    current_ = next;
    for (Index row = 0; row < rows; ++row) take_result(row, inputs[static_cast<std::size_t>(row)]);
  }

  // The same for `some` rows alone, whose inputs come first. The others, which `skip` marks, keep their state.
  void step_some(const Kernels<T>& kernels, std::vector<const T*>& inputs, const std::vector<Index>& some,
                 const std::uint8_t* skip) noexcept {
    const std::size_t next = 1 - current_;
    const auto count = static_cast<Index>(some.size());
    for (Index k = 0; k < count; ++k) {
      const Index row = some[static_cast<std::size_t>(k)];
      pointers_.x[k] = inputs[static_cast<std::size_t>(k)];
      pointers_.h_prev[k] = hidden_rows_[current_][static_cast<std::size_t>(row)];
      pointers_.output[k] = hidden_rows_[next][static_cast<std::size_t>(row)];
      pointers_.c_prev[k] = pointers_.c[k] = cell(row);
    }
    if (count > 0) cell_step(*weights, kernels, count, static_cast<Index>(current_), pointers_, split());
    for (Index k = 0; k < count; ++k) pointers_.c_prev[k] = pointers_.c[k] = cell(k);
    for (Index row = 0; row < rows; ++row) {
      const auto at = static_cast<std::size_t>(row);
      if (skip[row] != 0) std::copy_n(hidden_rows_[current_][at], weights->output_size(), hidden_rows_[next][at]);
    }
    current_ = next;
    for (Index k = 0; k < count; ++k) {
      take_result(some[static_cast<std::size_t>(k)], inputs[static_cast<std::size_t>(k)]);
    }
  }

  // What the last step of a row gave the next layer.
  const T* result(Index row) const noexcept {
    return sums_.size() > 0 ? sums_.data() + row * weights->output_size() : hidden(row);
  }

  // How the threads that are awake share a step.
  UnitSplit split() const noexcept {
    return large_ ? UnitSplit{unit_parts(*weights, rows), Threads::awake_spun} : UnitSplit{};
  }

  const PackedLayer<T>* weights;
  Index rows;

 private:
  // The numbers that one row needs: the cell, then what the projection and layer norm use.
  static Index room_size(const PackedLayer<T>& packed) {
    Index size = packed.padded;
    if (packed.projection > 0) size += packed.padded;
    if (packed.variant.norm_ih_weight != nullptr) size += packed.padded + 3 * packed.packed_size + norm_scales;
    return size;
  }

  // Turns `input` from what the layer read for a row into what the next one reads.
  void take_result(Index row, const T*& input) noexcept {
    if (sums_.size() > 0) {
      const T* const own = hidden(row);
      T* const sum = sums_.data() + row * weights->output_size();
      for (Index unit = 0; unit < weights->output_size(); ++unit) sum[unit] = own[unit] + input[unit];
      input = sum;
    } else {
      input = hidden(row);
    }
  }

  void point(Index row) {
    T* room = cell(row);
    const auto take = [&room](Index size) { return std::exchange(room, room + size); };
    pointers_.start[row] = weights->bias.data();
    pointers_.hidden_zoneout[row] = weights->hidden_zoneout.data();
    pointers_.cell_zoneout[row] = weights->cell_zoneout.data();
    pointers_.c_prev[row] = pointers_.c[row] = take(weights->padded);
    if (weights->projection > 0) pointers_.unprojected_hidden[row] = take(weights->padded);
    if (weights->variant.norm_ih_weight != nullptr) {
      pointers_.activated_cell[row] = take(weights->padded);
      pointers_.gates[row] = take(weights->packed_size);
      pointers_.norm_ih[row] = take(weights->packed_size);
      pointers_.norm_hh[row] = take(weights->packed_size);
      pointers_.norm_scale[row] = take(norm_scales);
    }
    for (Index copy = 0; copy < 2; ++copy) {
      hidden_rows_[copy][static_cast<std::size_t>(row)] = hidden_.data() + (copy * rows + row) * weights->output_size();
    }
  }

  Buffer<T> hidden_;
  bool large_;
  CellStepPointers<T> pointers_;
  Buffer<T> sums_, rooms_;
  std::vector<T*> hidden_rows_[2];
  std::size_t current_ = 0;
};

template <class T>
struct StreamLinear {
  StreamLinear(const PackedLinear<T>& packed, Index rows)
      : weights(&packed), values(rows * packed.output_size), some_rows(static_cast<std::size_t>(rows)) {
    for (Index row = 0; row < rows; ++row) output_rows.push_back(values.data() + row * packed.output_size);
  }

  const T* result(Index row) const noexcept { return output_rows[static_cast<std::size_t>(row)]; }
  void take_state(const StreamLinear& other) noexcept {
    std::copy_n(other.values.data(), values.size(), values.data());
  }

  const PackedLinear<T>* weights;
  Buffer<T> values;
  std::vector<T*> output_rows;
  std::vector<T*> some_rows;  // those of the output rows that a step writes
};

// Mean or Max of the steps of each row since it started or restarted.
template <class T>
class StreamPooling {
 public:
  StreamPooling(Pooling kind, Index feature_count, Index rows)
      : pooling_(kind), features_(feature_count), pooled_(rows * features_), results_(rows * features_) {
    counts_.resize(static_cast<std::size_t>(rows));
  }

  void restart(Index row) noexcept { counts_[static_cast<std::size_t>(row)] = 0; }

  void take_state(const StreamPooling& other) noexcept {
    counts_ = other.counts_;
    std::copy_n(other.pooled_.data(), pooled_.size(), pooled_.data());
    std::copy_n(other.results_.data(), results_.size(), results_.data());
  }

  // Takes a row's next step from `input`, and lets it point to what the steps so far give.
  void step(Index row, const T*& input) noexcept {
    Index& count = counts_[static_cast<std::size_t>(row)];
    T *const pooled = pooled_.data() + row * features_, *const result = results_.data() + row * features_;
    pool_step(pooling_, count++, features_, input, pooled);
    pool_result(pooling_, count, features_, pooled, result);
    input = result;
  }

  const T* result(Index row) const noexcept { return results_.data() + row * features_; }

 private:
  Pooling pooling_;
  Index features_;
  Buffer<T> pooled_, results_;
  std::vector<Index> counts_;
};

// The layers of one member, with their states and buffers.
template <class T>
struct MemberStream {
  MemberStream(const detail::NetworkParts<T>& network, const Snapshot<T>& snapshot, Index member, Index row_count)
      : modules(network.modules),
        chain(snapshot.members[static_cast<std::size_t>(member)]),
        kernels(*snapshot.kernels),
        rows(row_count),
        output_size(network.output_size),
        inputs(static_cast<std::size_t>(row_count)),
        blank(static_cast<std::size_t>(row_count), 1) {
    some.reserve(static_cast<std::size_t>(row_count));
    Index features = network.input_size;
    for (std::size_t at = 0; at < modules.size(); ++at) {
      features = module_output_size(modules[at], features);
      if (const auto* lstm = std::get_if<LstmOptions>(&modules[at])) {
        for (const PackedLayer<T>& layer : chain[at].layers) {
          links.emplace_back(StreamLayer<T>(*lstm, &layer - chain[at].layers.data(), layer, rows));
        }
      }
      if (std::holds_alternative<LinearOptions>(modules[at])) {
        links.emplace_back(StreamLinear<T>(chain[at].linear, rows));
      }
      if (std::holds_alternative<MeanOptions>(modules[at])) {
        links.emplace_back(StreamPooling<T>(Pooling::mean, features, rows));
      }
      if (std::holds_alternative<MaxOptions>(modules[at])) {
        links.emplace_back(StreamPooling<T>(Pooling::max, features, rows));
      }
    }
    if (links.empty()) unlinked_output = Buffer<T>(rows * output_size);
  }

  // x holds `size` numbers for each row.
  void step(const T* x, Index size, T* y, const std::uint8_t* reset, const std::uint8_t* skip,
            SkippedOutput skipped) noexcept {
    const auto row_of_x = [&](Index row) { return x + row * size; };
    run(row_of_x, y, reset, skip, skipped);
  }
  void step(const std::int64_t* tokens, Index, T* y, const std::uint8_t* reset, const std::uint8_t* skip,
            SkippedOutput skipped) noexcept {
    const Index size = std::get<EmbeddingOptions>(modules.front()).embedding_dim;
    const T* table = chain.front().table.data();
    const auto row_of_table = [&](Index row) { return table + tokens[row] * size; };
    run(row_of_table, y, reset, skip, skipped);
  }

  template <class RowOf>
  void run(RowOf&& row_of, T* y, const std::uint8_t* reset, const std::uint8_t* skip, SkippedOutput skipped) noexcept {
    if (skip != nullptr) return run_some(row_of, y, reset, skip, skipped);
    for (Index row = 0; row < rows; ++row) inputs[static_cast<std::size_t>(row)] = row_of(row);
    for (StreamLink& link : links) {
      if (auto* layer = std::get_if<StreamLayer<T>>(&link)) {
        restart_rows(*layer, reset);
        layer->step(kernels, inputs);
      } else if (auto* linear = std::get_if<StreamLinear<T>>(&link)) {
        step_linear(*linear, rows, &StreamLinear<T>::output_rows);
      } else {
        auto& pooling = *std::get_if<StreamPooling<T>>(&link);
        restart_rows(pooling, reset);
        for (Index row = 0; row < rows; ++row) pooling.step(row, inputs[static_cast<std::size_t>(row)]);
      }
    }
    for (Index row = 0; row < rows; ++row) write_output(row, inputs[static_cast<std::size_t>(row)], y);
    if (any_blank) mark_blank(0);
  }

  // The same, but rows that `skip` marks are left out.
  template <class RowOf>
  void run_some(RowOf&& row_of, T* y, const std::uint8_t* reset, const std::uint8_t* skip,
                SkippedOutput skipped) noexcept {
    some.clear();
    for (Index row = 0; row < rows; ++row) {
      if (skip[row] != 0) continue;
      inputs[some.size()] = row_of(row);
      some.push_back(row);
    }
    const auto count = static_cast<Index>(some.size());
    for (StreamLink& link : links) {
      if (auto* layer = std::get_if<StreamLayer<T>>(&link)) {
        restart_rows(*layer, reset);
        layer->step_some(kernels, inputs, some, skip);
      } else if (auto* linear = std::get_if<StreamLinear<T>>(&link)) {
        for (std::size_t k = 0; k < some.size(); ++k) {
          linear->some_rows[k] = linear->output_rows[static_cast<std::size_t>(some[k])];
        }
        step_linear(*linear, count, &StreamLinear<T>::some_rows);
      } else {
        auto& pooling = *std::get_if<StreamPooling<T>>(&link);
        restart_rows(pooling, reset);
        for (std::size_t k = 0; k < some.size(); ++k) pooling.step(some[k], inputs[k]);
      }
    }
    for (std::size_t k = 0; k < some.size(); ++k) {
      write_output(some[k], inputs[k], y);
      blank[static_cast<std::size_t>(some[k])] = 0;
    }
    for (Index row = 0; row < rows; ++row) {
      if (skip[row] == 0) continue;
      std::uint8_t& is_blank = blank[static_cast<std::size_t>(row)];
      if (reset != nullptr && reset[row] != 0) is_blank = any_blank = true;
      T* const output = y + row * output_size;
      if (is_blank != 0 || skipped == SkippedOutput::zero) {
        std::fill_n(output, output_size, T(0));
      } else {
        std::copy_n(last_output(row), output_size, output);
      }
    }
  }

  template <class Link>
  void restart_rows(Link& link, const std::uint8_t* reset) noexcept {
    if (reset == nullptr) return;
    for (Index row = 0; row < rows; ++row) {
      if (reset[row] != 0) link.restart(row);
    }
  }

  // Runs on the first `count` inputs, and writes to the rows that `outputs` points to.
  void step_linear(StreamLinear<T>& linear, Index count, std::vector<T*> StreamLinear<T>::* outputs) noexcept {
    const PackedLinear<T>& weights = *linear.weights;
    T** const to = (linear.*outputs).data();
    ProductArgs<T> args = product_of(weights.weights, count, inputs.data(), to);
    args.start = weights.bias.data();
    if (count > 0) kernels.product(args, 0, weights.weights.count());
    for (Index k = 0; k < count; ++k) kernels.activate(weights.activation, to[k], weights.output_size, to[k]);
    std::copy_n(to, count, inputs.begin());
  }

  void write_output(Index row, const T* values, T* y) noexcept {
    std::copy_n(values, output_size, y + row * output_size);
    if (links.empty()) std::copy_n(values, output_size, unlinked_output.data() + row * output_size);
  }

  // The output of the row's last step that was not left out, which the last link still holds.
  const T* last_output(Index row) const noexcept {
    if (links.empty()) return unlinked_output.data() + row * output_size;
    return std::visit([row](const auto& link) { return link.result(row); }, links.back());
  }

  void mark_blank(std::uint8_t value) noexcept {
    std::fill(blank.begin(), blank.end(), value);
    any_blank = value != 0;
  }

  // Calls task(layer, hidden, cell) for each layer, with pointers to the layer's rows of h and c in `states`, which are
  // null if they are not there.
  template <class StateType, class Task>
  void for_each_state(const std::vector<StateType>& states, Index member, Task&& task) {
    auto link = links.begin();
    std::size_t lstm_index = 0;
    for (const ModuleOptions& module : modules) {
      const auto* lstm = std::get_if<LstmOptions>(&module);
      if (lstm == nullptr) continue;
      const StateType state = states.empty() ? StateType{} : states[lstm_index].of(member);
      ++lstm_index;
      for (Index layer = 0; layer < lstm->num_layers; ++layer) {
        while (!std::holds_alternative<StreamLayer<T>>(*link)) ++link;
        task(*std::get_if<StreamLayer<T>>(&*link++),
             state.hidden == nullptr ? nullptr : state.hidden + layer * rows * lstm->hidden_output_size(),
             state.cell == nullptr ? nullptr : state.cell + layer * rows * lstm->hidden_size);
      }
    }
  }

  bool is_shared() const noexcept {
    return std::any_of(links.begin(), links.end(), [](const StreamLink& link) {
      const auto* layer = std::get_if<StreamLayer<T>>(&link);
      return layer != nullptr && layer->split().parts > 1;
    });
  }

  // Takes over the state of the same member with other weights, and the outputs that skipped steps repeat.
  void take_state(const MemberStream& other) noexcept {
    for (std::size_t at = 0; at < links.size(); ++at) {
      std::visit([&](auto& link) { link.take_state(*std::get_if<std::decay_t<decltype(link)>>(&other.links[at])); },
                 links[at]);
    }
    blank = other.blank;
    any_blank = other.any_blank;
    std::copy_n(other.unlinked_output.data(), unlinked_output.size(), unlinked_output.data());
  }

  // Begins Mean and Max anew.
  void restart_pooling() noexcept {
    for (StreamLink& link : links) {
      if (auto* pooling = std::get_if<StreamPooling<T>>(&link)) {
        for (Index row = 0; row < rows; ++row) pooling->restart(row);
      }
    }
  }

  // One layer of an LSTM, a Linear, or a Mean or Max.
  using StreamLink = std::variant<StreamLayer<T>, StreamLinear<T>, StreamPooling<T>>;

  const std::vector<ModuleOptions>& modules;
  const PackedChain<T>& chain;
  const Kernels<T>& kernels;
  Index rows, output_size;
  std::vector<StreamLink> links;
  std::vector<const T*> inputs;  // the rows that the next link reads
  std::vector<Index> some;       // the rows that a step does not leave out
  // Rows that have not had a step since they were restarted or their state was set, and so have no output to repeat.
  std::vector<std::uint8_t> blank;
  bool any_blank = true;
  Buffer<T> unlinked_output;  // the last output of each row, if there are no links that hold it
};

}  // namespace

namespace detail {

template <class T>
struct StreamParts {
  StreamParts(std::shared_ptr<const NetworkParts<T>> parts, Index row_count)
      : network(std::move(parts)),
        snapshot(snapshot_of(*network, false)),
        rows(row_count),
        input_size(network->input_size) {
    members.reserve(static_cast<std::size_t>(network->members));
    for (Index member = 0; member < network->members; ++member) members.emplace_back(*network, *snapshot, member, rows);
    only = members.size() == 1 ? members.data() : nullptr;
    // After the members, because a number of rows for which this product overflows has found no memory there.
    member_work = rows * network->member_parameter_count;
  }

  // The number of pieces into which the threads that are awake split the members.
  Index pieces() const noexcept {
    const auto count = static_cast<Index>(members.size());
    return count * member_work < smallest_parallel_work ? 1 : std::min(free_threads(), count);
  }

  template <class X>
  void step(const X* x, Index x_size, T* y, const std::uint8_t* reset, const StepStrides& strides,
            const StepSkip& skip) noexcept {
    const FlushToZero flush;
    if (only != nullptr) return only->step(x, x_size, y, reset, skip.rows, skip.output);
    const Index y_size = rows * network->output_size, count = static_cast<Index>(members.size());
    const Index parts = pieces();
    parallel(
        parts,
        [&](Index part) {
          for (Index member = piece_begin(count, parts, part); member < piece_begin(count, parts, part + 1); ++member) {
            members[static_cast<std::size_t>(member)].step(
                x + member * strides.x, x_size, y + member * y_size,
                reset == nullptr ? nullptr : reset + member * strides.reset,
                skip.rows == nullptr ? nullptr : skip.rows + member * skip.member_stride, skip.output);
          }
        },
        Threads::awake_spun);
  }

  std::shared_ptr<const NetworkParts<T>> network;
  std::shared_ptr<const Snapshot<T>> snapshot;
  Index rows;
  Index member_work = 0;  // about how many multiply-adds a member's step takes
  Index input_size;
  std::vector<MemberStream<T>> members;
  MemberStream<T>* only = nullptr;  // a single member, which a small step then finds at once
};

}  // namespace detail

template <class T>
Stream<T>::Stream(std::unique_ptr<detail::StreamParts<T>> parts) : parts_(std::move(parts)) {}

template <class T>
Stream<T>::~Stream() = default;

template <class T>
Index Stream<T>::members() const {
  return parts_->network->members;
}
template <class T>
Index Stream<T>::rows() const {
  return parts_->rows;
}
template <class T>
Index Stream<T>::input_size() const {
  return parts_->network->input_size;
}
template <class T>
Index Stream<T>::output_size() const {
  return parts_->network->output_size;
}
template <class T>
bool Stream<T>::takes_tokens() const {
  return std::holds_alternative<EmbeddingOptions>(parts_->network->modules.front());
}

template <class T>
bool Stream<T>::is_shared() const noexcept {
  return parts_->members.size() == 1 ? parts_->members.front().is_shared() : parts_->pieces() > 1;
}

template <class T>
void Stream<T>::step(const T* x, T* y, const std::uint8_t* reset, const StepStrides& strides,
                     const StepSkip& skip) noexcept {
  parts_->step(x, parts_->input_size, y, reset, strides, skip);
}

template <class T>
void Stream<T>::step(const std::int64_t* tokens, T* y, const std::uint8_t* reset, const StepStrides& strides,
                     const StepSkip& skip) noexcept {
  parts_->step(tokens, 1, y, reset, strides, skip);
}

template <class T>
void Stream<T>::get_state(const States<T>& state) const noexcept {
  for (Index member = 0; member < members(); ++member) {
    parts_->members[static_cast<std::size_t>(member)].for_each_state(
        state, member, [&](StreamLayer<T>& layer, T* hidden, T* cell) {
          const Index size = layer.weights->output_size(), units = layer.weights->units;
          for (Index row = 0; row < layer.rows; ++row) {
            if (hidden != nullptr) std::copy_n(layer.hidden(row), size, hidden + row * size);
            if (cell != nullptr) std::copy_n(layer.cell(row), units, cell + row * units);
          }
        });
  }
}

template <class T>
void Stream<T>::set_state(const States<const T>& state) noexcept {
  for (Index member = 0; member < members(); ++member) {
    parts_->members[static_cast<std::size_t>(member)].mark_blank(1);
    parts_->members[static_cast<std::size_t>(member)].restart_pooling();
    parts_->members[static_cast<std::size_t>(member)].for_each_state(
        state, member, [&](StreamLayer<T>& layer, const T* hidden, const T* cell) {
          const Index size = layer.weights->output_size(), units = layer.weights->units;
          for (Index row = 0; row < layer.rows; ++row) {
            layer.restart(row);
            if (hidden != nullptr) std::copy_n(hidden + row * size, size, layer.hidden(row));
            if (cell != nullptr) std::copy_n(cell + row * units, units, layer.cell(row));
          }
        });
  }
}

template <class T>
void Stream<T>::reset() noexcept {
  set_state({});
}

template <class T>
void Stream<T>::refresh() {
  auto refreshed = std::make_unique<detail::StreamParts<T>>(parts_->network, parts_->rows);
  for (std::size_t member = 0; member < refreshed->members.size(); ++member) {
    refreshed->members[member].take_state(parts_->members[member]);
  }
  parts_ = std::move(refreshed);
}

template <class T>
std::unique_ptr<Stream<T>> Network<T>::stream(Index rows) const {
  if (rows < 0) throw std::invalid_argument("batch_size: expected 0 or more, got " + std::to_string(rows));
  num_threads();  // counts the CPUs, and may throw, now rather than in a step
  for (const ModuleOptions& module : modules()) {
    const auto* lstm = std::get_if<LstmOptions>(&module);
    if (lstm != nullptr && lstm->direction != Direction::forward) {
      throw std::invalid_argument(
          "stream: a reverse direction reads a sequence from its end, so it cannot be run step by step");
    }
  }
  return std::make_unique<Stream<T>>(std::make_unique<detail::StreamParts<T>>(parts_, rows));
}

template class Stream<float>;
template class Stream<double>;
template std::unique_ptr<Stream<float>> Network<float>::stream(Index) const;
template std::unique_ptr<Stream<double>> Network<double>::stream(Index) const;

}  // namespace latchwork
