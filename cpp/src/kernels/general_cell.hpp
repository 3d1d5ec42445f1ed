#pragma once

#include "kernels/activation_list.hpp"
#include "kernels/cell.hpp"
#include "kernels/kernels.hpp"

// What the general epilogue and its gradient share: a tile of rows x panels that stays in L1. For each thing that a
// variant needs there is one pass over the tile.
namespace latchwork::LATCHWORK_ISA {

// How many registers of hidden units a tile has at most, unless it is one row.
inline constexpr Index tile_registers = 48;

struct Tile {
  Index row_begin, row_end, panel_begin, panel_end;

  Index panels() const { return panel_end - panel_begin; }
  Index registers() const { return (row_end - row_begin) * panels(); }
  // The number of a register of this tile.
  Index number(Index row, Index panel) const { return (row - row_begin) * panels() + panel - panel_begin; }
};

// Calls task(row, panel, first unit) for every register of hidden units.
template <class T, class Task>
EIGEN_ALWAYS_INLINE void for_each_register(const Tile& tile, Task&& task) {
  for (Index row = tile.row_begin; row < tile.row_end; ++row) {
    for (Index panel = tile.panel_begin; panel < tile.panel_end; ++panel) task(row, panel, panel * lanes<T>);
  }
}

// Where the gates lie in a panel of a packed row, and where in a panel of the peephole weights. f means nothing if
// there is no forget gate of its own.
template <class T>
struct GatePlaces {
  explicit GatePlaces(Index gates)
      : own_forget(gates == 4),
        width(gates * lanes<T>),
        f(lanes<T>),
        g((gates - 2) * lanes<T>),
        o((gates - 1) * lanes<T>),
        peephole_width((gates - 1) * lanes<T>),
        peephole_o((gates - 2) * lanes<T>) {}
  bool own_forget;
  Index width;
  Index i = 0, f, g, o;
  Index peephole_width, peephole_o;
};

template <class T>
EIGEN_ALWAYS_INLINE Coefficients<T> coefficients(const ActivationArgs<T>& activation) {
  return {broadcast(activation.alpha), broadcast(activation.beta)};
}

// Applies an activation in place to `count` registers that lie `stride` numbers apart. The activation is looked up once
// for all of them.
template <class T>
[[gnu::noinline]] void activate_registers(const ActivationArgs<T>& activation, Index count, Index stride, T* values) {
  const Coefficients<T> k = coefficients(activation);
  Activations::with(activation.number, [&]<class A>(A) {
    for (Index at = 0; at < count; ++at) {
      store(values + at * stride, A::template value<T>(load(values + at * stride), k));
    }
  });
}

// Whether a recording keeps a gate's input instead of its value, because the slope follows from that.
template <class T>
EIGEN_ALWAYS_INLINE bool keeps_input(const ActivationArgs<T>& activation) {
  return Activations::infos[activation.number].kind == ActivationKind::by_input;
}

// `value` limited to +-bound; NaN stays NaN.
template <class T>
EIGEN_ALWAYS_INLINE Packet<T> clipped(const Packet<T>& value, T bound) {
  const Packet<T> high = broadcast(bound), low = broadcast(-bound);
  const Packet<T> below = where_less(high, value, high, value);
  return where_less(below, low, low, below);
}

// Loads the gates after activation. f is what the variant makes of it, and g is multiplied by its dropout factor (null:
// 1).
template <class T>
EIGEN_ALWAYS_INLINE Gates<T> load_gates(const CellVariant<T>& variant, const GatePlaces<T>& places, const T* gates,
                                        const T* candidate_factor) {
  const Packet<T> one = broadcast(T(1));
  Gates<T> gate;
  gate.i = load(gates + places.i);
  gate.f = places.own_forget ? load(gates + places.f) : variant.coupled ? subtract(one, gate.i) : one;
  gate.g = load(gates + places.g);
  if (candidate_factor != nullptr) gate.g = multiply(load(candidate_factor), gate.g);
  gate.o = load(gates + places.o);
  return gate;
}

// The new cell, before zoneout. It is zero in padding, so that nothing can grow there.
template <class T>
EIGEN_ALWAYS_INLINE Packet<T> new_cell(const CellVariant<T>& variant, const Gates<T>& gate, const Packet<T>& c_prev,
                                       Index units_left) {
  Packet<T> c = cell_state<T>(gate, c_prev);
  if (variant.cell_clip > T(0)) c = clipped<T>(c, variant.cell_clip);
  return units_left < lanes<T> ? first_lanes<T>(c, units_left) : c;
}

// The shape of one row of values to be normalised: `panels` panels of `blocks` registers each. `units` is the number of
// valid values in a block, counted over all panels.
struct NormShape {
  Index units, panels, blocks;
};

// Sums over a row are taken in 16 chains, whatever the width of a register, so that all instruction sets give the same
// bits. Unit u belongs to chain u modulo 16. A chain goes over the units in ascending order and, for each unit, over
// the blocks. At the end the chains are joined in a tree.
inline constexpr int norm_chains = 16;

template <class T>
struct NormSum {
  static constexpr int registers = norm_chains / lanes<T>;

  EIGEN_ALWAYS_INLINE NormSum() {
#pragma GCC unroll 8
    for (int at = 0; at < registers; ++at) chains[at] = broadcast(T(0));
  }
  EIGEN_ALWAYS_INLINE T total() const {
    T numbers[norm_chains];
#pragma GCC unroll 8
    for (int at = 0; at < registers; ++at) store(numbers + at * lanes<T>, chains[at]);
    for (int half = norm_chains / 2; half > 0; half /= 2) {
      for (int chain = 0; chain < half; ++chain) numbers[chain] += numbers[chain + half];
    }
    return numbers[0];
  }

  Packet<T> chains[registers];
};

// Calls task(panel, block, number of valid lanes, register of a NormSum) for each register of the values, in the order
// of the chains.
template <class T, class Task>
EIGEN_ALWAYS_INLINE void for_norm_registers(const NormShape& shape, Task&& task) {
  for (Index first = 0; first < shape.panels; first += NormSum<T>::registers) {
    for (Index block = 0; block < shape.blocks; ++block) {
#pragma GCC unroll 8
      for (int at = 0; at < NormSum<T>::registers; ++at) {
        const Index panel = first + at, left = shape.units - panel * lanes<T>;
        if (left > 0) task(panel, block, left < lanes<T> ? left : lanes<T>, at);
      }
    }
  }
}

}  // namespace latchwork::LATCHWORK_ISA
