#include <algorithm>
#include <optional>
#include <vector>

#include "cell_step_backward.hpp"
#include "layer.hpp"
#include "parallel.hpp"
#include "strategy.hpp"
#include "weight_gradient.hpp"

namespace latchwork {

namespace {

// Backward through time, chunk by chunk of steps. In a chunk threads first split the rows for the recurrence, meet, and
// then each owns panels of the weight gradients; so neither their number nor the length of a chunk changes a bit: every
// element is one chain over the steps in reverse order of computation and, within a step, over the rows in order.
// A step and row of the chunk has a *position*, its number in that order.
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
        record_(with_steps(call, workspace)),
        output_(call.output),
        h_size_(weights_.output_size()),
        padded_h_(round_up(h_size_, kernels_.units)),
        chunk_steps_(std::min(record_.segment_steps, std::max<Index>(1, gradient_chunk_rows / rows_))),
        capacity_(chunk_steps_ * rows_),
        panel_width_(weights_.gates * kernels_.units),
        peephole_width_(panel_width_ - kernels_.units),
        general_(!weights_.plain || record_.candidate_dropout != nullptr),
        norm_(weights_.variant.norm_ih_weight != nullptr),
        recurrence_parts_(row_parts(schedule_, weights_)),
        arrays_(rows_ + recurrence_parts_ * pointers_apart) {
    d_gates_ = workspace.take(capacity_ * weights_.packed_size());
    packed_x_ = workspace.take(capacity_ * round_up(weights_.input_size, kernels_.outer_block));
    packed_h_ = workspace.take(capacity_ * round_up(h_size_, kernels_.outer_block));
    d_hidden_ = workspace.take_zeros(rows_ * padded_h_);
    d_cell_ = workspace.take_zeros(rows_ * weights_.padded);
    if (weights_.projection > 0) {
      d_exposed_ = workspace.take_zeros(rows_ * weights_.padded);
      d_projected_ = workspace.take(capacity_ * weights_.projection);
      projection_gradient_.emplace(kernels_, capacity_, weights_.projection, weights_.units, workspace);
    }
    const auto capacity = static_cast<std::size_t>(capacity_);
    for (auto* pointers : {&exposed_rows_, &d_projected_rows_, &d_gate_rows_}) pointers->resize(capacity);
    d_input_rows_.resize(capacity);
    position_.resize(capacity);
    for (auto* pointers : {&x_rows_, &h_rows_}) pointers->resize(index(rows_ + recurrence_parts_ * pointers_apart));
    const Index work = capacity_ * weights_.gates * weights_.units * (weights_.input_size + h_size_);
    gradient_parts_ = work < smallest_parallel_work ? 1 : std::min(num_threads(), weights_.panels);
    prepare_variant(workspace);
    if (record_.has_checkpoints()) prepare_replay(workspace);
  }

  void run() {
    begin_carry();
    for (Index segment = record_.segments(steps_) - 1; segment >= 0; --segment) run_segment(segment);
    end_carry();
  }

 private:
  static std::size_t index(Index value) { return static_cast<std::size_t>(value); }
  // Where the pointers of the part that begins with this row lie in those by position, apart from the other parts'.
  std::size_t own_pointers(Index row_begin) const { return index(row_begin * chunk_steps_); }
  // What a part writes at every step must not share a cache line with another's.
  static constexpr Index pointers_apart = 64 / static_cast<Index>(sizeof(T*));
  // The same in those by row.
  static Index own_row_pointers(Index row_begin, Index part) { return row_begin + part * pointers_apart; }
  bool in_segment(Index step) const { return step >= first_step_ && step < end_step_; }
  // Where the recording keeps a step and row.
  Index slot(Index step, Index row) const { return (step - first_step_) * rows_ + row; }
  T* d_hidden(Index row) const { return d_hidden_ + row * padded_h_; }
  T* d_cell(Index row) const { return d_cell_ + row * weights_.padded; }

