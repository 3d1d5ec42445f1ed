#pragma once

#include <vector>

#include "reference/general_cell.hpp"

// One direction of one layer over one sequence: the cell from step to step, and what surrounds it, which is dropout of
// h before R, projection, zoneout, and the start of fresh sequences at resets.
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
  // Whether a fresh sequence begins with step t. Resets cut the sequence into segments, each from a reset step to the
  // last step before the next one; the reverse direction enters a segment at that last step.
  bool starts_segment(std::size_t t) const {
    if (reverse) return t + 1 < length() && reset[t + 1];
    return reset[t];
  }
};

// Random factors of one row. An empty vector stands for what does not act.
struct RowMasks {
  Vector recurrent;         // of h before R, for all steps
  Sequence candidate;       // [t], of g where it is added to the cell
  Sequence hidden_zoneout;  // [t], how much of the old h stays
  Sequence cell_zoneout;    // [t], how much of the old c stays
};

// What one layer and direction did with one sequence: steps[t] is step t, whichever way it ran. The cell's own c and h
// are in steps[t].
struct DirectionRecord {
  std::vector<GeneralStep> steps;
  Sequence h;  // of each step, after projection and zoneout: what the next step and the next layer see
  Sequence c;  // of each step, after zoneout
};

struct DirectionInput {
  const GeneralCell& cell;
  const Walk& walk;
  const RowMasks& masks;
};

// `state` comes in as the start state and goes out as the end state; fresh sequences begin with `fresh`.
DirectionRecord direction_forward(const DirectionInput& input, const Sequence& xs, const RowState& fresh,
                                  RowState& state);

// `d_state` comes in as the gradient by the end state and goes out as that by the start state. Adds to d_xs, d_fresh
// and d_weights.
void direction_backward(const DirectionInput& input, const DirectionRecord& record, const Sequence& d_hs,
                        RowState& d_state, Sequence& d_xs, RowState& d_fresh, GeneralWeights& d_weights);

}  // namespace latchwork::reference
