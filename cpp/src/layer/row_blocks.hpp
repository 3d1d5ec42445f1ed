#pragma once

#include <algorithm>
#include <vector>

#include "layer/rows.hpp"
#include "machine/parallel.hpp"
#include "weights/snapshot.hpp"

namespace latchwork {

// The blocks of rows in which the gradients by the weights are summed. In a block each element is one chain over the
// steps in reverse order of computation and, within a step, over the rows in order; then the blocks are added in order.
// Threads that take whole blocks need not meet. Where a block ends decides about bits, so it depends on the layer's
// size and on the rows that have steps, and on nothing else.
struct RowBlocks {
  std::vector<Index> begin;  // of each, and the end of the last

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
// Fewer rows leave the multiply-adds of a step waiting for weights.
inline constexpr Index fewest_block_rows = 16;
// With fewer steps times rows the sum of the blocks costs as much as some of the arithmetic.
inline constexpr Index fewest_block_steps = 256;
// More weights' gradients do not stay in a thread's cache beside all else.
inline constexpr Index most_block_weights = 250'000;

template <class T>
RowBlocks row_blocks(const Schedule& schedule, const PackedLayer<T>& weights) {
  const Index rows = schedule.batch.rows;
  const auto has_steps = [&](Index row) { return schedule.length(row) > 0 ? 1 : 0; };
  Index total_rows = 0;
  for (Index row = 0; row < rows; ++row) total_rows += has_steps(row);
  const Index total_steps = schedule.total(0, rows);
  const Index size = weights.gates * weights.units * (weights.input_size + weights.output_size());
  Index count = 1;
  // Powers of two, for most machines have such a number of cores.
  while (size <= most_block_weights && 2 * count <= most_row_blocks && 2 * count * fewest_block_rows <= total_rows &&
         2 * count * fewest_block_steps <= total_steps) {
    count *= 2;
  }
  RowBlocks blocks{{0}};
  Index row = 0, passed = 0;  // rows with steps
  for (Index block = 1; block < count; ++block) {
    while (passed < piece_begin(total_rows, count, block)) passed += has_steps(row++);
    blocks.begin.push_back(row);
  }
  blocks.begin.push_back(rows);
  return blocks;
}

}  // namespace latchwork
