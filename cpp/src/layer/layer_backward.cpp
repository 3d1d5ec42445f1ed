#include <algorithm>
#include <atomic>
#include <deque>
#include <optional>
#include <vector>

#include "layer/block_sums.hpp"
#include "layer/cell_step_backward.hpp"
#include "layer/chunk_gradients.hpp"
#include "layer/chunk_positions.hpp"
#include "layer/chunk_tasks.hpp"
#include "layer/layer.hpp"
#include "layer/recorded_segment.hpp"
#include "layer/strategy.hpp"
#include "machine/interrupt.hpp"
#include "machine/parallel.hpp"

namespace latchwork {

namespace {

// Backward through time, chunk by chunk of steps, for one block of rows after another or for all blocks at once. First
// the recurrence computes the gradients with respect to the gates for all steps of a chunk; then the sum over them is
// added to the gradient of each panel of weights. So neither the number of threads nor the length of a chunk changes a
// bit.
template <class T>
class LayerBackward {
 public:
  // gradients: one for each block. threads: how many threads may be used.
  LayerBackward(const LayerBackwardCall<T>& call, const RowBlocks& blocks,
                const std::vector<LayerGradient<T>>& gradients, bool all_blocks, Index threads, Workspace<T>& workspace)
      : call_(call),
        weights_(*call.weights),
        kernels_(*call.kernels),
        schedule_(call.schedule),
        segment_(call, workspace),
        record_(segment_.record()),
        rows_(call.schedule.batch.rows),
        h_size_(weights_.output_size()),
        padded_h_(round_up(h_size_, kernels_.units)),
        general_(!weights_.plain || record_.candidate_dropout != nullptr),
        threads_(threads),
        parts_(1),
        units_{1, Threads::awake} {
    if (all_blocks) {
      const Index input_products = call.tokens != nullptr ? 0 : call.d_input.data == nullptr ? 1 : 2;
      const LayerSplit split = backward_split(schedule_, weights_, input_products);
      parts_ = split.row_parts;
      units_.parts = split.unit_parts;
    }
    const Index rows = all_blocks ? rows_ : blocks.most_rows(), steps = chunk_steps(blocks.most_rows(), rows);
    // With two buffers the recurrence can go on while a chunk is being summed.
    for (Index buffer = 0; buffer < (threads > 1 && units_.parts == 1 ? 2 : 1); ++buffer) {
      chunks_.emplace_back(call, blocks, gradients, all_blocks, steps, segment_, parts_, workspace);
    }
    arrays_.emplace(chunks_.front().positions.row_pointers(parts_));
    d_hidden_ = workspace.take(rows * padded_h_);
    d_cell_ = workspace.take(rows * weights_.padded);
    if (weights_.projection > 0) d_unprojected_hidden_ = workspace.take_zeros(rows * weights_.padded);
    if (general_) {
      room_size_ = general_backward_room(weights_.padded, weights_.gates, kernels_.units);
      rooms_ = workspace.take(parts_ * room_size_);
    }
    if (weights_.hidden_zoneout.size() > 0) d_new_hidden_ = workspace.take_zeros(rows * padded_h_);
    if (record_.hidden_dropout != nullptr) d_dropped_hidden_ = workspace.take(rows * padded_h_);
    if (call.d_signals != nullptr) d_signals_ = workspace.take(rows * cell_signals * weights_.padded);
    drop_unused_pointers();
    steady_ = schedule_.batch.lengths == nullptr && !schedule_.may_restart() && !general_ && weights_.projection == 0 &&
              d_new_hidden_ == nullptr && d_dropped_hidden_ == nullptr;
  }

  // Goes through the whole sequence, for block `first_block` or for all blocks, of which it then is the first.
  void run(Index first_block) {
    for (Chunk& chunk : chunks_) chunk.positions.select_blocks(first_block);
    begin_carry();
    for (Index segment = segment_.count() - 1; segment >= 0 && !stops_after(0); --segment) {
      segment_.select(segment);
      const Index steps = chunks_.front().positions.most_steps();
      const Index count = (segment_.order_end() - segment_.order_begin() + steps - 1) / steps;
      if (units_.parts > 1 || (threads_ == 1 && parts_ == 1)) {
        for (Index chunk = 0; chunk < count && !stops_after(0); ++chunk) run_in_phases(chunk);
      } else {
        run_by_tasks(count);
      }
    }
    end_carry();
  }

