#pragma once

#include "latchwork/options.hpp"
#include "reference/cell.hpp"

// The activations, written as their definitions.
namespace latchwork::reference {

struct Activated {
  double value;
  double slope;  // the derivative with respect to x; at a corner the value that PyTorch uses
};

// One number. Throws std::invalid_argument for an unknown name and for those that take a row.
Activated activate(const Activation& activation, double x);

// A row of features, by any activation, and the gradient with respect to them.
Vector activate_row(const Activation& activation, const Vector& x);
Vector activate_row_backward(const Activation& activation, const Vector& x, const Vector& d_y);

}  // namespace latchwork::reference
