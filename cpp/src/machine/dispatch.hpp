#pragma once

#include <string_view>

#include "kernels/table.hpp"

namespace latchwork {

// `size` rounded up to a multiple of `unit`.
constexpr Index round_up(Index size, Index unit) { return (size + unit - 1) / unit * unit; }

// The table of the current instruction set; see latchwork/isa.hpp.
const KernelTable& current_kernels();

// The table with the next narrower registers whose multiply-adds round in the same way; the current table if there is
// no such table.
const KernelTable& narrower_kernels();

// The number of an activation, or -1 for an unknown name.
Index activation_number(std::string_view name);
const ActivationInfo& activation_info(Index number);

template <class T>
const Kernels<T>& kernels_of(const KernelTable& table);

template <>
inline const Kernels<float>& kernels_of(const KernelTable& table) {
  return table.float32;
}
template <>
inline const Kernels<double>& kernels_of(const KernelTable& table) {
  return table.float64;
}

}  // namespace latchwork