  // What the plain cell does without.
  void prepare_variant(Workspace<T>& workspace) {
    CellBackwardPointers<T>& pointers = arrays_.pointers;
    d_ih_ = d_hh_ = d_gates_;
    if (general_) {
      room_size_ = general_backward_room(weights_.padded, weights_.gates, kernels_.units);
      rooms_ = workspace.take(recurrence_parts_ * room_size_);
    }
    if (weights_.variant.peephole != nullptr)
      d_peephole_ = workspace.take(capacity_ * weights_.panels * peephole_width_);
    if (norm_) {
      d_ih_ = workspace.take(capacity_ * weights_.packed_size());
      d_hh_ = workspace.take(capacity_ * weights_.packed_size());
      d_norm_ih_weight_ = workspace.take(capacity_ * weights_.packed_size());
      d_norm_hh_weight_ = workspace.take(capacity_ * weights_.packed_size());
      d_norm_cell_ = workspace.take(capacity_ * 2 * weights_.padded);
    }
    if (weights_.learns_start) d_start_ = workspace.take(capacity_ * (h_size_ + weights_.units));
    if (weights_.hidden_zoneout.size() > 0) {
      d_new_hidden_ = workspace.take_zeros(rows_ * padded_h_);
    } else {
      pointers.hidden_zoneout = nullptr;
    }
    if (record_.hidden_dropout != nullptr) {
      d_dropped_hidden_ = workspace.take(rows_ * padded_h_);
    } else {
      pointers.hidden_dropout = nullptr;
    }
    if (record_.candidate_dropout == nullptr) pointers.candidate_dropout = nullptr;
    if (weights_.cell_zoneout.size() == 0) pointers.cell_zoneout = nullptr;
    if (call_.d_output.data == nullptr) pointers.d_output = nullptr;
    steady_ = schedule_.batch.lengths == nullptr && schedule_.batch.reset.data == nullptr && !general_ &&
              weights_.projection == 0 && pointers.hidden_zoneout == nullptr && pointers.hidden_dropout == nullptr;
  }

  // With checkpoints the record lacks the steps.
  static LayerRecord<T> with_steps(const LayerBackwardCall<T>& call, Workspace<T>& workspace) {
    LayerRecord<T> record = *call.record;
    if (record.has_checkpoints()) {
      take_steps(*call.weights, *call.kernels, call.masks, call.schedule.batch.rows, record, workspace);
    }
    return record;
  }

  void prepare_replay(Workspace<T>& workspace) {
    const SequenceView<T> output = contiguous(workspace.take(record_.segment_steps * rows_ * h_size_), rows_, h_size_);
    output_ = {output.data, output.step_stride, output.row_stride};
    replay_.weights = &weights_;
    replay_.kernels = &kernels_;
    replay_.schedule = schedule_;
    replay_.input = call_.input;
    replay_.masks = call_.masks;
    replay_.output = output;
    replay_.record = &record_;
    cache_ = workspace.cache();
  }

  void run_segment(Index segment) {
    segment_ = segment;
    const Index begin = segment * record_.segment_steps;
    const Index end = std::min(begin + record_.segment_steps, steps_);
    first_step_ = schedule_.first_step(begin, end);
    end_step_ = first_step_ + end - begin;
    if (record_.has_checkpoints()) {
      Workspace<T> workspace(cache_);
      layer_replay(replay_, segment, workspace);
    }
    for (Index order_end = end; order_end > begin; order_end -= std::min(order_end - begin, chunk_steps_)) {
      run_chunk(std::max(begin, order_end - chunk_steps_), order_end);
    }
  }

  void begin_carry() {
    for (Index row = 0; row < rows_; ++row) {
      if (call_.d_end_hidden != nullptr) std::copy_n(call_.d_end_hidden + row * h_size_, h_size_, d_hidden(row));
      if (call_.d_end_cell != nullptr) {
        std::copy_n(call_.d_end_cell + row * weights_.units, weights_.units, d_cell(row));
      }
    }
  }

  void end_carry() {
    for (Index row = 0; row < rows_; ++row) {
      if (call_.d_start_hidden != nullptr) {
        std::copy_n(d_hidden(row), h_size_, call_.d_start_hidden + row * h_size_);
      }
      if (call_.d_start_cell != nullptr) {
        std::copy_n(d_cell(row), weights_.units, call_.d_start_cell + row * weights_.units);
      }
      // A row without steps passes its start state on.
      if (weights_.learns_start && schedule_.length(row) == 0) {
        add_start_gradient(false, d_hidden(row), d_cell(row));
      }
    }
  }

