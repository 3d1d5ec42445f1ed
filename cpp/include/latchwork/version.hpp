#pragma once

#include "latchwork/types.hpp"

namespace latchwork {

// The tests of the Python package assert that this is its version too.
inline constexpr const char* version = "0.1.0";

}  // namespace latchwork
