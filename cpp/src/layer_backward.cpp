#include <algorithm>
#include <atomic>
#include <deque>
#include <optional>
#include <vector>

#include "cell_step_backward.hpp"
#include "chunk_positions.hpp"
#include "layer.hpp"
#include "parallel.hpp"
#include "strategy.hpp"
#include "weight_gradient.hpp"

namespace latchwork {

namespace {

// Backward through time, chunk by chunk of steps, of one block of rows after the other or of all at once. In a chunk
// threads first split the rows for the recurrence, meet, and then each owns panels of blocks' weight gradients; so
// neither their number nor the length of a chunk changes a bit.
template <class T>
class LayerBackward {
 public:
  // gradients: of each block. threads: how many may be used.
  LayerBackward(const LayerBackwardCall<T>& call, const RowBlocks& blocks,
                const std::vector<LayerGradient<T>>& gradients, bool all_blocks, Index threads, Workspace<T>& workspace)
      : call_(call),
        blocks_(blocks),
        gradients_(gradients),
        weights_(*call.weights),
        kernels_(*call.kernels),
        schedule_(call.schedule),
        rows_(call.schedule.batch.rows),
        steps_(call.schedule.batch.steps),
        record_(with_steps(call, workspace)),
        output_(call.output),
        h_size_(weights_.output_size()),
        padded_h_(round_up(h_size_, kernels_.units)),
        panel_width_(weights_.gates * kernels_.units),
        peephole_width_(panel_width_ - kernels_.units),
        general_(!weights_.plain || record_.candidate_dropout != nullptr),
        norm_(weights_.variant.norm_ih_weight != nullptr),
        recurrence_parts_(all_blocks ? backward_split(schedule_, weights_).row_parts : 1),
        units_{all_blocks ? backward_split(schedule_, weights_).unit_parts : 1, Threads::awake},
        most_rows_(all_blocks ? rows_ : blocks.most_rows()),
        chunk_steps_(
            std::min(record_.segment_steps, std::max<Index>(1, gradient_chunk_rows * recurrence_parts_ / most_rows_))),
        positions_(schedule_, blocks, all_blocks, chunk_steps_),
        arrays_(most_rows_ + recurrence_parts_ * pointers_apart) {
    const Index places = positions_.places();
    const Index work = places * weights_.gates * weights_.units * (weights_.input_size + h_size_);
    gradient_parts_ =
        work < smallest_parallel_work ? 1 : std::min(threads, positions_.blocks_at_once() * weights_.panels);
    packed_x_size_ = positions_.capacity() * round_up(weights_.input_size, kernels_.outer_block);
    packed_h_size_ = positions_.capacity() * round_up(h_size_, kernels_.outer_block);
    d_gates_ = workspace.take(places * weights_.packed_size());
    packed_x_ = workspace.take(positions_.blocks_at_once() * packed_x_size_);
    packed_h_ = workspace.take(positions_.blocks_at_once() * packed_h_size_);
    d_hidden_ = workspace.take(most_rows_ * padded_h_);
    d_cell_ = workspace.take(most_rows_ * weights_.padded);
    if (weights_.projection > 0) {
      d_exposed_ = workspace.take_zeros(most_rows_ * weights_.padded);
      d_projected_ = workspace.take(places * weights_.projection);
      projection_gradient_.emplace(kernels_, positions_.capacity(), weights_.projection, weights_.units, workspace);
      for (auto* pointers : {&exposed_rows_, &d_projected_rows_}) pointers->resize(index(places));
    }
    if (call_.d_input.data != nullptr) {
      d_gate_rows_.resize(index(chunk_steps_ * most_rows_));
      d_input_rows_.resize(index(chunk_steps_ * most_rows_));
    }
    for (auto* pointers : {&x_rows_, &h_rows_}) {
      pointers->resize(index(most_rows_ + recurrence_parts_ * pointers_apart));
    }
    prepare_variant(workspace);
    if (record_.has_checkpoints()) prepare_replay(workspace);
  }

  // The whole sequence of one block, or of all from the first.
  void run(Index first_block) {
    positions_.select(first_block);
    row_begin_ = positions_.row_begin();
    row_end_ = positions_.row_end();
    begin_carry();
    for (Index segment = record_.segments(steps_) - 1; segment >= 0; --segment) run_segment(segment);
    end_carry();
  }

