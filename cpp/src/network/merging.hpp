#pragma once

#include "latchwork/options.hpp"
#include "network/sequences.hpp"

// How the outputs of both directions, which lie side by side, merge to as many features as one direction has.
namespace latchwork {

// Writes zeros to padding.
template <class T>
void merge_forward(const LstmOptions& lstm, const Batch& batch, SequenceView<const T> joined, SequenceView<T> merged) {
  const Index size = lstm.hidden_output_size();
  write_rows(batch, size, merged, [&](Index step, Index row, T* to) {
    const T *const one = joined.at(step, row), *const other = one + size;
    if (lstm.merge == Merge::mul) {
      for (Index at = 0; at < size; ++at) to[at] = one[at] * other[at];
    } else if (lstm.merge == Merge::ave) {
      for (Index at = 0; at < size; ++at) to[at] = (one[at] + other[at]) * T(0.5);
    } else {
      for (Index at = 0; at < size; ++at) to[at] = one[at] + other[at];
    }
  });
}

// The gradient of merge_forward(). `joined` is read for a product alone.
template <class T>
void merge_backward(const LstmOptions& lstm, const Batch& batch, SequenceView<const T> joined,
                    SequenceView<const T> d_merged, SequenceView<T> d_joined) {
  const Index size = lstm.hidden_output_size();
  write_rows(batch, 2 * size, d_joined, [&](Index step, Index row, T* to) {
    const T* const d = d_merged.at(step, row);
    if (lstm.merge == Merge::mul) {
      const T *const one = joined.at(step, row), *const other = one + size;
      for (Index at = 0; at < size; ++at) {
        to[at] = d[at] * other[at];
        to[size + at] = d[at] * one[at];
      }
    } else {
      const T share = lstm.merge == Merge::ave ? T(0.5) : T(1);
      for (Index at = 0; at < size; ++at) to[at] = to[size + at] = d[at] * share;
    }
  });
}

}  // namespace latchwork
