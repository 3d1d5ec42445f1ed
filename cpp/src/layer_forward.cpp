#include <algorithm>
#include <vector>

#include "layer.hpp"
#include "parallel.hpp"
#include "strategy.hpp"

namespace latchwork {

namespace {

// Pointers that the kernels take, one for each row of one step.
template <class T>
struct StepPointers {
  explicit StepPointers(Index rows)
      : start(rows_of(rows)),
        x(rows_of(rows)),
        h_prev(rows_of(rows)),
        c_prev(rows_of(rows)),
        c(rows_of(rows)),
        h(rows_of(rows)),
        gates(rows_of(rows)),
        output(rows_of(rows)) {}
  static std::size_t rows_of(Index rows) { return static_cast<std::size_t>(rows); }

  std::vector<const T*> start, x, h_prev, c_prev;
  std::vector<T*> c, h, gates, output;
};

// Memory of one part of the rows.
template <class T>
struct PartScratch {
  PartScratch(Index rows, Index ahead_rows)
      : step(rows),
        hidden(StepPointers<T>::rows_of(rows)),
        cell(StepPointers<T>::rows_of(rows)),
        ahead_x(StepPointers<T>::rows_of(ahead_rows)),
        ahead_y(StepPointers<T>::rows_of(ahead_rows)) {}

  StepPointers<T> step;
  std::vector<const T*> hidden, cell;  // each row's state so far
  std::vector<const T*> ahead_x;
  std::vector<T*> ahead_y;
  T* ahead = nullptr;    // pre-activations of the steps of a chunk
  T* exposed = nullptr;  // with projection, where no record keeps it
};

template <class T>
class LayerForward {
 public:
  LayerForward(const LayerCall<T>& call, Workspace<T>& workspace)
      : call_(call),
        weights_(*call.weights),
        kernels_(*call.kernels),
        schedule_(call.schedule),
        rows_(call.schedule.batch.rows),
        steps_(call.schedule.batch.steps) {
    const Index parts = row_parts(schedule_, weights_);
    zeros_ = workspace.take_zeros(std::max(weights_.padded, weights_.output_size()));
    cell_ = call.record == nullptr ? workspace.take(rows_ * weights_.padded) : call.record->start_cell;
    for (Index part = 0; part < parts; ++part) {
      const Index part_rows = piece_begin(rows_, parts, part + 1) - piece_begin(rows_, parts, part);
      const Index ahead_steps = project_ahead_steps(part_rows, weights_.input_size, steps_);
      PartScratch<T>& scratch = scratch_.emplace_back(part_rows, ahead_steps * part_rows);
      if (ahead_steps > 0) scratch.ahead = workspace.take(ahead_steps * part_rows * 4 * weights_.padded);
      if (weights_.projection > 0 && call.record == nullptr)
        scratch.exposed = workspace.take(part_rows * weights_.units);
    }
  }

  void run() {
    const auto parts = static_cast<Index>(scratch_.size());
    parallel(parts, [&](Index part) {
      run_rows(piece_begin(rows_, parts, part), piece_begin(rows_, parts, part + 1),
               scratch_[static_cast<std::size_t>(part)]);
    });
  }

 private:
  void run_rows(Index row_begin, Index row_end, PartScratch<T>& scratch) const {
    const Index padded = weights_.padded;
    const Index h_size = weights_.output_size();
    for (Index row = row_begin; row < row_end; ++row) {
      T* cell = cell_ + row * padded;
      std::fill(cell, cell + padded, T(0));
      if (call_.start_cell != nullptr) std::copy_n(call_.start_cell + row * weights_.units, weights_.units, cell);
      const auto at = static_cast<std::size_t>(row - row_begin);
      scratch.cell[at] = cell;
      scratch.hidden[at] = call_.start_hidden == nullptr ? zeros_ : call_.start_hidden + row * h_size;
    }
    const Index ahead_steps = project_ahead_steps(row_end - row_begin, weights_.input_size, steps_);
    for (Index order = 0; order < steps_; ++order) {
      if (ahead_steps > 0 && order % ahead_steps == 0) {
        project_ahead(row_begin, row_end, order, std::min(order + ahead_steps, steps_), scratch);
      }
      const Index first_ahead = ahead_steps > 0 ? order % ahead_steps * (row_end - row_begin) : -1;
      step(row_begin, row_end, schedule_.step(order), first_ahead, scratch);
    }
    finish(row_begin, row_end, scratch);
  }

  // Bias and W x of several steps as one product; step() continues the chains with R h.
  void project_ahead(Index row_begin, Index row_end, Index order_begin, Index order_end,
                     PartScratch<T>& scratch) const {
    Index count = 0;
    for (Index order = order_begin; order < order_end; ++order) {
      const Index step = schedule_.step(order);
      for (Index row = row_begin; row < row_end; ++row) {
        if (!schedule_.active(step, row)) continue;
        const Index slot = (order - order_begin) * (row_end - row_begin) + row - row_begin;
        scratch.ahead_x[static_cast<std::size_t>(count)] = call_.input.at(step, row);
        scratch.ahead_y[static_cast<std::size_t>(count)] = scratch.ahead + slot * 4 * weights_.padded;
        ++count;
      }
    }
    ProductArgs<T> args{};
    args.rows = count;
    args.columns = 4 * weights_.padded;
    args.start = weights_.bias.data();
    args.a = scratch.ahead_x.data();
    args.depth = weights_.input_size;
    args.a_block = weights_.input_size;
    args.weights = weights_.x_weights.data();
    args.y = scratch.ahead_y.data();
    if (count > 0) kernels_.product(args, 0, weights_.panels);
  }

