#pragma once

#include "latchwork/types.hpp"

namespace latchwork {

// Threads take parameters, and sums over parameters are added up, in blocks of this size. It is fixed, so that no sum
// depends on the number of threads.
inline constexpr Index block_size = 16384;

constexpr Index block_count(Index size) { return (size + block_size - 1) / block_size; }

}  // namespace latchwork
