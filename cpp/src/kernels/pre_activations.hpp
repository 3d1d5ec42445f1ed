#pragma once

#include "kernels/kernels.hpp"
#include "kernels/tile.hpp"

// W x + R h_prev + b of one time step, in registers, for both epilogues.
namespace latchwork::LATCHWORK_ISA {

// Each sum is one chain: the start, then x in ascending k, then h_prev in ascending k. Width: the number of gates.
// Tail: the number of registers of a compact panel that follows the others.
template <class T, int Rows, int Panels, int Width, int Fetch, int Tail = 0>
EIGEN_ALWAYS_INLINE void pre_activations(const StepArgs<T>& args, Index first_row, Index first_panel,
                                         Packet<T> (&sum)[Rows][Panels * Width + Tail]) {
  constexpr Index panel_width = Width * lanes<T>;
  const auto next = [&](const T* weights, Index depth) {
    if constexpr ((Fetch & fetch_next_panel) == 0) return NextPanel<T>{};
    const Index panel = args.last_panel_first ? first_panel - 1 : first_panel + 1;
    return next_panel(weights + panel * depth * panel_width, depth, Width, first_row, args.rows);
  };
  const T* operand[Rows];
#pragma GCC unroll 8
  for (int row = 0; row < Rows; ++row) {
    const T* start = args.start[first_row + row] + first_panel * panel_width;
#pragma GCC unroll 16
    for (int v = 0; v < Panels * Width + Tail; ++v) sum[row][v] = load(start + v * lanes<T>);
  }
  if (args.x != nullptr) {
#pragma GCC unroll 8
    for (int row = 0; row < Rows; ++row) operand[row] = args.x[first_row + row];
    const Index stride = args.x_size * panel_width;
    accumulate<T, Rows, Panels, Width, Fetch, Tail>(sum, operand, args.x_size, args.x_weights + first_panel * stride,
                                                    stride, next(args.x_weights, args.x_size));
  }
#pragma GCC unroll 8
  for (int row = 0; row < Rows; ++row) operand[row] = args.h_prev[first_row + row];
  const Index stride = args.h_size * panel_width;
  accumulate<T, Rows, Panels, Width, Fetch, Tail>(sum, operand, args.h_size, args.h_weights + first_panel * stride,
                                                  stride, next(args.h_weights, args.h_size));
}

template <class T>
EIGEN_ALWAYS_INLINE FetchAhead step_fetch(const StepArgs<T>& args, Index width) {
  const Index panels = (args.units + lanes<T> - 1) / lanes<T>;
  return fetch_of<T>(args.caches, args.rows, (args.x == nullptr ? 0 : args.x_size) + args.h_size, width, panels);
}

// Calls task(Constant<rows>, Constant<panels>, first row, first panel) for the tiles of a step.
template <class T, class Task>
EIGEN_ALWAYS_INLINE void for_step_tiles(Index rows, Index panel_begin, Index panel_end, bool last_first, Task&& task) {
  // One row has too few chains to hide the latency of a multiply-add, so it takes several panels at once. With several
  // rows the outer loop is over panels and the inner loop over rows, so that a panel's weights stay in L1 while all
  // rows use them.
  const Index most = rows == 1 ? single_row_panels : 1;
  for_panel_groups(panel_begin, panel_end, most, last_first, [&](Index panel, Index count) {
    if (rows == 1) {
      with_constant<single_row_panels>(
          count, [&]<int Panels>(Constant<Panels> panels) { task(Constant<1>{}, panels, 0, panel); });
      return;
    }
    for_even_pieces<tile_rows>(rows, [&](Index first, Index pieces) {
      with_constant<tile_rows>(pieces, [&]<int Rows>(Constant<Rows> tile) { task(tile, Constant<1>{}, first, panel); });
    });
  });
}

}  // namespace latchwork::LATCHWORK_ISA
