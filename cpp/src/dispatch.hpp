#pragma once

#include "kernels/table.hpp"

namespace latchwork {

// The table of the current instruction set; see latchwork/isa.hpp.
const KernelTable& current_kernels();

template <class T>
const Kernels<T>& kernels_of(const KernelTable& table);

template <>
inline const Kernels<float>& kernels_of(const KernelTable& table) {
  return table.single;
}
template <>
inline const Kernels<double>& kernels_of(const KernelTable& table) {
  return table.twofold;
}

}  // namespace latchwork
