#pragma once

#include <cstdint>
#include <vector>

#include "latchwork/types.hpp"

// What goes into a call and comes out of it: views of sequences, batches and states. None owns memory.
namespace latchwork {

// Features of one step and row are contiguous; steps and rows may lie anywhere. Strides count elements and may be
// negative.
template <class T>
struct SequenceView {
  T* data = nullptr;
  Index step_stride = 0;
  Index row_stride = 0;

  T* at(Index step, Index row) const { return data + step * step_stride + row * row_stride; }
};

// What goes in: values (features of the first module each), or tokens where the first module is an Embedding.
template <class T>
struct Input {
  SequenceView<const T> values;
  SequenceView<const std::int64_t> tokens;
};

struct Batch {
  Index steps = 0;
  Index rows = 0;
  const Index* lengths = nullptr;  // (rows,), each 0 to steps; null: all steps
  // Non-zero: before this step the row's state becomes the layer's own start state. Null: never.
  SequenceView<const std::uint8_t> reset;
};

// The state of one LSTM module, contiguous: hidden (states, rows, H or P), cell (states, rows, H).
// As a start state null means the module's own (zeros, or the trained one); as a result null means not wanted.
template <class T>
struct State {
  T* hidden = nullptr;
  T* cell = nullptr;
};

template <class T>
using States = std::vector<State<T>>;  // one for each LSTM module of the chain, or empty: as if all were null

struct RecordOptions {
  bool training = false;        // dropout and zoneout act
  std::uint64_t mask_seed = 0;  // the masks of two recordings with equal seeds are equal
  // k above 0: of an LSTM only every k-th state is kept, and backward computes the steps between again. Same bits.
  Index checkpoint = 0;
};

}  // namespace latchwork
