#pragma once

#include <algorithm>

#include "latchwork/options.hpp"
#include "layer/rows.hpp"
#include "machine/interrupt.hpp"
#include "machine/mathematics.hpp"
#include "machine/parallel.hpp"
#include "machine/workspace.hpp"
#include "network/sequences.hpp"
#include "weights/snapshot.hpp"

namespace latchwork {

// An Impute and its numbers, one of each kind for each feature.
template <class T>
struct Imputer {
  Imputer(const ImputeOptions& impute, const PackedModule<T>& packed)
      : options(&impute),
        fill(packed.fill.data()),
        persistence(impute.persistence.empty() ? nullptr : packed.persistence.data()) {}

  const ImputeOptions* options;
  const T* fill;
  const T* persistence;  // null: ones

  bool carries() const { return options->method == Imputation::forward; }

  // The state of a row: the value of each feature that was seen last, and how many steps ago.
  void restart(T* value, T* age) const noexcept {
    std::copy_n(fill, options->features, value);
    std::fill_n(age, options->features, T(0));
  }

  // One step of one row. Without values carried forward there is no state.
  void step(const T* x, T* value, T* age, T* y) const noexcept {
    const Index features = options->features, count = static_cast<Index>(options->indicators.size());
    if (!carries()) {
      for (Index at = 0; at < features; ++at) y[at] = seen(x[at]) ? x[at] : fill[at];
    } else {
      for (Index at = 0; at < features; ++at) {
        value[at] = seen(x[at]) ? x[at] : carried(value[at], at);
        age[at] = seen(x[at]) ? T(0) : age[at] + T(1);
        y[at] = value[at];
      }
    }
    T *const masks = y + features, *const ages = masks + count;
    for (Index k = 0; k < count; ++k) {
      const Index feature = options->indicators[static_cast<std::size_t>(k)];
      const bool here = seen(x[feature]);
      masks[k] = here ? T(1) : T(0);
      if (carries()) {
        ages[k] = here ? T(0) : static_cast<T>(mathematics::log(1.0 + static_cast<double>(age[feature])));
      }
    }
  }

  // What a value becomes at a step at which its feature is missing. With a persistence of 1 it stays the same bits.
  T carried(T value, Index feature) const noexcept {
    if (persistence == nullptr || persistence[feature] == T(1)) return value;
    return fill[feature] + persistence[feature] * (value - fill[feature]);
  }

  // The gradient of the value before such a step, of that after it.
  T carried_gradient(T d_value, Index feature) const noexcept {
    if (!carries()) return T(0);
    return persistence == nullptr ? d_value : persistence[feature] * d_value;
  }

