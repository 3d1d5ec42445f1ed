#pragma once

#include <algorithm>
#include <memory>
#include <random>
#include <vector>

#include "latchwork/network.hpp"
#include "layer/cell_step.hpp"
#include "machine/parallel.hpp"
#include "network/network_parts.hpp"
#include "weights/snapshot.hpp"

namespace latchwork::thresholds {

inline void fill_with_random_numbers(Buffer<float>& values) {
  std::mt19937 generator(1);
  std::uniform_real_distribution<float> between(-1.0f, 1.0f);
  std::generate_n(values.data(), values.size(), [&] { return between(generator); });
}

// One layer over all steps of a batch, computed by the library's own steps. The caller chooses how the work is split,
// not strategy.hpp.
class Job {
 public:
  Job(Index input_size, Index units, Index rows, Index steps)
      : network_({options(input_size, units)}, TensorNames::of_layer, 1),
        snapshot_(detail::snapshot_of(*detail::parts_of(network_), false)),
        weights_(snapshot_->members.front().front().layers.front()),
        kernels_(*snapshot_->kernels),
        rows_(rows),
        steps_(steps),
        input_(steps * rows * input_size),
        output_(steps * rows * units),
        cell_(rows * weights_.padded),
        ahead_(steps * rows * weights_.packed_size),
        ahead_x_(static_cast<std::size_t>(steps * rows)),
        ahead_y_(static_cast<std::size_t>(steps * rows)) {
    fill_with_random_numbers(input_);
    for (int part = 0; part < 2; ++part) {
      CellStepPointers<float>& step = steps_of_part_.emplace_back(rows);
      step.hidden_dropout = step.candidate_dropout = step.hidden_zoneout = step.cell_zoneout = nullptr;
      step.unprojected_hidden = step.gates = nullptr;
      x_of_part_.push_back(step.x);
    }
  }

  const PackedLayer<float>& weights() const { return weights_; }

  void one_thread() { run_rows(0, rows_, 1, 0, 0); }

  void split_rows() {
    parallel(2, [&](Index part) {
      run_rows(piece_begin(rows_, 2, part), piece_begin(rows_, 2, part + 1), 1, 0, static_cast<std::size_t>(part));
    });
  }

  void split_units() {
    wake_threads();
    run_rows(0, rows_, 2, 0, 0);
  }

  // One thread, which computes W x for `ahead_steps` steps in one product.
  void project_ahead(Index ahead_steps) { run_rows(0, rows_, 1, ahead_steps, 0); }

  // One thread, without W x. It walks the panels always from the first to the last, or back and forth from step to
  // step.
  void walk_panels(bool back_and_forth) {
    CellStepPointers<float>& pointers = steps_of_part_.front();
    begin_rows(0, rows_);
    StepArgs<float> args{};
    args.rows = rows_;
    args.units = weights_.units;
    args.start = pointers.start;
    args.h_prev = pointers.h_prev;
    args.h_size = weights_.units;
    args.h_weights = weights_.h_weights.data();
    args.c_prev = pointers.c_prev;
    args.c = pointers.c;
    args.h = pointers.output;
    for (Index step = 0; step < steps_; ++step) {
      for (Index row = 0; row < rows_; ++row) point(step, row, row, pointers);
      args.last_panel_first = back_and_forth && step % 2 == 1;
      kernels_.step(args, 0, weights_.panels.count());
    }
  }

 private:
  static LstmOptions options(Index input_size, Index units) {
    LstmOptions lstm;
    lstm.input_size = input_size;
    lstm.hidden_size = units;
    return lstm;
  }

  const float* input(Index step, Index row) const { return input_.data() + (step * rows_ + row) * weights_.input_size; }
  float* output(Index step, Index row) { return output_.data() + (step * rows_ + row) * weights_.units; }

  void begin_rows(Index row_begin, Index row_end) {
    for (Index row = row_begin; row < row_end; ++row) {
      std::copy_n(weights_.start_cell.data(), weights_.padded, cell_.data() + row * weights_.padded);
    }
  }

  void point(Index step, Index row, Index at, CellStepPointers<float>& pointers) {
    pointers.start[at] = weights_.bias.data();
    pointers.h_prev[at] = step == 0 ? weights_.start_hidden.data() : output(step - 1, row);
    pointers.c_prev[at] = pointers.c[at] = cell_.data() + row * weights_.padded;
    pointers.output[at] = output(step, row);
  }

  void run_rows(Index row_begin, Index row_end, Index unit_parts, Index ahead_steps, std::size_t part) {
    CellStepPointers<float>& pointers = steps_of_part_[part];
    const Index rows = row_end - row_begin;
    pointers.x = ahead_steps > 0 ? nullptr : x_of_part_[part];
    begin_rows(row_begin, row_end);
    for (Index step = 0; step < steps_; ++step) {
      if (ahead_steps > 0 && step % ahead_steps == 0) project(step, std::min(step + ahead_steps, steps_));
      for (Index row = row_begin; row < row_end; ++row) {
        const Index at = row - row_begin;
        point(step, row, at, pointers);
        if (ahead_steps > 0) {
          pointers.start[at] = ahead_y_[static_cast<std::size_t>(step % ahead_steps * rows + at)];
        } else {
          pointers.x[at] = input(step, row);
        }
      }
      cell_step(weights_, kernels_, rows, step, pointers, {unit_parts, Threads::awake});
    }
  }

  // Computes the bias plus W x for all rows in these steps.
  void project(Index step_begin, Index step_end) {
    std::size_t count = 0;
    for (Index step = step_begin; step < step_end; ++step) {
      for (Index row = 0; row < rows_; ++row) {
        ahead_x_[count] = input(step, row);
        ahead_y_[count] = ahead_.data() + static_cast<Index>(count) * weights_.packed_size;
        ++count;
      }
    }
    ProductArgs<float> args =
        product_of(weights_.x_weights, static_cast<Index>(count), ahead_x_.data(), ahead_y_.data());
    args.start = weights_.bias.data();
    kernels_.product(args, 0, weights_.x_weights.count());
  }

  Network<float> network_;
  std::shared_ptr<const Snapshot<float>> snapshot_;
  const PackedLayer<float>& weights_;
  const Kernels<float>& kernels_;
  Index rows_, steps_;
  Buffer<float> input_, output_, cell_, ahead_;
  std::vector<const float*> ahead_x_;
  std::vector<float*> ahead_y_;
  std::vector<CellStepPointers<float>> steps_of_part_;
  std::vector<const float**> x_of_part_;
};

}  // namespace latchwork::thresholds
