#pragma once

#include <cstddef>
#include <cstdint>

namespace latchwork {

// Every size, stride and index. Signed, so that a difference of two is one of them.
using Index = std::ptrdiff_t;

}  // namespace latchwork