  static bool seen(T value) noexcept { return value == value; }
};

// The module Impute over all steps. Writes zeros to padding.
template <class T>
void impute_forward(const Imputer<T>& imputer, const Batch& batch, const RowSource<T>& x, const State<const T>& start,
                    const SequenceView<T>& y, const State<T>& end, Workspace<T>& workspace) {
  if (!imputer.carries()) {
    return write_rows(batch, imputer.options->output_size(), y,
                      [&](Index step, Index row, T* to) { imputer.step(x.at(step, row), nullptr, nullptr, to); });
  }
  const Index rows = batch.rows, features = imputer.options->features, width = imputer.options->output_size();
  const Schedule schedule{batch, false};
  T *const values = workspace.take(rows * features), *const ages = workspace.take(rows * features);
  const Index parts = number_parts(batch.steps * rows * width, rows);
  parallel(parts, [&](Index part) {
    const Index begin = piece_begin(rows, parts, part), end_row = piece_begin(rows, parts, part + 1);
    for (Index row = begin; row < end_row; ++row) {
      T *const value = values + row * features, *const age = ages + row * features;
      imputer.restart(value, age);
      if (start.hidden != nullptr) std::copy_n(start.hidden + row * features, features, value);
      if (start.cell != nullptr) std::copy_n(start.cell + row * features, features, age);
    }
    for (Index step = 0; step < batch.steps; ++step) {
      if (stops_after((end_row - begin) * width * work_of_moving)) return;
      for (Index row = begin; row < end_row; ++row) {
        if (!schedule.active(step, row)) {
          std::fill_n(y.at(step, row), width, T(0));
          continue;
        }
        T *const value = values + row * features, *const age = ages + row * features;
        if (schedule.restarts(step, row)) imputer.restart(value, age);
        imputer.step(x.at(step, row), value, age, y.at(step, row));
      }
    }
    for (Index row = begin; row < end_row; ++row) {
      T *const value = values + row * features, *const age = ages + row * features;
      if (batch.end_reset != nullptr && batch.end_reset[row] != 0) imputer.restart(value, age);
      if (end.hidden != nullptr) std::copy_n(value, features, end.hidden + row * features);
      if (end.cell != nullptr) std::copy_n(age, features, end.cell + row * features);
    }
  });
}

template <class T>
struct ImputeGradient {
  SequenceView<const T> d_output;  // null stands for zeros
  const T* d_end_value = nullptr;  // (rows, features); null stands for zeros
  SequenceView<T> d_input;         // null if not wanted; zero in padding
  State<T> d_start;                // null if not wanted
};

// The gradient of impute_forward(). That of a value is added up, steps descending, back to the step at which it was
// seen, or to the start state; each step at which it was missing leaves the share that was kept of the value.
template <class T>
void impute_backward(const Imputer<T>& imputer, const Batch& batch, const RowSource<T>& x,
                     const ImputeGradient<T>& gradient, Workspace<T>& workspace) {
  const Index rows = batch.rows, features = imputer.options->features;
  const Schedule schedule{batch, false};
  T* const sums = workspace.take(rows * features);
  const Index parts = number_parts(batch.steps * rows * features, rows);
  parallel(parts, [&](Index part) {
    const Index begin = piece_begin(rows, parts, part), end_row = piece_begin(rows, parts, part + 1);
    for (Index row = begin; row < end_row; ++row) {
      const bool restarted = batch.end_reset != nullptr && batch.end_reset[row] != 0;
      if (gradient.d_end_value == nullptr || restarted) {
        std::fill_n(sums + row * features, features, T(0));
      } else {
        std::copy_n(gradient.d_end_value + row * features, features, sums + row * features);
      }
    }
    for (Index step = batch.steps - 1; step >= 0; --step) {
      if (stops_after((end_row - begin) * features * work_of_moving)) return;
      for (Index row = begin; row < end_row; ++row) {
        T* const d_x = gradient.d_input.data == nullptr ? nullptr : gradient.d_input.at(step, row);
        if (!schedule.active(step, row)) {
          if (d_x != nullptr) std::fill_n(d_x, features, T(0));
          continue;
        }
        T* const sum = sums + row * features;
        const T* const values = x.at(step, row);
        const T* const d_y = gradient.d_output.data == nullptr ? nullptr : gradient.d_output.at(step, row);
        for (Index at = 0; at < features; ++at) {
          if (d_y != nullptr) sum[at] += d_y[at];
          const bool seen = Imputer<T>::seen(values[at]);
          if (d_x != nullptr) d_x[at] = seen ? sum[at] : T(0);
          sum[at] = seen ? T(0) : imputer.carried_gradient(sum[at], at);
        }
        if (schedule.restarts(step, row)) std::fill_n(sum, features, T(0));
      }
    }
    for (Index row = begin; row < end_row; ++row) {
      if (gradient.d_start.hidden != nullptr) {
        std::copy_n(sums + row * features, features, gradient.d_start.hidden + row * features);
      }
      if (gradient.d_start.cell != nullptr) std::fill_n(gradient.d_start.cell + row * features, features, T(0));
    }
  });
}

}  // namespace latchwork
