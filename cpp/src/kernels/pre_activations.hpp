#pragma once

#include "kernels/kernels.hpp"
#include "kernels/tile.hpp"

// W x + R h + b of one time step, in registers, for whatever epilogue follows.
namespace latchwork::LATCHWORK_ISA {

// One chain for each sum: the start, then x in ascending k, then h in ascending k. Width: gates.
template <class T, int Rows, int Panels, int Width>
EIGEN_STRONG_INLINE void pre_activations(const StepArgs<T>& args, Index first_row, Index first_panel,
                                         Packet<T> (&sum)[Rows][Panels * Width]) {
  constexpr Index panel_width = Width * lanes<T>;
  const T* operand[Rows];
#pragma GCC unroll 8
  for (int row = 0; row < Rows; ++row) {
    const T* start = args.start[first_row + row] + first_panel * panel_width;
#pragma GCC unroll 16
    for (int v = 0; v < Panels * Width; ++v) sum[row][v] = load(start + v * lanes<T>);
  }
  if (args.x != nullptr) {
#pragma GCC unroll 8
    for (int row = 0; row < Rows; ++row) operand[row] = args.x[first_row + row];
    const Index stride = args.x_size * panel_width;
    accumulate<T, Rows, Panels, Width>(sum, operand, args.x_size, args.x_weights + first_panel * stride, stride);
  }
#pragma GCC unroll 8
  for (int row = 0; row < Rows; ++row) operand[row] = args.h_prev[first_row + row];
  const Index stride = args.h_size * panel_width;
  accumulate<T, Rows, Panels, Width>(sum, operand, args.h_size, args.h_weights + first_panel * stride, stride);
}

// Calls task(Constant<rows>, Constant<panels>, first row, first panel) for the tiles of a step.
template <class T, class Task>
EIGEN_STRONG_INLINE void for_step_tiles(Index rows, Index panel_begin, Index panel_end, Task&& task) {
  if (rows == 1) {
    // One row has too few chains to hide the latency of a multiply-add: take several panels at once.
    Index panel = panel_begin;
    while (panel < panel_end) {
      const Index count = panel_end - panel < single_row_panels ? panel_end - panel : single_row_panels;
      with_constant<single_row_panels>(
          count, [&]<int Panels>(Constant<Panels> panels) { task(Constant<1>{}, panels, 0, panel); });
      panel += count;
    }
    return;
  }
  // Panels outside, rows inside: a panel's weights stay in the nearest cache while all rows use them.
  for (Index panel = panel_begin; panel < panel_end; ++panel) {
    for_even_pieces<tile_rows>(rows, [&](Index first, Index count) {
      with_constant<tile_rows>(count, [&]<int Rows>(Constant<Rows> tile) { task(tile, Constant<1>{}, first, panel); });
    });
  }
}

}  // namespace latchwork::LATCHWORK_ISA
