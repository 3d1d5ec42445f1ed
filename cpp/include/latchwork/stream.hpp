#pragma once

#include <cstdint>
#include <memory>

#include "latchwork/batch.hpp"
#include "latchwork/export.hpp"
#include "latchwork/types.hpp"

namespace latchwork {

namespace detail {
template <class T>
struct StreamParts;
}

// The distances, in elements, between what a step is given for one member and for the next; 0: all members share it.
struct StepStrides {
  Index x = 0;
  Index reset = 0;
};

// Which rows a step leaves out: their state stays as it is.
struct StepSkip {
  const std::uint8_t* rows = nullptr;  // (rows,), non-zero: leaves the row out; null: none is left out
  Index member_stride = 0;             // as in StepStrides
  // What the output of such a row is. It repeats that of the row's last step that was not left out; zero if there is
  // none since the row's last restart or since the state was set.
  SkippedOutput output = SkippedOutput::repeat;
};

// Runs one step after another, with the weights that the network had when the stream was made or last refreshed.
//
// The real-time contract: after construction, step(), get_state(), set_state() and reset() allocate no memory, take no
// lock, throw no exception and make no system call, from their first call on, whatever other threads do with the
// network meanwhile. Two threads must not use a stream at the same time. Making, refreshing and destroying a stream is
// outside the contract, and so is making the States that are passed, which are a vector.
//
// The stream shares large steps (see is_shared()) with those threads of the pool that are awake (see wake_threads()),
// and then waits for them. With set_num_threads(1), and if no other call keeps threads awake, a step waits for no other
// thread.
template <class T>
class LATCHWORK_API Stream {
 public:
  explicit Stream(std::unique_ptr<detail::StreamParts<T>> parts);
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  Index members() const;
  Index rows() const;
  Index input_size() const;  // 1 for tokens
  Index output_size() const;
  bool takes_tokens() const;
  bool is_shared() const noexcept;  // whether a step is large enough to be shared with other threads

  // x: (rows, input_size) contiguous, one for each member or one that all share. y: (members, rows, output_size)
  // contiguous. reset: (rows,), non-zero restarts a row before the step, also one that is left out; null: no row
  // restarts. What lies in x for rows that are left out does not matter.
  void step(const T* x, T* y, const std::uint8_t* reset = nullptr, const StepStrides& strides = {},
            const StepSkip& skip = {}) noexcept;
  // The same for tokens, which must lie in [0, vocabulary), except those of rows that are left out. They are not
  // checked here.
  void step(const std::int64_t* tokens, T* y, const std::uint8_t* reset = nullptr, const StepStrides& strides = {},
            const StepSkip& skip = {}) noexcept;

  // Throws std::invalid_argument if a code of an EmbedColumns in x is out of range or no integer. step() cannot, and
  // reads it as some code within range.
  void check_step(const T* x, const StepStrides& strides = {}, const StepSkip& skip = {}) const;
  // The same for codes that a state carries, and for the number of states.
  void check_state(const States<const T>& state) const;

  void get_state(const States<T>& state) const noexcept;
  // A null pointer: the layer's own start state. Mean and Max, which no state holds, start anew.
  void set_state(const States<const T>& state) noexcept;
  void reset() noexcept;

  // Takes the weights that the network has now, for the current instruction set, and keeps the state. It may allocate
  // and throw std::bad_alloc; then nothing has changed.
  void refresh();

 private:
  std::unique_ptr<detail::StreamParts<T>> parts_;
};

}  // namespace latchwork
