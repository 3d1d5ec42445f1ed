#include "latchwork/stream.hpp"

#include <algorithm>
#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <variant>
#include <vector>

#include "latchwork/network.hpp"
#include "machine/float_state.hpp"
#include "machine/parallel.hpp"
#include "network/linear.hpp"
#include "network/network_parts.hpp"
#include "network/stream_links.hpp"
#include "weights/module_sizes.hpp"
#include "weights/snapshot.hpp"

namespace latchwork {

namespace {

// The layers of one member, with their states and buffers.
template <class T>
struct MemberStream {
  // One layer of an LSTM, or another module.
  using StreamLink = std::variant<StreamLayer<T>, StreamLinear<T>, StreamPooling<T>, StreamScale<T>, StreamImputer<T>,
                                  StreamEmbedding<T>, StreamSort<T>, StreamInputSkip<T>, StreamActivation<T>>;

  MemberStream(const detail::NetworkParts<T>& network, const Snapshot<T>& snapshot, Index member, Index row_count)
      : modules(network.modules),
        chain(snapshot.members[static_cast<std::size_t>(member)]),
        kernels(*snapshot.kernels),
        rows(row_count),
        input_size(network.input_size),
        output_size(network.output_size),
        mask(network.step_mask),
        skipped_rows(mask.any() ? static_cast<std::size_t>(row_count) : 0),
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
      if (std::holds_alternative<ScaleOptions>(modules[at])) links.emplace_back(StreamScale<T>(chain[at], rows));
      if (const auto* impute = std::get_if<ImputeOptions>(&modules[at])) {
        links.emplace_back(StreamImputer<T>(*impute, chain[at], rows));
      }
      if (const auto* embed = std::get_if<EmbedColumnsOptions>(&modules[at])) {
        links.emplace_back(StreamEmbedding<T>(*embed, chain[at], rows));
      }
      if (const auto* sort = std::get_if<SortOptions>(&modules[at])) {
        links.emplace_back(StreamSort<T>(*sort, features, rows));
      }
      if (const auto* skip = std::get_if<InputSkipOptions>(&modules[at])) {
        links.emplace_back(StreamInputSkip<T>(*skip, features, rows));
      }
      if (std::holds_alternative<ActivationOptions>(modules[at])) {
        links.emplace_back(StreamActivation<T>(kernels, chain[at], features, rows));
      }
    }
    if (links.empty()) unlinked_output = Buffer<T>(rows * output_size);
  }

  // x holds `size` numbers for each row.
  void step(const T* x, Index size, T* y, const std::uint8_t* reset, const std::uint8_t* skip,
            SkippedOutput skipped) noexcept {
    const auto row_of_x = [&](Index row) { return x + row * size; };
    network_input = x;
    run(row_of_x, y, reset, with_masked(x, size, skip), skipped);
  }
  void step(const std::int64_t* tokens, Index, T* y, const std::uint8_t* reset, const std::uint8_t* skip,
            SkippedOutput skipped) noexcept {
    const Index size = std::get<EmbeddingOptions>(modules.front()).embedding_dim;
    const T* table = chain.front().table.data();
    const auto row_of_table = [&](Index row) { return table + tokens[row] * size; };
    run(row_of_table, y, reset, with_masked(tokens, Index(1), skip), skipped);
  }

  // Adds the rows that the network masks to those that `skip` marks.
  template <class X>
  const std::uint8_t* with_masked(const X* x, Index size, const std::uint8_t* skip) noexcept {
    if (!mask.any()) return skip;
    bool any = false;
    for (Index row = 0; row < rows; ++row) {
      const bool is_called = skip != nullptr && skip[row] != 0, is_masked = !is_called && mask.masks(x + row * size);
      skipped_rows[static_cast<std::size_t>(row)] = is_masked ? masked_row : is_called ? 1 : 0;
      any = any || is_masked;
    }
    return any ? skipped_rows.data() : skip;
  }

