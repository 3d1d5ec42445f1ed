#pragma once

#include <array>
#include <cstdint>

#include "latchwork/types.hpp"

namespace latchwork {

// Philox4x32-10, a counter-based generator: Salmon, Moraes, Dror & Shaw, "Parallel random numbers: as easy as 1, 2, 3",
// SC 2011. The same key and counter always give the same numbers, so masks depend neither on threads nor on whether a
// step is computed again.
inline std::array<std::uint32_t, 4> philox(std::uint64_t key, std::array<std::uint32_t, 4> counter) {
  auto key0 = static_cast<std::uint32_t>(key);
  auto key1 = static_cast<std::uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t product0 = std::uint64_t{0xD2511F53} * counter[0];
    const std::uint64_t product1 = std::uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<std::uint32_t>(product1 >> 32) ^ counter[1] ^ key0, static_cast<std::uint32_t>(product1),
               static_cast<std::uint32_t>(product0 >> 32) ^ counter[3] ^ key1, static_cast<std::uint32_t>(product0)};
    key0 += 0x9E3779B9;
    key1 += 0xBB67AE85;
  }
  return counter;
}

// A seed that follows from another one and a number. `purpose` keeps it apart from what other parts of the library draw
// with the same seed.
inline std::uint64_t derived_seed(std::uint64_t seed, std::uint64_t number, std::uint32_t purpose) {
  const auto words =
      philox(seed, {static_cast<std::uint32_t>(number), static_cast<std::uint32_t>(number >> 32), 0, purpose});
  return std::uint64_t{words[1]} << 32 | words[0];
}

// What the random factors of a mask are applied to.
enum class MaskOn : std::uint32_t { layer_output, recurrent_hidden, candidate, hidden, cell, recurrent_weight };

// One mask of a recording. Each of its numbers depends only on the mask, the step, the row and the unit; see
// mask_counter().
struct MaskKey {
  std::uint64_t seed = 0;
  MaskOn on = MaskOn::layer_output;
  Index module = 0;  // its place in the chain
  Index place = 0;   // the layer for layer_output; otherwise layer * directions + direction
};

// The generator's counter for units 4 * block to 4 * block + 3. A mask that is the same for all steps has step 0. For a
// mask on a weight, the row and the column of the weight take the places of row and unit.
inline std::array<std::uint32_t, 4> mask_counter(const MaskKey& key, Index step, Index row, Index block) {
  return {static_cast<std::uint32_t>(block) | static_cast<std::uint32_t>(key.on) << 28, static_cast<std::uint32_t>(row),
          static_cast<std::uint32_t>(step), static_cast<std::uint32_t>(key.module * 65536 + key.place)};
}

// A uniform number in [0, 1) with 24 random bits, exact in float and double alike.
inline double uniform(std::uint32_t bits) { return static_cast<double>(bits >> 8) * 0x1p-24; }

}  // namespace latchwork
