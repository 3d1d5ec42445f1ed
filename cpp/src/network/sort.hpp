#pragma once

#include <algorithm>

#include "layer/rows.hpp"
#include "network/sequences.hpp"

namespace latchwork {

// The place that one of the values of a group has in ascending order: the number of values that come before it. NaN
// comes last, and equal values keep their order. Groups are small, and counting needs no memory.
template <class T>
Index sorted_place(const T* values, Index group, Index of) noexcept {
  const T value = values[of];
  const bool is_nan = value != value;
  Index place = 0;
  for (Index at = 0; at < group; ++at) {
    const T other = values[at];
    const bool equal = other == value || (is_nan && other != other);
    const bool smaller = other < value || (is_nan && other == other);
    place += smaller || (equal && at < of) ? 1 : 0;
  }
  return place;
}

// Sorts each run of `group` values.
template <class T>
void sort_row(Index group, Index features, const T* x, T* y) noexcept {
  for (Index begin = 0; begin < features; begin += group) {
    for (Index at = 0; at < group; ++at) y[begin + sorted_place(x + begin, group, at)] = x[begin + at];
  }
}

// The module Sort for every step and row; zeros in padding.
template <class T>
void sort_forward(Index group, const Batch& batch, const RowSource<T>& x, const SequenceView<T>& y) {
  write_rows(batch, x.features, y,
             [&](Index step, Index row, T* to) { sort_row(group, x.features, x.at(step, row), to); });
}

// The gradient of sort_forward(). A null d_y stands for zeros.
template <class T>
void sort_backward(Index group, const Batch& batch, const RowSource<T>& x, const SequenceView<const T>& d_y,
                   const SequenceView<T>& d_x) {
  write_rows(batch, x.features, d_x, [&](Index step, Index row, T* to) {
    if (d_y.data == nullptr) return void(std::fill_n(to, x.features, T(0)));
    const T *const values = x.at(step, row), *const from = d_y.at(step, row);
    for (Index begin = 0; begin < x.features; begin += group) {
      for (Index at = 0; at < group; ++at) to[begin + at] = from[begin + sorted_place(values + begin, group, at)];
    }
  });
}

}  // namespace latchwork