  template <class RowOf>
  [[gnu::hot]] void run(RowOf&& row_of, T* y, const std::uint8_t* reset, const std::uint8_t* skip,
                        SkippedOutput skipped) noexcept {
    if (skip != nullptr) return run_some(row_of, y, reset, skip, skipped);
    for (Index row = 0; row < rows; ++row) inputs[static_cast<std::size_t>(row)] = row_of(row);
    for (StreamLink& link : links) {
      if (auto* layer = std::get_if<StreamLayer<T>>(&link)) {
        restart_rows(*layer, reset);
        layer->step(kernels, inputs);
      } else if (auto* linear = std::get_if<StreamLinear<T>>(&link)) {
        step_linear(*linear, rows, &StreamLinear<T>::output_rows);
      } else {
        step_rows(link, reset, nullptr);
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
        step_rows(link, reset, &some);
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
      const bool is_masked = skip == skipped_rows.data() && skip[row] == masked_row;
      if (is_blank != 0 || (is_masked ? mask.output() : skipped) == SkippedOutput::zero) {
        std::fill_n(output, output_size, T(0));
      } else {
        std::copy_n(last_output(row), output_size, output);
      }
    }
  }

  // Steps a link that takes one row after another: all rows, or `some` of them, whose inputs come first.
  void step_rows(StreamLink& link, const std::uint8_t* reset, const std::vector<Index>* some_rows) noexcept {
    const auto step = [&](auto& rowwise) {
      using Link = std::decay_t<decltype(rowwise)>;
      if constexpr (!std::is_same_v<Link, StreamLayer<T>> && !std::is_same_v<Link, StreamLinear<T>>) {
        restart_rows(rowwise, reset);
        const auto step_row = [&](Index row, const T*& input) {
          if constexpr (std::is_same_v<Link, StreamInputSkip<T>>) {
            rowwise.step(row, network_input + row * input_size, input);
          } else {
            rowwise.step(row, input);
          }
        };
        if (some_rows == nullptr) {
          for (Index row = 0; row < rows; ++row) step_row(row, inputs[static_cast<std::size_t>(row)]);
        } else {
          for (std::size_t k = 0; k < some_rows->size(); ++k) step_row((*some_rows)[k], inputs[k]);
        }
      }
    };
    std::visit(step, link);
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

  // Calls task(link, hidden, cell) for each layer of an LSTM and each Impute that carries values, with pointers to its
  // rows in `states`, which are null if they are not there.
  template <class StateType, class Task>
  void for_each_state(const std::vector<StateType>& states, Index member, Task&& task) {
    auto link = links.begin();
    std::size_t state_index = 0;
    for (const ModuleOptions& module : modules) {
      const std::optional<StateSize> size = module_state_size(module);
      if (!size) continue;
      const StateType state = states.empty() ? StateType{} : states[state_index].of(member);
      ++state_index;
      for (Index layer = 0; layer < size->count; ++layer) {
        const auto hidden = state.hidden == nullptr ? nullptr : state.hidden + layer * rows * size->hidden;
        const auto cell = state.cell == nullptr ? nullptr : state.cell + layer * rows * size->cell;
        if (std::holds_alternative<LstmOptions>(module)) {
          while (!std::holds_alternative<StreamLayer<T>>(*link)) ++link;
          task(*std::get_if<StreamLayer<T>>(&*link++), hidden, cell);
        } else {
          while (!carries_values(*link)) ++link;
          task(*std::get_if<StreamImputer<T>>(&*link++), hidden, cell);
        }
      }
    }
  }

  static bool carries_values(const StreamLink& link) noexcept {
    const auto* imputer = std::get_if<StreamImputer<T>>(&link);
    return imputer != nullptr && imputer->carries();
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

  const std::vector<ModuleOptions>& modules;
  const PackedChain<T>& chain;
  const Kernels<T>& kernels;
  static constexpr std::uint8_t masked_row = 2;  // what a row that the network masks is among skipped_rows

  Index rows, input_size, output_size;
  StepMask<T> mask;
  std::vector<std::uint8_t> skipped_rows;  // those of a step in which rows are masked
  const T* network_input = nullptr;        // of the present step
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

// The functions that a step of a small network runs through are marked as hot, so that they lie together in memory.
// Elsewhere they may compete with one another, and with the interpreter's, for the same places of the instruction
// cache: a step of 125 ns took 170 ns in some builds.
template <class T>
[[gnu::hot]] void Stream<T>::step(const T* x, T* y, const std::uint8_t* reset, const StepStrides& strides,
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
        state, member, [&](auto& link, T* hidden, T* cell) {
          const Index size = link.hidden_size(), units = link.cell_size();
          for (Index row = 0; row < link.rows; ++row) {
            if (hidden != nullptr) std::copy_n(link.hidden(row), size, hidden + row * size);
            if (cell != nullptr) std::copy_n(link.cell(row), units, cell + row * units);
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
        state, member, [&](auto& link, const T* hidden, const T* cell) {
          const Index size = link.hidden_size(), units = link.cell_size();
          for (Index row = 0; row < link.rows; ++row) {
            link.restart(row);
            if (hidden != nullptr) std::copy_n(hidden + row * size, size, link.hidden(row));
            if (cell != nullptr) std::copy_n(cell + row * units, units, link.cell(row));
          }
        });
  }
}

template <class T>
void Stream<T>::check_step(const T* x, const StepStrides& strides, const StepSkip& skip) const {
  const CodeCheck<T>& codes = parts_->network->codes;
  if (!codes.any()) return;
  const Index count = strides.x == 0 && skip.member_stride == 0 ? 1 : members();
  std::vector<std::uint8_t> left_out(static_cast<std::size_t>(rows()));
  for (Index member = 0; member < count; ++member) {
    const T* const values = x + member * strides.x;
    for (Index row = 0; row < rows(); ++row) {
      const bool is_called = skip.rows != nullptr && skip.rows[member * skip.member_stride + row] != 0;
      const bool is_masked = parts_->network->step_mask.masks(values + row * input_size());
      left_out[static_cast<std::size_t>(row)] = is_called || is_masked ? 1 : 0;
    }
    codes.check_step(values, input_size(), rows(), left_out.data());
  }
}

template <class T>
void Stream<T>::check_state(const States<const T>& state) const {
  check_start(*parts_->network, state, Batch{0, rows()});
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
    if (std::holds_alternative<ReverseOptions>(module)) {
      throw std::invalid_argument(
          "stream: a Reverse begins with the last step of a sequence, so it cannot be run step by step");
    }
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
