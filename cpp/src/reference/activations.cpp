#include "reference/activations.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace latchwork::reference {
namespace {

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
  throw std::invalid_argument("activation: expected one of ONNX's list, got " + name);
}

}  // namespace latchwork::reference
