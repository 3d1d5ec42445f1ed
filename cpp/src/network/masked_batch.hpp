#pragma once

#include <vector>

#include "layer/rows.hpp"
#include "network/network_parts.hpp"

namespace latchwork::detail {

// The batch of a call, with the steps that the network masks among those that are skipped.
template <class T>
class MaskedBatch {
 public:
  // The batch need not have been checked. Its arrays must live as long as this.
  MaskedBatch(const NetworkParts<T>& parts, const Input<T>& input, const Batch& batch) : batch_(batch) {
    if (!parts.step_mask.any()) return;
    if (input.tokens.data != nullptr) {
      mask(parts, input.tokens);
    } else if (input.values.data != nullptr) {
      mask(parts, input.values);
    }
  }
  MaskedBatch(const MaskedBatch&) = delete;
  MaskedBatch& operator=(const MaskedBatch&) = delete;

  const Batch& batch() const { return batch_; }

 private:
  template <class Value>
  void mask(const NetworkParts<T>& parts, const SequenceView<const Value>& values) {
    if (batch_.steps < 1 || batch_.rows < 1) return;
    const bool shared =
        values.member_stride == 0 && batch_.skip.member_stride == 0 && batch_.lengths_member_stride == 0;
    const Index copies = shared ? 1 : parts.members, size = batch_.steps * batch_.rows;
    const SkippedOutput called = batch_.skipped_output, masked = parts.step_mask.output();
    bool any = false, any_called = false;
    skip_.assign(static_cast<std::size_t>(copies * size), 0);
    zero_.assign(skip_.size(), 0);
    for (Index copy = 0; copy < copies; ++copy) {
      const Batch own = batch_.of(copy);
      const SequenceView<const Value> own_values = values.of(copy);
      const Schedule schedule{own, false};
      for (Index step = 0; step < own.steps; ++step) {
        for (Index row = 0; row < own.rows; ++row) {
          if (!schedule.active(step, row)) continue;
          const bool is_called = own.skips(step, row);
          const bool is_masked = !is_called && parts.step_mask.masks(own_values.at(step, row));
          const auto place = static_cast<std::size_t>(copy * size + step * own.rows + row);
          skip_[place] = is_called || is_masked ? 1 : 0;
          zero_[place] = (is_called ? called : masked) == SkippedOutput::zero ? 1 : 0;
          any = any || is_masked;
          any_called = any_called || is_called;
        }
      }
    }
    if (!any) return;
    const Index stride = shared ? 0 : size;
    batch_.skip = {skip_.data(), batch_.rows, 1, stride};
    batch_.skipped_output = any_called && called != masked ? SkippedOutput::repeat : masked;
    if (any_called && called != masked) batch_.zero_skipped = {zero_.data(), batch_.rows, 1, stride};
  }

  Batch batch_;
  std::vector<std::uint8_t> skip_, zero_;  // (copies, steps, rows)
};

}  // namespace latchwork::detail
