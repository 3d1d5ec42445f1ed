// Between PyTorch's layout and panels; see table.hpp for the layouts.
#include "kernels/kernels.hpp"

namespace latchwork::LATCHWORK_ISA {

namespace {

constexpr Index smaller(Index a, Index b) { return a < b ? a : b; }

template <class T>
constexpr Index panel_count(Index units) {
  return (units + lanes<T> - 1) / lanes<T>;
}

// to[k * to_stride + u] = from[u * from_stride + k] for u below `count`, else zero, up to u = U - 1.
template <class T>
void transpose_in(const T* from, Index from_stride, Index count, Index k_size, T* to, Index to_stride) {
  constexpr Index width = lanes<T>;
  Index k = 0;
  for (; k + width <= k_size; k += width) {
    Packet<T> block[width];
    for (Index u = 0; u < width; ++u) block[u] = u < count ? load(from + u * from_stride + k) : broadcast(T(0));
    transpose<T>(block);
    for (Index j = 0; j < width; ++j) store(to + (k + j) * to_stride, block[j]);
  }
  for (; k < k_size; ++k) {
    for (Index u = 0; u < width; ++u) to[k * to_stride + u] = u < count ? from[u * from_stride + k] : T(0);
  }
}

// to[u * to_stride + k] = from[k * from_stride + u], or += where `accumulate`, for u below `count`.
template <class T>
void transpose_out(const T* from, Index from_stride, Index count, Index k_size, T* to, Index to_stride,
                   bool accumulate) {
  constexpr Index width = lanes<T>;
  Index k = 0;
  for (; k + width <= k_size; k += width) {
    Packet<T> block[width];
    for (Index j = 0; j < width; ++j) block[j] = load(from + (k + j) * from_stride);
    transpose<T>(block);
    for (Index u = 0; u < count; ++u) {
      T* target = to + u * to_stride + k;
      store(target, accumulate ? add(load(target), block[u]) : block[u]);
    }
  }
  for (; k < k_size; ++k) {
    for (Index u = 0; u < count; ++u) {
      T& target = to[u * to_stride + k];
      const T value = from[k * from_stride + u];
      target = accumulate ? target + value : value;
    }
  }
}

// Calls task(first unit, units in the panel, gate, where the gate's first row of U numbers lies) for the panels
// [panel_begin, panel_end) and every gate.
template <class T, class Task>
void for_each_gate(Index panel_begin, Index panel_end, Index units, Index gates, Index k_size, Task&& task) {
  constexpr Index width = lanes<T>;
  for (Index panel = panel_begin; panel < panel_end; ++panel) {
    const Index unit = panel * width;
    for (Index gate = 0; gate < gates; ++gate) {
      task(unit, smaller(units - unit, width), gate, (panel * k_size * gates + gate) * width);
    }
  }
}

template <class T, class Task>
void for_each_gate(Index units, Index gates, Index k_size, Task&& task) {
  for_each_gate<T>(0, panel_count<T>(units), units, gates, k_size, task);
}

}  // namespace

template <class T>
void pack_gate_panels(const T* weight, Index units, Index gates, Index k_size, T* panels) {
  for_each_gate<T>(units, gates, k_size, [&](Index unit, Index count, Index gate, Index at) {
    transpose_in(weight + (gate * units + unit) * k_size, k_size, count, k_size, panels + at, gates * lanes<T>);
  });
}

template <class T>
void pack_gate_row(const T* first, const T* second, Index units, Index gates, T* row) {
  for_each_gate<T>(units, gates, 1, [&](Index unit, Index count, Index gate, Index at) {
    for (Index u = 0; u < lanes<T>; ++u) {
      const Index source = gate * units + unit + u;
      T sum = T(0);
      if (first != nullptr && u < count) sum = first[source];
      if (second != nullptr && u < count) sum += second[source];
      row[at + u] = sum;
    }
  });
}

template <class T>
void pack_transposed_panels(const T* weight, Index columns, Index k_size, T* panels) {
  constexpr Index width = lanes<T>;
  for (Index panel = 0; panel < columns; panel += 4 * width) {
    const Index registers = smaller(panel_count<T>(columns - panel), 4);
    for (Index v = 0; v < registers; ++v) {
      const Index column = panel + v * width;
      transpose_in(weight + column * k_size, k_size, smaller(columns - column, width), k_size,
                   panels + panel * k_size + v * width, registers * width);
    }
  }
}

template <class T>
void pack_panels(const T* weight, Index k_size, Index columns, T* panels) {
  constexpr Index width = lanes<T>;
  for (Index panel = 0; panel < columns; panel += 4 * width) {
    const Index panel_width = smaller(panel_count<T>(columns - panel), 4) * width;
    const Index count = smaller(columns - panel, panel_width);
    T* to = panels + panel * k_size;
    for (Index k = 0; k < k_size; ++k) {
      std::memcpy(to + k * panel_width, weight + k * columns + panel, static_cast<std::size_t>(count) * sizeof(T));
      for (Index column = count; column < panel_width; ++column) to[k * panel_width + column] = T(0);
    }
  }
}

template <class T>
void pack_gate_rows(const T* weight, Index units, Index gates, Index columns, T* panels) {
  constexpr Index width = lanes<T>;
  const Index k_size = gates * width * panel_count<T>(units);
  for (Index panel = 0; panel < columns; panel += 4 * width) {
    const Index panel_width = smaller(panel_count<T>(columns - panel), 4) * width;
    const Index count = smaller(columns - panel, panel_width);
    T* to = panels + panel * k_size;
    for_each_gate<T>(units, gates, 1, [&](Index unit, Index unit_count, Index gate, Index at) {
      for (Index u = 0; u < width; ++u) {
        T* row = to + (at + u) * panel_width;
        const Index valid = u < unit_count ? count : 0;
        const T* from = weight + (gate * units + unit + u) * columns + panel;
        if (valid > 0) std::memcpy(row, from, static_cast<std::size_t>(valid) * sizeof(T));
        for (Index column = valid; column < panel_width; ++column) row[column] = T(0);
      }
    });
  }
}

template <class T>
void unpack_gate_panels(const T* panels, Index units, Index gates, Index k_size, T* weight, bool accumulate,
                        Index panel_begin, Index panel_end) {
  for_each_gate<T>(panel_begin, panel_end, units, gates, k_size, [&](Index unit, Index count, Index gate, Index at) {
    transpose_out(panels + at, gates * lanes<T>, count, k_size, weight + (gate * units + unit) * k_size, k_size,
                  accumulate);
  });
}

template <class T>
void unpack_gate_row(const T* row, Index units, Index gates, T* bias, bool accumulate) {
  for_each_gate<T>(units, gates, 1, [&](Index unit, Index count, Index gate, Index at) {
    for (Index u = 0; u < count; ++u) {
      T& target = bias[gate * units + unit + u];
      target = accumulate ? target + row[at + u] : row[at + u];
    }
  });
}

template <class T>
void unpack_panels(const T* panels, Index k_size, Index columns, T* weight, bool accumulate) {
  constexpr Index width = lanes<T>;
  for (Index panel = 0; panel < columns; panel += 4 * width) {
    const Index panel_width = smaller(panel_count<T>(columns - panel), 4) * width;
    const Index count = smaller(columns - panel, panel_width);
    const T* from = panels + panel * k_size;
    for (Index k = 0; k < k_size; ++k) {
      for (Index column = 0; column < count; ++column) {
        T& target = weight[k * columns + panel + column];
        const T value = from[k * panel_width + column];
        target = accumulate ? target + value : value;
      }
    }
  }
}

template <class T>
void pack_outer(const T* const* a, Index rows, Index columns, T* packed, Index first, Index depth) {
  constexpr Index width = outer_block<T>;
  for (Index block = 0; block < columns; block += width) {
    const Index count = smaller(columns - block, width);
    T* to = packed + block * depth + first * width;
    if (count == width) {
      for (Index k = 0; k < rows; ++k) std::memcpy(to + k * width, a[k] + block, sizeof(T) * width);
    } else {
      for (Index k = 0; k < rows; ++k) {
        for (Index column = 0; column < count; column += lanes<T>) {
          const Index part = smaller(count - column, lanes<T>);
          store_part(to + k * width + column, load_part(a[k] + block + column, part), part);
        }
      }
    }
  }
}

#define LATCHWORK_INSTANTIATE(T)                                                              \
  template void pack_gate_panels<T>(const T*, Index, Index, Index, T*);                       \
  template void pack_gate_row<T>(const T*, const T*, Index, Index, T*);                       \
  template void pack_transposed_panels<T>(const T*, Index, Index, T*);                        \
  template void pack_gate_rows<T>(const T*, Index, Index, Index, T*);                         \
  template void pack_panels<T>(const T*, Index, Index, T*);                                   \
  template void unpack_gate_panels<T>(const T*, Index, Index, Index, T*, bool, Index, Index); \
  template void unpack_gate_row<T>(const T*, Index, Index, T*, bool);                         \
  template void unpack_panels<T>(const T*, Index, Index, T*, bool);                           \
  template void pack_outer<T>(const T* const*, Index, Index, T*, Index, Index);
LATCHWORK_INSTANTIATE(float)
LATCHWORK_INSTANTIATE(double)
#undef LATCHWORK_INSTANTIATE

}  // namespace latchwork::LATCHWORK_ISA