  void run_chunk(Index order_begin, Index order_end) {
    const Index count = list_rows(order_begin, order_end);
    if (count == 0) return;
    const Index parts = recurrence_parts_;
    // One thread's recurrence leaves another the time to pack; of several each packs the rows that its cache holds.
    const bool packs_aside = parts == 1 && gradient_parts_ > 1;
    parallel(packs_aside ? 2 : parts, [&](Index part) {
      if (part < parts) recur(order_begin, order_end, part);
      if (packs_aside && part == 0) return;
      const Index owner = packs_aside ? 0 : part;
      pack_operands(order_begin, order_end, part_begin(schedule_, order_begin, order_end, parts, owner),
                    part_begin(schedule_, order_begin, order_end, parts, owner + 1), owner, count);
    });
    parallel(gradient_parts_, [&](Index part) { add_weight_gradients(part, count); });
    if (projection_gradient_) {
      projection_gradient_->add(d_projected_rows_.data(), exposed_rows_.data(), count, call_.gradient.projection);
    }
    if (norm_) {
      // The cell's norm: weight and bias side by side in each row.
      for (Index position = 0; position < count; ++position) {
        const T* own = d_norm_cell_ + position * 2 * weights_.padded;
        for (Index unit = 0; unit < weights_.padded; ++unit) {
          call_.gradient.norm_cell_weight[unit] += own[unit];
          call_.gradient.norm_cell_bias[unit] += own[weights_.padded + unit];
        }
      }
    }
    if (weights_.learns_start) add_start_gradients(order_begin, order_end);
  }

  // Numbers the chunk's steps and rows in the order of the chains; returns how many there are.
  Index list_rows(Index order_begin, Index order_end) {
    Index count = 0;
    for (Index order = order_end - 1; order >= order_begin; --order) {
      const Index step = schedule_.step(order);
      for (Index row = 0; row < rows_; ++row) {
        if (!schedule_.active(step, row)) continue;
        position_[index((order - order_begin) * rows_ + row)] = count;
        if (weights_.projection > 0) {
          exposed_rows_[index(count)] = record_.exposed + slot(step, row) * weights_.units;
          d_projected_rows_[index(count)] = d_projected_ + count * weights_.projection;
        }
        ++count;
      }
    }
    return count;
  }

  const T* previous_hidden(Index step, Index row) const {
    if (schedule_.restarts(step, row)) return weights_.start_hidden.data();
    if (schedule_.is_first(step, row)) {
      return record_.start_hidden == nullptr ? weights_.start_hidden.data() : record_.start_hidden + row * h_size_;
    }
    const Index previous = schedule_.previous(step);
    return in_segment(previous) ? output_.at(previous - first_step_, row)
                                : record_.segment_hidden + (segment_ * rows_ + row) * h_size_;
  }

  const T* previous_cell(Index step, Index row) const {
    if (schedule_.restarts(step, row)) return weights_.start_cell.data();
    if (schedule_.is_first(step, row)) return record_.segment_cell + row * weights_.padded;
    const Index previous = schedule_.previous(step);
    return in_segment(previous) ? record_.cell + slot(previous, row) * weights_.padded
                                : record_.segment_cell + (segment_ * rows_ + row) * weights_.padded;
  }

  void recur(Index order_begin, Index order_end, Index part) {
    const Index row_begin = part_begin(schedule_, order_begin, order_end, recurrence_parts_, part);
    const Index row_end = part_begin(schedule_, order_begin, order_end, recurrence_parts_, part + 1);
    const CellBackwardPointers<T> own = arrays_.pointers.from(own_row_pointers(row_begin, part));
    for (Index order = order_end - 1; order >= order_begin; --order) {
      const Index position_at = (order - order_begin) * rows_;
      if (steady_ && order + 1 < order_end) {
        advance(order, row_begin, row_end, own);
        step_back(schedule_.step(order), position_at, row_begin, row_end, row_end - row_begin, own, nullptr);
      } else {
        const Index count = point(schedule_.step(order), position_at, row_begin, row_end, own);
        step_back(schedule_.step(order), position_at, row_begin, row_end, count, own,
                  general_ ? rooms_ + part * room_size_ : nullptr);
      }
    }
    if (call_.d_input.data != nullptr) add_input_gradient(order_begin, order_end, row_begin, row_end);
  }

