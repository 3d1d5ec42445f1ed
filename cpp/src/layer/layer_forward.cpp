#include <algorithm>
#include <optional>
#include <vector>

#include "layer/cell_step.hpp"
#include "layer/layer.hpp"
#include "layer/strategy.hpp"
#include "layer/token_numbers.hpp"
#include "machine/interrupt.hpp"
#include "machine/parallel.hpp"

namespace latchwork {

namespace {

// The memory of one part of the rows.
template <class T>
struct PartScratch {
  PartScratch(Index rows, Index ahead_rows)
      : step(rows),
        hidden(static_cast<std::size_t>(rows)),
        cell(static_cast<std::size_t>(rows)),
        ahead_x(static_cast<std::size_t>(ahead_rows)),
        ahead_y(static_cast<std::size_t>(ahead_rows)) {}

  CellStepPointers<T> step;
  std::vector<const T*> hidden, cell;  // the current state of each row
  std::vector<const T*> ahead_x;
  std::vector<T*> ahead_y;
  Index first_step = 0;             // of the current segment
  T* ahead = nullptr;               // pre-activations of the steps that are projected ahead
  T* unprojected_hidden = nullptr;  // with projection, if no record keeps it
  T* activated_cell = nullptr;      // this and the following: with layer norm, if no record keeps them
  T* gates = nullptr;
  T* norm_ih = nullptr;
  T* norm_hh = nullptr;
  T* norm_scale = nullptr;
};

template <class T>
class LayerForward {
 public:
  // For the steps that are computed as number order_begin to order_end - 1: all steps, or one segment of a recording.
  LayerForward(const LayerCall<T>& call, const LayerSplit& split, Index order_begin, Index order_end,
               Workspace<T>& workspace)
      : call_(call),
        weights_(*call.weights),
        kernels_(*call.kernels),
        schedule_(call.schedule),
        record_(call.record),
        rows_(call.schedule.batch.rows),
        steps_(call.schedule.batch.steps),
        segment_steps_(record_ == nullptr ? steps_ : record_->segment_steps),
        padded_h_(round_up(weights_.output_size(), kernels_.units)),
        parts_(split.row_parts),
        units_{split.unit_parts, Threads::awake},
        order_begin_(order_begin),
        order_end_(order_end),
        norm_(weights_.variant.norm_ih_weight != nullptr) {
    if (!norm_) tokens_ = repeated_tokens(call.input, schedule_, order_begin, order_end, 1);
    if (tokens_) prepare_tokens(workspace);
    steady_ = schedule_.batch.lengths == nullptr && !schedule_.may_restart() &&
              (call.input.table == nullptr || tokens_) && !call.masks.any() && !norm_;
    cell_ = record_ == nullptr ? workspace.take(rows_ * weights_.padded) : record_->segment_cell;
    scratch_.reserve(static_cast<std::size_t>(parts_));
    for (Index part = 0; part < parts_; ++part) prepare(part_row(part + 1) - part_row(part), workspace);
  }

  // Runs all steps from the call's start states.
  void run() {
    if (tokens_) project_tokens();
    for_row_parts(
        [&](Index row_begin, Index row_end, PartScratch<T>& scratch) { run_rows(row_begin, row_end, scratch); });
  }

  // Computes one segment again, from the state that was kept before it.
  void replay(Index segment) {
    if (tokens_) project_tokens();
    output_begin_ = schedule_.first_step(order_begin_, order_end_);
    for_row_parts([&](Index row_begin, Index row_end, PartScratch<T>& scratch) {
      for (Index row = row_begin; row < row_end; ++row) {
        const Index state = segment * rows_ + row;
        scratch.cell[index(row - row_begin)] = record_->segment_cell + state * weights_.padded;
        scratch.hidden[index(row - row_begin)] = record_->segment_hidden + state * weights_.output_size();
      }
      RoundsOfWork rounds(step_work(weights_, row_end - row_begin));
      run_segment(row_begin, row_end, order_begin_, order_end_, rounds, scratch);
    });
  }

