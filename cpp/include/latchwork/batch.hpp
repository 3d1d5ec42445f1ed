#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "latchwork/skipped_output.hpp"
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
  SequenceView<const std::uint8_t> reset = {};
  Index lengths_member_stride = 0;
  // (steps, rows). Non-zero: this step of the row is left out. All results and gradients of the row are those of the
  // row without such steps, except that its output has them still, as `skipped_output` says. Random masks count the
  // computed steps. A reset at a skipped step acts before the next computed step, or if none follows as `end_reset`
  // does. Null: no step is left out.
  SequenceView<const std::uint8_t> skip = {};
  SkippedOutput skipped_output = SkippedOutput::repeat;
  // (rows,). Non-zero: a reset after the last step of the row. The end state of a forward direction is then the layer's
  // own start state, and a reverse direction starts from it. Null: there is none.
  const std::uint8_t* end_reset = nullptr;
  Index end_reset_member_stride = 0;
  // (steps, rows). Non-zero: if this step is left out, its output is zero, whatever skipped_output says. Null: nowhere.
  SequenceView<const std::uint8_t> zero_skipped = {};

  bool zeroes(Index step, Index row) const { return zero_skipped.data != nullptr && *zero_skipped.at(step, row) != 0; }
  bool skips(Index step, Index row) const { return skip.data != nullptr && *skip.at(step, row) != 0; }

  Batch of(Index member) const {
    Batch own = *this;
    own.reset = reset.of(member);
    own.skip = skip.of(member);
    own.zero_skipped = zero_skipped.of(member);
    if (lengths != nullptr) own.lengths = lengths + member * lengths_member_stride;
    if (end_reset != nullptr) own.end_reset = end_reset + member * end_reset_member_stride;
    own.lengths_member_stride = own.end_reset_member_stride = 0;
    return own;
  }
};

// The sizes of the state of one module: of an LSTM (layers times directions, H or P, H), of an Impute that carries
// values forward (1, features, features).
struct StateSize {
  Index count = 0;
  Index hidden = 0;
  Index cell = 0;

  bool operator==(const StateSize&) const = default;
};

// The state of one module, contiguous: hidden (count, rows, hidden size), cell (count, rows, cell size). Those of an
// LSTM are h and c; those of an Impute are the values carried forward and how many steps ago they were seen. In a start
// state, null means the module's own start state (zeros, the trained one, or the fill). In a result, null means that it
// is not wanted.
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
using States = std::vector<State<T>>;  // one for each module with a state; empty: as if all pointers were null

// The states of one member.
template <class T>
States<T> states_of(const States<T>& states, Index member) {
  States<T> own;
  own.reserve(states.size());
  for (const State<T>& state : states) own.push_back(state.of(member));
  return own;
}

// What a trace shows of one layer and direction.
enum class Signal { input_gate, forget_gate, candidate, output_gate, cell, hidden };

// An array for each signal of one layer and direction, in the order of Signal: (members, steps, rows, H) contiguous, or
// (members, steps, rows, P) for the hidden state of a layer with projection.
template <class T>
using SignalArrays = std::array<T*, 6>;

// For each LSTM module of the chain, one SignalArrays for each of its layers times directions. Empty: not wanted.
template <class T>
using ChainSignals = std::vector<std::vector<SignalArrays<T>>>;

inline constexpr Index most_gradient_blocks = 1024;

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
  // The number of blocks of rows in which the gradients of all modules are summed: a power of two, up to
  // most_gradient_blocks. Blocks have about equally many steps, and are added in a binary tree, so machines that each
  // hold consecutive blocks together get the bits that one machine gets. 0: each layer chooses by its shape.
  Index gradient_blocks = 0;
};

}  // namespace latchwork