  // The functions that ChunkTasks calls. The chunks of a segment are numbered in the order of the backward pass.
  void select(Index number) {
    Chunk& chunk = this->chunk(number);
    const Index steps = chunk.positions.most_steps(), order_end = segment_.order_end() - number * steps;
    chunk.positions.select_steps(std::max(segment_.order_begin(), order_end - steps), order_end);
    chunk.gradients.select();
  }
  void step(Index number, Index part) { recur(chunk(number), row_part(part)); }
  void pack(Index number, Index part) { chunk(number).gradients.pack_operands(row_part(part)); }
  void sum(Index number, Index sum) { chunk(number).gradients.add_sum(sum); }

 private:
  struct Chunk {
    Chunk(const LayerBackwardCall<T>& call, const RowBlocks& blocks, const std::vector<LayerGradient<T>>& sums,
          bool all_blocks, Index steps, const RecordedSegment<T>& segment, Index row_parts, Workspace<T>& workspace)
        : positions(call.schedule, blocks, all_blocks, steps),
          gradients(call, segment, positions, sums, row_parts, workspace) {}

    ChunkPositions positions;
    ChunkGradients<T> gradients;
  };

  Chunk& chunk(Index number) { return chunks_[static_cast<std::size_t>(number) % chunks_.size()]; }
  // The positions of the first chunk, for the values that are the same for all chunks.
  const ChunkPositions& positions() const { return chunks_.front().positions; }

  void run_by_tasks(Index count) {
    const Index sums = chunks_.front().gradients.sums(), buffers = static_cast<Index>(chunks_.size());
    ChunkTasks tasks({count, buffers, parts_, parts_, sums, chunk_work() / (parts_ + sums)});
    parallel(threads_, [&](Index thread) { tasks.run(thread, *this); });
  }

  // First all threads share each step of the recurrence, then they share the sums. One thread alone goes the same way,
  // because it needs no tasks.
  void run_in_phases(Index number) {
    select(number);
    step(number, 0);
    pack(number, 0);
    const Index sums = chunks_.front().gradients.sums();
    const auto add = [&](Index at) {
      if (!stops_after(chunk_work() / sums)) sum(number, at);
    };
    if (threads_ > 1) return parallel(sums, add);
    for (Index at = 0; at < sums; ++at) add(at);
  }

  Index chunk_work() const {
    return 2 * chunks_.front().positions.most_steps() *
           step_work(weights_, positions().row_end() - positions().row_begin());
  }

  // A chunk is so short that what one block has of it stays in L1, and what all blocks of one thread have of it stays
  // in the L2 of that thread.
  Index chunk_steps(Index block_rows, Index rows) const {
    const Index steps = std::min(gradient_chunk_rows / block_rows, 2 * gradient_chunk_rows * parts_ / rows);
    return std::min(record_.segment_steps, std::max<Index>(1, steps));
  }
  T* d_hidden(Index row) const { return d_hidden_ + (row - positions().row_begin()) * padded_h_; }
  T* d_cell(Index row) const { return d_cell_ + (row - positions().row_begin()) * weights_.padded; }
  T* d_signals(Index row) const {
    return d_signals_ + (row - positions().row_begin()) * cell_signals * weights_.padded;
  }

  void drop_unused_pointers() {
    CellBackwardPointers<T>& pointers = arrays_->pointers;
    if (d_new_hidden_ == nullptr) pointers.hidden_zoneout = nullptr;
    if (d_dropped_hidden_ == nullptr) pointers.hidden_dropout = nullptr;
    if (record_.candidate_dropout == nullptr) pointers.candidate_dropout = nullptr;
    if (weights_.cell_zoneout.size() == 0) pointers.cell_zoneout = nullptr;
    if (call_.d_output.data == nullptr) pointers.d_output = nullptr;
    if (d_signals_ == nullptr) pointers.d_signals = nullptr;
  }

