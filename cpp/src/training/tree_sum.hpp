#pragma once

#include "latchwork/types.hpp"

namespace latchwork {

// Adds numbers in a fixed binary tree: (0 + 1) + (2 + 3) and so on; an odd last number goes up unchanged. Zeros at the
// end change nothing. Overwrites `values`.
inline double tree_sum(double* values, Index count) {
  if (count == 0) return 0.0;
  while (count > 1) {
    const Index pairs = count / 2;
    for (Index pair = 0; pair < pairs; ++pair) values[pair] = values[2 * pair] + values[2 * pair + 1];
    if (count % 2 != 0) values[pairs] = values[count - 1];
    count = pairs + count % 2;
  }
  return values[0];
}

}  // namespace latchwork
