#pragma once

#include "kernels/kernels.hpp"
#include "kernels/tile.hpp"

// W x + R h_prev + b of one time step, in registers, for both epilogues.
namespace latchwork::LATCHWORK_ISA {

// One of the two products of a step.
template <class T>
struct Factor {
  const T* const* rows;
  const T* weights;
  Index depth;
};

// Adds it to the sums of a tile; see pre_activation_sums().
template <class T, int Rows, int Panels, int Width, int Fetch, int Tail, int GateWidth>
EIGEN_ALWAYS_INLINE void add_product(const StepArgs<T>& args, Index first_row, Index first_panel, Index piece,
                                     const Factor<T>& factor, Packet<T> (&sum)[Rows][Panels * Width + Tail]) {
  constexpr Index panel_width = GateWidth * lanes<T>, pieces = GateWidth / Width;
  const Index stride = factor.depth * panel_width;
  const T* const weights = factor.weights + first_panel * stride + piece * (stride / pieces);
  const T* next = nullptr;
  if constexpr ((Fetch & fetch_next_panel) != 0) {
    const Index next_panel = args.last_panel_first ? first_panel - 1 : first_panel + 1;
    const Index part = first_part(GateWidth, first_row, args.rows) + piece;
    next = factor.weights + next_panel * stride + part * factor.depth * line<T>;
  }
  const T* operand[Rows];
#pragma GCC unroll 8
  for (int row = 0; row < Rows; ++row) operand[row] = factor.rows[first_row + row];
  constexpr bool half = Width < GateWidth;
  accumulate<T, Rows, Panels, Width, Fetch, Tail, half>(sum, operand, factor.depth, weights, stride, next);
}

// Each sum is one chain: the start, then x in ascending k, then h_prev in ascending k. These are the sums of the
// registers [first_register, first_register + Width) of each panel of GateWidth registers. Tail: the number of
// registers of a compact panel that follows the others.
template <class T, int Rows, int Panels, int Width, int Fetch, int Tail, int GateWidth>
EIGEN_ALWAYS_INLINE void pre_activation_sums(const StepArgs<T>& args, Index first_row, Index first_panel,
                                             Index first_register, Packet<T> (&sum)[Rows][Panels * Width + Tail]) {
  const Index piece = first_register / Width;
  constexpr Index group = Panels * GateWidth * lanes<T>;
#pragma GCC unroll 8
  for (int row = 0; row < Rows; ++row) {
    const T* start = args.start[first_row + row] + (first_panel * GateWidth + first_register) * lanes<T>;
#pragma GCC unroll 16
    for (int v = 0; v < Panels * Width + Tail; ++v) sum[row][v] = load(start + v * lanes<T>);
    // Without x the start holds W x, which was computed many steps ahead and has left L1. That of the next panels is
    // fetched meanwhile.
    if (args.x == nullptr) {
      const T* const next = args.last_panel_first ? start - group : start + group;
#pragma GCC unroll 16
      for (int v = 0; v < Panels * Width; v += 64 / static_cast<int>(sizeof(Packet<T>))) {
        fetch_into_l1(next + v * lanes<T>);
      }
    }
  }
  const Factor<T> factors[] = {{args.x, args.x_weights, args.x_size}, {args.h_prev, args.h_weights, args.h_size}};
  if constexpr (Width < GateWidth) {
    // gcc keeps the sums in registers all the time only if there is one loop over k.
    for (int at = args.x == nullptr ? 1 : 0; at < 2; ++at)
      add_product<T, Rows, Panels, Width, Fetch, Tail, GateWidth>(args, first_row, first_panel, piece, factors[at],
                                                                  sum);
  } else {
    if (args.x != nullptr) {
      add_product<T, Rows, Panels, Width, Fetch, Tail, GateWidth>(args, first_row, first_panel, piece, factors[0], sum);
    }
    add_product<T, Rows, Panels, Width, Fetch, Tail, GateWidth>(args, first_row, first_panel, piece, factors[1], sum);
  }
}

// All sums of a tile that does not take halves. Width: the number of gates.
template <class T, int Rows, int Panels, int Width, int Fetch, int Tail = 0>
EIGEN_ALWAYS_INLINE void pre_activations(const StepArgs<T>& args, Index first_row, Index first_panel,
                                         Packet<T> (&sum)[Rows][Panels * Width + Tail]) {
  pre_activation_sums<T, Rows, Panels, Width, Fetch, Tail, Width>(args, first_row, first_panel, 0, sum);
}

// Writes the sums of one half of a panel of 4 gates to pre[row * row_stride]. The function is not inlined, because
// inside a larger function there are not enough registers for the accumulators, or for the addresses of the rows.
template <class T, int Rows, int Fetch>
[[gnu::noinline, gnu::hot]] void store_half(const StepArgs<T>& args, Index first_row, Index panel, Index half, T* pre,
                                            Index row_stride) {
  Packet<T> sum[Rows][2];
  pre_activation_sums<T, Rows, 1, 2, Fetch, 0, 4>(args, first_row, panel, half * 2, sum);
#pragma GCC unroll 8
  for (int row = 0; row < Rows; ++row) {
    store(pre + row * row_stride + half * 2 * lanes<T>, sum[row][0]);
    store(pre + row * row_stride + (half * 2 + 1) * lanes<T>, sum[row][1]);
  }
}

// The number of k of a step.
template <class T>
EIGEN_ALWAYS_INLINE Index step_depth(const StepArgs<T>& args) {
  return (args.x == nullptr ? 0 : args.x_size) + args.h_size;
}

template <class T>
EIGEN_ALWAYS_INLINE FetchAhead step_fetch(const StepArgs<T>& args, Index width) {
  const Index panels = (args.units + lanes<T> - 1) / lanes<T>;
  return fetch_of<T>(args.caches, args.rows, step_depth(args), width, panels);
}

// Calls task(Constant<rows>, Constant<panels>, first row, first panel) for the tiles of a step; most_rows(panel) is how
// many rows a tile of this panel may have.
template <class T, class MostRows, class Task>
EIGEN_ALWAYS_INLINE void for_step_tiles(Index rows, Index panel_begin, Index panel_end, bool last_first,
                                        MostRows&& most_rows, Task&& task) {
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
    for_even_pieces(rows, most_rows(panel), [&](Index first, Index pieces) {
      with_constant<tile_rows>(pieces, [&]<int Rows>(Constant<Rows> tile) { task(tile, Constant<1>{}, first, panel); });
    });
  });
}

}  // namespace latchwork::LATCHWORK_ISA
