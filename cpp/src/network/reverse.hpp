#pragma once

#include <algorithm>
#include <vector>

#include "layer/rows.hpp"
#include "network/sequences.hpp"

namespace latchwork {

// The module Reverse: the valid steps of each row in reverse order, zeros in padding.
template <class T>
void reverse_forward(const Batch& batch, const RowSource<T>& x, const SequenceView<T>& y) {
  const Schedule schedule{batch, false};
  write_rows(batch, x.features, y, [&](Index step, Index row, T* to) {
    std::copy_n(x.at(schedule.length(row) - 1 - step, row), x.features, to);
  });
}

// The gradient of reverse_forward(). A null d_y stands for zeros.
template <class T>
void reverse_backward(const Batch& batch, Index features, const SequenceView<const T>& d_y,
                      const SequenceView<T>& d_x) {
  const Schedule schedule{batch, false};
  write_rows(batch, features, d_x, [&](Index step, Index row, T* to) {
    if (d_y.data == nullptr) return void(std::fill_n(to, features, T(0)));
    std::copy_n(d_y.at(schedule.length(row) - 1 - step, row), features, to);
  });
}

// A batch in the order that a Reverse leaves. Each reset stays between the same two steps: one before a row's first
// step comes after its last one, and the other way round.
class ReversedBatch {
 public:
  // `batch` has this many members, and its lengths must live as long as this.
  ReversedBatch(const Batch& batch, Index members) : batch_(batch) {
    const bool shared = batch.lengths_member_stride == 0 && batch.end_reset_member_stride == 0 &&
                        batch.reset.member_stride == 0 && batch.skip.member_stride == 0 &&
                        batch.zero_skipped.member_stride == 0;
    const Index copies = shared ? 1 : members, size = batch.steps * batch.rows;
    const auto flags = [&](std::vector<std::uint8_t>& memory) -> SequenceView<const std::uint8_t> {
      memory.assign(static_cast<std::size_t>(copies * size), 0);
      return {memory.data(), batch.rows, 1, shared ? 0 : size};
    };
    const bool resets = batch.reset.data != nullptr || batch.end_reset != nullptr;
    if (resets) {
      batch_.reset = flags(reset_);
      end_reset_.assign(static_cast<std::size_t>(copies * batch.rows), 0);
      batch_.end_reset = end_reset_.data();
      batch_.end_reset_member_stride = shared ? 0 : batch.rows;
    }
    if (batch.skip.data != nullptr) batch_.skip = flags(skip_);
    if (batch.zero_skipped.data != nullptr) batch_.zero_skipped = flags(zero_);
    for (Index copy = 0; copy < copies; ++copy) {
      const Batch own = batch.of(copy);
      for (Index row = 0; row < batch.rows; ++row) {
        const Index length = Schedule{own, false}.length(row);
        for (Index step = 0; step < length; ++step) {
          const auto place = static_cast<std::size_t>(copy * size + step * batch.rows + row);
          if (own.skips(length - 1 - step, row)) skip_[place] = 1;
          if (own.zeroes(length - 1 - step, row)) zero_[place] = 1;
          if (resets && resets_before(own, length - step, length, row)) reset_[place] = 1;
        }
        if (resets && length > 0 && resets_before(own, 0, length, row)) {
          end_reset_[static_cast<std::size_t>(copy * batch.rows + row)] = 1;
        }
      }
    }
  }
  ReversedBatch(const ReversedBatch&) = delete;
  ReversedBatch& operator=(const ReversedBatch&) = delete;

  const Batch& batch() const { return batch_; }

 private:
  // Whether a reset comes before this step of a row, or after its last one if the step is its length.
  static bool resets_before(const Batch& batch, Index step, Index length, Index row) {
    if (step == length) return batch.end_reset != nullptr && batch.end_reset[row] != 0;
    return batch.reset.data != nullptr && *batch.reset.at(step, row) != 0;
  }

  Batch batch_;
  std::vector<std::uint8_t> reset_, skip_, zero_;  // (copies, steps, rows)
  std::vector<std::uint8_t> end_reset_;            // (copies, rows)
};

}  // namespace latchwork
