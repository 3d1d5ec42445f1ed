#pragma once

#include "kernels/packet.hpp"
#include "kernels/table.hpp"

// The tile of registers that every product is made of.
namespace latchwork::LATCHWORK_ISA {

template <int Value>
struct Constant {};

// How many rows a tile has at most that is Width registers wide. With half_panels a panel of 4 registers is taken by
// halves, so that a tile has at most 12 accumulators; with a weight and a factor or three they fill 16 registers.
template <int Width>
inline constexpr int most_tile_rows = !half_panels ? whole_panel_rows
                                      : Width == 3 ? 4
                                                   : 6;
inline constexpr int tile_rows = most_tile_rows<4>;

// With fewer k than this, taking halves costs more than it gains. Measured on an AMD Zen 3.
inline constexpr Index fewest_k_of_halves = 160;

inline Index most_rows_of(Index width, Index depth) {
  if (half_panels && depth < fewest_k_of_halves) return whole_panel_rows;
  return width == 3 ? most_tile_rows<3> : tile_rows;
}

// Whether a tile takes the halves of a panel one after the other.
template <int Rows, int Width>
inline constexpr bool takes_halves = half_panels && Width == 4 && (Rows > whole_panel_rows);

// How many registers of a panel lie side by side for each k: 2 in a panel that lies in halves, of which the second
// follows when the first has ended, else all.
template <int Width>
inline constexpr int adjacent_registers = half_panels && Width == 4 ? 2 : Width;

// Calls task(Constant<n>) for n, which is known at run time only and lies in [1, Max].
template <int Max, class Task>
EIGEN_ALWAYS_INLINE void with_constant(Index n, Task&& task) {
  if constexpr (Max > 1) {
    if (n < Max) return with_constant<Max - 1>(n, task);
  }
  task(Constant<Max>{});
}

// Calls task(first, count) for pieces of [0, size) of nearly equal sizes, at most `most` each.
template <class Task>
EIGEN_ALWAYS_INLINE void for_even_pieces(Index size, Index most, Task&& task) {
  const Index pieces = (size + most - 1) / most;
  Index first = 0;
  for (Index piece = 0; piece < pieces; ++piece) {
    const Index count = size / pieces + (piece < size % pieces ? 1 : 0);
    task(first, count);
    first += count;
  }
}

// Calls task(first, count) for groups of at most `most` of the panels [begin, end), from the first to the last or, if
// last_first, from the last to the first.
template <class Task>
EIGEN_ALWAYS_INLINE void for_panel_groups(Index begin, Index end, Index most, bool last_first, Task&& task) {
  while (begin < end) {
    const Index count = end - begin < most ? end - begin : most;
    if (last_first) {
      end -= count;
      task(end, count);
    } else {
      task(begin, count);
      begin += count;
    }
  }
}

// Without this, gcc reads a weight from memory again for each row, as an operand of the multiply-add, and two or three
// rows take longer than four.
template <class P>
EIGEN_ALWAYS_INLINE void keep_in_register([[maybe_unused]] P& packet) {
#if defined(__AVX512F__)
  asm("" : "+v"(packet));
#elif defined(__SSE2__)
  asm("" : "+x"(packet));
#endif
}

// Which weights a tile of several rows fetches ahead of their use, on a CPU that gains from it: its own, by fetch_ahead
// k, if a panel is larger than what the rows leave of L1; and a part of the next panel if all panels together are so
// large that the CPU does not fetch them soon enough by itself. A single row waits for its weights all the time, and
// fetching ahead does not help it.
enum FetchAhead { fetch_nothing = 0, fetch_own_panel = 1, fetch_next_panel = 2, fetch_both_panels = 3 };
inline constexpr Index fetch_ahead = 8;

EIGEN_ALWAYS_INLINE CacheUse known_or_default(const CacheUse* known) { return known == nullptr ? CacheUse{} : *known; }

template <class T>
EIGEN_ALWAYS_INLINE FetchAhead fetch_of(const CacheUse* known, Index rows, Index depth, Index width, Index panels) {
  if (rows == 1) return fetch_nothing;
  const CacheUse caches = known_or_default(known);
  const Index panel_bytes = depth * width * lanes<T> * static_cast<Index>(sizeof(T));
  if (panel_bytes <= caches.l1_bytes / 5 * 4) return fetch_nothing;
  const bool next = rows > tile_rows && panels * panel_bytes >= caches.fetch_into_l2_from;
  return static_cast<FetchAhead>((caches.fetch_into_l1 ? fetch_own_panel : 0) + (next ? fetch_next_panel : 0));
}

// Calls task(Constant<fetch>); for one row always with fetch_nothing. A tile that takes halves does not fetch its own
// panel: it reads one cache line for each k, in order, which every CPU foresees.
template <int Rows, class Task>
EIGEN_ALWAYS_INLINE void with_fetch(FetchAhead fetch, Task&& task) {
  if constexpr (half_panels && Rows > whole_panel_rows) {
    if ((fetch & fetch_next_panel) != 0) return task(Constant<fetch_next_panel>{});
  } else if constexpr (Rows > 1) {
    if (fetch == fetch_own_panel) return task(Constant<fetch_own_panel>{});
    if (fetch == fetch_next_panel) return task(Constant<fetch_next_panel>{});
    if (fetch == fetch_both_panels) return task(Constant<fetch_both_panels>{});
  }
  task(Constant<fetch_nothing>{});
}

template <class T>
inline constexpr Index line = 64 / static_cast<Index>(sizeof(T));

// While it computes, a tile fetches a part of the next panel into L2, a cache line for each k; one that takes halves
// fetches two such parts. Otherwise the first tile of each panel would wait for memory. The panel is cut into as many
// parts as it has cache lines for each k, and the first tiles fetch one after another. This is the number of the part,
// or the first of the two, for the tile that starts with this row.
EIGEN_ALWAYS_INLINE Index first_part(Index width, Index first_row, Index rows) {
  const Index tiles = (rows + tile_rows - 1) / tile_rows;
  return first_row / ((rows + tiles - 1) / tiles) * (half_panels && width == 4 ? 2 : 1);
}

// What one tile fetches: no part of the next panel if none is left for it.
template <class T>
EIGEN_ALWAYS_INLINE FetchAhead fetch_of_tile(FetchAhead fetch, Index width, Index first_row, Index rows) {
  if ((fetch & fetch_next_panel) == 0 || first_part(width, first_row, rows) < width * lanes<T> / line<T>) return fetch;
  return static_cast<FetchAhead>(fetch & ~fetch_next_panel);
}

// Where the elements of a block of a row lie, which starts at `begin`: element k + j at at(k, j). The calls are in
// ascending order.
struct Contiguous {
  Index at(Index k, Index j) const { return begin + k + j; }
  Index begin = 0;
};

// The elements take turns between 4 gates, which lie side by side; k is a multiple of 4.
template <class T>
struct FourGates {
  Index at(Index k, Index j) const {
    return begin + static_cast<Index>(static_cast<std::size_t>(k) / 4) + j / 4 + j % 4 * lanes<T>;
  }
  Index begin = 0;
};

// The same for any number of gates, `stride` apart.
struct Alternating {
  Alternating(Index gates, Index stride, Index begin) : gate_stride(stride), end(gates * stride), unit(begin) {}
  Index at(Index, Index) {
    const Index element = unit + gate;
    gate += gate_stride;
    const bool last = gate == end;
    gate = last ? 0 : gate;
    unit += last ? 1 : 0;
    return element;
  }
  Index gate_stride, end;
  Index unit, gate = 0;
};

// What accumulate() does for one k. `at_k` is where this k lies in a row of a.
template <class T, int Rows, int Panels, int Width, int Fetch, int Tail>
EIGEN_ALWAYS_INLINE void accumulate_one(Packet<T> (&sum)[Rows][Panels * Width + Tail], const T* const (&a)[Rows],
                                        Index k, Index at_k, const T* weights, Index panel_stride, const T* next) {
  constexpr int registers = Panels * Width + Tail;
  const auto weight_at = [&](int at) {
    const int panel = at / Width, v = at % Width, width = panel < Panels ? adjacent_registers<Width> : Tail;
    return load(weights + panel * panel_stride + v / width * (panel_stride / 2) + (k * width + v % width) * lanes<T>);
  };
  if constexpr ((Fetch & fetch_next_panel) != 0) fetch_into_l2(next + k * line<T>);
  if constexpr ((Fetch & fetch_own_panel) != 0) {
    constexpr int width = adjacent_registers<Width>;
#pragma GCC unroll 4
    for (int v = 0; v < Width; v += 64 / static_cast<int>(sizeof(Packet<T>))) {
      fetch_into_l1(weights + v / width * (panel_stride / 2) + ((k + fetch_ahead) * width + v % width) * lanes<T>);
    }
  }
  if constexpr (half_panels && Rows > registers) {
    // There are registers for the weights and a single factor.
    Packet<T> weight[registers];
#pragma GCC unroll 4
    for (int at = 0; at < registers; ++at) {
      weight[at] = weight_at(at);
      keep_in_register(weight[at]);
    }
#pragma GCC unroll 8
    for (int row = 0; row < Rows; ++row) {
      Packet<T> factor = broadcast(a[row][at_k]);
      keep_in_register(factor);
#pragma GCC unroll 4
      for (int at = 0; at < registers; ++at) multiply_add_in_place(factor, weight[at], sum[row][at]);
    }
  } else {
    Packet<T> factor[Rows];
#pragma GCC unroll 8
    for (int row = 0; row < Rows; ++row) factor[row] = broadcast(a[row][at_k]);
#pragma GCC unroll 16
    for (int at = 0; at < registers; ++at) {
      Packet<T> weight = weight_at(at);
      if constexpr (Rows == 2 || Rows == 3) keep_in_register(weight);
#pragma GCC unroll 8
      for (int row = 0; row < Rows; ++row) sum[row][at] = multiply_add(factor[row], weight, sum[row][at]);
    }
  }
}

// How many k the loop of a tile that takes halves does at once: where two hardware threads share the front end of a
// core, the counting between two k would cost a tenth of the time. Half as many in double, which is rarer, so that the
// code stays small.
template <class T>
inline constexpr int unrolled_k = 32 / static_cast<int>(sizeof(T));

template <class T, int Rows, int Width, class Order>
[[gnu::noinline]] void accumulate_in_memory(Packet<T> (&sum)[Rows][Width], const T* const (&a)[Rows], Index k,
                                            Index depth, const T* weights, Order order) {
  for (Index j = 0; k + j < depth; ++j) {
    accumulate_one<T, Rows, 1, Width, fetch_nothing, 0>(sum, a, k + j, order.at(k, j), weights, 0, nullptr);
  }
}

// For the k from `k` on that this loop does not do. They have a function and sums of their own, because with a second
// loop in the same function gcc would keep the sums in memory.
template <class T, int Rows, int Width, class Order>
EIGEN_ALWAYS_INLINE void accumulate_aside(Packet<T> (&sum)[Rows][Width], const T* const (&a)[Rows], Index k,
                                          Index depth, const T* weights, Order order) {
  Packet<T> copy[Rows][Width];
#pragma GCC unroll 8
  for (int row = 0; row < Rows; ++row) {
#pragma GCC unroll 4
    for (int v = 0; v < Width; ++v) copy[row][v] = sum[row][v];
  }
  accumulate_in_memory<T, Rows, Width>(copy, a, k, depth, weights, order);
#pragma GCC unroll 8
  for (int row = 0; row < Rows; ++row) {
#pragma GCC unroll 4
    for (int v = 0; v < Width; ++v) sum[row][v] = copy[row][v];
  }
}

// sum[row][panel * Width + v] += a[row][k] * weights[panel][k][v] for k ascending: one chain for each sum. Element k of
// a row lies where `order` says. Tail: the number of registers of a narrower panel that follows the others. Half:
// whether this is one half of a tile, which does unrolled_k of the k at a time.
template <class T, int Rows, int Panels, int Width, int Fetch, int Tail = 0, bool Half = false,
          class Order = Contiguous>
EIGEN_ALWAYS_INLINE void accumulate(Packet<T> (&sum)[Rows][Panels * Width + Tail], const T* const (&a)[Rows],
                                    Index depth, const T* weights, Index panel_stride, const T* next = nullptr,
                                    Order order = {}) {
  constexpr int at_once = Half ? unrolled_k<T> : 1;
  Index k = 0;
  for (; k + at_once <= depth; k += at_once) {
#pragma GCC unroll 8
    for (int j = 0; j < at_once; ++j) {
      accumulate_one<T, Rows, Panels, Width, Fetch, Tail>(sum, a, k + j, order.at(k, j), weights, panel_stride, next);
    }
  }
  if constexpr (Half) {
    // Without a loop: with a second one in the same function gcc would keep the sums in memory.
    constexpr int last = 4;
    if constexpr (at_once == 2 * last) {
      if (k + last <= depth) {
#pragma GCC unroll 4
        for (int j = 0; j < last; ++j) {
          accumulate_one<T, Rows, Panels, Width, Fetch, Tail>(sum, a, k + j, order.at(k, j), weights, panel_stride,
                                                              next);
        }
        k += last;
      }
    }
    if (k < depth) [[unlikely]]
      accumulate_aside<T, Rows, Width>(sum, a, k, depth, weights, order);
  }
}

}  // namespace latchwork::LATCHWORK_ISA
