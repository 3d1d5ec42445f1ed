#pragma once

#include "latchwork/export.hpp"
#include "latchwork/types.hpp"

namespace latchwork {

// The number of threads that calls from this thread use. At the first use it is LATCHWORK_NUM_THREADS, else
// OMP_NUM_THREADS, else what the CPU affinity and the container allow, whichever is less.
LATCHWORK_API Index num_threads();

// Throws std::invalid_argument unless count is between 1 and 1024.
LATCHWORK_API void set_num_threads(Index count);

// While an object of this class exists, num_threads() is at most `count` on the thread that made it, and so are the
// threads that its calls use. For a caller that has a limit of its own.
class LATCHWORK_API ThreadLimit {
 public:
  // Throws std::invalid_argument unless count is at least 1.
  explicit ThreadLimit(Index count);
  ~ThreadLimit();
  ThreadLimit(const ThreadLimit&) = delete;
  ThreadLimit& operator=(const ThreadLimit&) = delete;

 private:
  Index before_;
};

// Starts the threads that are missing and wakes those that sleep, which takes some microseconds. Stream::step() makes
// no system call and so only uses threads that are awake; a thread stays awake for a millisecond after its last work.
// Threads that would have to share CPUs are left asleep. Layers and training call this function themselves. Throws
// std::bad_alloc, and what num_threads() throws.
LATCHWORK_API void wake_threads();

}  // namespace latchwork