  // Points to what a step of some rows reads and writes; returns how many take part. position_at: where the step's
  // positions begin.
  Index point(Index step, Index position_at, Index row_begin, Index row_end, const CellBackwardPointers<T>& own) const {
    Index count = 0;
    for (Index row = row_begin; row < row_end; ++row) {
      if (!schedule_.active(step, row)) continue;
      const Index slot = this->slot(step, row);
      const Index position = position_[index(position_at + row)];
      if (own.d_output != nullptr) own.d_output[count] = call_.d_output.at(step, row);
      own.gates[count] = record_.gates + slot * weights_.packed_size();
      own.c[count] = record_.cell + slot * weights_.padded;
      own.c_prev[count] = previous_cell(step, row);
      own.d_hidden[count] = d_hidden(row);
      own.d_c[count] = d_cell(row);
      own.d_gates[count] = d_gates_ + position * panel_width_;
      own.d_hh[count] = d_hh_ + position * panel_width_;
      if (weights_.projection > 0) {
        own.d_projected[count] = d_projected_ + position * weights_.projection;
        own.d_exposed[count] = d_exposed_ + row * weights_.padded;
      }
      if (general_) point_to_variant(own, count, slot, position);
      point_to_factors(own, count, slot, row);
      ++count;
    }
    return count;
  }

  // The same for the step before the one that they point to, where every step has the same rows: each pointer moves on
  // by its own stride.
  void advance(Index order, Index row_begin, Index row_end, const CellBackwardPointers<T>& own) const {
    const Index rows = row_end - row_begin, step = schedule_.step(order);
    const Index direction = schedule_.reverse ? 1 : -1, slots = direction * rows_;
    const Index before = schedule_.previous(step);
    const bool steady_cell = order > 0 && in_segment(before);
    for (Index at = 0; at < rows; ++at) {
      own.gates[at] += slots * weights_.packed_size();
      own.c[at] = own.c_prev[at];
      own.c_prev[at] = steady_cell ? own.c[at] + slots * weights_.padded : previous_cell(step, row_begin + at);
      own.d_gates[at] += rows_ * panel_width_;
      own.d_hh[at] = own.d_gates[at];
    }
    if (own.d_output == nullptr) return;
    for (Index at = 0; at < rows; ++at) own.d_output[at] += direction * call_.d_output.step_stride;
  }

  // One step of `count` rows.
  void step_back(Index step, Index position_at, Index row_begin, Index row_end, Index count,
                 const CellBackwardPointers<T>& own, T* room) const {
    if (count == 0) return;
    cell_step_backward(weights_, kernels_, count, capacity_, own, room);
    if (schedule_.batch.reset.data == nullptr && !weights_.learns_start) return;
    for (Index row = row_begin; row < row_end; ++row) {
      if (schedule_.active(step, row)) leave_segment(step, row, position_[index(position_at + row)]);
    }
  }

  void point_to_variant(const CellBackwardPointers<T>& own, Index count, Index slot, Index position) const {
    if (d_peephole_ != nullptr) own.d_peephole[count] = d_peephole_ + position * peephole_width_;
    if (!norm_) return;
    own.norm_ih[count] = record_.norm_ih + slot * weights_.packed_size();
    own.norm_hh[count] = record_.norm_hh + slot * weights_.packed_size();
    own.norm_scale[count] = record_.norm_scale + slot * norm_scales;
    own.d_ih[count] = d_ih_ + position * panel_width_;
    own.d_norm_ih_weight[count] = d_norm_ih_weight_ + position * panel_width_;
    own.d_norm_hh_weight[count] = d_norm_hh_weight_ + position * panel_width_;
    own.d_norm_cell[count] = d_norm_cell_ + position * 2 * weights_.padded;
  }

  void point_to_factors(const CellBackwardPointers<T>& own, Index count, Index slot, Index row) const {
    if (own.hidden_dropout != nullptr) {
      own.hidden_dropout[count] = record_.hidden_dropout + row * padded_h_;
      own.d_dropped_hidden[count] = d_dropped_hidden_ + row * padded_h_;
    }
    if (own.candidate_dropout != nullptr) {
      own.candidate_dropout[count] = record_.candidate_dropout + slot * weights_.padded;
    }
    if (own.hidden_zoneout != nullptr) {
      own.hidden_zoneout[count] = record_.hidden_zoneout == nullptr ? weights_.hidden_zoneout.data()
                                                                    : record_.hidden_zoneout + slot * padded_h_;
      own.d_new_hidden[count] = d_new_hidden_ + row * padded_h_;
    }
    if (own.cell_zoneout != nullptr) {
      own.cell_zoneout[count] = record_.cell_zoneout == nullptr ? weights_.cell_zoneout.data()
                                                                : record_.cell_zoneout + slot * weights_.padded;
    }
  }

