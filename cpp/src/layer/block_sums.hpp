#pragma once

#include <algorithm>
#include <bit>
#include <vector>

#include "kernels/table.hpp"
#include "machine/parallel.hpp"

// The gradients of blocks of rows are added in a fixed binary tree, (0 + 1) + (2 + 3) and so on. So whoever holds
// consecutive blocks can add them before the rest is known, and only needs to keep a few partial sums.
namespace latchwork {

// How many sums are kept while `blocks` blocks are added one after another: log2(blocks) + 1.
inline Index kept_block_sums(Index blocks) {
  return static_cast<Index>(std::bit_width(static_cast<std::size_t>(blocks)));
}

// The sum of consecutive blocks, whose number is a power of two, while they are computed one after another.
template <class T>
class BlockSums {
 public:
  // size: the numbers in a sum, whole registers. `total` has room for one sum, `others` for kept_block_sums() - 1.
  BlockSums(const Kernels<T>& kernels, Index size, T* total, T* others)
      : kernels_(&kernels), size_(size), total_(total), others_(others) {}

  // Returns where the next block is to be summed. The numbers there are zero.
  T* next() const {
    std::fill_n(sum(kept_), size_, T(0));
    return sum(kept_);
  }
  // Adds the block that was summed at next(), as far as the tree allows. After the last block the sum of all lies in
  // `total`.
  void add() {
    ++kept_;
    for (Index number = ++blocks_; number % 2 == 0; number /= 2) {
      --kept_;
      kernels_->add_rows(sum(kept_), size_, 1, size_, sum(kept_ - 1));
    }
  }

 private:
  T* sum(Index at) const { return at == 0 ? total_ : others_ + (at - 1) * size_; }

  const Kernels<T>* kernels_;
  Index size_;
  T *total_, *others_;
  Index kept_ = 0, blocks_ = 0;
};

// Adds `count` sums, a power of two, that lie one after another in memory. The result replaces the first.
template <class T>
void add_block_sums(const Kernels<T>& kernels, Index size, Index count, T* sums) {
  if (count == 1) return;
  const Index registers = size / kernels.units, parts = number_parts(count * size, registers);
  parallel(parts, [&](Index part) {
    const Index begin = piece_begin(registers, parts, part) * kernels.units;
    const Index end = piece_begin(registers, parts, part + 1) * kernels.units;
    for (Index distance = 1; distance < count; distance *= 2) {
      for (Index at = 0; at < count; at += 2 * distance) {
        T* const sum = sums + at * size + begin;
        kernels.add_rows(sum + distance * size, size, 1, end - begin, sum);
      }
    }
  });
}

}  // namespace latchwork
