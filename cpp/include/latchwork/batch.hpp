#pragma once

#include <cstdint>
#include <vector>

#include "latchwork/types.hpp"

// What goes into a call and comes out of it: views of sequences, batches and states. None of them owns memory.
//
// A network has one or more members: sets of weights of one shape. What goes in is shared by all members, or each has
// its own, one after another at a distance of `member_stride` elements; a stride of 0 means that it is shared. What
// comes out always has a place for each member.
namespace latchwork {

// Features of one step and row are contiguous; steps and rows may lie anywhere. Strides count elements and may be
// negative.
template <class T>
struct SequenceView {
  T* data = nullptr;
  Index step_stride = 0;
  Index row_stride = 0;
  Index member_stride = 0;

  T* at(Index step, Index row) const { return data + step * step_stride + row * row_stride; }
  // One member's own sequence.
  SequenceView of(Index member) const {
    if (data == nullptr) return {};
    return {data + member * member_stride, step_stride, row_stride, 0};
  }
};

// The same view, through which nothing can be written.
template <class T>
SequenceView<const T> read_only(const SequenceView<T>& view) {
  return {view.data, view.step_stride, view.row_stride, view.member_stride};
}

// What goes in: values (features of the first module each), or tokens where the first module is an Embedding.
template <class T>
struct Input {
  SequenceView<const T> values;
  SequenceView<const std::int64_t> tokens;

  Input of(Index member) const { return {values.of(member), tokens.of(member)}; }
};

struct Batch {
  Index steps = 0;
  Index rows = 0;
  const Index* lengths = nullptr;  // (rows,), each 0 to steps; null: all steps
  // Non-zero: before this step the row's state becomes the layer's own start state. Null: never.
  SequenceView<const std::uint8_t> reset;
  Index lengths_member_stride = 0;

  Batch of(Index member) const {
    return {steps, rows, lengths == nullptr ? nullptr : lengths + member * lengths_member_stride, reset.of(member), 0};
  }
};

// The state of one LSTM module, contiguous: hidden (states, rows, H or P), cell (states, rows, H).
// As a start state null means the module's own (zeros, or the trained one); as a result null means not wanted.
template <class T>
struct State {
  T* hidden = nullptr;
  T* cell = nullptr;
  Index hidden_member_stride = 0;
  Index cell_member_stride = 0;

  State of(Index member) const {
    return {hidden == nullptr ? nullptr : hidden + member * hidden_member_stride,
            cell == nullptr ? nullptr : cell + member * cell_member_stride, 0, 0};
  }
};

template <class T>
using States = std::vector<State<T>>;  // one for each LSTM module of the chain, or empty: as if all were null

// One member's own states.
template <class T>
States<T> states_of(const States<T>& states, Index member) {
  States<T> own;
  own.reserve(states.size());
  for (const State<T>& state : states) own.push_back(state.of(member));
  return own;
}

struct RecordOptions {
  bool training = false;        // dropout and zoneout act
  std::uint64_t mask_seed = 0;  // equal seeds give equal masks; member m has the masks of mask_seed + m
  // k above 0: of an LSTM only every k-th state is kept, and backward computes the steps between again. Same bits.
  Index checkpoint = 0;
  // The number that the first row has in a larger batch, of which this is a part: masks depend on it.
  Index first_row = 0;
};

}  // namespace latchwork
