// One time step: product, gates and cell update while everything is in registers; and its gradient.
#include "kernels/cell.hpp"
#include "kernels/kernels.hpp"
#include "kernels/pre_activations.hpp"

namespace latchwork::LATCHWORK_ISA {

namespace {

// Not inlined: inside a larger function the accumulators no longer stay in registers.
template <class T, int Rows, int Panels, int Fetch>
[[gnu::noinline]] void step_tile(const StepArgs<T>& args, Index first_row, Index first_panel) {
  constexpr Index unit_count = lanes<T>;
  Packet<T> sum[Rows][Panels * 4];
  pre_activations<T, Rows, Panels, 4, Fetch>(args, first_row, first_panel, sum);

  // In two passes, so that the processor finds other rows' work while it waits for one row's chain of operations.
  Packet<T> c[Rows][Panels];
#pragma GCC unroll 8
  for (int row = 0; row < Rows; ++row) {
#pragma GCC unroll 4
    for (int panel = 0; panel < Panels; ++panel) {
      Packet<T>* pre = &sum[row][panel * 4];
      const Index unit = (first_panel + panel) * unit_count;
      const Gates<T> gate = activate<T>({pre[0], pre[1], pre[2], pre[3]});
      c[row][panel] = cell_state<T>(gate, load(args.c_prev[first_row + row] + unit));
      pre[3] = gate.o;
      if (args.gates != nullptr) {
        T* kept = args.gates[first_row + row] + unit * 4;
        if (args.gates_past_cache) {
          store_past_cache(kept, gate.i);
          store_past_cache(kept + unit_count, gate.f);
          store_past_cache(kept + 2 * unit_count, gate.g);
          store_past_cache(kept + 3 * unit_count, gate.o);
        } else {
          store(kept, gate.i);
          store(kept + unit_count, gate.f);
          store(kept + 2 * unit_count, gate.g);
          store(kept + 3 * unit_count, gate.o);
        }
      }
    }
  }
#pragma GCC unroll 8
  for (int row = 0; row < Rows; ++row) {
#pragma GCC unroll 4
    for (int panel = 0; panel < Panels; ++panel) {
      const Index unit = (first_panel + panel) * unit_count;
      const Packet<T> h = hidden_state<T>(sum[row][panel * 4 + 3], tanh<T>(c[row][panel]));
      store(args.c[first_row + row] + unit, c[row][panel]);
      if (const Index left = args.units - unit; left >= unit_count) {
        store(args.h[first_row + row] + unit, h);
      } else {
        store_part(args.h[first_row + row] + unit, h, left);
      }
    }
  }
}

}  // namespace

template <class T>
void step(const StepArgs<T>& args, Index panel_begin, Index panel_end) {
  const FetchAhead fetch = step_fetch(args, 4);
  for_step_tiles<T>(args.rows, panel_begin, panel_end, args.last_panel_first,
                    [&]<int Rows, int Panels>(Constant<Rows>, Constant<Panels>, Index first_row, Index first_panel) {
                      with_fetch<Rows>(fetch, [&]<int Fetch>(Constant<Fetch>) {
                        step_tile<T, Rows, Panels, Fetch>(args, first_row, first_panel);
                      });
                    });
  if (args.gates_past_cache) end_stores_past_cache();
}

template <class T>
void cell_backward(const CellBackwardArgs<T>& args, Index panel_begin, Index panel_end) {
  constexpr Index unit_count = lanes<T>;
  for (Index row = 0; row < args.rows; ++row) {
    for (Index panel = panel_begin; panel < panel_end; ++panel) {
      const Index unit = panel * unit_count;
      const T* kept = args.gates[row] + unit * 4;
      const Gates<T> gate = {load(kept), load(kept + unit_count), load(kept + 2 * unit_count),
                             load(kept + 3 * unit_count)};
      Packet<T> d_h = load(args.d_h[row] + unit);
      if (args.d_output != nullptr) {
        const Index left = args.units - unit;
        const T* d_output = args.d_output[row] + unit;
        d_h = add(d_h, left >= unit_count ? load(d_output) : load_part(d_output, left));
      }
      const CellGradient<T> gradient = cell_gradient<T>(gate, load(args.c[row] + unit), load(args.c_prev[row] + unit),
                                                        d_h, load(args.d_c[row] + unit));
      store(args.d_c[row] + unit, gradient.c_prev);
      T* d_gates = args.d_gates[row] + panel * args.d_gates_panel_stride;
      store(d_gates, gradient.pre.i);
      store(d_gates + unit_count, gradient.pre.f);
      store(d_gates + 2 * unit_count, gradient.pre.g);
      store(d_gates + 3 * unit_count, gradient.pre.o);
    }
  }
}

template void step<float>(const StepArgs<float>&, Index, Index);
template void step<double>(const StepArgs<double>&, Index, Index);
template void cell_backward<float>(const CellBackwardArgs<float>&, Index, Index);
template void cell_backward<double>(const CellBackwardArgs<double>&, Index, Index);

}  // namespace latchwork::LATCHWORK_ISA
