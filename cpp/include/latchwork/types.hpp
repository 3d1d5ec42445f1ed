#pragma once

#if defined(_MSVC_LANG) ? _MSVC_LANG < 202002L : __cplusplus < 202002L
#error "Latchwork needs C++20: gcc 11, clang 14 or later, with -std=c++20."
#endif

#include <cstddef>
#include <cstdint>

namespace latchwork {

// The type of every size, stride and index. It is signed, so that the difference of two indices is one too.
using Index = std::ptrdiff_t;

}  // namespace latchwork
