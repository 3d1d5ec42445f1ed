#pragma once

#include "latchwork/types.hpp"

namespace latchwork {

// At the first use: LATCHWORK_NUM_THREADS, else OMP_NUM_THREADS, else the CPU affinity and the container's limit.
Index num_threads();

// Throws std::invalid_argument unless count is between 1 and 1024.
void set_num_threads(Index count);

}  // namespace latchwork
