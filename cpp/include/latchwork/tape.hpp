#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "latchwork/batch.hpp"
#include "latchwork/export.hpp"
#include "latchwork/types.hpp"

namespace latchwork {

namespace detail {
template <class T>
struct Recording;
}

// A function that backward() calls for each module and member, from the top of the chain down, when the gradient with
// respect to the parameters of that module is complete: `count` numbers at `gradient`. Modules without parameters are
// left out. It is called on the thread that called backward(). With one member it is called before the gradients of the
// modules below are computed, with several members once all gradients are complete.
template <class T>
using ModuleReady = std::function<void(Index module, Index member, T* gradient, Index count)>;

// What was kept of one recorded call. A tape does not change: backward may be called again, and from several threads.
template <class T>
class LATCHWORK_API Tape {
 public:
  explicit Tape(std::unique_ptr<const detail::Recording<T>> recording);
  ~Tape();
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;

  // The output of one member, if the recorded call asked for none. It lasts as long as the tape; the numbers in padding
  // mean nothing. Throws std::invalid_argument if the recording has checkpoints.
  SequenceView<const T> output(Index member = 0) const;

  // The seed of the first member's random masks; none if the recording did not act as in training and was given none.
  std::optional<std::uint64_t> mask_seed() const;

  // Computes the gradients of a loss from its gradients with respect to the output (d_output) and to the end states
  // (d_end; empty: zeros). parameters: parameter_count() numbers, member after member, which are overwritten, or added
  // to if `accumulate`; null: not wanted, which saves about half of the arithmetic, and `ready` is not called. d_input
  // and d_start are overwritten; null or empty: not wanted. d_input is zero in padding. d_signals: the gradients with
  // respect to what signal() writes, overwritten, and zero in padding and at skipped steps; empty: not wanted. The
  // gradient with respect to a signal of one step and row says how the loss changes if that number alone is changed and
  // everything that is computed from it follows. A forget gate that is coupled follows from the input gate, and the
  // other way round. Without a forget gate it is the gradient with respect to the 1 that c_prev is multiplied by. All
  // else is the same bit for bit, whether or not d_signals are wanted.
  void backward(const SequenceView<const T>& d_output, const States<const T>& d_end, T* parameters, bool accumulate,
                const SequenceView<T>& d_input, const States<T>& d_start, const ModuleReady<T>& ready = {},
                const ChainSignals<T>& d_signals = {}) const;

  // Writes one signal: (members, steps, rows, H) contiguous, or (members, steps, rows, P) for the hidden state of a
  // layer with projection, with zeros in padding. `lstm` counts the LSTM modules of the chain, `state` the layers times
  // directions of that module. The forget gate of a cell that has none of its own is 1, or 1 minus the input gate.
  // Throws std::invalid_argument if the recording has checkpoints.
  void signal(Index lstm, Index state, Signal signal, T* values) const;

 private:
  std::unique_ptr<const detail::Recording<T>> recording_;
};

}  // namespace latchwork
