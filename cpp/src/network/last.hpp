#pragma once

#include <algorithm>

#include "layer/rows.hpp"

namespace latchwork {

// Last: which step of a row is final for which features. Features of a reverse direction are final at step 0.
struct LastColumns {
  Index forward = 0;  // the first so many features
  Index reverse = 0;  // and the ones after them
};

// `previous`: what stands before Last in the chain; null: nothing.
inline LastColumns last_columns(const ModuleOptions* previous, Index features) {
  const auto* lstm = previous == nullptr ? nullptr : std::get_if<LstmOptions>(previous);
  if (lstm == nullptr || lstm->direction == Direction::forward) return {features, 0};
  if (lstm->direction == Direction::reverse) return {0, features};
  return {features / 2, features / 2};
}

// (steps, rows, features) -> (rows, features); zeros for rows of length 0.
template <class T>
void last_forward(const LastColumns& columns, const Schedule& schedule, const RowSource<T>& input,
                  SequenceView<T> output) {
  for (Index row = 0; row < schedule.batch.rows; ++row) {
    T* final = output.at(0, row);
    const Index length = schedule.length(row);
    if (length == 0) {
      std::fill_n(final, columns.forward + columns.reverse, T(0));
      continue;
    }
    std::copy_n(input.at(length - 1, row), columns.forward, final);
    std::copy_n(input.at(0, row) + columns.forward, columns.reverse, final + columns.forward);
  }
}

// d_output null: zeros.
template <class T>
void last_backward(const LastColumns& columns, const Schedule& schedule, SequenceView<const T> d_output,
                   SequenceView<T> d_input) {
  for (Index row = 0; row < schedule.batch.rows; ++row) {
    const Index length = schedule.length(row);
    for (Index step = 0; step < length; ++step) {
      std::fill_n(d_input.at(step, row), columns.forward + columns.reverse, T(0));
    }
    if (length == 0 || d_output.data == nullptr) continue;
    const T* d_final = d_output.at(0, row);
    std::copy_n(d_final, columns.forward, d_input.at(length - 1, row));
    std::copy_n(d_final + columns.forward, columns.reverse, d_input.at(0, row) + columns.forward);
  }
}

}  // namespace latchwork
