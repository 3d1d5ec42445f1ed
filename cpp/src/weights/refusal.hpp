// How an option that is out of range is refused: with its name, what was expected, and what was given.
#pragma once

#include <charconv>
#include <cmath>
#include <iterator>
#include <stdexcept>
#include <string>

#include "latchwork/types.hpp"

namespace latchwork {

inline std::string text(Index value) { return std::to_string(value); }

// The fewest digits that distinguish the value from every other, so that 1.0000001 is not printed as 1.
inline std::string text(double value) {
  if (std::isnan(value)) return "nan";  // its sign means nothing
  char digits[32];
  return {digits, std::to_chars(std::begin(digits), std::end(digits), value).ptr};
}

[[noreturn]] inline void refuse(const std::string& name, const std::string& expected, const std::string& got) {
  throw std::invalid_argument(name + ": expected " + expected + ", got " + got);
}

}  // namespace latchwork
