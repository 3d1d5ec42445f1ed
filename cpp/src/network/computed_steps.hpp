#pragma once

#include <vector>

#include "latchwork/batch.hpp"

namespace latchwork {

// A batch with a skip mask, taken apart: a row is run as the shorter row of those of its steps that are computed. This
// says which they are, and which of them each step of the batch repeats.
class ComputedSteps {
 public:
  // What a step repeats, if that is no computed step:
  static constexpr Index padding = -1;
  static constexpr Index start = -2;      // the state that the row was started with
  static constexpr Index restarted = -3;  // the layer's own start state, because no step was computed since a reset

  ComputedSteps(const Batch& batch, Index members);
  ComputedSteps(const ComputedSteps&) = delete;
  ComputedSteps& operator=(const ComputedSteps&) = delete;

  // The batch of the computed steps alone, whose arrays this object owns.
  const Batch& batch() const { return batch_; }
  Index steps() const { return steps_; }  // of the whole batch, skipped ones included
  Index rows() const { return batch_.rows; }
  SkippedOutput skipped_output() const { return skipped_output_; }
  // 1 if all members share the masks and lengths, else the number of members.
  Index copies() const { return copies_; }

  // The number, among the computed steps of the row, of the one whose state is also that of this step, or one of the
  // constants above. For a computed step it is its own number. After it the forward direction carries its state on; the
  // reverse direction does so before it.
  Index repeated(Index member, Index step, Index row, bool reverse) const {
    return (reverse ? reverse_ : forward_)[place(member, step, row)];
  }
  // A skipped step has other computed steps before it than after it.
  bool computed(Index member, Index step, Index row) const {
    const std::size_t at = place(member, step, row);
    return forward_[at] >= 0 && forward_[at] == reverse_[at];
  }
  // Whether the output is zero at a skipped step, although skipped_output() has others repeat one.
  bool zeroes(Index member, Index step, Index row) const {
    return !zero_.empty() && zero_[place(member, step, row)] != 0;
  }
  // The last valid step of a row of the whole batch; -1 if there is none.
  Index last_step(Index member, Index row) const {
    Index step = steps_ - 1;
    while (step >= 0 && forward_[place(member, step, row)] == padding) --step;
    return step;
  }

 private:
  std::size_t place(Index member, Index step, Index row) const {
    return static_cast<std::size_t>(((copies_ == 1 ? 0 : member) * steps_ + step) * batch_.rows + row);
  }
  void take_row(const Batch& batch, Index copy, Index row);
  void move_resets(const Batch& batch, Index copy, Index row);

  Batch batch_;
  Index steps_;
  SkippedOutput skipped_output_;
  Index copies_;
  std::vector<Index> forward_, reverse_;  // (copies, steps, rows), see repeated()
  std::vector<std::uint8_t> zero_;        // (copies, steps, rows), see zeroes(); empty: nowhere
  std::vector<Index> lengths_;            // (copies, rows): how many steps are computed
  std::vector<std::uint8_t> reset_;       // (copies, computed steps, rows)
  std::vector<std::uint8_t> end_reset_;   // (copies, rows)
};

}  // namespace latchwork