  // first_ahead: where this step's projections begin, -1 without.
  void step(Index row_begin, Index row_end, Index step, Index first_ahead, PartScratch<T>& scratch) const {
    const Index padded = weights_.padded;
    StepPointers<T>& pointers = scratch.step;
    std::size_t count = 0;
    for (Index row = row_begin; row < row_end; ++row) {
      if (!schedule_.active(step, row)) continue;
      const auto at = static_cast<std::size_t>(row - row_begin);
      const bool restarts = schedule_.restarts(step, row);
      const Index slot = step * rows_ + row;
      T* output = call_.output.at(step, row);
      T* cell = call_.record == nullptr ? cell_ + row * padded : call_.record->cell + slot * padded;
      if (first_ahead < 0) {
        pointers.start[count] = weights_.bias.data();
        pointers.x[count] = call_.input.at(step, row);
      } else {
        pointers.start[count] = scratch.ahead + (first_ahead + row - row_begin) * 4 * padded;
      }
      pointers.h_prev[count] = restarts ? zeros_ : scratch.hidden[at];
      pointers.c_prev[count] = restarts ? zeros_ : scratch.cell[at];
      pointers.c[count] = cell;
      pointers.output[count] = output;
      pointers.h[count] = output;
      if (weights_.projection > 0) {
        pointers.h[count] = call_.record == nullptr ? scratch.exposed + (row - row_begin) * weights_.units
                                                    : call_.record->exposed + slot * weights_.units;
      }
      if (call_.record != nullptr) pointers.gates[count] = call_.record->gates + slot * 4 * padded;
      scratch.hidden[at] = output;
      scratch.cell[at] = cell;
      ++count;
    }
    if (count == 0) return;
    StepArgs<T> args{};
    args.rows = static_cast<Index>(count);
    args.units = weights_.units;
    args.start = pointers.start.data();
    args.x = first_ahead < 0 ? pointers.x.data() : nullptr;
    args.x_size = weights_.input_size;
    args.x_weights = weights_.x_weights.data();
    args.h_prev = pointers.h_prev.data();
    args.h_size = weights_.output_size();
    args.h_weights = weights_.h_weights.data();
    args.c_prev = pointers.c_prev.data();
    args.c = pointers.c.data();
    args.h = pointers.h.data();
    args.gates = call_.record == nullptr ? nullptr : pointers.gates.data();
    kernels_.step(args, 0, weights_.panels);
    if (weights_.projection > 0) project_output(args.rows, pointers);
  }

  // h = W_hr (o tanh(c)): Sak, Senior & Beaufays 2014.
  void project_output(Index rows, const StepPointers<T>& pointers) const {
    ProductArgs<T> args{};
    args.rows = rows;
    args.columns = weights_.projection;
    args.a = pointers.h.data();
    args.depth = weights_.units;
    args.a_block = weights_.units;
    args.weights = weights_.projection_weights.data();
    args.y = pointers.output.data();
    const Index panel_width = 4 * kernels_.units;
    kernels_.product(args, 0, (args.columns + panel_width - 1) / panel_width);
  }

  // End states, and zeros in padding.
  void finish(Index row_begin, Index row_end, const PartScratch<T>& scratch) const {
    const Index h_size = weights_.output_size();
    for (Index row = row_begin; row < row_end; ++row) {
      const auto at = static_cast<std::size_t>(row - row_begin);
      for (Index step = schedule_.length(row); step < steps_; ++step) {
        std::fill_n(call_.output.at(step, row), h_size, T(0));
      }
      if (call_.end_hidden != nullptr) {
        const T* hidden = scratch.hidden[at];
        std::copy(hidden, hidden + h_size, call_.end_hidden + row * h_size);
      }
      if (call_.end_cell != nullptr) {
        std::copy_n(scratch.cell[at], weights_.units, call_.end_cell + row * weights_.units);
      }
    }
  }

  const LayerCall<T>& call_;
  const PackedLayer<T>& weights_;
  const Kernels<T>& kernels_;
  const Schedule& schedule_;
  Index rows_, steps_;
  const T* zeros_ = nullptr;
  T* cell_ = nullptr;  // padded rows: the start state, and without a record the state itself
  std::vector<PartScratch<T>> scratch_;
};

}  // namespace

template <class T>
void layer_forward(const LayerCall<T>& call, Workspace<T>& workspace) {
  if (call.schedule.batch.rows == 0) return;
  LayerForward<T>(call, workspace).run();
}

template void layer_forward<float>(const LayerCall<float>&, Workspace<float>&);
template void layer_forward<double>(const LayerCall<double>&, Workspace<double>&);

}  // namespace latchwork
