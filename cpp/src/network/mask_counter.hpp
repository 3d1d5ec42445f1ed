#pragma once

#include <atomic>
#include <cstdint>

#include "latchwork/batch.hpp"
#include "machine/random.hpp"

namespace latchwork {

// The seed with which number `number` of the recordings that name none draws its masks.
inline std::uint64_t own_mask_seed(std::uint64_t key, std::uint64_t number) {
  constexpr std::uint32_t own_masks = 0x6D61736B;
  return derived_seed(key, number, own_masks);
}

// Counts the mask seeds that a network has drawn for itself. Threads may draw at the same time.
class MaskCounter {
 public:
  std::uint64_t next() { return own_mask_seed(key_, count_.fetch_add(1, std::memory_order_relaxed)); }
  MaskSeeds seeds() const { return {key_, count_}; }
  void set(const MaskSeeds& seeds) {
    key_ = seeds.key;
    count_ = seeds.count;
  }

 private:
  std::atomic<std::uint64_t> key_{0}, count_{0};
};

}  // namespace latchwork