  void begin_carry() {
    for (Index row = positions().row_begin(); row < positions().row_end(); ++row) {
      std::fill_n(d_hidden(row), padded_h_, T(0));
      std::fill_n(d_cell(row), weights_.padded, T(0));
      if (call_.d_end_hidden != nullptr) std::copy_n(call_.d_end_hidden + row * h_size_, h_size_, d_hidden(row));
      if (call_.d_end_cell != nullptr) {
        std::copy_n(call_.d_end_cell + row * weights_.units, weights_.units, d_cell(row));
      }
    }
  }

  void end_carry() {
    for (Index row = positions().row_begin(); row < positions().row_end(); ++row) {
      if (call_.d_start_hidden != nullptr) {
        std::copy_n(d_hidden(row), h_size_, call_.d_start_hidden + row * h_size_);
      }
      if (call_.d_start_cell != nullptr) {
        std::copy_n(d_cell(row), weights_.units, call_.d_start_cell + row * weights_.units);
      }
      // A row without steps passes the gradient on to its start state.
      if (weights_.learns_start && schedule_.length(row) == 0) {
        chunks_.front().gradients.add_start(row, false, d_hidden(row), d_cell(row));
      }
    }
  }

  // Part `number` of the rows. If rows differ in length, each part has about as many steps of the segment as the
  // others.
  RowPart row_part(Index number) const {
    if (parts_ == 1) return positions().part(0, positions().row_begin(), positions().row_end());
    const auto begin = [&](Index part) {
      return part_begin(schedule_, segment_.order_begin(), segment_.order_end(), parts_, part);
    };
    return positions().part(number, begin(number), begin(number + 1));
  }

  void recur(const Chunk& chunk, const RowPart& part) {
    const ChunkPositions& positions = chunk.positions;
    if (!positions.any()) return;
    const CellBackwardPointers<T> pointers = arrays_->pointers.from(part.pointers);
    T* const room = general_ ? rooms_ + part.number * room_size_ : nullptr;
    RoundsOfWork rounds(step_work(weights_, part.row_end - part.row_begin));
    for (Index order = positions.order_end() - 1; order >= positions.order_begin() && !rounds.stop(); --order) {
      // The threads may have fallen asleep while the system kept the caller from running.
      if (units_.parts > 1) wake_threads();
      Index count = part.row_end - part.row_begin;
      if (steady_ && order + 1 < positions.order_end()) {
        advance(chunk.gradients, order, part, pointers);
      } else {
        count = point(chunk.gradients, order, part, pointers);
      }
      if (count == 0) continue;
      if (d_signals_ != nullptr) write_d_hidden(order, part);
      cell_step_backward(weights_, kernels_, count, positions.capacity(), pointers, room, order, units_);
      if (d_signals_ != nullptr) write_d_cell_signals(order, part);
      if (!schedule_.may_restart() && !weights_.learns_start) continue;
      for (Index row = part.row_begin; row < part.row_end; ++row) {
        if (schedule_.active(schedule_.step(order), row)) restart(chunk.gradients, order, row);
      }
    }
  }

  // Sets the pointers to what a step of some rows reads and writes. Returns how many rows take part.
  Index point(const ChunkGradients<T>& gradients, Index order, const RowPart& part,
              const CellBackwardPointers<T>& pointers) const {
    const Index step = schedule_.step(order);
    Index count = 0;
    for (Index row = part.row_begin; row < part.row_end; ++row) {
      if (!schedule_.active(step, row)) continue;
      const Index slot = segment_.slot(step, row);
      if (pointers.d_output != nullptr) pointers.d_output[count] = call_.d_output.at(step, row);
      pointers.gates[count] = record_.gates + slot * weights_.packed_size;
      pointers.c[count] = record_.cell + slot * weights_.padded;
      pointers.c_prev[count] = segment_.previous_cell(step, row);
      pointers.d_hidden[count] = d_hidden(row);
      pointers.d_c[count] = d_cell(row);
      gradients.point(pointers, count, order, row);
      if (d_unprojected_hidden_ != nullptr) {
        pointers.d_unprojected_hidden[count] =
            d_unprojected_hidden_ + (row - positions().row_begin()) * weights_.padded;
      }
      if (record_.norm_ih != nullptr) {
        pointers.norm_ih[count] = record_.norm_ih + slot * weights_.packed_size;
        pointers.norm_hh[count] = record_.norm_hh + slot * weights_.packed_size;
        pointers.norm_scale[count] = record_.norm_scale + slot * norm_scales;
      }
      if (d_signals_ != nullptr) pointers.d_signals[count] = d_signals(row);
      point_to_factors(pointers, count, slot, row);
      ++count;
    }
    return count;
  }

