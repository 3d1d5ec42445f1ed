// Converts between PyTorch's layout and panels; see table.hpp for the layouts.
#include "kernels/kernels.hpp"

namespace latchwork::LATCHWORK_ISA {

namespace {

constexpr Index smaller(Index a, Index b) { return a < b ? a : b; }

template <class T>
constexpr Index panel_count(Index units) {
  return (units + lanes<T> - 1) / lanes<T>;
}

// to[k * to_stride + u] = from[u * from_stride + k] for u below `count`, and zero for u from `count` to room - 1; room
// <= U.
template <class T>
void transpose_in(const T* from, Index from_stride, Index count, Index k_size, T* to, Index to_stride, Index room) {
  constexpr Index width = lanes<T>;
  Index k = 0;
  for (; k + width <= k_size; k += width) {
    Packet<T> block[width];
    for (Index u = 0; u < width; ++u) block[u] = u < count ? load(from + u * from_stride + k) : broadcast(T(0));
    transpose<T>(block);
    for (Index j = 0; j < width; ++j) {
      T* target = to + (k + j) * to_stride;
      if (room == width) {
        store(target, block[j]);
      } else {
        store_part(target, block[j], room);
      }
    }
  }
  for (; k < k_size; ++k) {
    for (Index u = 0; u < room; ++u) to[k * to_stride + u] = u < count ? from[u * from_stride + k] : T(0);
  }
}

// to[u * to_stride + k] = from[k * from_stride + u], or += if `accumulate`, for u below `count`.
template <class T>
void transpose_out(const T* from, Index from_stride, Index count, Index k_size, T* to, Index to_stride,
                   bool accumulate) {
  constexpr Index width = lanes<T>;
  Index k = 0;
  for (; k + width <= k_size; k += width) {
    Packet<T> block[width];
    for (Index j = 0; j < width; ++j) {
      const T* source = from + (k + j) * from_stride;
      block[j] = count == width ? load(source) : load_part(source, count);
    }
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

// Where register v of a panel of weights lies.
struct RegisterPlace {
  Index at;      // where its numbers for k = 0 start
  Index stride;  // the distance from k to k + 1
};
template <class T>
constexpr RegisterPlace place_in_panel(Index v, Index registers, Index k_size) {
  constexpr Index width = lanes<T>;
  if (!half_panels || registers < 4) return {v * width, registers * width};
  return {v / 2 * 2 * width * k_size + v % 2 * width, 2 * width};
}

// Where one gate lies in one panel.
struct GatePlace {
  Index gate;
  Index first_unit;
  Index count;   // how many units it has
  Index begin;   // where the panel starts
  Index at;      // where in the panel its numbers for k = 0 start
  Index room;    // how many numbers it has for each k: U, or fewer in a compact panel
  Index stride;  // the distance from k to k + 1
};

// Calls task(place) for the panels [panel_begin, panel_end) and every gate; the places are those in panels that do not
// lie in halves.
template <class T, class Task>
void for_each_gate(Index panel_begin, Index panel_end, const GateShape& shape, Index k_size, Task&& task) {
  constexpr Index width = lanes<T>;
  const Index panels = panel_count<T>(shape.units);
  for (Index panel = panel_begin; panel < panel_end; ++panel) {
    const Index unit = panel * width, begin = panel * k_size * shape.gates * width;
    const Index stride = (panel + 1 == panels ? shape.last_registers : shape.gates) * width;
    const Index room = stride / shape.gates;
    for (Index gate = 0; gate < shape.gates; ++gate) {
      task(GatePlace{gate, unit, smaller(shape.units - unit, width), begin, gate * room, room, stride});
    }
  }
}

template <class T, class Task>
void for_each_gate(const GateShape& shape, Index k_size, Task&& task) {
  for_each_gate<T>(0, panel_count<T>(shape.units), shape, k_size, task);
}

// Writes `count` numbers as row k of a column panel of weights with this many registers, and zeros after them.
template <class T>
void write_panel_row(const T* from, Index count, Index registers, Index k, Index k_size, T* panel) {
  constexpr Index width = lanes<T>;
  const Index pieces = half_panels && registers == 4 ? 2 : 1, piece = registers / pieces * width;
  for (Index column = 0; column < registers * width; column += piece) {
    T* const to = panel + column * k_size + k * piece;
    const Index left = smaller(count > column ? count - column : 0, piece);
    std::memcpy(to, from + column, static_cast<std::size_t>(left) * sizeof(T));
    for (Index at = left; at < piece; ++at) to[at] = T(0);
  }
}

}  // namespace

template <class T>
void pack_gate_panels(const T* weight, const GateShape& shape, Index k_size, T* panels, Index panel_begin,
                      Index panel_end) {
  for_each_gate<T>(panel_begin, panel_end, shape, k_size, [&](const GatePlace& gate) {
    RegisterPlace place{gate.at, gate.stride};
    if (gate.room == lanes<T>) place = place_in_panel<T>(gate.gate, shape.gates, k_size);
    transpose_in(weight + (gate.gate * shape.units + gate.first_unit) * k_size, k_size, gate.count, k_size,
                 panels + gate.begin + place.at, place.stride, gate.room);
  });
}

template <class T>
void pack_gate_row(const T* first, const T* second, const GateShape& shape, T* row) {
  for_each_gate<T>(shape, 1, [&](const GatePlace& place) {
    for (Index u = 0; u < place.room; ++u) {
      const Index source = place.gate * shape.units + place.first_unit + u;
      T sum = T(0);
      if (first != nullptr && u < place.count) sum = first[source];
      if (second != nullptr && u < place.count) sum += second[source];
      row[place.begin + place.at + u] = sum;
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
      const RegisterPlace place = place_in_panel<T>(v, registers, k_size);
      transpose_in(weight + column * k_size, k_size, smaller(columns - column, width), k_size,
                   panels + panel * k_size + place.at, place.stride, width);
    }
  }
}

template <class T>
void pack_panels(const T* weight, Index k_size, Index columns, T* panels) {
  constexpr Index width = lanes<T>;
  for (Index panel = 0; panel < columns; panel += 4 * width) {
    const Index registers = smaller(panel_count<T>(columns - panel), 4);
    const Index count = smaller(columns - panel, registers * width);
    for (Index k = 0; k < k_size; ++k) {
      write_panel_row(weight + k * columns + panel, count, registers, k, k_size, panels + panel * k_size);
    }
  }
}

template <class T>
void pack_gate_rows(const T* weight, const GateShape& shape, Index columns, T* panels, Index gate_panel_begin,
                    Index gate_panel_end) {
  constexpr Index width = lanes<T>;
  const Index k_size = shape.gates * shape.units;
  const Index unit_begin = gate_panel_begin * width, unit_end = smaller(gate_panel_end * width, shape.units);
  for (Index panel = 0; panel < columns; panel += 4 * width) {
    const Index registers = smaller(panel_count<T>(columns - panel), 4);
    const Index count = smaller(columns - panel, registers * width);
    for (Index unit = unit_begin; unit < unit_end; ++unit) {
      for (Index gate = 0; gate < shape.gates; ++gate) {
        write_panel_row(weight + (gate * shape.units + unit) * columns + panel, count, registers,
                        unit * shape.gates + gate, k_size, panels + panel * k_size);
      }
    }
  }
}

template <class T>
void unpack_gate_panels(const T* panels, const GateShape& shape, Index k_size, T* weight, bool accumulate,
                        Index panel_begin, Index panel_end) {
  for_each_gate<T>(panel_begin, panel_end, shape, k_size, [&](const GatePlace& place) {
    transpose_out(panels + place.begin + place.at, place.stride, place.count, k_size,
                  weight + (place.gate * shape.units + place.first_unit) * k_size, k_size, accumulate);
  });
}

template <class T>
void unpack_gate_row(const T* row, const GateShape& shape, T* bias, bool accumulate) {
  for_each_gate<T>(shape, 1, [&](const GatePlace& place) {
    for (Index u = 0; u < place.count; ++u) {
      T& target = bias[place.gate * shape.units + place.first_unit + u];
      const T value = row[place.begin + place.at + u];
      target = accumulate ? target + value : value;
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

#define LATCHWORK_INSTANTIATE(T)                                                                  \
  template void pack_gate_panels<T>(const T*, const GateShape&, Index, T*, Index, Index);         \
  template void pack_gate_row<T>(const T*, const T*, const GateShape&, T*);                       \
  template void pack_transposed_panels<T>(const T*, Index, Index, T*);                            \
  template void pack_gate_rows<T>(const T*, const GateShape&, Index, T*, Index, Index);           \
  template void pack_panels<T>(const T*, Index, Index, T*);                                       \
  template void unpack_gate_panels<T>(const T*, const GateShape&, Index, T*, bool, Index, Index); \
  template void unpack_gate_row<T>(const T*, const GateShape&, T*, bool);                         \
  template void unpack_panels<T>(const T*, Index, Index, T*, bool);                               \
  template void pack_outer<T>(const T* const*, Index, Index, T*, Index, Index);
LATCHWORK_INSTANTIATE(float)
LATCHWORK_INSTANTIATE(double)
#undef LATCHWORK_INSTANTIATE

}  // namespace latchwork::LATCHWORK_ISA
