#pragma once

#include <vector>

#include "cell_masks.hpp"
#include "rows.hpp"
#include "snapshot.hpp"
#include "workspace.hpp"

namespace latchwork {

// What one layer and direction keeps for backward; rows of step t and row n at (t * rows + n).
template <class T>
struct LayerRecord {
  T* gates = nullptr;               // packed rows
  T* cell = nullptr;                // padded rows
  T* exposed = nullptr;             // with projection: o tanh(c), H numbers each
  T* dropped_hidden = nullptr;      // with recurrent dropout on h: what R saw, H or P numbers each
  T* hidden_dropout = nullptr;      // and its factors (rows), H or P numbers rounded up to whole registers
  T* candidate_dropout = nullptr;   // factors of the others, in training: padded rows
  T* hidden_zoneout = nullptr;      // H or P numbers rounded up to whole registers
  T* cell_zoneout = nullptr;        // padded rows
  T* norm_ih = nullptr;             // with layer norm: packed rows, what it made of W x and of R h
  T* norm_hh = nullptr;             // likewise
  T* norm_scale = nullptr;          // norm_scales numbers each
  T* start_cell = nullptr;          // padded rows (rows)
  const T* start_hidden = nullptr;  // (rows, P or H); null: the layer's own start state
  bool own_start_cell = false;      // start_cell is the layer's own
};

// One layer and direction over all steps.
template <class T>
struct LayerCall {
  const PackedLayer<T>* weights = nullptr;
  const Kernels<T>* kernels = nullptr;
  Schedule schedule;
  RowSource<T> input;
  CellMasks masks;
  const T* start_hidden = nullptr;  // (rows, P or H); null: the layer's own start state
  const T* start_cell = nullptr;    // (rows, H); likewise
  SequenceView<T> output;           // at this direction's first feature; also what the next step reads as h
  T* end_hidden = nullptr;          // null: not wanted
  T* end_cell = nullptr;
  LayerRecord<T>* record = nullptr;  // null: nothing is kept
};

// The directions of one layer, which do not depend on one another.
template <class T>
void layer_forward(const std::vector<LayerCall<T>>& directions, Workspace<T>& workspace);

// Gradients of the parameters, in the kernels' layouts, added up over chunks.
template <class T>
struct LayerGradient {
  T* x_weights = nullptr;       // gate panels
  T* h_weights = nullptr;       // gate panels
  T* bias = nullptr;            // packed row
  T* projection = nullptr;      // column panels of (P, H)
  T* peephole = nullptr;        // packed row of G - 1 gates
  T* norm_ih_weight = nullptr;  // packed rows
  T* norm_hh_weight = nullptr;
  T* norm_cell_weight = nullptr;  // padded rows
  T* norm_cell_bias = nullptr;
  T* start_hidden = nullptr;  // H or P
  T* start_cell = nullptr;    // H
};

template <class T>
struct LayerBackwardCall {
  const PackedLayer<T>* weights = nullptr;
  const Kernels<T>* kernels = nullptr;
  Schedule schedule;
  RowSource<T> input;
  SequenceView<const T> output;  // h of the recording, at this direction's first feature
  const LayerRecord<T>* record = nullptr;
  SequenceView<const T> d_output;   // at this direction's first feature; null: zeros
  const T* d_end_hidden = nullptr;  // null: zeros
  const T* d_end_cell = nullptr;
  LayerGradient<T> gradient;
  SequenceView<T> d_input;        // null: not wanted; padding is not touched
  bool accumulate_input = false;  // add to d_input: the second direction
  T* d_start_hidden = nullptr;    // null: not wanted
  T* d_start_cell = nullptr;
};

template <class T>
void layer_backward(const LayerBackwardCall<T>& call, Workspace<T>& workspace);

}  // namespace latchwork
