#include <algorithm>
#include <optional>
#include <vector>

#include "layer.hpp"
#include "parallel.hpp"
#include "strategy.hpp"
#include "weight_gradient.hpp"

namespace latchwork {

namespace {

// Backward through time, chunk by chunk of steps. In a chunk threads first split the rows for the recurrence, meet, and
// then each owns panels of the weight gradients; so neither their number nor the length of a chunk changes a bit: every
// element is one chain over the steps in reverse order of computation and, within a step, over the rows in order.
template <class T>
class LayerBackward {
 public:
  LayerBackward(const LayerBackwardCall<T>& call, Workspace<T>& workspace)
      : call_(call),
        weights_(*call.weights),
        kernels_(*call.kernels),
        schedule_(call.schedule),
        rows_(call.schedule.batch.rows),
        steps_(call.schedule.batch.steps),
        chunk_steps_(std::min(steps_, std::max<Index>(1, gradient_chunk_rows / rows_))),
        capacity_(chunk_steps_ * rows_),
        panel_width_(4 * kernels_.units) {
    const Index h_size = weights_.output_size();
    d_gates_ = workspace.take(capacity_ * 4 * weights_.padded);
    packed_x_ = workspace.take(capacity_ * round_up(weights_.input_size, kernels_.outer_block));
    packed_h_ = workspace.take(capacity_ * round_up(h_size, kernels_.outer_block));
    d_hidden_ = workspace.take_zeros(rows_ * round_up(h_size, kernels_.units));
    d_cell_ = workspace.take_zeros(rows_ * weights_.padded);
    zeros_ = workspace.take_zeros(std::max(weights_.padded, h_size));
    if (weights_.projection > 0) {
      d_exposed_ = workspace.take_zeros(rows_ * weights_.padded);
      d_projected_ = workspace.take(capacity_ * weights_.projection);
      projection_gradient_.emplace(kernels_, capacity_, weights_.projection, weights_.units, workspace);
    }
    const auto capacity = static_cast<std::size_t>(capacity_);
    position_.resize(capacity);
    x_rows_.resize(capacity);
    h_rows_.resize(capacity);
    exposed_rows_.resize(capacity);
    d_projected_rows_.resize(capacity);
    for (auto* pointers : {&gates_, &c_, &c_prev_, &d_h_}) pointers->resize(capacity);
    for (auto* pointers : {&carry_, &d_c_, &d_exposed_rows_, &d_gate_rows_, &d_input_rows_}) pointers->resize(capacity);
    recurrence_parts_ = row_parts(schedule_, weights_);
    const Index work = capacity_ * 4 * weights_.units * (weights_.input_size + h_size);
    gradient_parts_ = work < smallest_parallel_work ? 1 : std::min(num_threads(), weights_.panels);
    shifted_.resize(index(gradient_parts_) * capacity);
  }

  void run() {
    begin_carry();
    for (Index order_end = steps_; order_end > 0; order_end -= std::min(order_end, chunk_steps_)) {
      run_chunk(std::max<Index>(0, order_end - chunk_steps_), order_end);
    }
    end_carry();
  }

 private:
  static std::size_t index(Index value) { return static_cast<std::size_t>(value); }
  // Where the pointers of the part that begins with this row lie, apart from the other parts'.
  std::size_t own_pointers(Index row_begin) const { return index(row_begin * chunk_steps_); }
  T* d_hidden(Index row) const { return d_hidden_ + row * round_up(weights_.output_size(), kernels_.units); }
  T* d_cell(Index row) const { return d_cell_ + row * weights_.padded; }

  void begin_carry() {
    for (Index row = 0; row < rows_; ++row) {
      if (call_.d_end_hidden != nullptr) {
        std::copy_n(call_.d_end_hidden + row * weights_.output_size(), weights_.output_size(), d_hidden(row));
      }
      if (call_.d_end_cell != nullptr) {
        std::copy_n(call_.d_end_cell + row * weights_.units, weights_.units, d_cell(row));
      }
    }
  }

  void end_carry() {
    for (Index row = 0; row < rows_; ++row) {
      if (call_.d_start_hidden != nullptr) {
        std::copy_n(d_hidden(row), weights_.output_size(), call_.d_start_hidden + row * weights_.output_size());
      }
      if (call_.d_start_cell != nullptr) {
        std::copy_n(d_cell(row), weights_.units, call_.d_start_cell + row * weights_.units);
      }
    }
  }

  void run_chunk(Index order_begin, Index order_end) {
    const Index count = list_rows(order_begin, order_end);
    if (count == 0) return;
    const Index parts = recurrence_parts_;
    parallel(std::max(parts, gradient_parts_), [&](Index part) {
      if (part < parts) {
        recur(order_begin, order_end, piece_begin(rows_, parts, part), piece_begin(rows_, parts, part + 1));
      }
      if (part < gradient_parts_) pack_operands(part, count);
    });
    parallel(gradient_parts_, [&](Index part) { add_weight_gradients(part, count); });
    if (projection_gradient_) {
      projection_gradient_->add(d_projected_rows_.data(), exposed_rows_.data(), count, call_.gradient.projection);
    }
  }

