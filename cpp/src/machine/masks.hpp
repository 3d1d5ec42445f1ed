#pragma once

#include <algorithm>

#include "machine/dispatch.hpp"
#include "machine/random.hpp"

namespace latchwork {

// The factor by which dropout multiplies the numbers that it keeps.
template <class T>
T kept_factor(double probability) {
  return probability < 1.0 ? static_cast<T>(1.0 / (1.0 - probability)) : T(0);
}

// Draws factors[j] for unit first_unit + j (first_unit is a multiple of 4) of one step and row: `below` with the given
// probability, otherwise `above`.
template <class T>
void draw_mask(const Kernels<T>& kernels, const MaskKey& key, Index step, Index row, double probability, T below,
               T above, Index size, T* factors, Index first_unit = 0) {
  const auto counter = mask_counter(key, step, row, first_unit / 4);
  MaskArgs<T> args{};
  args.seed = key.seed;
  std::copy(counter.begin(), counter.end(), args.counter);
  args.probability = probability;
  args.below = below;
  args.above = above;
  args.size = size;
  args.factors = factors;
  kernels.mask(args);
}

}  // namespace latchwork
