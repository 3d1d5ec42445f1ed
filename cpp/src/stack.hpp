#pragma once

#include <vector>

#include "layer.hpp"

namespace latchwork {

// What an LSTM module keeps for backward. Rows of step t and row n at (t * rows + n).
template <class T>
struct StackRecord {
  std::vector<LayerRecord<T>> layers;    // layer by layer, forward before reverse
  std::vector<SequenceView<T>> outputs;  // of each layer, contiguous, both directions side by side
  std::vector<SequenceView<T>> sums;     // of each layer but the first where residual: its output plus its input
  std::vector<SequenceView<T>> dropped;  // input of each layer but the first where dropout acts, else empty

  // What the next layer or module reads, before dropout.
  const SequenceView<T>& result(std::size_t layer) const {
    return layer == 0 || sums.empty() ? outputs[layer] : sums[layer - 1];
  }
  const SequenceView<T>& result() const { return result(outputs.size() - 1); }
};

// The layers and directions of one LSTM module over all steps.
template <class T>
struct StackCall {
  const LstmOptions* options = nullptr;
  const PackedModule<T>* weights = nullptr;
  const Kernels<T>* kernels = nullptr;
  Batch batch;
  RowSource<T> input;
  Index module = 0;  // its number in the chain, for the dropout masks

  bool reverse(Index direction) const { return options->direction == Direction::reverse || direction == 1; }
  const PackedLayer<T>& layer(Index state) const { return weights->layers[static_cast<std::size_t>(state)]; }
};

// Inference; `output` takes the last layer's.
template <class T>
void stack_forward(const StackCall<T>& call, const State<const T>& start, SequenceView<T> output, const State<T>& end,
                   Workspace<T>& workspace);

// The same, kept in `record`; the output is record.result(). `start` is copied.
template <class T>
void stack_record(const StackCall<T>& call, const State<const T>& start, const State<T>& end,
                  const RecordOptions& options, StackRecord<T>& record, Workspace<T>& workspace);

template <class T>
struct StackGradient {
  SequenceView<const T> d_output;  // null: zeros
  State<const T> d_end;
  SequenceView<T> d_input;  // null: not wanted
  State<T> d_start;
  T* parameters = nullptr;  // of the whole network, in the order of its layout
  bool accumulate = false;
};

template <class T>
void stack_backward(const StackCall<T>& call, const RecordOptions& options, const StackRecord<T>& record,
                    const StackGradient<T>& gradient, Workspace<T>& workspace);

}  // namespace latchwork
