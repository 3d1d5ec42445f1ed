#pragma once

#include "latchwork/options.hpp"

// ONNX's activations by their definitions, one number at a time.
namespace latchwork::reference {

struct Activated {
  double value;
  double slope;  // the derivative by x; at a corner PyTorch's choice
};

// Throws std::invalid_argument for an unknown name.
Activated activate(const GateActivation& activation, double x);

}  // namespace latchwork::reference
