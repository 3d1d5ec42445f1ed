#pragma once

#include <vector>

#include "machine/parallel.hpp"
#include "weights/snapshot.hpp"

namespace latchwork {

// What one time step reads and writes: each array has a pointer for each row that takes part. An array that a step does
// not use is null.
template <class T>
struct CellStepPointers {
  explicit CellStepPointers(Index rows)
      : read_(static_cast<std::size_t>(8 * rows)), written_(static_cast<std::size_t>(9 * rows)) {
    const T** read = read_.data();
    for (const T*** array :
         {&start, &x, &h_prev, &c_prev, &hidden_dropout, &candidate_dropout, &hidden_zoneout, &cell_zoneout}) {
      *array = read;
      read += rows;
    }
    T** written = written_.data();
    for (T*** array : {&c, &unprojected_hidden, &output, &gates, &activated_cell, &dropped_hidden, &norm_ih, &norm_hh,
                       &norm_scale}) {
      *array = written;
      written += rows;
    }
  }
  CellStepPointers(CellStepPointers&&) = default;
  CellStepPointers& operator=(CellStepPointers&&) = delete;

  const T** start;              // packed pre-activations to start from; with layer norm the bias alone
  const T** x;                  // null: W x is already in `start`, or with layer norm in norm_ih
  const T **h_prev, **c_prev;   // c_prev in padded rows
  const T** hidden_dropout;     // the mask on h_prev before R
  const T** candidate_dropout;  // padded rows
  const T **hidden_zoneout, **cell_zoneout;
  T** c;                            // padded rows
  T** unprojected_hidden;           // with projection: o tanh(c); else null
  T** output;                       // h
  T** gates;                        // packed rows; null: not wanted (never null with layer norm)
  bool gates_bypass_cache = false;  // see StepArgs
  T** activated_cell;               // with layer norm: padded rows for intermediate results
  T** dropped_hidden;               // with hidden_dropout: the masked h_prev, which R sees
  T **norm_ih, **norm_hh, **norm_scale;

 private:
  std::vector<const T*> read_;
  std::vector<T*> written_;
};

// Into how many parts threads that are awake split the hidden units of a step.
struct UnitSplit {
  Index parts = 1;
  Threads threads = Threads::awake;
};

// Computes one time step of one layer and direction, for every variant of the cell. `number` counts the steps, see
// last_panel_first(). Allocates nothing.
template <class T>
void cell_step(const PackedLayer<T>& weights, const Kernels<T>& kernels, Index rows, Index number,
               const CellStepPointers<T>& pointers, const UnitSplit& split) noexcept;

}  // namespace latchwork