  // Where the layer's own start state precedes a step, the gradient by it ends; for a trained one it is kept.
  void leave_segment(Index step, Index row, Index position) const {
    const bool restarts = schedule_.restarts(step, row);
    if (weights_.learns_start && (restarts || schedule_.is_first(step, row))) {
      T* kept = d_start_ + position * (h_size_ + weights_.units);
      std::copy_n(d_hidden(row), h_size_, kept);
      std::copy_n(d_cell(row), weights_.units, kept + h_size_);
    }
    if (!restarts) return;
    std::fill_n(d_hidden(row), h_size_, T(0));
    std::fill_n(d_cell(row), weights_.padded, T(0));
  }

  void add_start_gradients(Index order_begin, Index order_end) {
    for (Index order = order_end - 1; order >= order_begin; --order) {
      const Index step = schedule_.step(order);
      for (Index row = 0; row < rows_; ++row) {
        if (!schedule_.active(step, row)) continue;
        const bool restarts = schedule_.restarts(step, row);
        if (!restarts && !schedule_.is_first(step, row)) continue;
        const T* kept = d_start_ + position_[index((order - order_begin) * rows_ + row)] * (h_size_ + weights_.units);
        add_start_gradient(restarts, kept, kept + h_size_);
      }
    }
  }

  // Of one row: after a restart always, else as far as the caller gave no start state of his own.
  void add_start_gradient(bool restarts, const T* d_start_hidden, const T* d_start_cell) {
    if (restarts || record_.start_hidden == nullptr) {
      for (Index unit = 0; unit < h_size_; ++unit) call_.gradient.start_hidden[unit] += d_start_hidden[unit];
    }
    if (restarts || record_.own_start_cell) {
      for (Index unit = 0; unit < weights_.units; ++unit) call_.gradient.start_cell[unit] += d_start_cell[unit];
    }
  }

  void add_input_gradient(Index order_begin, Index order_end, Index row_begin, Index row_end) {
    const std::size_t first = own_pointers(row_begin);
    std::size_t count = first;
    for (Index order = order_end - 1; order >= order_begin; --order) {
      const Index step = schedule_.step(order);
      for (Index row = row_begin; row < row_end; ++row) {
        if (!schedule_.active(step, row)) continue;
        const Index position = position_[index((order - order_begin) * rows_ + row)];
        d_gate_rows_[count] = d_ih_ + position * panel_width_;
        d_input_rows_[count] = call_.d_input.at(step, row);
        ++count;
      }
    }
    ProductArgs<T> args{};
    args.rows = static_cast<Index>(count - first);
    args.columns = weights_.input_size;
    args.a = d_gate_rows_.data() + first;
    args.depth = weights_.packed_size();
    args.a_block = panel_width_;
    args.a_block_stride = capacity_ * panel_width_;
    args.weights = weights_.x_gradient.data();
    args.y = d_input_rows_.data() + first;
    args.accumulate = call_.accumulate_input;
    kernels_.product(args, 0, (args.columns + 4 * kernels_.units - 1) / (4 * kernels_.units));
  }

  // What each step's gradient is multiplied with, x and h, of the rows of a part.
  void pack_operands(Index order_begin, Index order_end, Index row_begin, Index row_end, Index part, Index count) {
    const T** const x = x_rows_.data() + own_row_pointers(row_begin, part);
    const T** const h = h_rows_.data() + own_row_pointers(row_begin, part);
    for (Index order = order_end - 1; order >= order_begin; --order) {
      const Index step = schedule_.step(order);
      Index active = 0, position = 0;
      for (Index row = row_begin; row < row_end; ++row) {
        if (!schedule_.active(step, row)) continue;
        if (active == 0) position = position_[index((order - order_begin) * rows_ + row)];
        x[active] = call_.input.at(step, row);
        h[active] = record_.dropped_hidden == nullptr ? previous_hidden(step, row)
                                                      : record_.dropped_hidden + slot(step, row) * h_size_;
        ++active;
      }
      kernels_.pack_outer(x, active, weights_.input_size, packed_x_, position, count);
      kernels_.pack_outer(h, active, h_size_, packed_h_, position, count);
    }
  }