 private:
  // Calls task(row_begin, row_end, scratch) for each part of the rows.
  template <class Task>
  void for_row_parts(Task&& task) {
    if (units_.parts > 1) wake_threads();  // throws here if at all, not within a step
    parallel(parts_,
             [&](Index part) { task(part_row(part), part_row(part + 1), scratch_[static_cast<std::size_t>(part)]); });
  }

  Index part_row(Index part) const { return part_begin(schedule_, 0, steps_, parts_, part); }

  void prepare(Index rows, Workspace<T>& workspace) {
    const Index packed = weights_.packed_size;
    const Index ahead_steps = this->ahead_steps(rows);
    PartScratch<T>& scratch = scratch_.emplace_back(rows, ahead_steps * rows);
    CellStepPointers<T>& step = scratch.step;
    // With layer norm, if there is a record, W x is written there and stays there.
    if (ahead_steps > 0 && !(norm_ && record_ != nullptr))
      scratch.ahead = workspace.take(ahead_steps * rows * ahead_stride());
    if (weights_.projection > 0 && record_ == nullptr) {
      scratch.unprojected_hidden = workspace.take(rows * weights_.units);
    }
    if (norm_) scratch.activated_cell = workspace.take(rows * weights_.padded);
    if (norm_ && record_ == nullptr) {
      scratch.gates = workspace.take(rows * packed);
      if (ahead_steps == 0) scratch.norm_ih = workspace.take(rows * packed);
      scratch.norm_hh = workspace.take(rows * packed);
      scratch.norm_scale = workspace.take(rows * norm_scales);
    }
    if (ahead_steps > 0 || tokens_) step.x = nullptr;
    // If the last panel is compact, rows may start in the middle of a cache line.
    const bool whole_lines = packed * static_cast<Index>(sizeof(T)) % 64 == 0;
    step.gates_bypass_cache =
        record_ != nullptr && whole_lines && exceeds_caches<T>(record_->segment_steps * rows_ * packed);
    if (call_.masks.hidden_dropout == 0.0) step.hidden_dropout = nullptr;
    if (call_.masks.candidate_dropout == 0.0) step.candidate_dropout = nullptr;
    if (weights_.hidden_zoneout.size() == 0) step.hidden_zoneout = nullptr;
    if (weights_.cell_zoneout.size() == 0) step.cell_zoneout = nullptr;
    if (weights_.projection == 0) step.unprojected_hidden = nullptr;
    if (!norm_ && record_ == nullptr) step.gates = nullptr;
  }

  void prepare_tokens(Workspace<T>& workspace) {
    const Index count = tokens_->count();
    T* const projections = workspace.take(count * weights_.packed_size);
    for (Index number = 0; number < count; ++number) {
      token_x_.push_back(call_.input.table + tokens_->token(number) * call_.input.features);
      token_y_.push_back(projections + number * weights_.packed_size);
    }
  }

  void run_rows(Index row_begin, Index row_end, PartScratch<T>& scratch) const {
    const Index padded = weights_.padded;
    for (Index row = row_begin; row < row_end; ++row) {
      T* cell = cell_ + row * padded;
      std::copy_n(weights_.start_cell.data(), padded, cell);
      if (call_.start_cell != nullptr) std::copy_n(call_.start_cell + row * weights_.units, weights_.units, cell);
      const Index at = row - row_begin;
      scratch.cell[index(at)] = cell;
      scratch.hidden[index(at)] = call_.start_hidden == nullptr ? weights_.start_hidden.data()
                                                                : call_.start_hidden + row * weights_.output_size();
      if (record_ != nullptr && record_->hidden_dropout != nullptr) {
        call_.masks.draw(kernels_, MaskOn::recurrent_hidden, 0, row, padded_h_,
                         record_->hidden_dropout + row * padded_h_);
      }
    }
    RoundsOfWork rounds(step_work(weights_, row_end - row_begin));
    for (Index order = 0; order < steps_; order += segment_steps_) {
      if (record_ != nullptr && record_->has_checkpoints()) keep_state(row_begin, row_end, order, scratch);
      run_segment(row_begin, row_end, order, std::min(order + segment_steps_, steps_), rounds, scratch);
    }
    finish(row_begin, row_end, scratch);
  }

