#pragma once

#include "kernels/packet.hpp"

// The register tile that every product is made of.
namespace latchwork::LATCHWORK_ISA {

template <int Value>
struct Constant {};

// Calls task(Constant<n>) for the run-time n in [1, Max].
template <int Max, class Task>
EIGEN_STRONG_INLINE void with_constant(Index n, Task&& task) {
  if constexpr (Max > 1) {
    if (n < Max) return with_constant<Max - 1>(n, task);
  }
  task(Constant<Max>{});
}

// Calls task(first, count) for pieces of [0, size) of nearly equal sizes, at most Max each.
template <int Max, class Task>
EIGEN_STRONG_INLINE void for_even_pieces(Index size, Task&& task) {
  const Index pieces = (size + Max - 1) / Max;
  Index first = 0;
  for (Index piece = 0; piece < pieces; ++piece) {
    const Index count = size / pieces + (piece < size % pieces ? 1 : 0);
    task(first, count);
    first += count;
  }
}

// Without it gcc reads a weight from memory again for each row, as an operand of the multiply-add: two and three rows
// then take longer than four.
template <class P>
EIGEN_STRONG_INLINE void keep_in_register([[maybe_unused]] P& packet) {
#if defined(__AVX512F__)
  asm("" : "+v"(packet));
#elif defined(__SSE2__)
  asm("" : "+x"(packet));
#endif
}

// So many k ahead the weights of several rows are fetched where a panel is larger than the nearest cache. One row waits
// for its weights all the time, and fetching ahead does not help it.
inline constexpr Index fetch_ahead = 16;
template <class T>
constexpr bool beyond_nearest_cache(Index depth, Index width) {
  return depth * width * lanes<T> * static_cast<Index>(sizeof(T)) > 40'000;
}

// Calls task(Constant<1>) if `fetch`, else task(Constant<0>); for one row always the latter.
template <int Rows, class Task>
EIGEN_STRONG_INLINE void with_fetch(bool fetch, Task&& task) {
  if constexpr (Rows > 1) {
    if (fetch) return task(Constant<1>{});
  }
  task(Constant<0>{});
}

// sum[row][panel * Width + v] += a[row][k] * weights[panel][k][v] for k ascending: one chain for each sum.
template <class T, int Rows, int Panels, int Width, bool Fetch>
EIGEN_STRONG_INLINE void accumulate(Packet<T> (&sum)[Rows][Panels * Width], const T* const (&a)[Rows], Index depth,
                                    const T* weights, Index panel_stride) {
  for (Index k = 0; k < depth; ++k) {
    Packet<T> factor[Rows];
#pragma GCC unroll 8
    for (int row = 0; row < Rows; ++row) factor[row] = broadcast(a[row][k]);
    if constexpr (Fetch) {
#pragma GCC unroll 4
      for (int v = 0; v < Width; v += 64 / static_cast<int>(sizeof(Packet<T>))) {
        fetch(weights + ((k + fetch_ahead) * Width + v) * lanes<T>);
      }
    }
#pragma GCC unroll 4
    for (int panel = 0; panel < Panels; ++panel) {
#pragma GCC unroll 4
      for (int v = 0; v < Width; ++v) {
        Packet<T> weight = load(weights + panel * panel_stride + (k * Width + v) * lanes<T>);
        if constexpr (Rows == 2 || Rows == 3) keep_in_register(weight);
#pragma GCC unroll 8
        for (int row = 0; row < Rows; ++row) {
          Packet<T>& chain = sum[row][panel * Width + v];
          chain = multiply_add(factor[row], weight, chain);
        }
      }
    }
  }
}

}  // namespace latchwork::LATCHWORK_ISA
