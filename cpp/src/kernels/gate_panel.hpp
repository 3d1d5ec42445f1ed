#pragma once

#include "kernels/cell.hpp"
#include "kernels/tile.hpp"

// The gates of a panel: of four registers, or of fewer where it is compact.
namespace latchwork::LATCHWORK_ISA {

// Calls task(Constant<registers>).
template <class T, class Task>
EIGEN_ALWAYS_INLINE void with_compact(Index registers, Task&& task) {
  if constexpr (lanes<T> == 2) {
    task(Constant<2>{});
  } else if constexpr (lanes<T> > 2) {
    with_constant<3>(registers, task);
  }
}

// Units of a panel.
template <class T, int Registers>
inline constexpr int panel_units = Registers * lanes<T> / 4;

// One gate in the first lanes. In a compact panel the others hold what belongs to other units and gates.
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

// From pre-activations. One or two registers are sooner activated before their gates are taken apart.
template <class T, int Registers>
EIGEN_ALWAYS_INLINE Gates<T> activate_panel(const Packet<T>* pre) {
  if constexpr (Registers > 2) {
    return activate<T>(gates_in<T, Registers>(pre));
  } else {
    constexpr int last = Registers - 1;
    Packet<T> sigmoids[Registers], tanhs[Registers];
#pragma GCC unroll 2
    for (int v = 0; v < Registers; ++v) tanhs[v] = sigmoids[v] = sigmoid<T>(pre[v]);
    tanhs[last] = tanh<T>(pre[last]);  // where all of g lies
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

// Each gate overwrites what the one before left beyond its units.
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