  // Numbers the chunk's steps and rows in the order of the chains, and notes what each multiplies its gradient with.
  Index list_rows(Index order_begin, Index order_end) {
    Index count = 0;
    for (Index order = order_end - 1; order >= order_begin; --order) {
      const Index step = schedule_.step(order);
      for (Index row = 0; row < rows_; ++row) {
        if (!schedule_.active(step, row)) continue;
        position_[index((order - order_begin) * rows_ + row)] = count;
        x_rows_[index(count)] = call_.input.at(step, row);
        h_rows_[index(count)] = previous_hidden(step, row);
        if (weights_.projection > 0) {
          exposed_rows_[index(count)] = call_.record->exposed + (step * rows_ + row) * weights_.units;
          d_projected_rows_[index(count)] = d_projected_ + count * weights_.projection;
        }
        ++count;
      }
    }
    return count;
  }

  const T* previous_hidden(Index step, Index row) const {
    if (schedule_.restarts(step, row)) return zeros_;
    if (!schedule_.is_first(step, row)) return call_.output.at(schedule_.previous(step), row);
    return call_.record->start_hidden == nullptr ? zeros_ : call_.record->start_hidden + row * weights_.output_size();
  }

  const T* previous_cell(Index step, Index row) const {
    if (schedule_.restarts(step, row)) return zeros_;
    if (schedule_.is_first(step, row)) return call_.record->start_cell + row * weights_.padded;
    return call_.record->cell + (schedule_.previous(step) * rows_ + row) * weights_.padded;
  }

  void recur(Index order_begin, Index order_end, Index row_begin, Index row_end) {
    for (Index order = order_end - 1; order >= order_begin; --order) {
      step_back(schedule_.step(order), (order - order_begin) * rows_, row_begin, row_end);
    }
    if (call_.d_input.data != nullptr) add_input_gradient(order_begin, order_end, row_begin, row_end);
  }

  // One step of some rows; position_at: where the step's positions begin.
  void step_back(Index step, Index position_at, Index row_begin, Index row_end) {
    const Index h_size = weights_.output_size();
    const std::size_t first = own_pointers(row_begin);
    std::size_t count = first;
    for (Index row = row_begin; row < row_end; ++row) {
      if (!schedule_.active(step, row)) continue;
      T* d_h = d_hidden(row);
      if (call_.d_output.data != nullptr) {
        const T* d_output = call_.d_output.at(step, row);
        for (Index unit = 0; unit < h_size; ++unit) d_h[unit] += d_output[unit];
      }
      const Index slot = step * rows_ + row;
      const Index position = position_[index(position_at + row)];
      gates_[count] = call_.record->gates + slot * 4 * weights_.padded;
      c_[count] = call_.record->cell + slot * weights_.padded;
      c_prev_[count] = previous_cell(step, row);
      carry_[count] = d_h;
      d_h_[count] = d_h;
      d_c_[count] = d_cell(row);
      d_gate_rows_[count] = d_gates_ + position * panel_width_;
      if (weights_.projection > 0) {
        std::copy_n(d_h, h_size, d_projected_ + position * h_size);
        d_exposed_rows_[count] = d_exposed_ + row * weights_.padded;
        d_h_[count] = d_exposed_rows_[count];
      }
      ++count;
    }
    const auto active = static_cast<Index>(count - first);
    if (active == 0) return;
    if (weights_.projection > 0) expose_gradient(first, active);
    CellBackwardArgs<T> args{};
    args.rows = active;
    args.units = weights_.units;
    args.gates = gates_.data() + first;
    args.c = c_.data() + first;
    args.c_prev = c_prev_.data() + first;
    args.d_h = d_h_.data() + first;
    args.d_c = d_c_.data() + first;
    args.d_gates = d_gate_rows_.data() + first;
    args.d_gates_panel_stride = capacity_ * panel_width_;
    kernels_.cell_backward(args);
    multiply_gates(weights_.h_gradient.data(), h_size, first, active, carry_.data() + first, false);
    if (schedule_.batch.reset.data == nullptr) return;
    for (Index row = row_begin; row < row_end; ++row) {
      if (!schedule_.active(step, row) || !schedule_.restarts(step, row)) continue;
      std::fill_n(d_hidden(row), h_size, T(0));
      std::fill_n(d_cell(row), weights_.padded, T(0));
    }
  }

  // From the gradient by the projected h to that by o tanh(c).
  void expose_gradient(std::size_t first, Index active) const {
    ProductArgs<T> args{};
    args.rows = active;
    args.columns = weights_.units;
    args.a = carry_.data() + first;
    args.depth = weights_.projection;
    args.a_block = weights_.projection;
    args.weights = weights_.projection_gradient.data();
    args.y = d_exposed_rows_.data() + first;
    kernels_.product(args, 0, panels_of(weights_.units));
  }

