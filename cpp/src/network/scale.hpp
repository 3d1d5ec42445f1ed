#pragma once

#include "layer/rows.hpp"
#include "network/sequences.hpp"
#include "weights/snapshot.hpp"

namespace latchwork {

// (x - shift) * factor, feature by feature.
template <class T>
void scale_row(const PackedModule<T>& scale, const T* x, T* y) {
  const T *const shift = scale.shift.data(), *const factor = scale.factor.data();
  for (Index at = 0; at < scale.shift.size(); ++at) y[at] = (x[at] - shift[at]) * factor[at];
}

// The module Scale for every step and row; zeros in padding.
template <class T>
void scale_forward(const PackedModule<T>& scale, const Batch& batch, const RowSource<T>& x, const SequenceView<T>& y) {
  write_rows(batch, x.features, y, [&](Index step, Index row, T* to) { scale_row(scale, x.at(step, row), to); });
}

// The gradient of scale_forward(). A null d_y stands for zeros.
template <class T>
void scale_backward(const PackedModule<T>& scale, const Batch& batch, const SequenceView<const T>& d_y,
                    const SequenceView<T>& d_x) {
  const Index features = scale.shift.size();
  const T* const factor = scale.factor.data();
  write_rows(batch, features, d_x, [&](Index step, Index row, T* to) {
    if (d_y.data == nullptr) return void(std::fill_n(to, features, T(0)));
    const T* const from = d_y.at(step, row);
    for (Index at = 0; at < features; ++at) to[at] = from[at] * factor[at];
  });
}

}  // namespace latchwork
