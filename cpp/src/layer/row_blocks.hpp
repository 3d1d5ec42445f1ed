#pragma once

#include <algorithm>
#include <vector>

#include "layer/rows.hpp"
#include "machine/parallel.hpp"
#include "weights/snapshot.hpp"

namespace latchwork {

// The blocks of rows in which the gradients with respect to the weights are summed. In a block each element is one
// chain of additions over the steps in reverse order of computation and, within a step, over the rows in order. Then
// the blocks are added in a tree, see block_sums.hpp. Threads that work on different blocks need not wait for one
// another. The bits of the result depend on where a block ends, so that depends only on the number of blocks and on how
// many steps the rows have.
struct RowBlocks {
  std::vector<Index> begin;  // the first row of each block, then the end of the last block

  Index count() const { return static_cast<Index>(begin.size()) - 1; }
  Index begin_of(Index block) const { return begin[static_cast<std::size_t>(block)]; }
  Index end_of(Index block) const { return begin_of(block + 1); }
  Index rows_of(Index block) const { return end_of(block) - begin_of(block); }
  Index most_rows() const {
    Index most = 0;
    for (Index block = 0; block < count(); ++block) most = std::max(most, rows_of(block));
    return most;
  }
};

inline constexpr Index most_row_blocks = 16;
// In a block with fewer rows the multiply-adds of a step wait for weights.
inline constexpr Index fewest_block_rows = 16;
// For fewer steps times rows, adding the blocks up costs as much as some of the arithmetic.
inline constexpr Index fewest_block_steps = 256;
// The gradients of more weights than this do not fit into a thread's cache beside everything else.
inline constexpr Index most_block_weights = 250'000;

// The number of blocks of a layer unless the caller chooses it.
template <class T>
Index default_row_blocks(const Schedule& schedule, const PackedLayer<T>& weights) {
  const Index rows = schedule.batch.rows;
  const auto has_steps = [&](Index row) { return schedule.length(row) > 0 ? 1 : 0; };
  Index total_rows = 0;
  for (Index row = 0; row < rows; ++row) total_rows += has_steps(row);
  const Index total_steps = schedule.total(0, rows);
  const Index size = weights.gates * weights.units * (weights.input_size + weights.output_size());
  Index count = 1;
  // A power of two, because most machines have that many cores.
  while (size <= most_block_weights && 2 * count <= most_row_blocks && 2 * count * fewest_block_rows <= total_rows &&
         2 * count * fewest_block_steps <= total_steps) {
    count *= 2;
  }
  return count;
}

// Cuts the rows into `count` blocks, a power of two. Block b starts at the first row before which at least b / count of
// all steps lie.
inline RowBlocks row_blocks(const Schedule& schedule, Index count) {
  const Index rows = schedule.batch.rows, total = schedule.total(0, rows);
  RowBlocks blocks{{0}};
  Index row = 0, passed = 0;  // passed: how many steps the rows before `row` have
  for (Index block = 1; block < count; ++block) {
    while (passed * count < block * total) passed += schedule.length(row++);
    blocks.begin.push_back(row);
  }
  blocks.begin.push_back(rows);
  return blocks;
}

// The same for a layer. gradient_blocks: the number that the caller chose; 0: the layer's own.
template <class T>
RowBlocks row_blocks(const Schedule& schedule, const PackedLayer<T>& weights, Index gradient_blocks) {
  return row_blocks(schedule, gradient_blocks > 0 ? gradient_blocks : default_row_blocks(schedule, weights));
}

}  // namespace latchwork
