#pragma once

#include <optional>

#include "network/computed_steps.hpp"
#include "network/reverse.hpp"

namespace latchwork {

// The computed steps of a batch, in the order in which the chain takes them and, if a Reverse is in it, in the other
// one.
class OrderedSteps {
 public:
  // `reversed` is null if there is no Reverse.
  OrderedSteps(const Batch& batch, const ReversedBatch* reversed, Index members) : in_order_(batch, members) {
    if (reversed != nullptr) backwards_.emplace(reversed->batch(), members);
  }

  const ComputedSteps& of(bool backwards) const { return backwards ? *backwards_ : in_order_; }

 private:
  ComputedSteps in_order_;
  std::optional<ComputedSteps> backwards_;
};

}  // namespace latchwork
