#pragma once

#include <functional>
#include <memory>

#include "latchwork/batch.hpp"
#include "latchwork/types.hpp"

namespace latchwork {

namespace detail {
template <class T>
struct Recording;
}

// What a trace shows of one layer and direction.
enum class Signal { input_gate, forget_gate, candidate, output_gate, cell, hidden };

// Told, module by module from the top of the chain down, that the gradient with respect to a module's parameters is
// complete: `count` numbers at `gradient`, those of one member. Modules without parameters are passed over. It is
// called on the thread that called backward(); with one member while the modules below are still to be computed, with
// several once all are.
template <class T>
using ModuleReady = std::function<void(Index module, Index member, T* gradient, Index count)>;

// What one recording kept. Immutable: backward may be called again, and from several threads.
template <class T>
class Tape {
 public:
  explicit Tape(std::unique_ptr<const detail::Recording<T>> recording);
  ~Tape();
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;

  // The output of one member, where the call asked for none. It lasts as long as the tape; numbers in padding mean
  // nothing. Throws std::invalid_argument where the recording has checkpoints.
  SequenceView<const T> output(Index member = 0) const;

  // Gradients of a loss, given its gradients with respect to the output (d_output) and to the end states (d_end; empty:
  // zeros). parameters: parameter_count() elements, member after member, overwritten, or added to where `accumulate`.
  // d_input and d_start are overwritten; null or empty: not wanted. d_input in padding becomes zero.
  void backward(const SequenceView<const T>& d_output, const States<const T>& d_end, T* parameters, bool accumulate,
                const SequenceView<T>& d_input, const States<T>& d_start, const ModuleReady<T>& ready = {}) const;

  // Writes (members, steps, rows, H) contiguous, or (members, steps, rows, P) for the hidden state under projection;
  // zeros in padding. `state` counts layers times directions of LSTM module `lstm`. The forget gate of a cell that has
  // none of its own is 1, or 1 minus the input gate. Throws std::invalid_argument where the recording has checkpoints.
  void signal(Index lstm, Index state, Signal signal, T* values) const;

 private:
  std::unique_ptr<const detail::Recording<T>> recording_;
};

}  // namespace latchwork
