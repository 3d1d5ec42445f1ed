#include "network/computed_steps.hpp"

#include <algorithm>

#include "layer/rows.hpp"

namespace latchwork {

namespace {

bool has_reset(const Batch& batch, Index step, Index row) {
  return batch.reset.data != nullptr && *batch.reset.at(step, row) != 0;
}

bool any(const std::vector<std::uint8_t>& flags) {
  return std::any_of(flags.begin(), flags.end(), [](std::uint8_t flag) { return flag != 0; });
}

}  // namespace

ComputedSteps::ComputedSteps(const Batch& batch, Index members)
    : steps_(batch.steps), skipped_output_(batch.skipped_output) {
  const bool shared = batch.skip.member_stride == 0 && batch.reset.member_stride == 0 &&
                      batch.lengths_member_stride == 0 && batch.end_reset_member_stride == 0 &&
                      batch.zero_skipped.member_stride == 0;
  copies_ = shared ? 1 : members;
  batch_.rows = batch.rows;
  const Index row_count = copies_ * batch.rows;
  forward_.assign(static_cast<std::size_t>(row_count * steps_), padding);
  reverse_ = forward_;
  if (batch.zero_skipped.data != nullptr) zero_.assign(forward_.size(), 0);
  lengths_.assign(static_cast<std::size_t>(row_count), 0);
  end_reset_.assign(static_cast<std::size_t>(row_count), 0);
  for (Index copy = 0; copy < copies_; ++copy) {
    const Batch own = batch.of(copy);
    for (Index row = 0; row < batch.rows; ++row) take_row(own, copy, row);
  }

  const auto [shortest, longest] = std::minmax_element(lengths_.begin(), lengths_.end());
  if (longest != lengths_.end()) batch_.steps = *longest;
  if (longest != lengths_.end() && *shortest < *longest) {
    batch_.lengths = lengths_.data();
    batch_.lengths_member_stride = shared ? 0 : batch.rows;
  }
  if (any(end_reset_)) {
    batch_.end_reset = end_reset_.data();
    batch_.end_reset_member_stride = shared ? 0 : batch.rows;
  }
  if (batch.reset.data == nullptr) return;
  reset_.assign(static_cast<std::size_t>(row_count * batch_.steps), 0);
  for (Index copy = 0; copy < copies_; ++copy) {
    const Batch own = batch.of(copy);
    for (Index row = 0; row < batch.rows; ++row) move_resets(own, copy, row);
  }
  batch_.reset = {reset_.data(), batch.rows, 1, shared ? 0 : batch_.steps * batch.rows};
}

// Finds out what each step of a row repeats, and how many steps are computed.
void ComputedSteps::take_row(const Batch& batch, Index copy, Index row) {
  const Index length = Schedule{batch, false}.length(row);
  Index number = 0, before = start;
  for (Index step = 0; step < length; ++step) {
    if (has_reset(batch, step, row)) before = restarted;
    if (!batch.skips(step, row)) before = number++;
    forward_[place(copy, step, row)] = before;
    if (batch.zeroes(step, row) && batch.skips(step, row)) zero_[place(copy, step, row)] = 1;
  }
  const auto at = static_cast<std::size_t>(copy * batch.rows + row);
  lengths_[at] = number;
  const bool given = batch.end_reset != nullptr && batch.end_reset[row] != 0;
  end_reset_[at] = given || before == restarted ? 1 : 0;

  Index after = given ? restarted : start;
  for (Index step = length; step-- > 0;) {
    if (!batch.skips(step, row)) after = --number;
    reverse_[place(copy, step, row)] = after;
    // The steps before this one belong to another segment.
    if (has_reset(batch, step, row)) after = restarted;
  }
}

// A reset at a skipped step acts before the next computed step.
void ComputedSteps::move_resets(const Batch& batch, Index copy, Index row) {
  const Index length = Schedule{batch, false}.length(row);
  bool due = false;
  for (Index step = 0; step < length; ++step) {
    if (has_reset(batch, step, row)) due = true;
    if (batch.skips(step, row)) continue;
    const Index number = repeated(copy, step, row, false);
    reset_[static_cast<std::size_t>((copy * batch_.steps + number) * batch.rows + row)] = due ? 1 : 0;
    due = false;
  }
}

}  // namespace latchwork
