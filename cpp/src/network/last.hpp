#pragma once

#include <algorithm>
#include <vector>

#include "latchwork/options.hpp"
#include "layer/rows.hpp"
#include "weights/module_sizes.hpp"

namespace latchwork {

// The columns of the module Last by direction. The features of a forward direction are final at a row's last step,
// those of a reverse direction at step 0.
struct LastColumns {
  Index forward = 0;  // the number of features of a forward direction, which come first
  Index reverse = 0;  // the number of features of a reverse direction, which follow
};

// `at`: the place of Last in the chain. A module before it that keeps columns changes no direction. `features`: of what
// Last reads, which are those of both directions side by side if it is Last that merges them.
inline LastColumns last_columns(const std::vector<ModuleOptions>& modules, std::size_t at, Index features) {
  const auto* lstm = std::get_if<LstmOptions>(&modules[directed_source(modules, at)]);
  if (lstm == nullptr || lstm->direction == Direction::forward) return {features, 0};
  if (lstm->direction == Direction::reverse) return {0, features};
  if (lstm->merges() && features == lstm->output_size()) return {features, 0};
  return {features / 2, features / 2};
}

// Copies the final values of each row, (steps, rows, features) -> (rows, features). Rows of length 0 become zero.
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

// The gradient of last_forward(). A null d_output stands for zeros. Padding of d_input is not written.
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