  // Keeps the state from which a segment can be computed again.
  void keep_state(Index row_begin, Index row_end, Index order_begin, PartScratch<T>& scratch) const {
    const Index padded = weights_.padded, h_size = weights_.output_size();
    for (Index row = row_begin; row < row_end; ++row) {
      const Index at = row - row_begin, state = order_begin / segment_steps_ * rows_ + row;
      std::copy_n(scratch.hidden[index(at)], h_size, record_->segment_hidden + state * h_size);
      if (order_begin == 0) continue;  // c is already there
      T* cell = record_->segment_cell + state * padded;
      std::copy_n(scratch.cell[index(at)], padded, cell);
      scratch.cell[index(at)] = cell;
    }
  }

  void run_segment(Index row_begin, Index row_end, Index order_begin, Index order_end, RoundsOfWork& rounds,
                   PartScratch<T>& scratch) const {
    scratch.first_step = schedule_.first_step(order_begin, order_end);
    const Index ahead_steps = this->ahead_steps(row_end - row_begin);
    for (Index order = order_begin; order < order_end; ++order) {
      if (rounds.stop()) return;
      // The threads may have fallen asleep while the system kept the caller from running.
      if (units_.parts > 1) wake_threads();
      const Index ahead = ahead_steps > 0 ? (order - order_begin) % ahead_steps : -1;
      if (ahead == 0) project_ahead(row_begin, row_end, order, std::min(order + ahead_steps, order_end), scratch);
      const Index first_ahead = ahead_steps > 0 ? ahead * (row_end - row_begin) : -1;
      if (steady_ && order > order_begin) {
        advance(row_begin, row_end, order, first_ahead, scratch);
      } else {
        step(row_begin, row_end, order, first_ahead, scratch);
      }
    }
  }

  // Computes bias and W x for each different token.
  void project_tokens() const {
    const ProductArgs<T> args = input_product(tokens_->count(), token_x_.data(), token_y_.data());
    const bool small = args.rows * args.columns * args.depth < smallest_parallel_work;
    const Index panels = weights_.panels.count(), parts = small ? 1 : std::min(free_threads(), panels);
    parallel(parts, [&](Index part) {
      const Index first = piece_begin(panels, parts, part), count = piece_begin(panels, parts, part + 1) - first;
      for_pieces_until_stopped(count, args.rows * args.columns * args.depth / panels, 1,
                               [&](Index begin, Index end) { kernels_.product(args, first + begin, first + end); });
    });
  }

  // The product that computes bias and W x for `rows` rows; with layer norm W x alone.
  ProductArgs<T> input_product(Index rows, const T* const* x, T* const* y) const {
    ProductArgs<T> args = product_of(weights_.x_weights, rows, x, y);
    args.start = norm_ ? nullptr : weights_.bias.data();
    return args;
  }

  // For how many steps of `rows` rows each project_ahead() computes W x; 0: it is not used.
  Index ahead_steps(Index rows) const {
    return tokens_ ? 0 : project_ahead_steps(weights_, rows, steps_, units_.parts);
  }

  // From one row of projections to the next; a cache line more than a row, because many rows a power of two apart would
  // share a few places of a cache.
  Index ahead_stride() const { return weights_.packed_size + 64 / static_cast<Index>(sizeof(T)); }

