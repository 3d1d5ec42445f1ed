#pragma once

#include <vector>

#include "layer/cell_masks.hpp"
#include "layer/layer_gradient.hpp"
#include "layer/layer_record.hpp"
#include "layer/rows.hpp"
#include "layer/token_numbers.hpp"
#include "machine/workspace.hpp"
#include "weights/snapshot.hpp"

namespace latchwork {

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

// Computes a segment of a recording with checkpoints again, into call.record and call.output, which is of the segment
// alone. Start and end states of the call play no part.
template <class T>
void layer_replay(const LayerCall<T>& call, Index segment, Workspace<T>& workspace);

template <class T>
struct LayerBackwardCall {
  const PackedLayer<T>* weights = nullptr;
  const Kernels<T>* kernels = nullptr;
  Schedule schedule;
  RowSource<T> input;
  CellMasks masks;
  SequenceView<const T> output;  // h of the recording, at this direction's first feature; with checkpoints not read
  const LayerRecord<T>* record = nullptr;
  SequenceView<const T> d_output;   // at this direction's first feature; null: zeros
  const T* d_end_hidden = nullptr;  // null: zeros
  const T* d_end_cell = nullptr;
  SequenceView<T> d_input;        // null: not wanted; padding is not touched
  bool accumulate_input = false;  // add to d_input: the second direction
  // Not null: the gradients by the gates are summed by token, and what follows from that for the rows of input.table is
  // added to d_table: each chain starts at what is there.
  const TokenNumbers* tokens = nullptr;
  T* d_table = nullptr;
  T* d_start_hidden = nullptr;  // null: not wanted
  T* d_start_cell = nullptr;
};

// Returns the gradients by the parameters, which lie in the workspace.
template <class T>
LayerGradient<T> layer_backward(const LayerBackwardCall<T>& call, Workspace<T>& workspace);

}  // namespace latchwork
