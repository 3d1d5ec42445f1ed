#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "latchwork/types.hpp"

// What goes into a call and comes out of it: views of sequences, batches and states. None of them owns memory.
//
// A network has one or more members: sets of weights of one shape. An input is either shared by all members or separate
// for each; then the inputs of the members lie one after another, `member_stride` elements apart. A stride of 0 means
// that the input is shared. An output always has a place for each member.
namespace latchwork {

// A view of a sequence. The features of one step and row are contiguous; steps and rows may lie anywhere. Strides count
// elements and may be negative.
template <class T>
struct SequenceView {
  T* data = nullptr;
  Index step_stride = 0;
  Index row_stride = 0;
  Index member_stride = 0;

  T* at(Index step, Index row) const { return data + step * step_stride + row * row_stride; }
  // The sequence of one member.
  SequenceView of(Index member) const {
    if (data == nullptr) return {};
    return {data + member * member_stride, step_stride, row_stride, 0};
  }
};

// The same view without write access.
template <class T>
SequenceView<const T> read_only(const SequenceView<T>& view) {
  return {view.data, view.step_stride, view.row_stride, view.member_stride};
}

// The input of a call: values, or tokens if the first module is an Embedding.
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
  // (steps, rows). Non-zero: before this step the state of the row becomes the layer's own start state. Null: never.
  SequenceView<const std::uint8_t> reset;
  Index lengths_member_stride = 0;

  Batch of(Index member) const {
    return {steps, rows, lengths == nullptr ? nullptr : lengths + member * lengths_member_stride, reset.of(member), 0};
  }
};

// The state of one LSTM module, contiguous: hidden (states, rows, H or P), cell (states, rows, H). In a start state,
// null means the module's own start state (zeros, or the trained one). In a result, null means that it is not wanted.
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
using States = std::vector<State<T>>;  // one for each LSTM module of the chain; empty: as if all pointers were null

// The states of one member.
template <class T>
States<T> states_of(const States<T>& states, Index member) {
  States<T> own;
  own.reserve(states.size());
  for (const State<T>& state : states) own.push_back(state.of(member));
  return own;
}

// Where a network's own mask seeds come from: seed number `count` follows from `key`.
struct MaskSeeds {
  std::uint64_t key = 0;
  std::uint64_t count = 0;

  bool operator==(const MaskSeeds&) const = default;
};

struct RecordOptions {
  bool training = true;  // whether dropout acts, and zoneout at random
  // Equal seeds give equal masks; member m has the masks of mask_seed + m. None: the next seed of the network's own,
  // see Network::mask_seeds().
  std::optional<std::uint64_t> mask_seed{};
  // If k > 0, only every k-th state of an LSTM is kept, and backward computes the steps between them again. The results
  // are the same bit for bit.
  Index checkpoint = 0;
  // The number of the first row in a larger batch, of which this batch is a part. Masks depend on it.
  Index first_row = 0;
};

}  // namespace latchwork
