// What may be a target, and its weights.
#include <cmath>
#include <stdexcept>
#include <string>

#include "latchwork/training.hpp"
#include "machine/float_state.hpp"
#include "weights/refusal.hpp"

namespace latchwork {
namespace {

Index valid_steps(const Batch& batch, Index row) { return batch.lengths == nullptr ? batch.steps : batch.lengths[row]; }

std::string at_place(Index step, Index row) { return " at step " + text(step) + ", row " + text(row); }

void check_lengths(const Batch& batch) {
  for (Index row = 0; batch.lengths != nullptr && row < batch.rows; ++row) {
    if (batch.lengths[row] >= 0 && batch.lengths[row] <= batch.steps) continue;
    refuse("lengths", "integers from 0 to " + text(batch.steps), text(batch.lengths[row]));
  }
}

// Calls check(step, row) for every valid step and row.
template <class Check>
void for_each_valid(const Batch& batch, Check&& check) {
  for (Index step = 0; step < batch.steps; ++step) {
    for (Index row = 0; row < batch.rows; ++row) {
      if (step < valid_steps(batch, row) && !batch.skips(step, row)) check(step, row);
    }
  }
}

// Zero times NaN or infinity is NaN.
template <class T>
T not_finite(const T* values, Index count) {
  T sum = T(0);
  for (Index k = 0; k < count; ++k) sum += values[k] * T(0);
  return sum;
}

// Whether a sequence, padding included, is one stretch of finite numbers: that is quickly found out.
template <class T>
bool is_finite_stretch(SequenceView<const T> view, Index features, const Batch& batch) {
  const bool steps_apart =
      view.step_stride == batch.rows * features && (view.row_stride == features || batch.rows == 1);
  const bool rows_apart =
      view.row_stride == batch.steps * features && (view.step_stride == features || batch.steps == 1);
  const bool one_row = batch.rows == 1 && view.step_stride == features;
  return (steps_apart || rows_apart || one_row) && all_finite(view.data, batch.steps * batch.rows * features);
}

template <class T>
void check_weights(const Target<T>& target, const Batch& batch) {
  for_each_valid(batch, [&](Index step, Index row) {
    const T* const weights = target.weights.at(step, row);
    for (Index k = 0; k < target.weight_features; ++k) {
      if (weights[k] >= T(0) && weights[k] * T(0) == T(0)) continue;
      refuse("weights", "finite numbers of at least 0", text(static_cast<double>(weights[k])) + at_place(step, row));
    }
  });
}

}  // namespace

template <class T>
void check_target(const Loss& loss, Index features, const Batch& batch, const Target<T>& target) {
  const FlushToZero flush_to_zero;
  check_lengths(batch);
  if (batch.steps <= 0 || batch.rows <= 0) return;
  const bool labels = loss.kind == LossKind::cross_entropy, weighted = target.weights.data != nullptr;
  if (labels ? target.labels.data == nullptr : target.values.data == nullptr) {
    refuse("target", labels ? "labels" : "values", labels ? "values" : "labels");
  }
  if (weighted) check_weights(target, batch);
  const auto weight = [&](Index step, Index row, Index k) {
    return weighted ? target.weights.at(step, row)[target.weight_features == 1 ? 0 : k] : T(1);
  };
  if (labels) {
    for_each_valid(batch, [&](Index step, Index row) {
      const std::int64_t label = *target.labels.at(step, row);
      if ((label >= 0 && label < features) || label == loss.ignore_index || weight(step, row, 0) == T(0)) return;
      refuse("target", "labels from 0 to " + text(features - 1), std::to_string(label) + at_place(step, row));
    });
    return;
  }
  const Index count = features / outputs_per_target(loss);
  const bool not_negative = loss.kind == LossKind::negative_binomial;
  if (!not_negative && is_finite_stretch(target.values, count, batch)) return;
  for_each_valid(batch, [&](Index step, Index row) {
    const T* const values = target.values.at(step, row);
    if (!not_negative && not_finite(values, count) == T(0)) return;
    for (Index k = 0; k < count; ++k) {
      if (weight(step, row, k) == T(0)) continue;
      const bool finite = values[k] * T(0) == T(0);
      if (finite && !(not_negative && values[k] < T(0))) continue;
      const char* const expected =
          finite ? "numbers of at least 0" : "finite numbers, or weights that are 0 in the gaps";
      refuse("target", expected, text(static_cast<double>(values[k])) + at_place(step, row));
    }
  });
}

template void check_target(const Loss&, Index, const Batch&, const Target<float>&);
template void check_target(const Loss&, Index, const Batch&, const Target<double>&);

}  // namespace latchwork
