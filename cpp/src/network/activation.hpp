#pragma once

#include <algorithm>

#include "layer/rows.hpp"
#include "network/sequences.hpp"
#include "weights/snapshot.hpp"

namespace latchwork {

template <class T>
void activate_row(const Kernels<T>& kernels, const ActivationArgs<T>& activation, const T* x, Index features,
                  T* y) noexcept {
  if (activation.number == no_activation) {
    std::copy_n(x, features, y);
  } else {
    kernels.activate(activation, x, features, y);
  }
}

// An activation module for every step and row; zeros in padding.
template <class T>
void activation_forward(const Kernels<T>& kernels, const ActivationArgs<T>& activation, const Batch& batch,
                        const RowSource<T>& x, const SequenceView<T>& y) {
  write_rows(batch, x.features, y,
             [&](Index step, Index row, T* to) { activate_row(kernels, activation, x.at(step, row), x.features, to); });
}

// The gradient of activation_forward(), which wrote y. A null d_y stands for zeros.
template <class T>
void activation_backward(const Kernels<T>& kernels, const ActivationArgs<T>& activation, const Batch& batch,
                         const RowSource<T>& x, const SequenceView<const T>& y, const SequenceView<const T>& d_y,
                         const SequenceView<T>& d_x) {
  const bool by_input = slope_follows_input(activation);
  write_rows(batch, x.features, d_x, [&](Index step, Index row, T* to) {
    if (d_y.data == nullptr) return void(std::fill_n(to, x.features, T(0)));
    std::copy_n(d_y.at(step, row), x.features, to);
    kernels.multiply_by_slope(activation, by_input ? x.at(step, row) : y.at(step, row), x.features, to);
  });
}

}  // namespace latchwork
