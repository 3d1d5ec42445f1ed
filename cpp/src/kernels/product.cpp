// Matrix products by panels: W x for several steps, linear layers, gradients with respect to inputs (product) and to
// weights (outer).
#include "kernels/kernels.hpp"
#include "kernels/tile.hpp"

namespace latchwork::LATCHWORK_ISA {

namespace {

// Measured on an Intel CPU with AVX-512 and 2 MB of L2.
constexpr Index fewest_k_at_once = 256;
constexpr Index most_k_of_panel = 512;

// A part of the chains: some consecutive k. k_begin and k_end are each the start of a block of a, or the end of all. A
// part that is not the first continues the sums in y.
template <class T>
struct Part {
  Index k_begin, k_end;
  const T* next_panel;  // the panel that is needed after this part, which may be the same
  Index next_k;         // from which k on
};

struct AnyOrder {};

// The sums of the registers [first_register, first_register + Width) of each panel of PanelWidth registers.
// Order: where the elements of a row of `a` lie; AnyOrder: as the arguments say.
template <class T, int Rows, int Panels, int Width, int Fetch, int PanelWidth, class Order>
EIGEN_ALWAYS_INLINE void product_sums(const ProductArgs<T>& args, Index first_row, Index first_panel,
                                      Index first_register, const Part<T>& part) {
  const Index k_begin = part.k_begin, k_end = part.k_end;
  constexpr Index panel_width = PanelWidth * lanes<T>, pieces = PanelWidth / Width;
  const Index piece = first_register / Width;
  const Index panel_column = first_panel * args.panel_registers * lanes<T>;
  const Index first_column = panel_column + first_register * lanes<T>;
  Packet<T> sum[Rows][Panels * Width];
  const T* operand[Rows];
#pragma GCC unroll 8
  for (int row = 0; row < Rows; ++row) {
    operand[row] = args.a[first_row + row];
    const T* y = args.y[first_row + row];
#pragma GCC unroll 16
    for (int v = 0; v < Panels * Width; ++v) {
      const Index column = first_column + v * lanes<T>;
      if (args.accumulate || k_begin > 0) {
        const Index left = args.columns - column;
        sum[row][v] = left >= lanes<T> ? load(y + column) : load_part(y + column, left);
      } else {
        sum[row][v] = args.start == nullptr ? broadcast(T(0)) : load(args.start + column);
      }
    }
  }
  const Index panel_stride = args.depth * panel_width;
  constexpr Index row_width = adjacent_registers<PanelWidth> * lanes<T>;
  const T* weights = args.weights + panel_column * args.depth + piece * (panel_stride / pieces) + k_begin * row_width;
  const T* next = nullptr;
  if constexpr ((Fetch & fetch_next_panel) != 0) {
    const Index number = first_part(PanelWidth, first_row, args.rows) + piece;
    const Index to_part = half_panels && PanelWidth == 4 ? panel_stride / 2 : (k_end - k_begin) * line<T>;
    next = part.next_panel + part.next_k * row_width + number * to_part;
  }
  Index begin = k_begin / args.a_block * args.a_block_stride;
  for (Index block = k_begin; block < k_end; block += args.a_block) {
    const Index left = k_end - block, count = left < args.a_block ? left : args.a_block;
    const Index gate_stride = block + args.a_block < args.depth ? args.a_gate_stride : args.a_last_gate_stride;
    if constexpr (std::is_same_v<Order, AnyOrder>) {
      if (args.a_gates == 1) {
        accumulate<T, Rows, Panels, Width, Fetch>(sum, operand, count, weights, panel_stride, next, Contiguous{begin});
      } else {
        accumulate<T, Rows, Panels, Width, Fetch>(sum, operand, count, weights, panel_stride, next,
                                                  Alternating(args.a_gates, gate_stride, begin));
      }
    } else if (std::is_same_v<Order, FourGates<T>> && gate_stride != lanes<T>) [[unlikely]] {
      accumulate_aside<T, Rows, Width>(sum, operand, 0, count, weights, Alternating(args.a_gates, gate_stride, begin));
    } else {
      accumulate<T, Rows, Panels, Width, Fetch, 0, true>(sum, operand, count, weights, panel_stride, next,
                                                         Order{begin});
    }
    if constexpr ((Fetch & fetch_next_panel) != 0) next += args.a_block * line<T>;
    weights += args.a_block * row_width;
    begin += args.a_block_stride;
  }
#pragma GCC unroll 8
  for (int row = 0; row < Rows; ++row) {
    T* y = args.y[first_row + row];
#pragma GCC unroll 16
    for (int v = 0; v < Panels * Width; ++v) {
      const Index column = first_column + v * lanes<T>;
      if (const Index left = args.columns - column; left >= lanes<T>) {
        store(y + column, sum[row][v]);
      } else {
        store_part(y + column, sum[row][v], left);
      }
    }
  }
}

// One half of a tile; a function for each order, because gcc keeps the sums in registers all the time only if there is
// one loop over k.
template <class T, int Rows, int Fetch, class Order>
[[gnu::noinline]] void product_half(const ProductArgs<T>& args, Index first_row, Index panel, Index half,
                                    const Part<T>& part) {
  product_sums<T, Rows, 1, 2, Fetch, 4, Order>(args, first_row, panel, half * 2, part);
}

template <class T, int Rows, int Panels, int Width, int Fetch>
[[gnu::noinline]] void product_tile(const ProductArgs<T>& args, Index first_row, Index first_panel,
                                    const Part<T>& part) {
  if constexpr (takes_halves<Rows, Width> && Panels == 1) {
    for (Index half = 0; half < 2; ++half) {
      if (args.a_gates == 1) {
        product_half<T, Rows, Fetch, Contiguous>(args, first_row, first_panel, half, part);
      } else {
        product_half<T, Rows, Fetch, FourGates<T>>(args, first_row, first_panel, half, part);
      }
    }
  } else {
    product_sums<T, Rows, Panels, Width, Fetch, Width, AnyOrder>(args, first_row, first_panel, 0, part);
  }
}

// c += a b for one k; b has registers side by side.
template <class T, int Columns, int Width>
EIGEN_ALWAYS_INLINE void add_outer(Packet<T> (&sum)[Columns][Width], const T* a, const T* b) {
  if constexpr (half_panels && Columns > Width) {
    Packet<T> gradient[Width];
#pragma GCC unroll 4
    for (int v = 0; v < Width; ++v) {
      gradient[v] = load(b + v * lanes<T>);
      keep_in_register(gradient[v]);
    }
#pragma GCC unroll 8
    for (int column = 0; column < Columns; ++column) {
      Packet<T> factor = broadcast(a[column]);
      keep_in_register(factor);
#pragma GCC unroll 4
      for (int v = 0; v < Width; ++v) multiply_add_in_place(factor, gradient[v], sum[column][v]);
    }
  } else {
    Packet<T> factor[Columns];
#pragma GCC unroll 8
    for (int column = 0; column < Columns; ++column) factor[column] = broadcast(a[column]);
#pragma GCC unroll 4
    for (int v = 0; v < Width; ++v) {
      const Packet<T> gradient = load(b + v * lanes<T>);
#pragma GCC unroll 8
      for (int column = 0; column < Columns; ++column) {
        sum[column][v] = multiply_add(factor[column], gradient, sum[column][v]);
      }
    }
  }
}

// The sums of the registers [first_register, first_register + Width) of a panel of PanelWidth registers.
template <class T, int Columns, int Width, int PanelWidth>
[[gnu::noinline]] void outer_tile(const OuterArgs<T>& args, const T* a, Index first_column, Index first_register) {
  T* const c = args.c + (first_column * PanelWidth + first_register) * lanes<T>;
  Packet<T> sum[Columns][Width];
#pragma GCC unroll 8
  for (int column = 0; column < Columns; ++column) {
#pragma GCC unroll 4
    for (int v = 0; v < Width; ++v) sum[column][v] = load(c + (column * PanelWidth + v) * lanes<T>);
  }
  const T* b = args.b + first_register * lanes<T>;
  // Meanwhile this fetches the sums of the next tile, which the processor does not predict.
  constexpr Index next_lines = Columns * PanelWidth * lanes<T> / line<T>;
  const T* const next_sums = c + Columns * PanelWidth * lanes<T>;
  if constexpr (takes_halves<Columns, PanelWidth>) {
    if (first_register == 0) {
#pragma GCC unroll 16
      for (Index at = 0; at < next_lines; ++at) fetch_into_l1(next_sums + at * line<T>);
    }
    Index k = 0;
    for (; k + unrolled_k<T> <= args.depth; k += unrolled_k<T>) {
#pragma GCC unroll 8
      for (int j = 0; j < unrolled_k<T>; ++j) {
        add_outer<T, Columns, Width>(sum, a, b);
        a += outer_block<T>;
        b += args.b_stride;
      }
    }
    for (; k < args.depth; ++k) {
      add_outer<T, Columns, Width>(sum, a, b);
      a += outer_block<T>;
      b += args.b_stride;
    }
  } else {
    for (Index k = 0; k < args.depth; ++k) {
      if (k < next_lines) fetch_into_l1(next_sums + k * line<T>);
      add_outer<T, Columns, Width>(sum, a, b);
      a += outer_block<T>;
      b += args.b_stride;
    }
  }
#pragma GCC unroll 8
  for (int column = 0; column < Columns; ++column) {
#pragma GCC unroll 4
    for (int v = 0; v < Width; ++v) store(c + (column * PanelWidth + v) * lanes<T>, sum[column][v]);
  }
}

// How many k to take at a time; these are whole blocks of a. Every panel reads these k of all rows of a, so they should
// stay in L2, beside a panel and the next one: they get an eighth of it. With only one tile of rows, each panel reads a
// once anyway, and all k are taken at a time.
template <class T>
Index depth_at_once(const ProductArgs<T>& args) {
  if (args.rows <= tile_rows) return args.depth;
  const Index k = known_or_default(args.caches).l2_bytes / 8 / (args.rows * static_cast<Index>(sizeof(T)));
  const Index blocks = (k > fewest_k_at_once ? k : fewest_k_at_once) / args.a_block;
  return blocks == 0 ? args.a_block : blocks * args.a_block;
}

// How many k of one panel to take at a time; these are whole blocks of a. A deep panel and the next one, which is
// fetched meanwhile, do not fit into L2 together.
template <class T>
Index panel_depth_at_once(const ProductArgs<T>& args, Index depth) {
  const Index parts = (depth + most_k_of_panel - 1) / most_k_of_panel;
  const Index blocks = (depth + args.a_block - 1) / args.a_block;
  return (blocks + parts - 1) / parts * args.a_block;
}

}  // namespace

template <class T>
void product(const ProductArgs<T>& args, Index panel_begin, Index panel_end) {
  const Index full_width = args.panel_registers * lanes<T>;
  const Index full_panels = args.columns / full_width;
  const FetchAhead fetch = fetch_of<T>(args.caches, args.rows, args.depth, args.panel_registers, full_panels);
  const auto run_panel = [&](Index panel, Index registers, Index k_begin, Index k_end) {
    const Index neighbour = args.last_panel_first ? panel - 1 : panel + 1;
    const T* const panel_weights = args.weights + panel * full_width * args.depth;
    const T* const next_panel = args.weights + neighbour * full_width * args.depth;
    const bool fetches_next = (fetch & fetch_next_panel) != 0;
    const Index k_at_once = fetches_next ? panel_depth_at_once(args, k_end - k_begin) : k_end - k_begin;
    for (Index k = k_begin; k < k_end; k += k_at_once) {
      const Index end = k_end - k < k_at_once ? k_end : k + k_at_once;
      const Part<T> part = end < k_end ? Part<T>{k, end, panel_weights, end} : Part<T>{k, end, next_panel, k_begin};
      with_constant<4>(registers, [&]<int Width>(Constant<Width>) {
        // There are halves of tiles for these orders alone.
        const bool halves = args.a_gates == 1 || (args.a_gates == 4 && args.a_gate_stride == lanes<T>);
        const Index most_rows = halves || Width != 4 ? most_rows_of(Width, args.depth) : whole_panel_rows;
        for_even_pieces(args.rows, most_rows, [&](Index first, Index count) {
          with_constant<most_tile_rows<Width>>(count, [&]<int Rows>(Constant<Rows>) {
            // A panel that is narrower than one of three gates is always the last, so that tiles that fetch are not
            // worth compiling for it.
            with_fetch<(Width < 3 ? 1 : Rows)>(
                fetch_of_tile<T>(fetch, Width, first, args.rows),
                [&]<int Fetch>(Constant<Fetch>) { product_tile<T, Rows, 1, Width, Fetch>(args, first, panel, part); });
          });
        });
      });
    }
  };
  const auto run_narrow_panel = [&](Index k_begin, Index k_end) {
    if (panel_end <= full_panels) return;
    run_panel(full_panels, (args.columns - full_panels * full_width + lanes<T> - 1) / lanes<T>, k_begin, k_end);
  };
  const Index full_end = panel_end < full_panels ? panel_end : full_panels;
  const Index most = args.rows == 1 && args.panel_registers >= 3 ? single_row_panels : 1;
  const Index k_at_once = depth_at_once(args);
  for (Index k_begin = 0; k_begin < args.depth; k_begin += k_at_once) {
    const Index k_end = args.depth - k_begin < k_at_once ? args.depth : k_begin + k_at_once;
    if (args.last_panel_first) run_narrow_panel(k_begin, k_end);
    for_panel_groups(panel_begin, full_end, most, args.last_panel_first, [&](Index panel, Index count) {
      if (most == 1) return run_panel(panel, args.panel_registers, k_begin, k_end);
      with_constant<single_row_panels>(count, [&]<int Panels>(Constant<Panels>) {
        const Part<T> part{k_begin, k_end, nullptr, 0};
        if (args.panel_registers == 4) {
          product_tile<T, 1, Panels, 4, fetch_nothing>(args, 0, panel, part);
        } else {
          product_tile<T, 1, Panels, 3, fetch_nothing>(args, 0, panel, part);
        }
      });
    });
    if (!args.last_panel_first) run_narrow_panel(k_begin, k_end);
  }
}

template <class T>
void outer(const OuterArgs<T>& args) {
  // With fewer k the sums of a large tile are fetched and stored too often.
  constexpr Index fewest_k = 32;
  with_constant<4>(args.registers, [&]<int Width>(Constant<Width>) {
    const Index most = args.depth < fewest_k ? whole_panel_rows : most_tile_rows<Width>;
    for (Index block = 0; block < args.columns; block += outer_block<T>) {
      const T* a = args.a + block * args.depth;
      const Index columns = args.columns - block < outer_block<T> ? args.columns - block : outer_block<T>;
      for_even_pieces(columns, most, [&](Index first, Index count) {
        with_constant<most_tile_rows<Width>>(count, [&]<int Columns>(Constant<Columns>) {
          if constexpr (takes_halves<Columns, Width>) {
            outer_tile<T, Columns, 2, Width>(args, a + first, block + first, 0);
            outer_tile<T, Columns, 2, Width>(args, a + first, block + first, 2);
          } else {
            outer_tile<T, Columns, Width, Width>(args, a + first, block + first, 0);
          }
        });
      });
    }
  });
}

template <class T>
void add_rows(const T* b, Index stride, Index depth, Index width, T* sum) {
  // Several chains at a time, because each has to wait for its own additions.
  constexpr Index most = 4 * lanes<T>;
  for (Index column = 0; column < width; column += most) {
    const Index registers = (width - column < most ? width - column : most) / lanes<T>;
    with_constant<4>(registers, [&]<int Width>(Constant<Width>) {
      Packet<T> chain[Width];
#pragma GCC unroll 4
      for (int v = 0; v < Width; ++v) chain[v] = load(sum + column + v * lanes<T>);
      for (Index k = 0; k < depth; ++k) {
#pragma GCC unroll 4
        for (int v = 0; v < Width; ++v) chain[v] = add(chain[v], load(b + k * stride + column + v * lanes<T>));
      }
#pragma GCC unroll 4
      for (int v = 0; v < Width; ++v) store(sum + column + v * lanes<T>, chain[v]);
    });
  }
}

template <class T>
void scatter_rows(const T* b, Index stride, const Index* row, Index depth, Index width, T* sum, Index sum_stride) {
  with_constant<4>(width / lanes<T>, [&]<int Width>(Constant<Width>) {
    for (Index k = 0; k < depth; ++k) {
      const T* from = b + k * stride;
      T* to = sum + row[k] * sum_stride;
#pragma GCC unroll 4
      for (int v = 0; v < Width; ++v) store(to + v * lanes<T>, add(load(to + v * lanes<T>), load(from + v * lanes<T>)));
    }
  });
}

template void product<float>(const ProductArgs<float>&, Index, Index);
template void product<double>(const ProductArgs<double>&, Index, Index);
template void outer<float>(const OuterArgs<float>&);
template void outer<double>(const OuterArgs<double>&);
template void add_rows<float>(const float*, Index, Index, Index, float*);
template void add_rows<double>(const double*, Index, Index, Index, double*);
template void scatter_rows<float>(const float*, Index, const Index*, Index, Index, float*, Index);
template void scatter_rows<double>(const double*, Index, const Index*, Index, Index, double*, Index);

}  // namespace latchwork::LATCHWORK_ISA
