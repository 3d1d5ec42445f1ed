#pragma once

#include <algorithm>

#include "layer/cell_masks.hpp"
#include "machine/workspace.hpp"
#include "weights/snapshot.hpp"

namespace latchwork {

// What one layer and direction keeps for backward. What it keeps of each step is that of one segment of the steps, step
// t and row n at ((t - first step of the segment) * rows + n). Without checkpoints the segment is all steps; with them
// there is room for one segment after the other, and what lasts are the states from which each is computed again.
template <class T>
struct LayerRecord {
  Index segment_steps = 0;
  T* gates = nullptr;              // packed rows
  T* cell = nullptr;               // padded rows
  T* exposed = nullptr;            // with projection: o tanh(c), H numbers each
  T* dropped_hidden = nullptr;     // with recurrent dropout on h: what R saw, H or P numbers each
  T* candidate_dropout = nullptr;  // factors, in training: padded rows
  T* hidden_zoneout = nullptr;     // H or P numbers rounded up to whole registers
  T* cell_zoneout = nullptr;       // padded rows
  T* norm_ih = nullptr;            // with layer norm: packed rows, what it made of W x and of R h
  T* norm_hh = nullptr;            // likewise
  T* norm_scale = nullptr;         // norm_scales numbers each
  // What lasts.
  T* hidden_dropout = nullptr;      // factors with dropped_hidden (rows), H or P numbers rounded up to whole registers
  T* segment_cell = nullptr;        // c before each segment (segments, rows), padded rows; the first is the start state
  T* segment_hidden = nullptr;      // with checkpoints: h before each segment (segments, rows, P or H)
  const T* start_hidden = nullptr;  // (rows, P or H); null: the layer's own start state
  bool own_start_cell = false;      // the start state of c is the layer's own

  bool has_checkpoints() const { return segment_hidden != nullptr; }
  Index segments(Index steps) const { return segment_steps == 0 ? 0 : (steps + segment_steps - 1) / segment_steps; }
};

// Room for what lasts. checkpoint: steps of a segment; 0: all, and no checkpoints.
template <class T>
void take_states(const PackedLayer<T>& weights, const Kernels<T>& kernels, const CellMasks& masks, Index steps,
                 Index rows, Index checkpoint, LayerRecord<T>& record, Workspace<T>& workspace) {
  const Index h_size = weights.output_size();
  record.segment_steps = checkpoint == 0 ? steps : std::min(checkpoint, steps);
  const Index states = std::max<Index>(1, record.segments(steps)) * rows;
  record.segment_cell = workspace.take(states * weights.padded);
  if (checkpoint > 0) record.segment_hidden = workspace.take(states * h_size);
  if (masks.hidden_dropout > 0.0) record.hidden_dropout = workspace.take(rows * round_up(h_size, kernels.units));
}

// Room for the steps of a segment.
template <class T>
void take_steps(const PackedLayer<T>& weights, const Kernels<T>& kernels, const CellMasks& masks, Index rows,
                LayerRecord<T>& record, Workspace<T>& workspace) {
  const Index slots = record.segment_steps * rows;
  const Index h_size = weights.output_size();
  record.gates = workspace.take(slots * weights.packed_size);
  record.cell = workspace.take(slots * weights.padded);
  if (weights.projection > 0) record.exposed = workspace.take(slots * weights.units);
  if (masks.hidden_dropout > 0.0) record.dropped_hidden = workspace.take(slots * h_size);
  if (masks.candidate_dropout > 0.0) record.candidate_dropout = workspace.take(slots * weights.padded);
  if (masks.hidden_zoneout > 0.0) record.hidden_zoneout = workspace.take(slots * round_up(h_size, kernels.units));
  if (masks.cell_zoneout > 0.0) record.cell_zoneout = workspace.take(slots * weights.padded);
  if (weights.variant.norm_ih_weight != nullptr) {
    record.norm_ih = workspace.take(slots * weights.packed_size);
    record.norm_hh = workspace.take(slots * weights.packed_size);
    record.norm_scale = workspace.take(slots * norm_scales);
  }
}

}  // namespace latchwork
