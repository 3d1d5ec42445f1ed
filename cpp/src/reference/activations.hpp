#pragma once

#include "latchwork/options.hpp"

// ONNX's activations as ONNX defines them, for one number at a time.
namespace latchwork::reference {

struct Activated {
  double value;
  double slope;  // the derivative with respect to x; at a corner the one that PyTorch gives
};

// Throws std::invalid_argument for an unknown name.
Activated activate(const GateActivation& activation, double x);

}  // namespace latchwork::reference
