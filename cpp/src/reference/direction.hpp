#pragma once

#include <vector>

#include "reference/general_cell.hpp"

// One direction of one layer over one sequence: the cell from step to step, and what surrounds it: dropout of h_prev
// before R, projection, zoneout, restarts at resets, and steps that are left out.
namespace latchwork::reference {

using Sequence = std::vector<Vector>;  // one row: [t][feature]

struct RowState {
  Vector h, c;
};

struct Walk {
  bool reverse;
  std::vector<bool> reset;  // one for each valid step
  std::vector<bool> skip;   // likewise: whether the step is left out
  bool repeats;             // whether the output is repeated at a step that is left out; else it is zero there

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

// The random masks of one row. An empty vector means that this mask does not act.
struct RowMasks {
  Vector recurrent;         // on h_prev before R, for all steps
  Sequence candidate;       // [t], on g when it is added to the cell
  Sequence hidden_zoneout;  // [t], which part of h_prev stays
  Sequence cell_zoneout;    // [t], which part of c_prev stays
};

// What one layer and direction did with one sequence. steps[t] is step t, in both directions. The values of c and h in
// steps[t] are those of the cell alone.
struct DirectionRecord {
  std::vector<GeneralStep> steps;
  Sequence h;                  // the state after each step: after projection and zoneout, as the next step reads it
  Sequence c;                  // the same, after zoneout
  Sequence output;             // h, but at a step that is left out what is shown instead
  std::vector<bool> restarts;  // whether the state became the start state before the step
};

struct DirectionInput {
  const GeneralCell& cell;
  const Walk& walk;
  const RowMasks& masks;
};

// `state` is the start state before the call and the end state after it. Restarts begin from `start`.
DirectionRecord direction_forward(const DirectionInput& input, const Sequence& xs, const RowState& start,
                                  RowState& state);

// The gradients with respect to the gates of each step and to the state after it, [t]; zeros at a step that is left
// out.
struct DirectionSignals {
  Sequence i, f, g, o, c, h;
};

// `d_state` is the gradient with respect to the end state before the call, and with respect to the start state after
// it. Adds to d_xs, d_start and d_weights. Returns the gradients with respect to the signals.
DirectionSignals direction_backward(const DirectionInput& input, const DirectionRecord& record, const Sequence& d_hs,
                                    RowState& d_state, Sequence& d_xs, RowState& d_start, GeneralWeights& d_weights);

}  // namespace latchwork::reference