  // Computes bias and W x of several steps as one product; step() continues the chains with R h_prev. With layer norm
  // it computes W x alone.
  void project_ahead(Index row_begin, Index row_end, Index order_begin, Index order_end,
                     PartScratch<T>& scratch) const {
    Index count = 0;
    for (Index order = order_begin; order < order_end; ++order) {
      const Index step = schedule_.step(order);
      for (Index row = row_begin; row < row_end; ++row) {
        if (!schedule_.active(step, row)) continue;
        const Index place = (order - order_begin) * (row_end - row_begin) + row - row_begin;
        scratch.ahead_x[index(count)] = call_.input.at(step, row);
        scratch.ahead_y[index(count)] = ahead_row(step, row, place, scratch);
        ++count;
      }
    }
    if (count == 0) return;
    const ProductArgs<T> args = input_product(count, scratch.ahead_x.data(), scratch.ahead_y.data());
    const Index panels = weights_.panels.count(), parts = units_.parts;
    parallel(
        parts,
        [&](Index part) {
          kernels_.product(args, piece_begin(panels, parts, part), piece_begin(panels, parts, part + 1));
        },
        units_.threads);
  }

  T* ahead_row(Index step, Index row, Index place, const PartScratch<T>& scratch) const {
    return scratch.ahead == nullptr ? record_->norm_ih + slot(step, row, scratch) * weights_.packed_size
                                    : scratch.ahead + place * ahead_stride();
  }

  const T* token_projection(Index step, Index row) const {
    return token_y_[index(tokens_->number(*call_.input.tokens.at(step, row)))];
  }

  // Where in the arrays of a recording the values of a step and row lie.
  Index slot(Index step, Index row, const PartScratch<T>& scratch) const {
    return (step - scratch.first_step) * rows_ + row;
  }

  // first_ahead: where the projections of this step start, or -1 if there are none.
  void step(Index row_begin, Index row_end, Index order, Index first_ahead, PartScratch<T>& scratch) const {
    const CellStepPointers<T>& pointers = scratch.step;
    const Index step = schedule_.step(order);
    Index count = 0;
    for (Index row = row_begin; row < row_end; ++row) {
      if (!schedule_.active(step, row)) continue;
      const Index at = row - row_begin;
      const bool restarts = schedule_.restarts(step, row);
      const Index slot = this->slot(step, row, scratch);
      T* output = call_.output.at(step - output_begin_, row);
      T* cell = record_ == nullptr ? cell_ + row * weights_.padded : record_->cell + slot * weights_.padded;
      pointers.start[count] = weights_.bias.data();
      if (tokens_) {
        pointers.start[count] = token_projection(step, row);
      } else if (first_ahead < 0) {
        pointers.x[count] = call_.input.at(step, row);
      } else if (!norm_) {
        pointers.start[count] = ahead_row(step, row, first_ahead + at, scratch);
      }
      pointers.h_prev[count] = restarts ? weights_.start_hidden.data() : scratch.hidden[index(at)];
      pointers.c_prev[count] = restarts ? weights_.start_cell.data() : scratch.cell[index(at)];
      pointers.c[count] = cell;
      pointers.output[count] = output;
      if (weights_.projection > 0) {
        pointers.unprojected_hidden[count] =
            recorded_or_scratch(record_ == nullptr ? nullptr : record_->unprojected_hidden, slot,
                                scratch.unprojected_hidden, at, weights_.units);
      }
      if (pointers.gates != nullptr) {
        pointers.gates[count] = recorded_or_scratch(record_ == nullptr ? nullptr : record_->gates, slot, scratch.gates,
                                                    at, weights_.packed_size);
      }
      if (norm_) {
        pointers.activated_cell[count] = scratch.activated_cell + at * weights_.padded;
        point_to_norms(count, slot, at, scratch);
        pointers.norm_ih[count] = first_ahead < 0 ? recorded_or_scratch(record_ == nullptr ? nullptr : record_->norm_ih,
                                                                        slot, scratch.norm_ih, at, weights_.packed_size)
                                                  : ahead_row(step, row, first_ahead + at, scratch);
      }
      point_to_factors(count, step, row, slot, pointers);
      scratch.hidden[index(at)] = output;
      scratch.cell[index(at)] = cell;
      ++count;
    }
    if (count > 0) cell_step(weights_, kernels_, count, order, pointers, units_);
  }

