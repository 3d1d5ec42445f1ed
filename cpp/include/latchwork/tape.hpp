#pragma once

#include <memory>

#include "latchwork/batch.hpp"
#include "latchwork/types.hpp"

namespace latchwork {

// What a trace shows of one layer and direction.
enum class Signal { input_gate, forget_gate, candidate, output_gate, cell, hidden };

// What one recording kept. Immutable: backward may be called again, and from several threads.
template <class T>
class Tape {
 public:
  struct Recording;
  explicit Tape(std::unique_ptr<Recording> recording);
  ~Tape();
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;

  // The output, where a call asked for none. It lasts as long as the tape; numbers in padding mean nothing. Throws
  // std::invalid_argument where the recording has checkpoints.
  SequenceView<const T> output() const;

  // Gradients of a loss whose gradient by the output is d_output, and by the end states d_end (empty: zeros).
  // parameters: parameter_count() elements, overwritten, or added to where `accumulate`. d_input and d_start are
  // overwritten; null or empty: not wanted. d_input in padding becomes zero.
  void backward(SequenceView<const T> d_output, const States<const T>& d_end, T* parameters, bool accumulate,
                SequenceView<T> d_input, const States<T>& d_start) const;

  // Writes (steps, rows, H) contiguous, or (steps, rows, P) for the hidden state under projection; zeros in padding.
  // `state` counts layers times directions of LSTM module `lstm`. The forget gate of a cell that has none of its own is
  // 1, or 1 minus the input gate. Throws std::invalid_argument where the recording has checkpoints.
  void signal(Index lstm, Index state, Signal signal, T* values) const;

 private:
  std::unique_ptr<Recording> recording_;
};

}  // namespace latchwork
