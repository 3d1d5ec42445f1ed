#pragma once

#include "machine/random.hpp"

namespace latchwork::test {

// The number that decides about one unit: if it is below the probability, the unit is dropped or keeps its old value.
// This is the simple version; kernels.mask gives the same for a whole row.
inline double mask_number(const MaskKey& key, Index step, Index row, Index unit) {
  return uniform(philox(key.seed, mask_counter(key, step, row, unit / 4))[static_cast<std::size_t>(unit % 4)]);
}

}  // namespace latchwork::test