  // The same as step(), if every step has the same rows and none restarts: each pointer advances by its own stride. For
  // small layers, setting all pointers anew costs as much as the arithmetic.
  void advance(Index row_begin, Index row_end, Index order, Index first_ahead, PartScratch<T>& scratch) const {
    const CellStepPointers<T>& pointers = scratch.step;
    const Index rows = row_end - row_begin;
    const Index direction = schedule_.reverse ? -1 : 1;
    const Index slots = record_ == nullptr ? 0 : direction * rows_;
    const Index output_stride = direction * call_.output.step_stride, cell_stride = slots * weights_.padded;
    for (Index row = 0; row < rows; ++row) {
      pointers.h_prev[row] = pointers.output[row];
      pointers.c_prev[row] = pointers.c[row];
      scratch.hidden[index(row)] = pointers.output[row] += output_stride;
      scratch.cell[index(row)] = pointers.c[row] += cell_stride;
    }
    const auto move = [rows](auto* array, Index stride) {
      if (array == nullptr) return;
      for (Index row = 0; row < rows; ++row) array[row] += stride;
    };
    move(pointers.x, direction * call_.input.values.step_stride);
    move(pointers.gates, slots * weights_.packed_size);
    move(pointers.unprojected_hidden,
         record_ != nullptr && record_->unprojected_hidden != nullptr ? slots * weights_.units : 0);
    for (Index row = 0; tokens_ && row < rows; ++row) {
      pointers.start[row] = token_projection(schedule_.step(order), row_begin + row);
    }
    for (Index row = 0; first_ahead >= 0 && row < rows; ++row) {
      pointers.start[row] = scratch.ahead + (first_ahead + row) * ahead_stride();
    }
    cell_step(weights_, kernels_, rows, order, pointers, units_);
  }

  // Where a value of one row lies: in the recording, or if that does not keep it in the scratch memory of the row.
  static T* recorded_or_scratch(T* recorded, Index slot, T* scratch, Index at, Index size) {
    return recorded == nullptr ? scratch + at * size : recorded + slot * size;
  }

  void point_to_norms(Index count, Index slot, Index at, const PartScratch<T>& scratch) const {
    const CellStepPointers<T>& pointers = scratch.step;
    const Index packed = weights_.packed_size;
    const bool records = record_ != nullptr;
    pointers.norm_hh[count] =
        recorded_or_scratch(records ? record_->norm_hh : nullptr, slot, scratch.norm_hh, at, packed);
    pointers.norm_scale[count] =
        recorded_or_scratch(records ? record_->norm_scale : nullptr, slot, scratch.norm_scale, at, norm_scales);
  }

  // In training each mask is drawn into the recording, where backward finds it.
  void point_to_factors(Index count, Index step, Index row, Index slot, const CellStepPointers<T>& pointers) const {
    if (pointers.hidden_dropout != nullptr) {
      pointers.hidden_dropout[count] = record_->hidden_dropout + row * padded_h_;
      pointers.dropped_hidden[count] = record_->dropped_hidden + slot * weights_.output_size();
    }
    const auto drawn = [&](MaskOn on, T* masks, Index size) {
      call_.masks.draw(kernels_, on, step, row, size, masks + slot * size);
      return masks + slot * size;
    };
    if (pointers.candidate_dropout != nullptr) {
      pointers.candidate_dropout[count] = drawn(MaskOn::candidate, record_->candidate_dropout, weights_.padded);
    }
    if (pointers.hidden_zoneout != nullptr) {
      pointers.hidden_zoneout[count] = call_.masks.training ? drawn(MaskOn::hidden, record_->hidden_zoneout, padded_h_)
                                                            : weights_.hidden_zoneout.data();
    }
    if (pointers.cell_zoneout != nullptr) {
      pointers.cell_zoneout[count] = call_.masks.training ? drawn(MaskOn::cell, record_->cell_zoneout, weights_.padded)
                                                          : weights_.cell_zoneout.data();
    }
  }

