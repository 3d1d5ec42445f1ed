#pragma once

#include "latchwork/types.hpp"

namespace latchwork {

// What the output is at a skipped step.
enum class SkippedOutput {
  // That of the last step before it that was computed since the last reset; zero if there is none. What a reverse
  // direction computed repeats the next computed step before the next reset, unless it has merged with the forward one.
  repeat,
  zero,
};

}  // namespace latchwork
