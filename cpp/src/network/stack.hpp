#pragma once

#include <vector>

#include "layer/layer.hpp"

namespace latchwork {

// What an LSTM module keeps for backward. All sequences are contiguous.
template <class T>
struct StackRecord {
  std::vector<LayerRecord<T>> layers;    // in the order of the layers, the forward direction before the reverse one
  std::vector<SequenceView<T>> outputs;  // h of each layer, directions side by side; empty with checkpoints
  std::vector<SequenceView<T>> factors;  // the same if directions merge to their product, else empty
  std::vector<SequenceView<T>> inputs;   // of each layer but the first, after residual sum and dropout
};

// One LSTM module, with all its layers and directions, over all steps.
template <class T>
struct StackCall {
  const LstmOptions* options = nullptr;
  const PackedModule<T>* weights = nullptr;
  const Kernels<T>* kernels = nullptr;
  Batch batch;
  RowSource<T> input;
  Index module = 0;        // its number in the chain, for the dropout masks
  bool backwards = false;  // whether a Reverse has turned the steps
  // (rows,), non-zero: a reset after the last step of the row, in the order before any Reverse. It sets the end state
  // of the direction that reads the steps in that order.
  const std::uint8_t* end_reset = nullptr;
  // Whether the directions of the last layer stay side by side, for a Last that merges them.
  bool merged_later = false;

  // Whether the directions of a layer merge here.
  bool merges(Index layer) const { return options->merges() && !(merged_later && layer + 1 == options->num_layers); }
  // The number of features of a layer's output.
  Index width(Index layer) const { return merges(layer) ? options->output_size() : options->joined_size(); }

  bool reverse(Index direction) const { return options->direction == Direction::reverse || direction == 1; }
  bool restarts_ends(Index direction) const { return end_reset != nullptr && reverse(direction) == backwards; }
  const PackedLayer<T>& layer(Index state) const { return weights->layers[static_cast<std::size_t>(state)]; }
};

// How many numbers a signal has at each step and row.
inline Index signal_size(const LstmOptions& lstm, Signal signal) {
  return signal == Signal::hidden ? lstm.hidden_output_size() : lstm.hidden_size;
}

// Inference. The output of the last layer is written to `output`.
template <class T>
void stack_forward(const StackCall<T>& call, const State<const T>& start, SequenceView<T> output, const State<T>& end,
                   Workspace<T>& workspace);

// The same, but everything that backward needs is kept in `record`. `start` is copied. Returns the output, which lies
// in `last_output`, or in memory of the workspace if that is null. `last_output` may be given only with checkpoints,
// because without them backward reads the output.
template <class T>
SequenceView<T> stack_record(const StackCall<T>& call, const State<const T>& start, SequenceView<T> last_output,
                             const State<T>& end, const RecordOptions& options, StackRecord<T>& record,
                             Workspace<T>& workspace);

template <class T>
struct StackGradient {
  SequenceView<const T> d_output;  // null stands for zeros
  State<const T> d_end;
  SequenceView<T> d_input;               // null if not wanted
  const TokenNumbers* tokens = nullptr;  // see LayerBackwardCall
  T* d_table = nullptr;
  State<T> d_start;
  T* parameters = nullptr;  // the gradients of all modules; null if not wanted
  bool accumulate = false;
  // For each layer and direction, see LayerBackwardCall. Null: not wanted.
  const std::vector<SignalArrays<T>>* d_signals = nullptr;
};

template <class T>
void stack_backward(const StackCall<T>& call, const RecordOptions& options, const StackRecord<T>& record,
                    const StackGradient<T>& gradient, Workspace<T>& workspace);

}  // namespace latchwork
