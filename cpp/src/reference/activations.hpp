#pragma once

#include "latchwork/options.hpp"

// ONNX's activations, written as their definitions, for one number at a time.
namespace latchwork::reference {

struct Activated {
  double value;
  double slope;  // the derivative with respect to x; at a corner the value that PyTorch uses
};

// Throws std::invalid_argument for an unknown name.
Activated activate(const Activation& activation, double x);

}  // namespace latchwork::reference
