#pragma once

#include "latchwork/types.hpp"

namespace latchwork {

// At the first use: LATCHWORK_NUM_THREADS, else OMP_NUM_THREADS, else the CPU affinity and the container's limit.
Index num_threads();

// Throws std::invalid_argument unless count is between 1 and 1024.
void set_num_threads(Index count);

// Starts the threads that are missing and wakes those that sleep, which takes some microseconds. Stream::step() makes
// no system call and so uses only threads that are awake: they stay so for a millisecond after their last work. Where
// threads would have to share CPUs they are left asleep. Layers and training call it themselves. Throws
// std::bad_alloc, and as num_threads() does.
void wake_threads();

}  // namespace latchwork