  // The same for the step before the one that the pointers are set to, if every step has the same rows: each pointer
  // advances by its own stride.
  void advance(const ChunkGradients<T>& gradients, Index order, const RowPart& part,
               const CellBackwardPointers<T>& pointers) const {
    const Index rows = part.row_end - part.row_begin, step = schedule_.step(order);
    const Index direction = schedule_.reverse ? 1 : -1, slots = direction * rows_;
    const bool steady_cell = order > 0 && segment_.contains(schedule_.previous(step));
    for (Index at = 0; at < rows; ++at) {
      const Index row = part.row_begin + at;
      pointers.gates[at] += slots * weights_.packed_size;
      pointers.c[at] = pointers.c_prev[at];
      pointers.c_prev[at] = steady_cell ? pointers.c[at] + slots * weights_.padded : segment_.previous_cell(step, row);
      pointers.d_gates[at] += gradients.step_stride(row);
      pointers.d_hh[at] = pointers.d_gates[at];
    }
    if (pointers.d_output == nullptr) return;
    for (Index at = 0; at < rows; ++at) pointers.d_output[at] += direction * call_.d_output.step_stride;
  }

  void point_to_factors(const CellBackwardPointers<T>& pointers, Index count, Index slot, Index row) const {
    if (pointers.hidden_dropout != nullptr) {
      pointers.hidden_dropout[count] = record_.hidden_dropout + row * padded_h_;
      pointers.d_dropped_hidden[count] = d_dropped_hidden_ + (row - positions().row_begin()) * padded_h_;
    }
    if (pointers.candidate_dropout != nullptr) {
      pointers.candidate_dropout[count] = record_.candidate_dropout + slot * weights_.padded;
    }
    if (pointers.hidden_zoneout != nullptr) {
      pointers.hidden_zoneout[count] = record_.hidden_zoneout == nullptr ? weights_.hidden_zoneout.data()
                                                                         : record_.hidden_zoneout + slot * padded_h_;
      pointers.d_new_hidden[count] = d_new_hidden_ + (row - positions().row_begin()) * padded_h_;
    }
    if (pointers.cell_zoneout != nullptr) {
      pointers.cell_zoneout[count] = record_.cell_zoneout == nullptr ? weights_.cell_zoneout.data()
                                                                     : record_.cell_zoneout + slot * weights_.padded;
    }
  }

  // Calls task(row, number of the step and row in the caller's arrays of signals) for the rows that take part in a
  // step.
  template <class Task>
  void for_active_rows(Index order, const RowPart& part, Task&& task) const {
    const Index step = schedule_.step(order);
    for (Index row = part.row_begin; row < part.row_end; ++row) {
      if (schedule_.active(step, row)) task(row, step * rows_ + row);
    }
  }

  // The gradient with respect to h, before the step changes it to that of h_prev.
  void write_d_hidden(Index order, const RowPart& part) const {
    T* const d_hiddens = (*call_.d_signals)[static_cast<std::size_t>(Signal::hidden)];
    for_active_rows(order, part, [&](Index row, Index place) {
      const T* const from_later = d_hidden(row);
      T* const to = d_hiddens + place * h_size_;
      std::copy_n(from_later, h_size_, to);
      if (call_.d_output.data == nullptr) return;
      const T* const d_output = call_.d_output.at(schedule_.step(order), row);
      for (Index at = 0; at < h_size_; ++at) to[at] = from_later[at] + d_output[at];
    });
  }