 private:
  static std::size_t index(Index value) { return static_cast<std::size_t>(value); }
  // What a part writes at every step must not share a cache line with another's.
  static constexpr Index pointers_apart = 64 / static_cast<Index>(sizeof(T*));
  // Where the pointers of the part that begins with this row lie in those by row.
  Index own_pointers(Index row_begin, Index part) const { return row_begin - row_begin_ + part * pointers_apart; }
  bool in_segment(Index step) const { return step >= first_step_ && step < end_step_; }
  // Where the recording keeps a step and row.
  Index slot(Index step, Index row) const { return (step - first_step_) * rows_ + row; }
  T* d_hidden(Index row) const { return d_hidden_ + (row - row_begin_) * padded_h_; }
  T* d_cell(Index row) const { return d_cell_ + (row - row_begin_) * weights_.padded; }
  T* d_start(Index order, Index row) const {
    return d_start_ + positions_.place(order, row) * (h_size_ + weights_.units);
  }

  // What the plain cell does without.
  void prepare_variant(Workspace<T>& workspace) {
    CellBackwardPointers<T>& pointers = arrays_.pointers;
    const Index places = positions_.places();
    d_ih_ = d_hh_ = d_gates_;
    if (general_) {
      room_size_ = general_backward_room(weights_.padded, weights_.gates, kernels_.units);
      rooms_ = workspace.take(recurrence_parts_ * room_size_);
    }
    if (weights_.variant.peephole != nullptr) d_peephole_ = workspace.take(places * weights_.panels * peephole_width_);
    if (norm_) {
      d_ih_ = workspace.take(places * weights_.packed_size());
      d_hh_ = workspace.take(places * weights_.packed_size());
      d_norm_ih_weight_ = workspace.take(places * weights_.packed_size());
      d_norm_hh_weight_ = workspace.take(places * weights_.packed_size());
      d_norm_cell_ = workspace.take(places * 2 * weights_.padded);
    }
    if (weights_.learns_start) d_start_ = workspace.take(places * (h_size_ + weights_.units));
    if (weights_.hidden_zoneout.size() > 0) {
      d_new_hidden_ = workspace.take_zeros(most_rows_ * padded_h_);
    } else {
      pointers.hidden_zoneout = nullptr;
    }
    if (record_.hidden_dropout != nullptr) {
      d_dropped_hidden_ = workspace.take(most_rows_ * padded_h_);
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
    for (Index row = row_begin_; row < row_end_; ++row) {
      std::fill_n(d_hidden(row), padded_h_, T(0));
      std::fill_n(d_cell(row), weights_.padded, T(0));
      if (call_.d_end_hidden != nullptr) std::copy_n(call_.d_end_hidden + row * h_size_, h_size_, d_hidden(row));
      if (call_.d_end_cell != nullptr) {
        std::copy_n(call_.d_end_cell + row * weights_.units, weights_.units, d_cell(row));
      }
    }
  }

  void end_carry() {
    for (Index row = row_begin_; row < row_end_; ++row) {
      if (call_.d_start_hidden != nullptr) {
        std::copy_n(d_hidden(row), h_size_, call_.d_start_hidden + row * h_size_);
      }
      if (call_.d_start_cell != nullptr) {
        std::copy_n(d_cell(row), weights_.units, call_.d_start_cell + row * weights_.units);
      }
      // A row without steps passes its start state on.
      if (weights_.learns_start && schedule_.length(row) == 0) {
        add_start_gradient(row, false, d_hidden(row), d_cell(row));
      }
    }
  }

  void run_chunk(Index order_begin, Index order_end) {
    if (!positions_.number(order_begin, order_end)) return;
    const Index parts = recurrence_parts_;
    // One thread's recurrence leaves another the time to pack; of several each packs the rows that its cache holds.
    const bool packs_aside = parts == 1 && gradient_parts_ > 1 && units_.parts == 1;
    parallel(packs_aside ? 2 : parts, [&](Index part) {
      if (part < parts) recur(order_begin, order_end, part);
      if (!packs_aside || part == 1) pack_operands(order_begin, order_end, packs_aside ? 0 : part);
    });
    parallel(gradient_parts_, [&](Index part) { add_weight_gradients(part); });
    if (projection_gradient_) add_projection_gradients(order_begin, order_end);
    if (norm_) add_cell_norm_gradients();
    if (weights_.learns_start) add_start_gradients(order_begin, order_end);
  }

  Index part_row(Index order_begin, Index order_end, Index part) const {
    if (recurrence_parts_ == 1) return part == 0 ? row_begin_ : row_end_;
    return part_begin(schedule_, order_begin, order_end, recurrence_parts_, part);
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
    const Index row_begin = part_row(order_begin, order_end, part);
    const Index row_end = part_row(order_begin, order_end, part + 1);
    const CellBackwardPointers<T> own = arrays_.pointers.from(own_pointers(row_begin, part));
    T* const room = general_ ? rooms_ + part * room_size_ : nullptr;
    for (Index order = order_end - 1; order >= order_begin; --order) {
      if (units_.parts > 1) wake_threads();
      Index count = row_end - row_begin;
      if (steady_ && order + 1 < order_end) {
        advance(order, row_begin, row_end, own);
      } else {
        count = point(order, row_begin, row_end, own);
      }
      if (count == 0) continue;
      cell_step_backward(weights_, kernels_, count, positions_.capacity(), own, room, order, units_);
      if (schedule_.batch.reset.data == nullptr && !weights_.learns_start) continue;
      for (Index row = row_begin; row < row_end; ++row) {
        if (schedule_.active(schedule_.step(order), row)) leave_segment(order, row);
      }
    }
    if (call_.d_input.data != nullptr) add_input_gradient(order_begin, order_end, row_begin, row_end);
  }

  // Points to what a step of some rows reads and writes; returns how many take part.
  Index point(Index order, Index row_begin, Index row_end, const CellBackwardPointers<T>& own) const {
    const Index step = schedule_.step(order);
    Index count = 0;
    for (Index row = row_begin; row < row_end; ++row) {
      if (!schedule_.active(step, row)) continue;
      const Index slot = this->slot(step, row);
      const Index at = positions_.place_in_panels(order, row, weights_.panels) * panel_width_;
      if (own.d_output != nullptr) own.d_output[count] = call_.d_output.at(step, row);
      own.gates[count] = record_.gates + slot * weights_.packed_size();
      own.c[count] = record_.cell + slot * weights_.padded;
      own.c_prev[count] = previous_cell(step, row);
      own.d_hidden[count] = d_hidden(row);
      own.d_c[count] = d_cell(row);
      own.d_gates[count] = d_gates_ + at;
      own.d_hh[count] = d_hh_ + at;
      if (weights_.projection > 0) {
        own.d_projected[count] = d_projected_ + positions_.place(order, row) * weights_.projection;
        own.d_exposed[count] = d_exposed_ + (row - row_begin_) * weights_.padded;
      }
      if (general_) point_to_variant(own, count, slot, order, row);
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
      own.d_gates[at] += positions_.rows_beside(row_begin + at) * panel_width_;
      own.d_hh[at] = own.d_gates[at];
    }
    if (own.d_output == nullptr) return;
    for (Index at = 0; at < rows; ++at) own.d_output[at] += direction * call_.d_output.step_stride;
  }

  void point_to_variant(const CellBackwardPointers<T>& own, Index count, Index slot, Index order, Index row) const {
    const Index place = positions_.place_in_panels(order, row, weights_.panels), at = place * panel_width_;
    if (d_peephole_ != nullptr) own.d_peephole[count] = d_peephole_ + place * peephole_width_;
    if (!norm_) return;
    own.norm_ih[count] = record_.norm_ih + slot * weights_.packed_size();
    own.norm_hh[count] = record_.norm_hh + slot * weights_.packed_size();
    own.norm_scale[count] = record_.norm_scale + slot * norm_scales;
    own.d_ih[count] = d_ih_ + at;
    own.d_norm_ih_weight[count] = d_norm_ih_weight_ + at;
    own.d_norm_hh_weight[count] = d_norm_hh_weight_ + at;
    own.d_norm_cell[count] = d_norm_cell_ + positions_.place(order, row) * 2 * weights_.padded;
  }

  void point_to_factors(const CellBackwardPointers<T>& own, Index count, Index slot, Index row) const {
    if (own.hidden_dropout != nullptr) {
      own.hidden_dropout[count] = record_.hidden_dropout + row * padded_h_;
      own.d_dropped_hidden[count] = d_dropped_hidden_ + (row - row_begin_) * padded_h_;
    }
    if (own.candidate_dropout != nullptr) {
      own.candidate_dropout[count] = record_.candidate_dropout + slot * weights_.padded;
    }
    if (own.hidden_zoneout != nullptr) {
      own.hidden_zoneout[count] = record_.hidden_zoneout == nullptr ? weights_.hidden_zoneout.data()
                                                                    : record_.hidden_zoneout + slot * padded_h_;
      own.d_new_hidden[count] = d_new_hidden_ + (row - row_begin_) * padded_h_;
    }
    if (own.cell_zoneout != nullptr) {
      own.cell_zoneout[count] = record_.cell_zoneout == nullptr ? weights_.cell_zoneout.data()
                                                                : record_.cell_zoneout + slot * weights_.padded;
    }
  }

  // Where the layer's own start state precedes a step, the gradient by it ends; for a trained one it is kept.
  void leave_segment(Index order, Index row) const {
    const Index step = schedule_.step(order);
    const bool restarts = schedule_.restarts(step, row);
    if (weights_.learns_start && (restarts || schedule_.is_first(step, row))) {
      T* kept = d_start(order, row);
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
      for (Index row = row_begin_; row < row_end_; ++row) {
        if (!schedule_.active(step, row)) continue;
        const bool restarts = schedule_.restarts(step, row);
        if (!restarts && !schedule_.is_first(step, row)) continue;
        const T* kept = d_start(order, row);
        add_start_gradient(row, restarts, kept, kept + h_size_);
      }
    }
  }

  // Of one row: after a restart always, else as far as the caller gave no start state of his own.
  void add_start_gradient(Index row, bool restarts, const T* d_start_hidden, const T* d_start_cell) {
    const LayerGradient<T>& gradient = gradients_[index(positions_.block_of(row))];
    if (restarts || record_.start_hidden == nullptr) {
      for (Index unit = 0; unit < h_size_; ++unit) gradient.start_hidden[unit] += d_start_hidden[unit];
    }
    if (restarts || record_.own_start_cell) {
      for (Index unit = 0; unit < weights_.units; ++unit) gradient.start_cell[unit] += d_start_cell[unit];
    }
  }

  void add_projection_gradients(Index order_begin, Index order_end) {
    for (Index order = order_begin; order < order_end; ++order) {
      const Index step = schedule_.step(order);
      for (Index row = row_begin_; row < row_end_; ++row) {
        if (!schedule_.active(step, row)) continue;
        const Index place = positions_.place(order, row);
        exposed_rows_[index(place)] = record_.exposed + slot(step, row) * weights_.units;
        d_projected_rows_[index(place)] = d_projected_ + place * weights_.projection;
      }
    }
    for (Index block = 0; block < positions_.blocks_at_once(); ++block) {
      const Index first = block * positions_.capacity();
      projection_gradient_->add(d_projected_rows_.data() + first, exposed_rows_.data() + first, positions_.count(block),
                                gradient_of(block).projection);
    }
  }

  // Weight and bias side by side in each row.
  void add_cell_norm_gradients() {
    for (Index block = 0; block < positions_.blocks_at_once(); ++block) {
      const LayerGradient<T>& gradient = gradient_of(block);
      const T* own = d_norm_cell_ + block * positions_.capacity() * 2 * weights_.padded;
      for (Index position = 0; position < positions_.count(block); ++position, own += 2 * weights_.padded) {
        for (Index unit = 0; unit < weights_.padded; ++unit) {
          gradient.norm_cell_weight[unit] += own[unit];
          gradient.norm_cell_bias[unit] += own[weights_.padded + unit];
        }
      }
    }
  }

  void add_input_gradient(Index order_begin, Index order_end, Index row_begin, Index row_end) {
    const std::size_t first = index((row_begin - row_begin_) * chunk_steps_);
    std::size_t count = first;
    for (Index order = order_end - 1; order >= order_begin; --order) {
      const Index step = schedule_.step(order);
      for (Index row = row_begin; row < row_end; ++row) {
        if (!schedule_.active(step, row)) continue;
        d_gate_rows_[count] = d_ih_ + positions_.place_in_panels(order, row, weights_.panels) * panel_width_;
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
    args.a_block_stride = positions_.capacity() * panel_width_;
    args.weights = weights_.x_gradient.data();
    args.y = d_input_rows_.data() + first;
    args.accumulate = call_.accumulate_input;
    kernels_.product(args, 0, (args.columns + 4 * kernels_.units - 1) / (4 * kernels_.units));
  }

  // What each step's gradient is multiplied with, x and h, of the rows of a part.
  void pack_operands(Index order_begin, Index order_end, Index part) {
    const Index part_begin = part_row(order_begin, order_end, part);
    const Index part_end = part_row(order_begin, order_end, part + 1);
    const T** const x = x_rows_.data() + own_pointers(part_begin, part);
    const T** const h = h_rows_.data() + own_pointers(part_begin, part);
    for (Index block = 0; block < positions_.blocks_at_once(); ++block) {
      const Index row_begin = std::max(part_begin, blocks_.begin_of(positions_.block(block)));
      const Index row_end = std::min(part_end, blocks_.end_of(positions_.block(block)));
      for (Index order = order_end - 1; order >= order_begin; --order) {
        const Index step = schedule_.step(order);
        Index active = 0, first = 0;
        for (Index row = row_begin; row < row_end; ++row) {
          if (!schedule_.active(step, row)) continue;
          if (active == 0) first = positions_.position(order, row);
          x[active] = call_.input.at(step, row);
          h[active] = record_.dropped_hidden == nullptr ? previous_hidden(step, row)
                                                        : record_.dropped_hidden + slot(step, row) * h_size_;
          ++active;
        }
        const Index count = positions_.count(block);
        kernels_.pack_outer(x, active, weights_.input_size, packed_x_ + block * packed_x_size_, first, count);
        kernels_.pack_outer(h, active, h_size_, packed_h_ + block * packed_h_size_, first, count);
      }
    }
  }

  const LayerGradient<T>& gradient_of(Index block_at_once) const {
    return gradients_[index(positions_.block(block_at_once))];
  }

  // Each part owns panels of blocks.
  void add_weight_gradients(Index part) {
    const Index all = positions_.blocks_at_once() * weights_.panels;
    const Index end = piece_begin(all, gradient_parts_, part + 1);
    for (Index at = piece_begin(all, gradient_parts_, part); at < end; ++at) {
      add_panel_gradient(at / weights_.panels, at % weights_.panels);
    }
  }

  void add_panel_gradient(Index block, Index panel) {
    const LayerGradient<T>& gradient = gradient_of(block);
    const Index count = positions_.count(block);
    if (count == 0) return;
    const Index place = (block * weights_.panels + panel) * positions_.capacity(), at = place * panel_width_;
    OuterArgs<T> args{};
    args.depth = count;
    args.registers = weights_.gates;
    args.b = d_ih_ + at;
    args.columns = weights_.input_size;
    args.a = packed_x_ + block * packed_x_size_;
    args.c = gradient.x_weights + panel * weights_.input_size * panel_width_;
    kernels_.outer(args);
    args.b = d_hh_ + at;
    args.columns = h_size_;
    args.a = packed_h_ + block * packed_h_size_;
    args.c = gradient.h_weights + panel * h_size_ * panel_width_;
    kernels_.outer(args);
    kernels_.add_rows(d_gates_ + at, count, panel_width_, gradient.bias + panel * panel_width_);
    if (gradient.peephole != nullptr) {
      kernels_.add_rows(d_peephole_ + place * peephole_width_, count, peephole_width_,
                        gradient.peephole + panel * peephole_width_);
    }
    if (norm_) {
      kernels_.add_rows(d_norm_ih_weight_ + at, count, panel_width_, gradient.norm_ih_weight + panel * panel_width_);
      kernels_.add_rows(d_norm_hh_weight_ + at, count, panel_width_, gradient.norm_hh_weight + panel * panel_width_);
    }
  }

  const LayerBackwardCall<T>& call_;
  const RowBlocks& blocks_;
  const std::vector<LayerGradient<T>>& gradients_;
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
  Index panel_width_, peephole_width_;
  bool general_, norm_;  // the general epilogue; layer norm in it
  bool steady_ = false;  // whether pointers advance() from step to step
  Index recurrence_parts_, gradient_parts_ = 1;
  UnitSplit units_;                // of each step
  Index most_rows_, chunk_steps_;  // at once
  ChunkPositions positions_;
  Index row_begin_ = 0, row_end_ = 0;            // of the blocks in hand
  Index packed_x_size_ = 0, packed_h_size_ = 0;  // of a block

  T* d_gates_ = nullptr;   // [block][panel][position][GU]
  T* packed_x_ = nullptr;  // by block
  T* packed_h_ = nullptr;
  T* d_hidden_ = nullptr;  // gradient by h of the step in hand, padded rows
  T* d_cell_ = nullptr;
  T* d_exposed_ = nullptr;    // with projection: by o tanh(c)
  T* d_projected_ = nullptr;  // with projection: by h, of the chunk, [block][position][P]
  // What variants need; see CellBackwardPointers.
  T *d_ih_ = nullptr, *d_hh_ = nullptr;                          // as d_gates
  T *d_norm_ih_weight_ = nullptr, *d_norm_hh_weight_ = nullptr;  // as d_gates
  T* d_peephole_ = nullptr;                                      // [block][panel][position][(G - 1) U]
  T* d_norm_cell_ = nullptr;                                     // [block][position][2][padded]
  T* d_start_ = nullptr;                                         // [block][position][H or P, H]
  T* rooms_ = nullptr;                                           // [part][room_size_]
  Index room_size_ = 0;
  T *d_new_hidden_ = nullptr, *d_dropped_hidden_ = nullptr;              // [row][padded H or P]
  CellBackwardArrays<T> arrays_;                                         // by row
  std::vector<const T*> x_rows_, h_rows_;                                // by row
  std::vector<const T*> exposed_rows_, d_projected_rows_, d_gate_rows_;  // by place
  std::vector<T*> d_input_rows_;
  std::optional<WeightGradient<T>> projection_gradient_;
};

}  // namespace

template <class T>
LayerGradient<T> layer_backward(const LayerBackwardCall<T>& call, Workspace<T>& workspace) {
  const PackedLayer<T>& weights = *call.weights;
  const RowBlocks blocks = row_blocks(call.schedule, weights);
  const Index size = LayerGradient<T>::size(weights, *call.kernels);
  T* const memory = workspace.take_zeros(blocks.count() * size);
  std::vector<LayerGradient<T>> gradients;
  for (Index block = 0; block < blocks.count(); ++block) {
    gradients.push_back(LayerGradient<T>::in(memory + block * size, weights));
  }
  if (call.schedule.batch.rows == 0) return gradients.front();
  const Index threads = call.record->has_checkpoints() ? 0 : block_threads(call.schedule, weights, blocks.count());
  if (threads == 0) {
    LayerBackward<T>(call, blocks, gradients, true, free_threads(), workspace).run(0);
  } else {
    std::deque<LayerBackward<T>> backwards;
    for (Index thread = 0; thread < threads; ++thread) {
      backwards.emplace_back(call, blocks, gradients, false, 1, workspace);
    }
    std::atomic<Index> next{0};
    parallel(threads, [&](Index thread) {
      LayerBackward<T>& own = backwards[static_cast<std::size_t>(thread)];
      for (Index block = next++; block < blocks.count(); block = next++) own.run(block);
    });
  }
  if (blocks.count() > 1) call.kernels->add_rows(memory + size, blocks.count() - 1, size, memory);
  return gradients.front();
}

template LayerGradient<float> layer_backward<float>(const LayerBackwardCall<float>&, Workspace<float>&);
template LayerGradient<double> layer_backward<double>(const LayerBackwardCall<double>&, Workspace<double>&);

}  // namespace latchwork
