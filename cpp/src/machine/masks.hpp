#pragma once

#include <algorithm>

#include "machine/dispatch.hpp"
#include "machine/random.hpp"

namespace latchwork {

// What a number that dropout keeps is multiplied with.
template <class T>
T kept_factor(double probability) {
  return probability < 1.0 ? static_cast<T>(1.0 / (1.0 - probability)) : T(0);
}

// factors[j] for units first_unit + j, a multiple of 4, of one step and row: `below` with the probability, else
// `above`.
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
