#include "reference/activations.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace latchwork::reference {
namespace {

const double pi = std::acos(-1.0);

double sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }

}  // namespace

Activated activate(const Activation& activation, double x) {
  const std::string& name = activation.name;
  const auto alpha = [&](double otherwise) { return activation.alpha.value_or(otherwise); };
  const auto beta = [&](double otherwise) { return activation.beta.value_or(otherwise); };

  if (name == "sigmoid") {
    const double s = sigmoid(x);
    return {s, s * (1.0 - s)};
  }
  if (name == "tanh") {
    const double t = std::tanh(x);
    return {t, 1.0 - t * t};
  }
  if (name == "relu") return x > 0.0 ? Activated{x, 1.0} : Activated{0.0, 0.0};
  if (name == "hard_sigmoid") {
    const double line = alpha(0.2) * x + beta(0.5);
    return {std::clamp(line, 0.0, 1.0), line > 0.0 && line < 1.0 ? alpha(0.2) : 0.0};
  }
  if (name == "affine") return {alpha(1.0) * x + beta(0.0), alpha(1.0)};
  if (name == "leaky_relu") return x > 0.0 ? Activated{x, 1.0} : Activated{alpha(0.01) * x, alpha(0.01)};
  if (name == "thresholded_relu") return {x >= alpha(1.0) ? x : 0.0, x >= alpha(1.0) && x > 0.0 ? 1.0 : 0.0};
  if (name == "scaled_tanh") {
    const double t = std::tanh(beta(1.0) * x);
    return {alpha(1.0) * t, alpha(1.0) * beta(1.0) * (1.0 - t * t)};
  }
  if (name == "elu") {
    return x > 0.0 ? Activated{x, 1.0} : Activated{alpha(1.0) * std::expm1(x), alpha(1.0) * std::exp(x)};
  }
  if (name == "softsign") {
    const double size = 1.0 + std::abs(x);
    return {x / size, 1.0 / (size * size)};
  }
  if (name == "softplus") {  // log(1 + exp(x)), also if exp(x) would overflow
    return {std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x))), sigmoid(x)};
  }
  if (name == "selu") {
    const double scale = 1.0507009873554804934, below = scale * 1.6732632423543772848;
    return x > 0.0 ? Activated{scale * x, scale} : Activated{below * std::expm1(x), below * std::exp(x)};
  }
  if (name == "silu") {
    const double s = sigmoid(x);
    return {x * s, s + x * s * (1.0 - s)};
  }
  if (name == "gelu") {  // x Phi(x), and erfc has Phi's digits where it is tiny
    const double phi = 0.5 * std::erfc(-x / std::sqrt(2.0));
    return {x * phi, phi + x * std::exp(-x * x / 2.0) / std::sqrt(2.0 * pi)};
  }
  if (name == "gelu_tanh") {
    const double twice = 2.0 * std::sqrt(2.0 / pi);
    const double s = sigmoid(twice * (x + 0.044715 * x * x * x));  // (1 + tanh(u)) / 2 = sigmoid(2 u)
    return {x * s, s + x * s * (1.0 - s) * twice * (1.0 + 3.0 * 0.044715 * x * x)};
  }
  if (name == "exponential") return {std::exp(x), std::exp(x)};
  throw std::invalid_argument("activation: expected one that a gate may have, got " + name);
}

Vector activate_row(const Activation& activation, const Vector& x) {
  Vector y;
  if (activation.name == "softmax" || activation.name == "log_softmax") {
    const double largest = *std::max_element(x.begin(), x.end());
    double sum = 0.0;
    for (const double value : x) sum += std::exp(value - largest);
    for (const double value : x) {
      const double logarithm = value - largest - std::log(sum);
      y.push_back(activation.name == "softmax" ? std::exp(logarithm) : logarithm);
    }
  } else {
    for (const double value : x) y.push_back(activation.name == "identity" ? value : activate(activation, value).value);
  }
  return y;
}

Vector activate_row_backward(const Activation& activation, const Vector& x, const Vector& d_y) {
  Vector d_x;
  if (activation.name == "softmax" || activation.name == "log_softmax") {
    const Vector probability = activate_row({"softmax"}, x);
    const bool logarithm = activation.name == "log_softmax";
    double sum = 0.0;
    for (std::size_t k = 0; k < x.size(); ++k) sum += logarithm ? d_y[k] : probability[k] * d_y[k];
    for (std::size_t k = 0; k < x.size(); ++k) {
      d_x.push_back(logarithm ? d_y[k] - probability[k] * sum : probability[k] * (d_y[k] - sum));
    }
  } else {
    for (std::size_t k = 0; k < x.size(); ++k) {
      d_x.push_back(activation.name == "identity" ? d_y[k] : d_y[k] * activate(activation, x[k]).slope);
    }
  }
  return d_x;
}

}  // namespace latchwork::reference
