#pragma once

#include "latchwork/options.hpp"
#include "reference/cell.hpp"

// The LSTM cell with every option that changes its equations, in textbook form like the plain one. The layer does what
// surrounds the cell: projection, zoneout, and dropout of h and of R. See direction.hpp.
namespace latchwork::reference {

// Without a forget gate of its own there are 3H rows instead of 4H: i, g, o. Arrays that the options do not ask for are
// empty.
struct GeneralWeights : Weights {
  Vector weight_peephole;                   // p: (3H) for i, f, o, or (2H) for i, o
  Vector norm_ih_weight, norm_ih_bias;      // on W x: (4H or 3H)
  Vector norm_hh_weight, norm_hh_bias;      // on R h_prev
  Vector norm_cell_weight, norm_cell_bias;  // on c: (H)
  Vector h_0, c_0;  // the learned start state, (H or P) and (H); used by the layer, not by the cell
};

struct GeneralCell {
  const LstmOptions& options;
  const CellActivations& activations;
  const GeneralWeights& weights;
};

// In addition to what every step has, this has what the gradient needs. Without a forget gate of its own f is 1 - i, or
// 1.
struct GeneralStep : CellStep {
  Vector from_x{}, from_h{};  // W x and R h_prev, before they are normalised
  Vector a{};                 // pre-activations, before they are clipped
  Vector unclipped{};         // c, before it is clipped
  Vector cell_to_output{};    // what the cell activation is applied to: c, or c normalised
};

// candidate_mask: (H), the mask on g when it is added to the cell; empty: ones.
GeneralStep general_cell_forward(const GeneralCell& cell, const Vector& candidate_mask, const Vector& x,
                                 const Vector& h_prev, const Vector& c_prev);

// The same as cell_backward().
CellGradients general_cell_backward(const GeneralCell& cell, const Vector& candidate_mask, const GeneralStep& step,
                                    const Vector& d_h, const Vector& d_c, GeneralWeights& d_weights);

}  // namespace latchwork::reference