  // y = d_gates times W or R, for `count` of d_gate_rows_ from `first` on.
  void multiply_gates(const T* weights, Index columns, std::size_t first, Index count, T* const* y,
                      bool accumulate) const {
    ProductArgs<T> args{};
    args.rows = count;
    args.columns = columns;
    args.a = d_gate_rows_.data() + first;
    args.depth = 4 * weights_.padded;
    args.a_block = panel_width_;
    args.a_block_stride = capacity_ * panel_width_;
    args.weights = weights;
    args.y = y;
    args.accumulate = accumulate;
    kernels_.product(args, 0, panels_of(columns));
  }

  Index panels_of(Index columns) const { return (columns + panel_width_ - 1) / panel_width_; }

  void add_input_gradient(Index order_begin, Index order_end, Index row_begin, Index row_end) {
    const std::size_t first = own_pointers(row_begin);
    std::size_t count = first;
    for (Index order = order_end - 1; order >= order_begin; --order) {
      const Index step = schedule_.step(order);
      for (Index row = row_begin; row < row_end; ++row) {
        if (!schedule_.active(step, row)) continue;
        const Index position = position_[index((order - order_begin) * rows_ + row)];
        d_gate_rows_[count] = d_gates_ + position * panel_width_;
        d_input_rows_[count] = call_.d_input.at(step, row);
        ++count;
      }
    }
    multiply_gates(weights_.x_gradient.data(), weights_.input_size, first, static_cast<Index>(count - first),
                   d_input_rows_.data() + first, call_.accumulate_input);
  }

  // Blocks of x and h side by side; each part packs its share.
  void pack_operands(Index part, Index count) {
    pack_blocks(x_rows_, weights_.input_size, packed_x_, part, count);
    pack_blocks(h_rows_, weights_.output_size(), packed_h_, part, count);
  }

  void pack_blocks(const std::vector<const T*>& rows, Index columns, T* packed, Index part, Index count) {
    const Index width = kernels_.outer_block;
    const Index blocks = (columns + width - 1) / width;
    const Index first = piece_begin(blocks, gradient_parts_, part) * width;
    const Index end = std::min(columns, piece_begin(blocks, gradient_parts_, part + 1) * width);
    if (first >= end) return;
    const std::size_t own = index(part) * index(count);
    for (std::size_t k = 0; k < index(count); ++k) shifted_[own + k] = rows[k] + first;
    kernels_.pack_outer(shifted_.data() + own, count, end - first, packed + first * count);
  }

  void add_weight_gradients(Index part, Index count) {
    OuterArgs<T> args{};
    args.depth = count;
    args.registers = 4;
    const Index panel_end = piece_begin(weights_.panels, gradient_parts_, part + 1);
    for (Index panel = piece_begin(weights_.panels, gradient_parts_, part); panel < panel_end; ++panel) {
      args.b = d_gates_ + panel * capacity_ * panel_width_;
      args.columns = weights_.input_size;
      args.a = packed_x_;
      args.c = call_.gradient.x_weights + panel * weights_.input_size * panel_width_;
      kernels_.outer(args);
      args.columns = weights_.output_size();
      args.a = packed_h_;
      args.c = call_.gradient.h_weights + panel * weights_.output_size() * panel_width_;
      kernels_.outer(args);
      kernels_.add_rows(args.b, count, panel_width_, call_.gradient.bias + panel * panel_width_);
    }
  }

  const LayerBackwardCall<T>& call_;
  const PackedLayer<T>& weights_;
  const Kernels<T>& kernels_;
  const Schedule& schedule_;
  Index rows_, steps_;
  Index chunk_steps_, capacity_;  // capacity: steps x rows of a chunk
  Index panel_width_;
  Index recurrence_parts_ = 1, gradient_parts_ = 1;

  T* d_gates_ = nullptr;  // [panel][position][4U]
  T* packed_x_ = nullptr;
  T* packed_h_ = nullptr;
  T* d_hidden_ = nullptr;  // gradient by h of the step in hand, padded rows
  T* d_cell_ = nullptr;
  T* d_exposed_ = nullptr;    // with projection: by o tanh(c)
  T* d_projected_ = nullptr;  // with projection: by h, of the chunk, [position][P]
  const T* zeros_ = nullptr;
  std::vector<Index> position_;                                              // of step x row in the chunk
  std::vector<const T*> x_rows_, h_rows_, exposed_rows_, d_projected_rows_;  // by position
  std::vector<const T*> shifted_, gates_, c_, c_prev_, d_h_;
  std::vector<T*> carry_, d_c_, d_exposed_rows_, d_gate_rows_, d_input_rows_;
  std::optional<WeightGradient<T>> projection_gradient_;
};

}  // namespace

template <class T>
void layer_backward(const LayerBackwardCall<T>& call, Workspace<T>& workspace) {
  const Batch& batch = call.schedule.batch;
  if (batch.rows == 0) return;
  LayerBackward<T>(call, workspace).run();
}

template void layer_backward<float>(const LayerBackwardCall<float>&, Workspace<float>&);
template void layer_backward<double>(const LayerBackwardCall<double>&, Workspace<double>&);

}  // namespace latchwork
