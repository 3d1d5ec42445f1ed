#pragma once

#include <vector>

#include "latchwork/types.hpp"

// The LSTM cell in textbook form: double, plain loops, no optimisation. Everything else in this library must agree with
// it.
namespace latchwork::reference {

using Vector = std::vector<double>;

// The weights of one layer and direction, or the gradients of a loss with respect to them. Matrices are row-major, in
// PyTorch's layout: H rows for the input gate i, then H for the forget gate f, H for the candidate g and H for the
// output gate o.
struct Weights {
  Vector weight_ih;  // W (4H, size of x)
  Vector weight_hh;  // R (4H, size of h)
  Vector bias_ih;    // (4H); the bias b is the sum of bias_ih and bias_hh
  Vector bias_hh;    // (4H)
  Vector weight_hr;  // (P, H), empty without projection; used by the layer, not by the cell
};

// One step of one sequence: its inputs, the values of all gates, and its results.
struct CellStep {
  Vector x, h_prev, c_prev;
  Vector i, f, g, o;
  Vector c, h;
};

CellStep cell_forward(const Weights& weights, const Vector& x, const Vector& h_prev, const Vector& c_prev);

// i, f, g, o and c: with respect to the values of the gates and of c as this step has them. Each says how the loss
// changes if that value alone is changed, and everything that is computed from it follows.
struct CellGradients {
  Vector x, h_prev, c_prev;
  Vector i{}, f{}, g{}, o{}, c{};
};

// d_h and d_c: the gradients of a loss with respect to this step's h and c, including what comes through later steps.
// Returns the gradients with respect to the inputs, and adds those with respect to the weights to d_weights.
CellGradients cell_backward(const Weights& weights, const CellStep& step, const Vector& d_h, const Vector& d_c,
                            Weights& d_weights);

}  // namespace latchwork::reference
