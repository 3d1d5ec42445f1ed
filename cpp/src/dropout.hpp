#pragma once

#include "latchwork/network.hpp"
#include "parallel.hpp"
#include "random.hpp"

namespace latchwork {

// Which mask: of the recording's seed, after which layer of which module.
struct DropoutMask {
  std::uint64_t seed = 0;
  Index module = 0;
  Index layer = 0;
  double probability = 0.0;
};

// to = from with each number zeroed with the probability and else divided by what is left of 1. Both contiguous
// (steps, rows, features); `to` may be `from`. A number's fate depends on the mask, its step, row and unit alone.
template <class T>
void apply_dropout(const DropoutMask& mask, const Batch& batch, Index features, const T* from, T* to) {
  const T scale = mask.probability < 1.0 ? static_cast<T>(1.0 / (1.0 - mask.probability)) : T(0);
  const auto level = static_cast<std::uint32_t>(mask.module * 65536 + mask.layer);
  const Index sequence_rows = batch.steps * batch.rows;
  const Index parts = sequence_rows * features < 20'000 ? 1 : num_threads();
  parallel(parts, [&](Index part) {
    for (Index at = piece_begin(sequence_rows, parts, part); at < piece_begin(sequence_rows, parts, part + 1); ++at) {
      const auto step = static_cast<std::uint32_t>(at / batch.rows);
      const auto row = static_cast<std::uint32_t>(at % batch.rows);
      for (Index unit = 0; unit < features; unit += 4) {
        const auto bits = philox(mask.seed, {static_cast<std::uint32_t>(unit / 4), row, step, level});
        for (Index lane = 0; lane < 4 && unit + lane < features; ++lane) {
          const Index place = at * features + unit + lane;
          const bool kept = uniform(bits[static_cast<std::size_t>(lane)]) >= mask.probability;
          to[place] = kept ? from[place] * scale : T(0);
        }
      }
    }
  });
}

}  // namespace latchwork
