#pragma once

#include <algorithm>
#include <vector>

#include "layer/row_blocks.hpp"

namespace latchwork {

// Contiguous rows that one thread takes back through a chunk.
struct RowPart {
  Index number;
  Index row_begin, row_end;
  Index pointers;  // where its own begin in an array of ChunkPositions::row_pointers()
};

// Backward works on a chunk of steps at a time, of one block of rows or of all. A step and row of the chunk has a
// *position*, its number in the order of its block's chains, and by it a *place* in the chunk's arrays.
class ChunkPositions {
 public:
  // For chunks of at most so many steps.
  ChunkPositions(const Schedule& schedule, const RowBlocks& blocks, bool all_blocks, Index most_steps)
      : schedule_(schedule),
        blocks_(blocks),
        blocks_at_once_(all_blocks ? blocks.count() : 1),
        most_steps_(most_steps),
        most_rows_(all_blocks ? schedule.batch.rows : blocks.most_rows()),
        // Odd: panels whose distance is a power of two share few places in the caches.
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
  Index capacity() const { return capacity_; }                  // positions of a block
  Index places() const { return blocks_at_once_ * capacity_; }  // of all blocks at once

  void select_blocks(Index first) {
    first_block_ = first;
    row_begin_ = row_begin(0);
    row_end_ = row_begin(blocks_at_once_);
  }
  // Among all blocks, that which has this number among those at once.
  Index block(Index at_once) const { return first_block_ + at_once; }
  Index block_of(Index row) const { return block_of_row_[static_cast<std::size_t>(row)]; }
  // Of the selected blocks; of one of them, whose end is the begin of the next.
  Index row_begin() const { return row_begin_; }
  Index row_end() const { return row_end_; }
  Index row_begin(Index block_at_once) const { return blocks_.begin_of(block(block_at_once)); }

  // Numbers the steps computed as [order_begin, order_end) of the selected blocks' rows.
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

  // How many positions one of the blocks at once has in the chunk.
  Index count(Index block_at_once) const { return counts_[static_cast<std::size_t>(block_at_once)]; }
  Index position(Index order, Index row) const { return position_[at(order, row)]; }
  // From a row's position in one step to that in the step before, where every row has every step.
  Index step_stride(Index row) const { return blocks_.rows_of(block_of(row)); }
  // In an array of rows, [block][position].
  Index place(Index order, Index row) const { return at_once(row) * capacity_ + position(order, row); }
  // In an array of panels, [block][panel][position].
  Index place_in_panels(Index order, Index row, Index panels) const {
    return at_once(row) * panels * capacity_ + position(order, row);
  }

  // Size of an array with a pointer for each row at once, of so many parts of the rows.
  Index row_pointers(Index parts) const { return most_rows_ + parts * pointers_apart; }
  RowPart part(Index number, Index row_begin, Index row_end) const {
    return {number, row_begin, row_end, row_begin - row_begin_ + number * pointers_apart};
  }

 private:
  // What a part writes at every step must not share a cache line with another's.
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
  std::vector<Index> position_;      // of step x row
  std::vector<Index> block_of_row_;  // among all
  std::vector<Index> counts_;
};

}  // namespace latchwork
