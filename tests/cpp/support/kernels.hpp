#pragma once

#include "machine/dispatch.hpp"

namespace latchwork::test {

// The kernels of the current instruction set.
template <class T>
const Kernels<T>& kernels() {
  return kernels_of<T>(current_kernels());
}

}  // namespace latchwork::test
