#pragma once

#include <cmath>
#include <limits>

#include "support/lstm_problem.hpp"

namespace latchwork::test {

// A loss whose gradient with respect to the results is d_result.
inline double loss(const Problem& problem) {
  const reference::LstmOutput result =
      reference::lstm_forward(problem.options, problem.parameters, problem.input).result;
  const auto dot = [](const reference::Vector& a, const reference::Vector& b) {
    double sum = 0.0;
    for (std::size_t k = 0; k < a.size(); ++k) sum += a[k] * b[k];
    return sum;
  };
  return dot(result.output, problem.d_result.output) + dot(result.h_n, problem.d_result.h_n) +
         dot(result.c_n, problem.d_result.c_n);
}

// How the loss changes around a value: its slope, and how much steeper it is above the value than below. `value` is a
// part of `problem`, and `middle` is the loss at the value itself.
struct Differences {
  Differences(const Problem& problem, double middle, double& value, double step) {
    const double start = value;
    value = start + step;
    const double above = loss(problem);
    value = start - step;
    const double below = loss(problem);
    value = start;
    slope = (above - below) / (2.0 * step);
    bend = ((above - middle) - (middle - below)) / step;
  }

  double slope, bend;
};

// Central differences with respect to `values`, a part of `problem`. They are NaN if the loss has a kink nearby, which
// shows when half the step gives another slope or, if the kink is in the middle, does not halve the bend.
inline reference::Vector finite_differences(const Problem& problem, reference::Vector& values) {
  const double middle = loss(problem);
  reference::Vector slopes;
  for (double& value : values) {
    const Differences full(problem, middle, value, 1e-5), half(problem, middle, value, 5e-6);
    const double magnitude = std::max(1.0, std::abs(half.slope));
    const bool smooth = std::abs(full.slope - half.slope) < 2e-8 * magnitude &&
                        std::abs(full.bend - 2.0 * half.bend) < 1e-7 * magnitude;
    slopes.push_back(smooth ? half.slope : std::numeric_limits<double>::quiet_NaN());
  }
  return slopes;
}

}  // namespace latchwork::test
