#pragma once

#include <cstdint>
#include <memory>

#include "latchwork/batch.hpp"
#include "latchwork/types.hpp"

namespace latchwork {

namespace detail {
template <class T>
struct StreamParts;
}

// How far apart the members lie in what a step is given; 0: it is the same for all.
struct StepStrides {
  Index x = 0;
  Index reset = 0;
};

// One step after another on the weights of the moment of construction.
//
// The real-time contract: after construction, step(), get_state(), set_state() and reset() make no allocation, take no
// lock, throw no exception and make no system call, the first of them included, whatever other threads do with the
// network meanwhile. A stream is not for two threads at once, and its construction and destruction are not for real
// time; nor is making the States that are passed, a vector.
//
// Large steps (is_shared()) are shared with those of the pool's threads that are awake, see wake_threads(), and then
// wait for them. With set_num_threads(1), and where no other call keeps threads awake, a step waits for nobody.
template <class T>
class Stream {
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

  // x (rows, input_size) contiguous, of each member or of all; y (members, rows, output_size) contiguous. reset:
  // (rows,), non-zero restarts a row before the step; null: none.
  void step(const T* x, T* y, const std::uint8_t* reset = nullptr, const StepStrides& strides = {}) noexcept;
  // Tokens must lie in [0, vocabulary); the caller has checked.
  void step(const std::int64_t* tokens, T* y, const std::uint8_t* reset = nullptr,
            const StepStrides& strides = {}) noexcept;

  void get_state(const States<T>& state) const noexcept;
  void set_state(const States<const T>& state) noexcept;  // a null pointer: the own start state
  void reset() noexcept;

 private:
  std::unique_ptr<detail::StreamParts<T>> parts_;
};

}  // namespace latchwork