  // The gradients with respect to the gates and the cell, which the step has just computed.
  void write_d_cell_signals(Index order, const RowPart& part) const {
    for_active_rows(order, part, [&](Index row, Index place) {
      for (Index signal = 0; signal < cell_signals; ++signal) {
        std::copy_n(d_signals(row) + signal * weights_.padded, weights_.units,
                    (*call_.d_signals)[static_cast<std::size_t>(signal)] + place * weights_.units);
      }
    });
  }

  // If the layer's own start state precedes a step, the gradient with respect to the state ends there. It is kept if
  // the start state is trained.
  void restart(const ChunkGradients<T>& gradients, Index order, Index row) const {
    const Index step = schedule_.step(order);
    const bool restarts = schedule_.restarts(step, row);
    if (weights_.learns_start && (restarts || schedule_.is_first(step, row))) {
      gradients.keep_start(order, row, d_hidden(row), d_cell(row));
    }
    if (!restarts) return;
    std::fill_n(d_hidden(row), h_size_, T(0));
    std::fill_n(d_cell(row), weights_.padded, T(0));
  }

  const LayerBackwardCall<T>& call_;
  const PackedLayer<T>& weights_;
  const Kernels<T>& kernels_;
  const Schedule& schedule_;
  RecordedSegment<T> segment_;
  const LayerRecord<T>& record_;  // of the current segment
  Index rows_;
  Index h_size_, padded_h_;  // H or P; rounded up to whole registers
  bool general_;             // whether the general epilogue is needed
  bool steady_ = false;      // whether pointers advance() from step to step
  Index threads_;            // how many may be used
  Index parts_;              // the number of parts of the rows, each of which is a chain of its own
  UnitSplit units_;          // how threads split each step
  std::deque<Chunk> chunks_;

