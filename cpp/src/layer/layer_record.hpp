#pragma once

#include <algorithm>

#include "layer/cell_masks.hpp"
#include "machine/workspace.hpp"
#include "weights/snapshot.hpp"

namespace latchwork {

// What one layer and direction keeps for the backward pass. The arrays with values of each step hold one segment of the
// steps: step t and row n at ((t - first step of the segment) * rows + n). Without checkpoints there is one segment of
// all steps. With checkpoints there is memory for one segment at a time, and what is kept throughout are the states
// from which each segment is computed again.
template <class T>
struct LayerRecord {
  Index segment_steps = 0;
  T* gates = nullptr;               // packed rows
  T* cell = nullptr;                // padded rows
  T* unprojected_hidden = nullptr;  // with projection: o tanh(c), H numbers each
  T* dropped_hidden = nullptr;      // with recurrent dropout on h: the masked h_prev, which R saw, H or P numbers each
  T* candidate_dropout = nullptr;   // this and the next two: masks, in training; padded rows
  T* hidden_zoneout = nullptr;      // H or P numbers rounded up to whole registers
  T* cell_zoneout = nullptr;        // padded rows
  T* norm_ih = nullptr;             // with layer norm: packed rows, the normalised W x
  T* norm_hh = nullptr;             // likewise the normalised R h_prev
  T* norm_scale = nullptr;          // with layer norm: norm_scales numbers each
  // What is kept throughout.
  T* hidden_dropout = nullptr;      // the mask (rows) of dropped_hidden, H or P numbers rounded up to whole registers
  T* segment_cell = nullptr;        // c before each segment (segments, rows), padded rows; the first is the start state
  T* segment_hidden = nullptr;      // with checkpoints: h before each segment (segments, rows, P or H)
  const T* start_hidden = nullptr;  // (rows, P or H); null: the layer's own start state
  bool own_start_cell = false;      // whether c started from the layer's own start state

  bool has_checkpoints() const { return segment_hidden != nullptr; }
  Index segments(Index steps) const { return segment_steps == 0 ? 0 : (steps + segment_steps - 1) / segment_steps; }
};

// Takes memory for what is kept throughout. checkpoint: how many steps a segment has; 0: all steps, without
// checkpoints.
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

// Takes memory for the steps of one segment.
template <class T>
void take_steps(const PackedLayer<T>& weights, const Kernels<T>& kernels, const CellMasks& masks, Index rows,
                LayerRecord<T>& record, Workspace<T>& workspace) {
  const Index slots = record.segment_steps * rows;
  const Index h_size = weights.output_size();
  record.gates = workspace.take(slots * weights.packed_size);
  record.cell = workspace.take(slots * weights.padded);
  if (weights.projection > 0) record.unprojected_hidden = workspace.take(slots * weights.units);
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
