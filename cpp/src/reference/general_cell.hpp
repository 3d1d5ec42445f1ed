#pragma once

#include "latchwork/options.hpp"
#include "reference/cell.hpp"

// The LSTM cell with every option that changes its equations, in textbook form like the plain one. What surrounds the
// cell is the layer's affair: projection, zoneout, and dropout of h and of R. See reference_direction.hpp.
namespace latchwork::reference {

// Without a forget gate of its own the rows are i, g, o: 3H instead of 4H. What the options do not ask for is empty.
struct GeneralWeights : Weights {
  Vector weight_peephole;                   // p: (3H) of i, f, o, or (2H) of i, o
  Vector norm_ih_weight, norm_ih_bias;      // of W x: (4H or 3H)
  Vector norm_hh_weight, norm_hh_bias;      // of R h
  Vector norm_cell_weight, norm_cell_bias;  // of c: (H)
  Vector h_0, c_0;  // the learned start state, (H or P) and (H); not the cell's affair but the layer's
};

struct GeneralCell {
  const LstmOptions& options;
  const CellActivations& activations;
  const GeneralWeights& weights;
};

// Beside what every step has, what the way back needs. Without a forget gate of its own f is 1 - i, or 1.
struct GeneralStep : CellStep {
  Vector from_x{}, from_h{};  // W x and R h, before they are normalised
  Vector a{};                 // pre-activations, before they are clipped
  Vector unclipped{};         // c, before it is clipped
  Vector shown{};             // what h is made of: c, or c normalised
};

// candidate_mask: (H) factors of g, where it is added to the cell; empty: ones.
GeneralStep general_cell_forward(const GeneralCell& cell, const Vector& candidate_mask, const Vector& x,
                                 const Vector& h_prev, const Vector& c_prev);

// As cell_backward().
CellGradients general_cell_backward(const GeneralCell& cell, const Vector& candidate_mask, const GeneralStep& step,
                                    const Vector& d_h, const Vector& d_c, GeneralWeights& d_weights);

}  // namespace latchwork::reference
