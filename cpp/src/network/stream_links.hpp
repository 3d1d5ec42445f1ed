#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include "latchwork/options.hpp"
#include "layer/cell_step.hpp"
#include "layer/strategy.hpp"
#include "machine/buffer.hpp"
#include "network/activation.hpp"
#include "network/embed_columns.hpp"
#include "network/impute.hpp"
#include "network/input_skip.hpp"
#include "network/pooling.hpp"
#include "network/scale.hpp"
#include "network/sort.hpp"
#include "weights/snapshot.hpp"

// The parts of a stream that hold something from one step to the next.
namespace latchwork {

// The state of one layer. h has two copies: each step reads one and writes the other.
template <class T>
class StreamLayer {
 public:
  StreamLayer(const LstmOptions& options, Index layer, const PackedLayer<T>& packed, Index row_count)
      : weights(&packed),
        rows(row_count),
        hidden_(2 * rows * packed.output_size()),
        large_(step_work(packed, rows) >= smallest_split_step(row_count)),
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

  Index hidden_size() const { return weights->output_size(); }
  Index cell_size() const { return weights->units; }
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

// A module that computes the features of a row from those of the same step alone.
template <class T>
class StreamFeatures {
 public:
  StreamFeatures(Index width, Index rows) : width_(width), results_(rows * width) {}

  const T* result(Index row) const noexcept { return results_.data() + row * width_; }
  void restart(Index) noexcept {}

 protected:
  T* place(Index row) noexcept { return results_.data() + row * width_; }
  void take_results(const StreamFeatures& other) noexcept {
    std::copy_n(other.results_.data(), results_.size(), results_.data());
  }

 private:
  Index width_;
  Buffer<T> results_;
};

template <class T>
class StreamScale : public StreamFeatures<T> {
 public:
  StreamScale(const PackedModule<T>& packed, Index rows)
      : StreamFeatures<T>(packed.shift.size(), rows), constants_(&packed) {}

  void take_state(const StreamScale& other) noexcept { this->take_results(other); }
  void step(Index row, const T*& input) noexcept {
    scale_row(*constants_, input, this->place(row));
    input = this->place(row);
  }

 private:
  const PackedModule<T>* constants_;
};

template <class T>
class StreamEmbedding : public StreamFeatures<T> {
 public:
  StreamEmbedding(const EmbedColumnsOptions& options, const PackedModule<T>& packed, Index rows)
      : StreamFeatures<T>(options.output_size(), rows), columns_(options), tables_(packed.table.data()) {}

  void take_state(const StreamEmbedding& other) noexcept { this->take_results(other); }
  void step(Index row, const T*& input) noexcept {
    columns_.embed(input, tables_, this->place(row));
    input = this->place(row);
  }

 private:
  EmbeddedColumns columns_;
  const T* tables_;
};

template <class T>
class StreamSort : public StreamFeatures<T> {
 public:
  StreamSort(const SortOptions& options, Index features, Index rows)
      : StreamFeatures<T>(features, rows), group_(options.group), features_(features) {}

  void take_state(const StreamSort& other) noexcept { this->take_results(other); }
  void step(Index row, const T*& input) noexcept {
    sort_row(group_, features_, input, this->place(row));
    input = this->place(row);
  }

 private:
  Index group_, features_;
};

template <class T>
class StreamInputSkip : public StreamFeatures<T> {
 public:
  StreamInputSkip(const InputSkipOptions& options, Index features, Index rows)
      : StreamFeatures<T>(features, rows), options_(options), features_(features) {}

  void take_state(const StreamInputSkip& other) noexcept { this->take_results(other); }
  // `network_input` is the row's input of the whole network.
  void step(Index row, const T* network_input, const T*& input) noexcept {
    input_skip_row(options_, network_input, input, features_, this->place(row));
    input = this->place(row);
  }

 private:
  InputSkipOptions options_;
  Index features_;
};

template <class T>
class StreamActivation : public StreamFeatures<T> {
 public:
  StreamActivation(const Kernels<T>& kernels, const PackedModule<T>& packed, Index features, Index rows)
      : StreamFeatures<T>(features, rows), kernels_(&kernels), activation_(packed.activation), features_(features) {}

  void take_state(const StreamActivation& other) noexcept { this->take_results(other); }
  void step(Index row, const T*& input) noexcept {
    activate_row(*kernels_, activation_, input, features_, this->place(row));
    input = this->place(row);
  }

 private:
  const Kernels<T>* kernels_;
  ActivationArgs<T> activation_;
  Index features_;
};

// The values that an Impute carries forward, and their ages.
template <class T>
class StreamImputer : public StreamFeatures<T> {
 public:
  StreamImputer(const ImputeOptions& options, const PackedModule<T>& packed, Index row_count)
      : StreamFeatures<T>(options.output_size(), row_count),
        rows(row_count),
        imputer_(options, packed),
        values_(rows * options.features),
        ages_(rows * options.features) {
    for (Index row = 0; row < rows; ++row) restart(row);
  }

  Index hidden_size() const { return imputer_.options->features; }
  Index cell_size() const { return imputer_.options->features; }
  bool carries() const noexcept { return imputer_.carries(); }
  T* hidden(Index row) noexcept { return values_.data() + row * hidden_size(); }
  T* cell(Index row) noexcept { return ages_.data() + row * cell_size(); }

  void restart(Index row) noexcept { imputer_.restart(hidden(row), cell(row)); }
  void take_state(const StreamImputer& other) noexcept {
    this->take_results(other);
    std::copy_n(other.values_.data(), values_.size(), values_.data());
    std::copy_n(other.ages_.data(), ages_.size(), ages_.data());
  }
  void step(Index row, const T*& input) noexcept {
    imputer_.step(input, hidden(row), cell(row), this->place(row));
    input = this->place(row);
  }

  Index rows;

 private:
  Imputer<T> imputer_;
  Buffer<T> values_, ages_;
};

}  // namespace latchwork
