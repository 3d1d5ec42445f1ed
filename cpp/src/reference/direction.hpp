#pragma once

#include <vector>

#include "reference/general_cell.hpp"

// One direction of one layer over one sequence: the cell, step by step, and what surrounds it, which is dropout of h
// before R, projection, zoneout, and restarts at resets.
namespace latchwork::reference {

using Sequence = std::vector<Vector>;  // one row: [t][feature]

struct RowState {
  Vector h, c;
};

struct Walk {
  bool reverse;
  std::vector<bool> reset;  // one for each valid step

  std::size_t length() const { return reset.size(); }
  // The step that is processed as number n, counted from 0.
  std::size_t step(std::size_t n) const { return reverse ? length() - 1 - n : n; }
  // Whether the row restarts from the start state before step t. Resets cut the sequence into segments, each from a
  // reset step to the last step before the next one; the reverse direction enters a segment at that last step.
  bool starts_segment(std::size_t t) const {
    if (reverse) return t + 1 < length() && reset[t + 1];
    return reset[t];
  }
};

// Random factors of one row. An empty vector means that this kind of factor is not used.
struct RowMasks {
  Vector recurrent;         // of h before it is multiplied by R, the same for all steps
  Sequence candidate;       // [t], of g in the sum that becomes c
  Sequence hidden_zoneout;  // [t], the share of h_prev that is kept
  Sequence cell_zoneout;    // [t], the share of c_prev that is kept
};

// What one layer and direction computed for one sequence. steps[t] is step t in either direction, with the cell's c and
// h before projection and zoneout.
struct DirectionRecord {
  std::vector<GeneralStep> steps;
  Sequence h;  // of each step, after projection and zoneout, as the next step and the next layer read it
  Sequence c;  // of each step, after zoneout
};

struct DirectionInput {
  const GeneralCell& cell;
  const Walk& walk;
  const RowMasks& masks;
};

// `state` is the start state, and becomes the end state. Restarts take the state `start`.
DirectionRecord direction_forward(const DirectionInput& input, const Sequence& xs, const RowState& start,
                                  RowState& state);

// `d_state` is the gradient with respect to the end state, and becomes the gradient with respect to the start state.
// Adds to d_xs, d_start and d_weights.
void direction_backward(const DirectionInput& input, const DirectionRecord& record, const Sequence& d_hs,
                        RowState& d_state, Sequence& d_xs, RowState& d_start, GeneralWeights& d_weights);

}  // namespace latchwork::reference
