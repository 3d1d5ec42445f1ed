#pragma once

#include <cstddef>
#include <cstdint>

namespace latchwork {

// The type of every size, stride and index. It is signed, so that the difference of two indices is one too.
using Index = std::ptrdiff_t;

}  // namespace latchwork
