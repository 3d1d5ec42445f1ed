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

// A call of one layer and direction for all steps.
template <class T>
struct LayerCall {
  const PackedLayer<T>* weights = nullptr;
  const Kernels<T>* kernels = nullptr;
  Schedule schedule;
  RowSource<T> input;
  CellMasks masks;
  const T* start_hidden = nullptr;  // (rows, P or H); null: the layer's own start state
  const T* start_cell = nullptr;    // (rows, H); likewise
  SequenceView<T> output;           // starts at this direction's first feature; the next step reads it as h_prev
  T* end_hidden = nullptr;          // null: not wanted
  T* end_cell = nullptr;
  LayerRecord<T>* record = nullptr;  // null: nothing is recorded
};

// Runs the directions of one layer, which do not depend on one another.
template <class T>
void layer_forward(const std::vector<LayerCall<T>>& directions, Workspace<T>& workspace);

// Computes a segment of a recording with checkpoints again, and writes it to call.record and call.output. The output
// only has the steps of the segment. The start and end states of the call are not used.
template <class T>
void layer_replay(const LayerCall<T>& call, Index segment, Workspace<T>& workspace);

template <class T>
struct LayerBackwardCall {
  const PackedLayer<T>* weights = nullptr;
  const Kernels<T>* kernels = nullptr;
  Schedule schedule;
  RowSource<T> input;
  CellMasks masks;
  SequenceView<const T>
      output;  // h of the recording, starts at this direction's first feature; not read if there are checkpoints
  const LayerRecord<T>* record = nullptr;
  SequenceView<const T> d_output;   // starts at this direction's first feature; null: zeros
  const T* d_end_hidden = nullptr;  // null: zeros
  const T* d_end_cell = nullptr;
  SequenceView<T> d_input;        // null: not wanted; padding is not written
  bool accumulate_input = false;  // adds to d_input, as the second direction does
  bool parameter_gradients = true;
  // Not null: the gradients with respect to the gates are summed by token, and the gradient with respect to the rows of
  // input.table, which follows from these sums, is added to d_table. Each chain of additions starts at what is already
  // there.
  const TokenNumbers* tokens = nullptr;
  T* d_table = nullptr;
  T* d_start_hidden = nullptr;  // null: not wanted
  T* d_start_cell = nullptr;
  Index gradient_blocks = 0;  // see RecordOptions
  // The gradients with respect to the signals, (steps, rows, H or P) each; padding is not written. Null: not wanted.
  const SignalArrays<T>* d_signals = nullptr;
};

// Returns the gradients with respect to the parameters, which lie in the workspace; null arrays if they are not wanted.
template <class T>
LayerGradient<T> layer_backward(const LayerBackwardCall<T>& call, Workspace<T>& workspace);

}  // namespace latchwork
