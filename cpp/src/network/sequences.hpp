#pragma once

#include <algorithm>

#include "layer/rows.hpp"
#include "machine/interrupt.hpp"
#include "machine/parallel.hpp"

namespace latchwork {

// Copies the valid steps of each row, or some of them if the call is to stop. Padding of `to` is not written.
template <class T>
void copy_sequence(const Batch& batch, Index features, SequenceView<const T> from, SequenceView<T> to) {
  const Schedule schedule{batch, false};
  for (Index step = 0; step < batch.steps; ++step) {
    if (stops_after(batch.rows * features * work_of_moving)) return;
    for (Index row = 0; row < batch.rows; ++row) {
      if (schedule.active(step, row)) std::copy_n(from.at(step, row), features, to.at(step, row));
    }
  }
}

// Writes zeros to padding.
template <class T>
void clear_padding(const Batch& batch, Index features, SequenceView<T> values) {
  const Schedule schedule{batch, false};
  for (Index row = 0; row < batch.rows; ++row) {
    for (Index step = schedule.length(row); step < batch.steps; ++step) {
      std::fill_n(values.at(step, row), features, T(0));
    }
  }
}

// Calls write(step, row, to) for the valid steps of each row, with the place of its features in `to`, and writes zeros
// to padding. Threads share the work; some of it is left if the call is to stop.
template <class T, class Write>
void write_rows(const Batch& batch, Index features, const SequenceView<T>& to, Write&& write) {
  const Schedule schedule{batch, false};
  const Index slots = batch.steps * batch.rows, parts = number_parts(slots * features, slots);
  parallel(parts, [&](Index part) {
    for (Index slot = piece_begin(slots, parts, part); slot < piece_begin(slots, parts, part + 1); ++slot) {
      if (stops_after(features * work_of_moving)) return;
      const Index step = slot / batch.rows, row = slot % batch.rows;
      if (schedule.active(step, row)) {
        write(step, row, to.at(step, row));
      } else {
        std::fill_n(to.at(step, row), features, T(0));
      }
    }
  });
}

// The gradient of a module through which numbers pass as they are. A null d_y stands for zeros.
template <class T>
void pass_gradient(const Batch& batch, Index features, const SequenceView<const T>& d_y, const SequenceView<T>& d_x) {
  write_rows(batch, features, d_x, [&](Index step, Index row, T* to) {
    if (d_y.data == nullptr) return void(std::fill_n(to, features, T(0)));
    std::copy_n(d_y.at(step, row), features, to);
  });
}

// The rows of a sequence of values, as the source that layers read from.
template <class T>
RowSource<T> rows_of(SequenceView<const T> view, Index features) {
  RowSource<T> source;
  source.values = view;
  source.features = features;
  return source;
}

}  // namespace latchwork
