#pragma once

#include "kernels/cell.hpp"
#include "kernels/tile.hpp"

// The gates of one panel, which has four registers for each k, or fewer if it is compact.
namespace latchwork::LATCHWORK_ISA {

// Calls task(Constant<registers>) for the number of registers of a compact panel.
template <class T, class Task>
EIGEN_ALWAYS_INLINE void with_compact(Index registers, Task&& task) {
  if constexpr (lanes<T> == 2) {
    task(Constant<2>{});
  } else if constexpr (lanes<T> > 2) {
    with_constant<3>(registers, task);
  }
}

// The number of units of a panel.
template <class T, int Registers>
inline constexpr int panel_units = Registers * lanes<T> / 4;

// One gate, in the first lanes. In a compact panel the other lanes hold numbers of other units and gates.
template <class T, int Registers, int Gate>
EIGEN_ALWAYS_INLINE Packet<T> gate_in(const Packet<T>* panel) {
  constexpr int first = Gate * panel_units<T, Registers>, at = first / lanes<T>;
  return joined_lanes<T, first % lanes<T>>(panel[at], panel[at + 1 < Registers ? at + 1 : at]);
}

template <class T, int Registers>
EIGEN_ALWAYS_INLINE Gates<T> gates_in(const Packet<T>* panel) {
  return {gate_in<T, Registers, 0>(panel), gate_in<T, Registers, 1>(panel), gate_in<T, Registers, 2>(panel),
          gate_in<T, Registers, 3>(panel)};
}

// Computes the gates from pre-activations. If there are only one or two registers, it is faster to apply the
// activations before the gates are taken apart.
template <class T, int Registers>
EIGEN_ALWAYS_INLINE Gates<T> activate_panel(const Packet<T>* pre) {
  if constexpr (Registers > 2) {
    return activate<T>(gates_in<T, Registers>(pre));
  } else {
    constexpr int last = Registers - 1;
    Packet<T> sigmoids[Registers], tanhs[Registers];
#pragma GCC unroll 2
    for (int v = 0; v < Registers; ++v) tanhs[v] = sigmoids[v] = sigmoid<T>(pre[v]);
    tanhs[last] = tanh<T>(pre[last]);  // all of g lies in this one
    return {gate_in<T, Registers, 0>(sigmoids), gate_in<T, Registers, 1>(sigmoids), gate_in<T, Registers, 2>(tanhs),
            gate_in<T, Registers, 3>(sigmoids)};
  }
}

template <class T, int Registers>
EIGEN_ALWAYS_INLINE Gates<T> load_panel(const T* from) {
  Packet<T> panel[Registers];
#pragma GCC unroll 4
  for (int v = 0; v < Registers; ++v) panel[v] = load(from + v * lanes<T>);
  return gates_in<T, Registers>(panel);
}

// Each gate overwrites the numbers that the gate before it wrote beyond its own units.
template <class T, int Registers>
EIGEN_ALWAYS_INLINE void store_panel(T* to, const Gates<T>& gates) {
  constexpr int units = panel_units<T, Registers>, end = 4 * units;
  const auto put = [&](int first, const Packet<T>& gate) {
    if (first + lanes<T> <= end) {
      store(to + first, gate);
    } else {
      store_part(to + first, gate, end - first);
    }
  };
  put(0, gates.i);
  put(units, gates.f);
  put(2 * units, gates.g);
  put(3 * units, gates.o);
}

}  // namespace latchwork::LATCHWORK_ISA
