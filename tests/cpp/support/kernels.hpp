#pragma once

#include "machine/dispatch.hpp"

namespace latchwork::test {

// The kernels of the current instruction set.
template <class T>
const Kernels<T>& kernels() {
  return kernels_of<T>(current_kernels());
}

// Where number `at` of row k lies in a panel of weights with this many registers and k_size rows.
template <class T>
Index place_in_panel(Index at, Index registers, Index k, Index k_size) {
  const Index width = (kernels<T>().half_panels && registers == 4 ? 2 : registers) * kernels<T>().units;
  return at / width * width * k_size + k * width + at % width;
}

// An activation without coefficients, of the current instruction set.
template <class T>
struct Elementwise {
  explicit Elementwise(const char* name) : number(activation_number(name)) {}
  void operator()(const T* x, Index size, T* y) const { table->activate({number, T(0), T(0)}, x, size, y); }

  const Kernels<T>* table = &kernels<T>();
  Index number;
};

}  // namespace latchwork::test
