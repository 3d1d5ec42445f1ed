#pragma once

#include "layer/row_blocks.hpp"
#include "layer/rows.hpp"
#include "machine/workspace.hpp"
#include "weights/snapshot.hpp"

namespace latchwork {

// y = activation(x W^T + b) for every step and row that is computed.
template <class T>
struct LinearCall {
  const PackedLinear<T>* weights = nullptr;
  const Kernels<T>* kernels = nullptr;
  Batch batch;
  RowSource<T> input;
  SequenceView<T> output;
};

// Writes zeros to padding.
template <class T>
void linear_forward(const LinearCall<T>& call);

template <class T>
struct LinearGradient {
  SequenceView<const T> d_output;  // null stands for zeros
  SequenceView<T> d_input;         // null if not wanted; padding is not written
  T* weight = nullptr;             // (outputs, inputs)
  T* bias = nullptr;               // null if there is none
  bool accumulate = false;
  const RowBlocks* blocks = nullptr;  // in which the gradients are summed
};

// call.output must hold what linear_forward() wrote.
template <class T>
void linear_backward(const LinearCall<T>& call, const LinearGradient<T>& gradient, Workspace<T>& workspace);

}  // namespace latchwork