  std::optional<CellBackwardArrays<T>> arrays_;  // by row, see RowPart
  T* d_hidden_ = nullptr;  // the gradient with respect to h of the current step, [row][padded H or P]
  T* d_cell_ = nullptr;    // [row][padded]
  // Arrays that only variants need; see CellBackwardPointers.
  T* d_unprojected_hidden_ = nullptr;                        // [row][padded]
  T *d_new_hidden_ = nullptr, *d_dropped_hidden_ = nullptr;  // [row][padded H or P]
  T* d_signals_ = nullptr;                                   // if wanted: [row][cell_signals][padded]
  T* rooms_ = nullptr;                                       // [part][room_size_]
  Index room_size_ = 0;
};

// From the gradients with respect to the gates, summed by token, to the gradients with respect to W and to the tokens'
// rows of the table.
template <class T>
void finish_token_sums(const LayerBackwardCall<T>& call, LayerGradient<T>& gradient, Workspace<T>& workspace) {
  const PackedLayer<T>& weights = *call.weights;
  const Kernels<T>& kernels = *call.kernels;
  const Index count = call.tokens->count(), features = weights.input_size;
  const Index panel_size = count * weights.panels.width();
  std::vector<const T*> x, sums;
  std::vector<T*> d_x;
  for (Index number = 0; number < count; ++number) {
    const Index token = call.tokens->token(number);
    x.push_back(call.input.table + token * features);
    d_x.push_back(call.d_table + token * features);
    sums.push_back(gradient.by_token + number * weights.panels.width());
  }
  T* const packed_x = workspace.take(count * round_up(features, kernels.outer_block));
  kernels.pack_outer(x.data(), count, features, packed_x, 0, count);
  gradient.x_weights = workspace.take_zeros(weights.packed_size * features);
  const bool small = count * weights.packed_size * features < smallest_parallel_work;
  const Index parts = small ? 1 : free_threads(), panels = weights.panels.count();
  parallel(parts, [&](Index part) {
    for (Index panel = piece_begin(panels, parts, part); panel < piece_begin(panels, parts, part + 1); ++panel) {
      if (stops_after(panel_size * features)) return;
      OuterArgs<T> args{};
      args.depth = count;
      args.columns = features;
      args.a = packed_x;
      args.registers = weights.panels.registers_of(panel);
      args.b = gradient.by_token + panel * panel_size;
      args.b_stride = weights.panels.width();
      args.c = gradient.x_weights + weights.panels.begin(panel, features);
      kernels.outer(args);
    }
    const Index first = piece_begin(count, parts, part);
    const Index rows = piece_begin(count, parts, part + 1) - first;
    for_pieces_until_stopped(rows, weights.packed_size * features, 64, [&](Index begin, Index end) {
      ProductArgs<T> args = product_of_gates(weights.x_gradient, weights.panels, panel_size, end - begin,
                                             sums.data() + first + begin, d_x.data() + first + begin);
      args.accumulate = true;
      kernels.product(args, 0, weights.x_gradient.count());
    });
  });
}

}  // namespace

template <class T>
LayerGradient<T> layer_backward(const LayerBackwardCall<T>& call, Workspace<T>& workspace) {
  const PackedLayer<T>& weights = *call.weights;
  const Kernels<T>& kernels = *call.kernels;
  const RowBlocks blocks = row_blocks(call.schedule, weights, call.gradient_blocks);
  const Index tokens = call.tokens == nullptr ? 0 : call.tokens->count();
  const bool wanted = call.parameter_gradients;
  const Index size = wanted ? LayerGradient<T>::size(weights, tokens, kernels) : 0, count = blocks.count();
  const auto gradient_in = [&](T* memory) {
    return wanted ? LayerGradient<T>::in(memory, weights, tokens) : LayerGradient<T>{};
  };
  const Index threads = call.record->has_checkpoints() ? 0 : block_threads(call.schedule, weights, count);
  // Either all blocks are summed at once, or threads take tasks of consecutive blocks, which they sum one by one.
  const Index tasks = threads == 0 ? count : block_tasks(threads, count);
  T* const sums = workspace.take(tasks * size);
  std::vector<LayerGradient<T>> gradients(static_cast<std::size_t>(count));
  if (call.schedule.batch.rows == 0) {
    std::fill_n(sums, size, T(0));
    return gradient_in(sums);
  }
  if (threads == 0) {
    const Index numbers = count * size, parts = number_parts(numbers, numbers);
    parallel(parts, [&](Index part) {
      std::fill(sums + piece_begin(numbers, parts, part), sums + piece_begin(numbers, parts, part + 1), T(0));
    });
    for (Index block = 0; block < count; ++block) {
      gradients[static_cast<std::size_t>(block)] = gradient_in(sums + block * size);
    }
    const bool small = step_work(weights, call.schedule.total(0, call.schedule.batch.rows)) < smallest_parallel_work;
    LayerBackward<T>(call, blocks, gradients, true, small ? 1 : free_threads(), workspace).run(0);
  } else {
    const Index blocks_of_task = count / tasks, others = kept_block_sums(blocks_of_task) - 1;
    T* const other_sums = workspace.take(threads * others * size);
    std::deque<LayerBackward<T>> backwards;
    for (Index thread = 0; thread < threads; ++thread) {
      backwards.emplace_back(call, blocks, gradients, false, 1, workspace);
    }
    std::atomic<Index> next{0};
    parallel(threads, [&](Index thread) {
      for (Index task = next++; task < tasks; task = next++) {
        BlockSums<T> task_sums(kernels, size, sums + task * size, other_sums + thread * others * size);
        for (Index block = task * blocks_of_task; block < (task + 1) * blocks_of_task; ++block) {
          gradients[static_cast<std::size_t>(block)] = gradient_in(task_sums.next());
          backwards[static_cast<std::size_t>(thread)].run(block);
          task_sums.add();
        }
      }
    });
  }
  add_block_sums(kernels, size, tasks, sums);
  LayerGradient<T> gradient = gradient_in(sums);
  if (tokens > 0) finish_token_sums(call, gradient, workspace);
  throw_if_stopped(2 * call.schedule.batch.steps * step_work(weights, call.schedule.batch.rows));
  return gradient;
}

template LayerGradient<float> layer_backward<float>(const LayerBackwardCall<float>&, Workspace<float>&);
template LayerGradient<double> layer_backward<double>(const LayerBackwardCall<double>&, Workspace<double>&);

}  // namespace latchwork