  void add_weight_gradients(Index part, Index count) {
    const LayerGradient<T>& gradient = call_.gradient;
    OuterArgs<T> args{};
    args.depth = count;
    args.registers = weights_.gates;
    const Index panel_end = piece_begin(weights_.panels, gradient_parts_, part + 1);
    for (Index panel = piece_begin(weights_.panels, gradient_parts_, part); panel < panel_end; ++panel) {
      const Index at = panel * capacity_ * panel_width_;
      args.b = d_ih_ + at;
      args.columns = weights_.input_size;
      args.a = packed_x_;
      args.c = gradient.x_weights + panel * weights_.input_size * panel_width_;
      kernels_.outer(args);
      args.b = d_hh_ + at;
      args.columns = h_size_;
      args.a = packed_h_;
      args.c = gradient.h_weights + panel * h_size_ * panel_width_;
      kernels_.outer(args);
      kernels_.add_rows(d_gates_ + at, count, panel_width_, gradient.bias + panel * panel_width_);
      if (gradient.peephole != nullptr) {
        kernels_.add_rows(d_peephole_ + panel * capacity_ * peephole_width_, count, peephole_width_,
                          gradient.peephole + panel * peephole_width_);
      }
      if (norm_) {
        kernels_.add_rows(d_norm_ih_weight_ + at, count, panel_width_, gradient.norm_ih_weight + panel * panel_width_);
        kernels_.add_rows(d_norm_hh_weight_ + at, count, panel_width_, gradient.norm_hh_weight + panel * panel_width_);
      }
    }
  }

  const LayerBackwardCall<T>& call_;
  const PackedLayer<T>& weights_;
  const Kernels<T>& kernels_;
  const Schedule& schedule_;
  Index rows_, steps_;
  LayerRecord<T> record_;
  SequenceView<const T> output_;  // h of the segment
  LayerCall<T> replay_;           // with checkpoints: what computes a segment again
  std::shared_ptr<WorkspaceCache<T>> cache_;
  Index segment_ = 0, first_step_ = 0, end_step_ = 0;  // the segment in hand
  Index h_size_, padded_h_;                            // H or P; rounded up to whole registers
  Index chunk_steps_, capacity_;                       // capacity: steps x rows of a chunk
  Index panel_width_, peephole_width_;
  bool general_, norm_;  // the general epilogue; layer norm in it
  bool steady_ = false;  // whether pointers advance() from step to step
  Index recurrence_parts_, gradient_parts_ = 1;

  T* d_gates_ = nullptr;  // [panel][position][GU]
  T* packed_x_ = nullptr;
  T* packed_h_ = nullptr;
  T* d_hidden_ = nullptr;  // gradient by h of the step in hand, padded rows
  T* d_cell_ = nullptr;
  T* d_exposed_ = nullptr;    // with projection: by o tanh(c)
  T* d_projected_ = nullptr;  // with projection: by h, of the chunk, [position][P]
  // What variants need; see CellBackwardPointers.
  T *d_ih_ = nullptr, *d_hh_ = nullptr;                          // as d_gates
  T *d_norm_ih_weight_ = nullptr, *d_norm_hh_weight_ = nullptr;  // as d_gates
  T* d_peephole_ = nullptr;                                      // [panel][position][(G - 1) U]
  T* d_norm_cell_ = nullptr;                                     // [position][2][padded]
  T* d_start_ = nullptr;                                         // [position][H or P, H]
  T* rooms_ = nullptr;                                           // [part][room_size_]
  Index room_size_ = 0;
  T *d_new_hidden_ = nullptr, *d_dropped_hidden_ = nullptr;              // [row][padded H or P]
  CellBackwardArrays<T> arrays_;                                         // by row
  std::vector<const T*> x_rows_, h_rows_;                                // by row
  std::vector<Index> position_;                                          // of step x row in the chunk
  std::vector<const T*> exposed_rows_, d_projected_rows_, d_gate_rows_;  // by position
  std::vector<T*> d_input_rows_;
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
