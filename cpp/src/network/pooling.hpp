#pragma once

#include <algorithm>

#include "layer/rows.hpp"
#include "machine/interrupt.hpp"
#include "machine/parallel.hpp"

// Mean and Max over the steps of each sequence. A sequence on which a reset falls counts from its last reset on,
// because there the stream starts anew that gives the same bits. After a Reverse, `backwards`, the same steps count.
namespace latchwork {

enum class Pooling { mean, max };

// The larger of two numbers: the first if they are equal, NaN if one of them is.
template <class T>
T larger(T first, T second) {
  const bool first_is_nan = first != first, second_is_nan = second != second;
  return second > first || (second_is_nan && !first_is_nan) ? second : first;
}

// Takes a step into the sum or the maximum of the steps before, of which there are `count`.
template <class T>
void pool_step(Pooling pooling, Index count, Index features, const T* step, T* pooled) {
  if (count == 0) {
    std::copy_n(step, features, pooled);
  } else if (pooling == Pooling::mean) {
    for (Index at = 0; at < features; ++at) pooled[at] += step[at];
  } else {
    for (Index at = 0; at < features; ++at) pooled[at] = larger(pooled[at], step[at]);
  }
}

// What pool_step() made of `count` steps, as the result. `result` may be `pooled`.
template <class T>
void pool_result(Pooling pooling, Index count, Index features, const T* pooled, T* result) {
  if (pooling == Pooling::max) return void(std::copy_n(pooled, result == pooled ? 0 : features, result));
  for (Index at = 0; at < features; ++at) result[at] = pooled[at] / static_cast<T>(count);
}

// The steps that count: from `begin` up to `end`.
struct PooledSteps {
  Index begin = 0, end = 0;
};

inline PooledSteps pooled_steps(const Schedule& schedule, bool backwards, Index row) {
  const Index length = schedule.length(row);
  if (backwards) {
    if (length == 0 || schedule.restarts(0, row)) return {};
    for (Index step = 1; step < length; ++step) {
      if (schedule.restarts(step, row)) return {0, step};
    }
    return {0, length};
  }
  if (schedule.batch.end_reset != nullptr && schedule.batch.end_reset[row] != 0) return {length, length};
  for (Index step = length - 1; step > 0; --step) {
    if (schedule.restarts(step, row)) return {step, length};
  }
  return {0, length};
}

// (steps, rows, features) -> (rows, features). Rows of which no step counts become zero.
template <class T>
void pool_forward(Pooling pooling, const Schedule& schedule, bool backwards, const RowSource<T>& input,
                  SequenceView<T> output) {
  const Index rows = schedule.batch.rows, features = input.features;
  const Index parts = number_parts(schedule.batch.steps * rows * features, rows);
  parallel(parts, [&](Index part) {
    for (Index row = piece_begin(rows, parts, part); row < piece_begin(rows, parts, part + 1); ++row) {
      T* const result = output.at(0, row);
      const auto [begin, end] = pooled_steps(schedule, backwards, row);
      if (begin == end) std::fill_n(result, features, T(0));
      for (Index step = begin; step < end; ++step) {
        if (stops_after(features * work_of_moving)) return;
        pool_step(pooling, step - begin, features, input.at(step, row), result);
      }
      if (begin < end) pool_result(pooling, end - begin, features, result, result);
    }
  });
}

// The gradient of pool_forward(), which wrote `output`. That of a maximum goes to the first step that has it. A null
// d_output stands for zeros. Padding of d_input is not written.
template <class T>
void pool_backward(Pooling pooling, const Schedule& schedule, bool backwards, const RowSource<T>& input,
                   SequenceView<const T> output, SequenceView<const T> d_output, SequenceView<T> d_input) {
  const Index rows = schedule.batch.rows, features = input.features;
  const Index parts = number_parts(schedule.batch.steps * rows * features, rows);
  const auto same = [](T one, T other) { return one == other || (one != one && other != other); };
  parallel(parts, [&](Index part) {
    for (Index row = piece_begin(rows, parts, part); row < piece_begin(rows, parts, part + 1); ++row) {
      const Index length = schedule.length(row);
      const auto [begin, end] = pooled_steps(schedule, backwards, row);
      for (Index step = 0; step < length; ++step) {
        if (stops_after(features * work_of_moving)) return;
        std::fill_n(d_input.at(step, row), features, T(0));
      }
      if (d_output.data == nullptr) continue;
      const T *const result = output.at(0, row), *const d_result = d_output.at(0, row);
      const T count = static_cast<T>(end - begin);
      for (Index step = begin; pooling == Pooling::mean && step < end; ++step) {
        if (stops_after(features * work_of_moving)) return;
        for (Index at = 0; at < features; ++at) d_input.at(step, row)[at] = d_result[at] / count;
      }
      for (Index at = 0; pooling == Pooling::max && at < features; ++at) {
        Index step = begin;
        while (step < end && !same(input.at(step, row)[at], result[at])) ++step;
        if (step < end) d_input.at(step, row)[at] = d_result[at];
        if (stops_after((end - begin) * work_of_moving)) return;
      }
    }
  });
}

}  // namespace latchwork
