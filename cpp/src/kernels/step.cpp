// One time step: the product, the gates and the update of the cell, while everything is in registers; and its gradient.
#include "kernels/gate_panel.hpp"
#include "kernels/kernels.hpp"
#include "kernels/pre_activations.hpp"

namespace latchwork::LATCHWORK_ISA {

namespace {

// Computes c, which it returns, and o from the pre-activations of one panel. `unit` is the first unit of the panel.
template <class T, int Registers>
EIGEN_ALWAYS_INLINE Packet<T> update_cell(const StepArgs<T>& args, Index row, Index unit, const Packet<T>* pre,
                                          Packet<T>& o) {
  const Gates<T> gates = activate_panel<T, Registers>(pre);
  if (args.gates != nullptr) {
    T* const recorded = args.gates[row] + unit * 4;
    if (Registers == 4 && args.gates_bypass_cache) {
      store_bypassing_cache(recorded, gates.i);
      store_bypassing_cache(recorded + lanes<T>, gates.f);
      store_bypassing_cache(recorded + 2 * lanes<T>, gates.g);
      store_bypassing_cache(recorded + 3 * lanes<T>, gates.o);
    } else {
      store_panel<T, Registers>(recorded, gates);
    }
  }
  o = gates.o;
  return cell_state<T>(gates, load(args.c_prev[row] + unit));
}

// Computes and stores c and h from the pre-activations of a tile.
template <class T, int Rows, int Panels, int Tail>
EIGEN_ALWAYS_INLINE void finish_tile(const StepArgs<T>& args, Index first_row, Index first_panel,
                                     const Packet<T> (&sum)[Rows][Panels * 4 + Tail]) {
  constexpr Index unit_count = lanes<T>;
  // This takes two passes, so that the processor can work on other rows while it waits for one row's chain of
  // operations.
  constexpr int all_panels = Panels + (Tail > 0 ? 1 : 0);
  Packet<T> c[Rows][all_panels], o[Rows][all_panels];
#pragma GCC unroll 8
  for (int row = 0; row < Rows; ++row) {
#pragma GCC unroll 4
    for (int panel = 0; panel < Panels; ++panel) {
      const Index unit = (first_panel + panel) * unit_count;
      c[row][panel] = update_cell<T, 4>(args, first_row + row, unit, &sum[row][panel * 4], o[row][panel]);
    }
    if constexpr (Tail > 0) {
      const Index unit = (first_panel + Panels) * unit_count;
      c[row][Panels] = update_cell<T, Tail>(args, first_row + row, unit, &sum[row][Panels * 4], o[row][Panels]);
    }
  }
#pragma GCC unroll 8
  for (int row = 0; row < Rows; ++row) {
#pragma GCC unroll 4
    for (int panel = 0; panel < all_panels; ++panel) {
      const Index unit = (first_panel + panel) * unit_count;
      const Packet<T> h = hidden_state<T>(o[row][panel], tanh<T>(c[row][panel]));
      store(args.c[first_row + row] + unit, c[row][panel]);
      if (const Index left = args.units - unit; left >= unit_count) {
        store(args.h[first_row + row] + unit, h);
      } else {
        store_part(args.h[first_row + row] + unit, h, left);
      }
    }
  }
}

// The same for some rows of one panel of 4 gates whose pre-activations are in memory, where c and o replace them. For
// four to six rows, two loops are faster than finish_tile() for three rows at a time, even where their sums
// were in registers: on an AMD Zen 3 by 1 to 7 % of a step.
template <class T>
[[gnu::noinline, gnu::hot]] void finish_rows(const StepArgs<T>& args, Index first_row, Index rows, Index panel,
                                             T* pre) {
  const Index unit = panel * lanes<T>;
  for (Index row = 0; row < rows; ++row) {
    T* const at = pre + row * 4 * lanes<T>;
    const Packet<T> sum[4] = {load(at), load(at + lanes<T>), load(at + 2 * lanes<T>), load(at + 3 * lanes<T>)};
    Packet<T> o;
    const Packet<T> c = update_cell<T, 4>(args, first_row + row, unit, sum, o);
    store(args.c[first_row + row] + unit, c);
    store(at, c);
    store(at + lanes<T>, o);
  }
  const Index left = args.units - unit;
  for (Index row = 0; row < rows; ++row) {
    const T* const at = pre + row * 4 * lanes<T>;
    const Packet<T> h = hidden_state<T>(load(at + lanes<T>), tanh<T>(load(at)));
    if (left >= lanes<T>) {
      store(args.h[first_row + row] + unit, h);
    } else {
      store_part(args.h[first_row + row] + unit, h, left);
    }
  }
}

// Writes the sums of a whole panel of 4 gates, for few rows of few k, to where finish_rows() reads them.
template <class T, int Rows>
[[gnu::noinline, gnu::hot]] void store_whole(const StepArgs<T>& args, Index first_row, Index panel, T* pre) {
  Packet<T> sum[Rows][4];
  pre_activations<T, Rows, 1, 4, fetch_nothing>(args, first_row, panel, sum);
#pragma GCC unroll 8
  for (int row = 0; row < Rows; ++row) {
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) store(pre + (row * 4 + v) * lanes<T>, sum[row][v]);
  }
}

// Tail: the number of registers of a compact panel that follows the others. The function is not inlined, because inside
// a larger function the accumulators no longer stay in registers.
template <class T, int Rows, int Panels, int Tail, int Fetch>
[[gnu::noinline, gnu::hot]] void step_tile(const StepArgs<T>& args, Index first_row, Index first_panel) {
  if constexpr (takes_halves<Rows, Panels * 4>) {
    alignas(64) T pre[Rows * 4 * lanes<T>];
    if (step_depth(args) < fewest_k_of_halves) {
      constexpr int first = (Rows + 1) / 2;
      store_whole<T, first>(args, first_row, first_panel, pre);
      store_whole<T, Rows - first>(args, first_row + first, first_panel, pre + first * 4 * lanes<T>);
    } else {
      for (Index half = 0; half < 2; ++half) {
        store_half<T, Rows, Fetch>(args, first_row, first_panel, half, pre, 4 * lanes<T>);
      }
    }
    finish_rows<T>(args, first_row, Rows, first_panel, pre);
  } else {
    Packet<T> sum[Rows][Panels * 4 + Tail];
    pre_activations<T, Rows, Panels, 4, Fetch, Tail>(args, first_row, first_panel, sum);
    finish_tile<T, Rows, Panels, Tail>(args, first_row, first_panel, sum);
  }
}

template <class T, int Registers, bool Signals>
EIGEN_ALWAYS_INLINE void differentiate_panel(const CellBackwardArgs<T>& args, Index row, Index panel) {
  constexpr Index unit_count = lanes<T>;
  const Index unit = panel * unit_count;
  const Gates<T> gates = load_panel<T, Registers>(args.gates[row] + unit * 4);
  Packet<T> d_h = load(args.d_h[row] + unit);
  if (args.d_output != nullptr) {
    const Index left = args.units - unit;
    const T* d_output = args.d_output[row] + unit;
    d_h = add(d_h, left >= unit_count ? load(d_output) : load_part(d_output, left));
  }
  const CellGradient<T> gradient =
      cell_gradient<T>(gates, load(args.c[row] + unit), load(args.c_prev[row] + unit), d_h, load(args.d_c[row] + unit));
  store(args.d_c[row] + unit, gradient.c_prev);
  store_panel<T, Registers>(args.d_gates[row] + panel * args.d_gates_panel_stride, gradient.pre);
  if constexpr (Signals) {
    const Index padded = (args.units + unit_count - 1) / unit_count * unit_count;
    T* const d_signals = args.d_signals[row] + unit;
    store(d_signals, gradient.gates.i);
    store(d_signals + padded, gradient.gates.f);
    store(d_signals + 2 * padded, gradient.gates.g);
    store(d_signals + 3 * padded, gradient.gates.o);
    store(d_signals + 4 * padded, gradient.c);
  }
}

template <class T, bool Signals>
EIGEN_ALWAYS_INLINE void differentiate_panels(const CellBackwardArgs<T>& args, Index panel_begin, Index panel_end) {
  const bool has_compact = args.last_registers < 4 && panel_end * lanes<T> > args.units;
  const Index full_end = has_compact ? panel_end - 1 : panel_end;
  for (Index row = 0; row < args.rows; ++row) {
    for (Index panel = panel_begin; panel < full_end; ++panel) differentiate_panel<T, 4, Signals>(args, row, panel);
  }
  if (!has_compact || panel_begin == panel_end) return;
  with_compact<T>(args.last_registers, [&]<int Registers>(Constant<Registers>) {
    for (Index row = 0; row < args.rows; ++row) differentiate_panel<T, Registers, Signals>(args, row, full_end);
  });
}

// Apart from cell_backward(), which then stays as fast as it is without signals.
template <class T>
[[gnu::noinline]] void differentiate_with_signals(const CellBackwardArgs<T>& args, Index panel_begin, Index panel_end) {
  differentiate_panels<T, true>(args, panel_begin, panel_end);
}

}  // namespace