  // Writes the end states, and zeros in padding.
  void finish(Index row_begin, Index row_end, const PartScratch<T>& scratch) const {
    const Index h_size = weights_.output_size();
    for (Index row = row_begin; row < row_end; ++row) {
      const Index at = row - row_begin;
      for (Index step = schedule_.length(row); step < steps_; ++step) {
        std::fill_n(call_.output.at(step, row), h_size, T(0));
      }
      if (call_.end_hidden != nullptr) {
        std::copy_n(scratch.hidden[index(at)], h_size, call_.end_hidden + row * h_size);
      }
      if (call_.end_cell != nullptr) {
        std::copy_n(scratch.cell[index(at)], weights_.units, call_.end_cell + row * weights_.units);
      }
    }
  }

  static std::size_t index(Index value) { return static_cast<std::size_t>(value); }

  const LayerCall<T>& call_;
  const PackedLayer<T>& weights_;
  const Kernels<T>& kernels_;
  const Schedule& schedule_;
  LayerRecord<T>* const record_;
  Index rows_, steps_;
  Index segment_steps_;     // how many steps one segment has
  Index output_begin_ = 0;  // the first step of the call's output
  Index padded_h_;          // H or P rounded up to whole registers
  Index parts_;             // into how many pieces threads split the rows
  UnitSplit units_;         // how threads split each step
  Index order_begin_, order_end_;
  bool norm_;                           // whether there is layer norm
  std::optional<TokenNumbers> tokens_;  // set if W x is computed once for each different token
  std::vector<const T*> token_x_;       // by the number of the token
  std::vector<T*> token_y_;             // packed rows of bias and W x
  bool steady_ = false;                 // whether pointers advance() from step to step
  T* cell_ = nullptr;                   // padded rows: the start state; without a record also the current state
  std::vector<PartScratch<T>> scratch_;
};

}  // namespace

template <class T>
void layer_forward(const std::vector<LayerCall<T>>& directions, Workspace<T>& workspace) {
  const LayerCall<T>& first = directions.front();
  if (first.schedule.batch.rows == 0) return;
  const auto count = static_cast<Index>(directions.size());
  const bool apart = count > 1 && directions_apart(first.schedule, *first.weights);
  std::vector<LayerForward<T>> layers;
  layers.reserve(directions.size());
  for (const LayerCall<T>& call : directions) {
    layers.emplace_back(call, apart ? LayerSplit{} : forward_split(call.schedule, *call.weights), 0,
                        call.schedule.batch.steps, workspace);
  }
  const auto run = [&](Index direction) { layers[static_cast<std::size_t>(direction)].run(); };
  if (apart) {
    parallel(count, run);
  } else {
    for (Index direction = 0; direction < count; ++direction) run(direction);
  }
  throw_if_stopped(count * first.schedule.batch.steps * step_work(*first.weights, first.schedule.batch.rows));
}

template <class T>
void layer_replay(const LayerCall<T>& call, Index segment, Workspace<T>& workspace) {
  const Index steps = call.record->segment_steps, begin = segment * steps;
  const Index end = std::min(begin + steps, call.schedule.batch.steps);
  LayerForward<T>(call, forward_split(call.schedule, *call.weights), begin, end, workspace).replay(segment);
}

template void layer_replay<float>(const LayerCall<float>&, Index, Workspace<float>&);
template void layer_replay<double>(const LayerCall<double>&, Index, Workspace<double>&);
template void layer_forward<float>(const std::vector<LayerCall<float>>&, Workspace<float>&);
template void layer_forward<double>(const std::vector<LayerCall<double>>&, Workspace<double>&);

}  // namespace latchwork
