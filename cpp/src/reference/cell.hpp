#pragma once

#include <vector>

#include "latchwork/types.hpp"

// The LSTM cell in textbook form: double, plain loops, nothing clever. Everything else in this library must agree with
// it.
namespace latchwork::reference {

using Vector = std::vector<double>;

// The weights of one layer and direction, or a loss's gradients by them. Matrices are row-major, in PyTorch's layout: H
// rows of the input gate i, H of the forget gate f, H of the candidate g, H of the output gate o.
struct Weights {
  Vector weight_ih;  // W (4H, size of x)
  Vector weight_hh;  // R (4H, size of h)
  Vector bias_ih;    // (4H); b is the sum of the two
  Vector bias_hh;    // (4H)
  Vector weight_hr;  // (P, H), empty without projection; not the cell's affair but the layer's
};

// One step of one sequence: what came in, what every gate did, and what went out.
struct CellStep {
  Vector x, h_prev, c_prev;
  Vector i, f, g, o;
  Vector c, h;
};

CellStep cell_forward(const Weights& weights, const Vector& x, const Vector& h_prev, const Vector& c_prev);

struct CellGradients {
  Vector x, h_prev, c_prev;
};

// d_h and d_c: the gradients of a loss by this step's h and c, those that arrive through later steps included.
// Returns the gradients by what came in; adds those by the weights to d_weights.
CellGradients cell_backward(const Weights& weights, const CellStep& step, const Vector& d_h, const Vector& d_c,
                            Weights& d_weights);

}  // namespace latchwork::reference