template <class T>
[[gnu::hot]] void step(const StepArgs<T>& args, Index panel_begin, Index panel_end) {
  const FetchAhead fetch = step_fetch(args, 4);
  const Index full_panels = args.last_registers < 4 ? args.units / lanes<T> : panel_end;
  for_step_tiles<T>(
      args.rows, panel_begin, panel_end, args.last_panel_first,
      [&](Index panel) { return panel < full_panels ? tile_rows : whole_panel_rows; },
      [&]<int Rows, int Panels>(Constant<Rows>, Constant<Panels>, Index first_row, Index first_panel) {
        if (first_panel + Panels > full_panels) {
          with_compact<T>(args.last_registers, [&]<int Tail>(Constant<Tail>) {
            constexpr int rows = Rows < whole_panel_rows ? Rows : whole_panel_rows;
            step_tile<T, rows, Panels - 1, Tail, fetch_nothing>(args, first_row, first_panel);
          });
          return;
        }
        with_fetch<Rows>(fetch_of_tile<T>(fetch, 4, first_row, args.rows), [&]<int Fetch>(Constant<Fetch>) {
          step_tile<T, Rows, Panels, 0, Fetch>(args, first_row, first_panel);
        });
      });
  if (args.gates_bypass_cache) end_stores_bypassing_cache();
}

template <class T>
void cell_backward(const CellBackwardArgs<T>& args, Index panel_begin, Index panel_end) {
  if (args.d_signals != nullptr) return differentiate_with_signals<T>(args, panel_begin, panel_end);
  differentiate_panels<T, false>(args, panel_begin, panel_end);
}

template void step<float>(const StepArgs<float>&, Index, Index);
template void step<double>(const StepArgs<double>&, Index, Index);
template void cell_backward<float>(const CellBackwardArgs<float>&, Index, Index);
template void cell_backward<double>(const CellBackwardArgs<double>&, Index, Index);

}  // namespace latchwork::LATCHWORK_ISA
