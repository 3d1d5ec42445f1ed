#pragma once

namespace latchwork {

// Asserted equal to the Python package's version by its tests.
inline constexpr const char* version = "0.1.0";

}  // namespace latchwork
