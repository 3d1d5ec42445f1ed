#pragma once

#include "kernels/packet.hpp"
#include "kernels/table.hpp"

// The tile of registers that every product is made of.
namespace latchwork::LATCHWORK_ISA {

template <int Value>
struct Constant {};

// Calls task(Constant<n>) for n, which is known at run time only and lies in [1, Max].
template <int Max, class Task>
EIGEN_ALWAYS_INLINE void with_constant(Index n, Task&& task) {
  if constexpr (Max > 1) {
    if (n < Max) return with_constant<Max - 1>(n, task);
  }
  task(Constant<Max>{});
}

// Calls task(first, count) for pieces of [0, size) of nearly equal sizes, at most Max each.
template <int Max, class Task>
EIGEN_ALWAYS_INLINE void for_even_pieces(Index size, Task&& task) {
  const Index pieces = (size + Max - 1) / Max;
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
// k, if a panel is larger than what the rows leave of L1; and a part of the next panel if all panels together are
// larger than L2. A single row waits for its weights all the time, and fetching ahead does not help it.
enum FetchAhead { fetch_nothing = 0, fetch_own_panel = 1, fetch_next_panel = 2, fetch_both_panels = 3 };
inline constexpr Index fetch_ahead = 8;

EIGEN_ALWAYS_INLINE CacheUse known_or_default(const CacheUse* known) { return known == nullptr ? CacheUse{} : *known; }

template <class T>
EIGEN_ALWAYS_INLINE FetchAhead fetch_of(const CacheUse* known, Index rows, Index depth, Index width, Index panels) {
  if (rows == 1) return fetch_nothing;
  const CacheUse caches = known_or_default(known);
  const Index panel_bytes = depth * width * lanes<T> * static_cast<Index>(sizeof(T));
  if (panel_bytes <= caches.l1_bytes / 5 * 4) return fetch_nothing;
  const bool next = caches.fetch_into_l2 && rows > tile_rows && panels * panel_bytes > caches.l2_bytes / 5 * 6;
  return static_cast<FetchAhead>((caches.fetch_into_l1 ? fetch_own_panel : 0) + (next ? fetch_next_panel : 0));
}

// Calls task(Constant<fetch>); for one row always with fetch_nothing.
template <int Rows, class Task>
EIGEN_ALWAYS_INLINE void with_fetch(FetchAhead fetch, Task&& task) {
  if constexpr (Rows > 1) {
    if (fetch == fetch_own_panel) return task(Constant<fetch_own_panel>{});
    if (fetch == fetch_next_panel) return task(Constant<fetch_next_panel>{});
    if (fetch == fetch_both_panels) return task(Constant<fetch_both_panels>{});
  }
  task(Constant<fetch_nothing>{});
}

// What a tile fetches into L2 while it computes: a part of the next panel. Without it the first tile of each panel
// would wait for memory.
template <class T>
struct NextPanel {
  const T* weights = nullptr;
  Index stride = 0;  // from one k to the next
};

template <class T>
inline constexpr Index line = 64 / static_cast<Index>(sizeof(T));

// The part of the next panel for the tile that starts with this row. The panel is cut into as many parts as it has
// cache lines for each k.
template <class T>
EIGEN_ALWAYS_INLINE NextPanel<T> next_panel(const T* weights, Index depth, Index width, Index first_row, Index rows) {
  const Index tiles = (rows + tile_rows - 1) / tile_rows, lines = width * lanes<T> / line<T>;
  const Index part = first_row / ((rows + tiles - 1) / tiles);
  return part < lines ? NextPanel<T>{weights + part * depth * line<T>, line<T>} : NextPanel<T>{weights, 0};
}

// Where the elements of a row lie that is contiguous.
struct Contiguous {
  Index next() { return at++; }
  Index at = 0;
};

// Where the elements of a row lie that take turns between gates.
struct Alternating {
  Alternating(Index gates, Index stride) : gate_stride(stride), end(gates * stride) {}
  Index next() {
    const Index at = unit + gate;
    gate += gate_stride;
    const bool last = gate == end;
    gate = last ? 0 : gate;
    unit += last ? 1 : 0;
    return at;
  }
  Index gate_stride, end;
  Index unit = 0, gate = 0;
};

// sum[row][panel * Width + v] += a[row][k] * weights[panel][k][v] for k ascending: one chain for each sum. Element k of
// a row lies where `order` says. Tail: the number of registers of a narrower panel that follows the others.
template <class T, int Rows, int Panels, int Width, int Fetch, int Tail = 0, class Order = Contiguous>
EIGEN_ALWAYS_INLINE void accumulate(Packet<T> (&sum)[Rows][Panels * Width + Tail], const T* const (&a)[Rows],
                                    Index depth, const T* weights, Index panel_stride, const NextPanel<T>& next = {},
                                    Order order = {}) {
  for (Index k = 0; k < depth; ++k) {
    const Index at_k = order.next();
    Packet<T> factor[Rows];
#pragma GCC unroll 8
    for (int row = 0; row < Rows; ++row) factor[row] = broadcast(a[row][at_k]);
    if constexpr ((Fetch & fetch_next_panel) != 0) fetch_into_l2(next.weights + k * next.stride);
    if constexpr ((Fetch & fetch_own_panel) != 0) {
#pragma GCC unroll 4
      for (int v = 0; v < Width; v += 64 / static_cast<int>(sizeof(Packet<T>))) {
        fetch_into_l1(weights + ((k + fetch_ahead) * Width + v) * lanes<T>);
      }
    }
#pragma GCC unroll 16
    for (int at = 0; at < Panels * Width + Tail; ++at) {
      const int panel = at / Width, width = panel < Panels ? Width : Tail;
      Packet<T> weight = load(weights + panel * panel_stride + (k * width + at % Width) * lanes<T>);
      if constexpr (Rows == 2 || Rows == 3) keep_in_register(weight);
#pragma GCC unroll 8
      for (int row = 0; row < Rows; ++row) sum[row][at] = multiply_add(factor[row], weight, sum[row][at]);
    }
  }
}

}  // namespace latchwork::LATCHWORK_ISA
