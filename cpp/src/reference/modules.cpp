#include "reference/modules.hpp"

#include "reference/activations.hpp"

namespace latchwork::reference {

namespace {

// The first step, from `begin` on, with the largest value of a feature.
std::size_t first_largest(const Sequence& steps, std::size_t begin, std::size_t feature) {
  std::size_t largest = begin;
  for (std::size_t step = begin; step < steps.size(); ++step) {
    if (steps[step][feature] > steps[largest][feature]) largest = step;
  }
  return largest;
}

double pre_activation(const LinearOptions& options, const Vector& parameters, const Vector& x, std::size_t output) {
  const auto inputs = static_cast<std::size_t>(options.in_features);
  double sum = options.bias ? parameters[static_cast<std::size_t>(options.out_features) * inputs + output] : 0.0;
  for (std::size_t k = 0; k < inputs; ++k) sum += parameters[output * inputs + k] * x[k];
  return sum;
}

Activated activated(const LinearOptions& options, double sum) {
  return options.activation.name == "identity" ? Activated{sum, 1.0} : activate(options.activation, sum);
}

}  // namespace

Vector mean(const Sequence& steps, std::size_t begin, std::size_t features) {
  Vector result(features, 0.0);
  for (std::size_t step = begin; step < steps.size(); ++step) {
    for (std::size_t k = 0; k < features; ++k) result[k] += steps[step][k] / static_cast<double>(steps.size() - begin);
  }
  return result;
}

Vector max(const Sequence& steps, std::size_t begin, std::size_t features) {
  Vector result(features, 0.0);
  for (std::size_t k = 0; !steps.empty() && k < features; ++k) result[k] = steps[first_largest(steps, begin, k)][k];
  return result;
}

Sequence mean_backward(const Sequence& steps, std::size_t begin, const Vector& d_result) {
  Sequence d_steps(steps.size(), Vector(d_result.size(), 0.0));
  for (std::size_t step = begin; step < steps.size(); ++step) {
    for (std::size_t k = 0; k < d_result.size(); ++k) {
      d_steps[step][k] = d_result[k] / static_cast<double>(steps.size() - begin);
    }
  }
  return d_steps;
}

Sequence max_backward(const Sequence& steps, std::size_t begin, const Vector& d_result) {
  Sequence d_steps(steps.size(), Vector(d_result.size(), 0.0));
  for (std::size_t k = 0; !steps.empty() && k < d_result.size(); ++k) {
    d_steps[first_largest(steps, begin, k)][k] = d_result[k];
  }
  return d_steps;
}

Vector linear(const LinearOptions& options, const Vector& parameters, const Vector& x) {
  Vector result;
  for (std::size_t output = 0; output < static_cast<std::size_t>(options.out_features); ++output) {
    result.push_back(activated(options, pre_activation(options, parameters, x, output)).value);
  }
  return result;
}

Vector linear_backward(const LinearOptions& options, const Vector& parameters, const Vector& x, const Vector& d_result,
                       Vector& d_parameters) {
  const auto inputs = static_cast<std::size_t>(options.in_features);
  const auto outputs = static_cast<std::size_t>(options.out_features);
  Vector d_x(inputs, 0.0);
  for (std::size_t output = 0; output < outputs; ++output) {
    const double sum = pre_activation(options, parameters, x, output);
    const double d_sum = d_result[output] * activated(options, sum).slope;
    for (std::size_t k = 0; k < inputs; ++k) {
      d_parameters[output * inputs + k] += d_sum * x[k];
      d_x[k] += d_sum * parameters[output * inputs + k];
    }
    if (options.bias) d_parameters[outputs * inputs + output] += d_sum;
  }
  return d_x;
}

}  // namespace latchwork::reference
