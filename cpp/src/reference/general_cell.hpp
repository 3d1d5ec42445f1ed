#pragma once

#include "latchwork/options.hpp"
#include "reference/cell.hpp"

// The LSTM cell with every option that changes its equations, in textbook form like the plain one. The options that act
// outside the cell are in direction.hpp and lstm.hpp: projection, zoneout, and dropout of h and of R.
namespace latchwork::reference {

// A cell without a forget gate of its own has 3H rows, i, g, o, instead of 4H. Arrays for options not in use are empty.
struct GeneralWeights : Weights {
  Vector weight_peephole;                   // (3H) for i, f, o, or (2H) for i, o
  Vector norm_ih_weight, norm_ih_bias;      // of W x: (4H or 3H)
  Vector norm_hh_weight, norm_hh_bias;      // of R h_prev
  Vector norm_cell_weight, norm_cell_bias;  // of c: (H)
  Vector h_0, c_0;  // the learned start state, (H or P) and (H); used by the layer, not by the cell
};

struct GeneralCell {
  const LstmOptions& options;
  const CellActivations& activations;
  const GeneralWeights& weights;
};

// A step with what the backward pass needs besides. In a cell without a forget gate of its own, f is 1 - i if the gates
// are coupled, and 1 otherwise.
struct GeneralStep : CellStep {
  Vector from_x{}, from_h{};  // W x and R h_prev, before they are normalised
  Vector a{};                 // pre-activations, before they are clipped
  Vector unclipped{};         // c, before it is clipped
  Vector cell_to_output{};    // what the cell activation is applied to: c, or c normalised
};

// candidate_mask: (H), factors of g in the sum that becomes c; an empty one stands for ones.
GeneralStep general_cell_forward(const GeneralCell& cell, const Vector& candidate_mask, const Vector& x,
                                 const Vector& h_prev, const Vector& c_prev);

// Like cell_backward() in cell.hpp.
CellGradients general_cell_backward(const GeneralCell& cell, const Vector& candidate_mask, const GeneralStep& step,
                                    const Vector& d_h, const Vector& d_c, GeneralWeights& d_weights);

}  // namespace latchwork::reference
