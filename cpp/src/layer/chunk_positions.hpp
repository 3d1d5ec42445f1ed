#pragma once

#include <algorithm>
#include <vector>

#include "layer/row_blocks.hpp"

namespace latchwork {

// Contiguous rows that one thread takes backward through a chunk.
struct RowPart {
  Index number;
  Index row_begin, row_end;
  Index pointers;  // where the pointers of its rows start in an array of size ChunkPositions::row_pointers()
};

// The backward pass works on one chunk of steps at a time, of one block of rows or of all blocks. Each step and row of
// the chunk has a *position*: its number in the order in which its block adds steps and rows up. The position
// determines its *place* in the arrays of the chunk.
class ChunkPositions {
 public:
  // For chunks of at most `most_steps` steps.
  ChunkPositions(const Schedule& schedule, const RowBlocks& blocks, bool all_blocks, Index most_steps)
      : schedule_(schedule),
        blocks_(blocks),
        blocks_at_once_(all_blocks ? blocks.count() : 1),
        most_steps_(most_steps),
        most_rows_(all_blocks ? schedule.batch.rows : blocks.most_rows()),
        // Odd, because panels whose distance is a power of two compete for the same few places in the caches.
        capacity_((most_steps * blocks.most_rows()) | 1),
        position_(static_cast<std::size_t>(most_steps * most_rows_)),
        block_of_row_(static_cast<std::size_t>(schedule.batch.rows)),
        counts_(static_cast<std::size_t>(blocks_at_once_)) {
    for (Index block = 0; block < blocks.count(); ++block) {
      std::fill_n(block_of_row_.begin() + blocks.begin_of(block), blocks.rows_of(block), block);
    }
  }

  Index blocks_at_once() const { return blocks_at_once_; }
  Index most_steps() const { return most_steps_; }
  Index most_rows() const { return most_rows_; }
  Index capacity() const { return capacity_; }  // the number of positions in a block
  Index places() const {
    return blocks_at_once_ * capacity_;
  }  // the number of places for all blocks that are worked on at once

  void select_blocks(Index first) {
    first_block_ = first;
    row_begin_ = row_begin(0);
    row_end_ = row_begin(blocks_at_once_);
  }
  // The number, among all blocks, of a block that is number `at_once` among those that are worked on at once.
  Index block(Index at_once) const { return first_block_ + at_once; }
  Index block_of(Index row) const { return block_of_row_[static_cast<std::size_t>(row)]; }
  // The rows of the selected blocks, and the first row of one of them, which follows the last row of the block before.
  Index row_begin() const { return row_begin_; }
  Index row_end() const { return row_end_; }
  Index row_begin(Index block_at_once) const { return blocks_.begin_of(block(block_at_once)); }

  // Selects the steps that are computed as number order_begin to order_end - 1, and gives the selected blocks' rows
  // positions for them.
  void select_steps(Index order_begin, Index order_end) {
    std::fill(counts_.begin(), counts_.end(), 0);
    order_begin_ = order_begin;
    order_end_ = order_end;
    for (Index order = order_end - 1; order >= order_begin; --order) {
      for (Index row = row_begin_; row < row_end_; ++row) {
        if (!schedule_.active(schedule_.step(order), row)) continue;
        position_[at(order, row)] = counts_[static_cast<std::size_t>(at_once(row))]++;
      }
    }
  }
  bool any() const {
    return std::any_of(counts_.begin(), counts_.end(), [](Index count) { return count > 0; });
  }
  Index order_begin() const { return order_begin_; }
  Index order_end() const { return order_end_; }

  // How many positions one of the blocks that are worked on at once has in the chunk.
  Index count(Index block_at_once) const { return counts_[static_cast<std::size_t>(block_at_once)]; }
  Index position(Index order, Index row) const { return position_[at(order, row)]; }
  // The distance from a row's position in one step to its position in the step before, if every row has every step.
  Index step_stride(Index row) const { return blocks_.rows_of(block_of(row)); }
  // The place in an array of rows, [block][position].
  Index place(Index order, Index row) const { return at_once(row) * capacity_ + position(order, row); }
  // The place in an array of panels, [block][panel][position].
  Index place_in_panels(Index order, Index row, Index panels) const {
    return at_once(row) * panels * capacity_ + position(order, row);
  }

  // The size of an array with one pointer for each row that is worked on at once, split into `parts` parts.
  Index row_pointers(Index parts) const { return most_rows_ + parts * pointers_apart; }
  RowPart part(Index number, Index row_begin, Index row_end) const {
    return {number, row_begin, row_end, row_begin - row_begin_ + number * pointers_apart};
  }

 private:
  // What one part writes at every step must not share a cache line with what another part writes.
  static constexpr Index pointers_apart = 64 / static_cast<Index>(sizeof(void*));

  Index at_once(Index row) const { return block_of(row) - first_block_; }
  std::size_t at(Index order, Index row) const {
    return static_cast<std::size_t>((order - order_begin_) * most_rows_ + row - row_begin_);
  }

  const Schedule& schedule_;
  const RowBlocks& blocks_;
  Index blocks_at_once_, most_steps_, most_rows_, capacity_;
  Index first_block_ = 0, row_begin_ = 0, row_end_ = 0;
  Index order_begin_ = 0, order_end_ = 0;
  std::vector<Index> position_;      // by step and row
  std::vector<Index> block_of_row_;  // by row: its block, numbered among all blocks
  std::vector<Index> counts_;
};

}  // namespace latchwork
