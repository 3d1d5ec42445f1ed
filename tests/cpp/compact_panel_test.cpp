// Compact gate panels, see kernels/table.hpp: the place of every element, and the same bits as with whole registers.
#include <doctest/doctest.h>

#include "machine/buffer.hpp"
#include "support/kernels.hpp"
#include "support/support.hpp"

namespace latchwork::test {
namespace {

// Shapes with a compact last panel, for every number of units in it, with and without full panels before it.
template <class T>
std::vector<GateShape> compact_shapes() {
  const Index lanes = kernels<T>().units;
  std::vector<GateShape> shapes;
  for (const Index full_panels : {0, 1, 2, 3, 6}) {
    for (Index left = 1; left < lanes; ++left) {
      const Index registers = (4 * left + lanes - 1) / lanes;
      if (registers < 4) shapes.push_back({full_panels * lanes + left, 4, registers});
    }
  }
  return shapes;
}

// The layout, written a second time from its description in kernels/table.hpp.
template <class T>
struct Layout {
  explicit Layout(const GateShape& gate_shape) : lanes(kernels<T>().units), shape(gate_shape) {}

  Index panels() const { return (shape.units + lanes - 1) / lanes; }
  Index padded() const { return panels() * lanes; }
  Index registers(Index unit) const { return unit / lanes + 1 == panels() ? shape.last_registers : 4; }
  Index packed_size() const { return (4 * (panels() - 1) + shape.last_registers) * lanes; }
  // The place of an element in its row of the panel.
  Index place(Index gate, Index unit) const { return gate * registers(unit) * lanes / 4 + unit % lanes; }
  // The place of an element in panels of k_size rows.
  Index element(Index gate, Index unit, Index k = 0, Index k_size = 1) const {
    return unit / lanes * k_size * 4 * lanes + k * registers(unit) * lanes + place(gate, unit);
  }

  // The same in panels of weights.
  Index weight(Index gate, Index unit, Index k, Index k_size) const {
    return unit / lanes * k_size * 4 * lanes + place_in_panel<T>(place(gate, unit), registers(unit), k, k_size);
  }

  Index lanes;
  GateShape shape;
};

// Rows in memory of their own, each followed by a guard that must stay as it is.
template <class T>
class Rows {
 public:
  Rows(Index count, Index size, T fill = T(7)) : size_(static_cast<std::size_t>(size)) {
    for (Index row = 0; row < count; ++row) {
      rows_.emplace_back(size_ + guard, sentinel);
      std::fill_n(rows_.back().begin(), size, fill);
    }
    for (std::vector<T>& row : rows_) pointers_.push_back(row.data());
  }
  Rows(Random& random, Index count, Index size) : Rows(count, size) {
    for (T* row : pointers_) std::generate_n(row, size, [&] { return static_cast<T>(random.number()); });
  }
  T* operator[](Index row) const { return pointers_[static_cast<std::size_t>(row)]; }
  T* const* pointers() const { return pointers_.data(); }
  bool guards_hold() const {
    return std::all_of(rows_.begin(), rows_.end(), [&](const std::vector<T>& row) {
      return std::all_of(row.begin() + static_cast<std::ptrdiff_t>(size_), row.end(),
                         [](T value) { return value == sentinel; });
    });
  }
  std::vector<T> first() const { return {pointers_[0], pointers_[0] + size_}; }

 private:
  static constexpr std::size_t guard = 19;
  static constexpr T sentinel = T(-12345);
  std::size_t size_;
  std::vector<std::vector<T>> rows_;
  std::vector<T*> pointers_;
};

// The weights of one layer, packed in one layout.
template <class T>
struct PackedStep {
  PackedStep(const GateShape& shape, Index x_size, const std::vector<T>& weight_ih, const std::vector<T>& weight_hh,
             const std::vector<T>& bias_row)
      : layout(shape),
        x_weights(1, layout.packed_size() * x_size),
        h_weights(1, layout.packed_size() * shape.units),
        bias(1, layout.packed_size()) {
    kernels<T>().pack_gate_panels(weight_ih.data(), shape, x_size, x_weights[0], 0, layout.panels());
    kernels<T>().pack_gate_panels(weight_hh.data(), shape, shape.units, h_weights[0], 0, layout.panels());
    kernels<T>().pack_gate_row(bias_row.data(), nullptr, shape, bias[0]);
  }
  Layout<T> layout;
  Rows<T> x_weights, h_weights, bias;
};

template <class T>
struct StepResult {
  StepResult(Index rows, const Layout<T>& layout)
      : c(rows, layout.padded()), h(rows, layout.shape.units), gates(rows, layout.packed_size()) {}
  bool guards_hold() const { return c.guards_hold() && h.guards_hold() && gates.guards_hold(); }
  Rows<T> c, h, gates;
};

// Whether c, h and, if wanted, the gates are equal bit for bit.
template <class T>
bool equal(const StepResult<T>& a, const Layout<T>& a_layout, const StepResult<T>& b, const Layout<T>& b_layout,
           Index rows, bool with_gates) {
  bool same = true;
  for (Index row = 0; row < rows; ++row) {
    for (Index unit = 0; unit < a_layout.shape.units; ++unit) {
      same = same && same_bits(a.c[row][unit], b.c[row][unit]) && same_bits(a.h[row][unit], b.h[row][unit]);
      for (Index gate = 0; with_gates && gate < 4; ++gate) {
        same =
            same && same_bits(a.gates[row][a_layout.element(gate, unit)], b.gates[row][b_layout.element(gate, unit)]);
      }
    }
  }
  return same;
}

}  // namespace

TEST_CASE_TEMPLATE(
    "compact panels: every element is where the layout says, all else is zero, and gradients are unpacked", T, float,
    double) {
  for_each_isa([] {
    const Kernels<T>& table = kernels<T>();
    Random random(21);
    for (const GateShape& shape : compact_shapes<T>()) {
      const Layout<T> layout(shape);
      const Index units = shape.units;
      CAPTURE(units);
      CHECK(compact_registers(units, 4, layout.lanes) == shape.last_registers);
      for (const Index k_size : {1, 5, 16, 33}) {
        CAPTURE(k_size);
        const std::vector<T> weight = converted<T>(random.numbers(4 * units * k_size));
        const auto at = [&](Index gate, Index unit, Index k) {
          return weight[static_cast<std::size_t>((gate * units + unit) * k_size + k)];
        };
        const Rows<T> panels(1, layout.packed_size() * k_size);
        const Index cut = layout.panels() / 2;
        table.pack_gate_panels(weight.data(), shape, k_size, panels[0], cut, layout.panels());
        table.pack_gate_panels(weight.data(), shape, k_size, panels[0], 0, cut);
        const Index columns = (k_size + layout.lanes - 1) / layout.lanes * layout.lanes;
        const Rows<T> gate_rows(1, 4 * units * columns);
        table.pack_gate_rows(weight.data(), shape, k_size, gate_rows[0], cut, layout.panels());
        table.pack_gate_rows(weight.data(), shape, k_size, gate_rows[0], 0, cut);
        const Rows<T> expected_panels(1, layout.packed_size() * k_size, T(0));
        const Rows<T> gradient(1, layout.packed_size() * k_size, T(0));
        const Rows<T> expected_rows(1, 4 * units * columns, T(0));
        for (Index gate = 0; gate < 4; ++gate) {
          for (Index unit = 0; unit < units; ++unit) {
            for (Index k = 0; k < k_size; ++k) {
              expected_panels[0][layout.weight(gate, unit, k, k_size)] = at(gate, unit, k);
              gradient[0][layout.element(gate, unit, k, k_size)] = at(gate, unit, k);
              const Index first = k / (4 * layout.lanes) * 4 * layout.lanes;
              const Index registers = std::min<Index>(4, (columns - first) / layout.lanes);
              const Index place = place_in_panel<T>(k - first, registers, unit * 4 + gate, 4 * units);
              expected_rows[0][first * 4 * units + place] = at(gate, unit, k);
            }
          }
        }
        CHECK(panels.first() == expected_panels.first());
        CHECK(panels.guards_hold());
        CHECK(gate_rows.first() == expected_rows.first());
        CHECK(gate_rows.guards_hold());

        std::vector<T> back(weight.size(), T(7));
        table.unpack_gate_panels(gradient[0], shape, k_size, back.data(), false, cut, layout.panels());
        table.unpack_gate_panels(gradient[0], shape, k_size, back.data(), false, 0, cut);
        CHECK(back == weight);
        table.unpack_gate_panels(gradient[0], shape, k_size, back.data(), true, 0, layout.panels());
        for (T& value : back) value /= 2;
        CHECK(back == weight);
      }

      const std::vector<T> ih = converted<T>(random.numbers(4 * units)), hh = converted<T>(random.numbers(4 * units));
      const Rows<T> row(1, layout.packed_size()), expected(1, layout.packed_size(), T(0));
      table.pack_gate_row(ih.data(), hh.data(), shape, row[0]);
      for (Index gate = 0; gate < 4; ++gate) {
        for (Index unit = 0; unit < units; ++unit) {
          const auto source = static_cast<std::size_t>(gate * units + unit);
          expected[0][layout.element(gate, unit)] = ih[source] + hh[source];
        }
      }
      CHECK(row.first() == expected.first());
      CHECK(row.guards_hold());
      table.pack_gate_row(ih.data(), nullptr, shape, row[0]);
      std::vector<T> back(ih.size(), T(7));
      table.unpack_gate_row(row[0], shape, back.data(), false);
      CHECK(back == ih);
    }
  });
}

TEST_CASE_TEMPLATE("compact panels: a step and its gradient are bit for bit those of panels of whole registers", T,
                   float, double) {
  for_each_isa([] {
    const Kernels<T>& table = kernels<T>();
    Random random(22);
    for (const GateShape& shape : compact_shapes<T>()) {
      const Index units = shape.units, x_size = 3, most_rows = 13;
      CAPTURE(units);
      const std::vector<T> weight_ih = converted<T>(random.numbers(4 * units * x_size));
      const std::vector<T> weight_hh = converted<T>(random.numbers(4 * units * units));
      const std::vector<T> bias = converted<T>(random.numbers(4 * units));
      const PackedStep<T> whole({units, 4, 4}, x_size, weight_ih, weight_hh, bias);
      const PackedStep<T> compact(shape, x_size, weight_ih, weight_hh, bias);
      const Index panels = whole.layout.panels(), padded = whole.layout.padded();
      const Rows<T> x(random, most_rows, x_size), h_prev(random, most_rows, units), c_prev(most_rows, padded, T(0));
      for (Index row = 0; row < most_rows; ++row) {
        for (Index unit = 0; unit < units; ++unit) c_prev[row][unit] = static_cast<T>(random.number());
      }
      const auto args_of = [&](const PackedStep<T>& packed, const StepResult<T>& result, Index rows,
                               const std::vector<const T*>& starts) {
        StepArgs<T> args{};
        args.rows = rows;
        args.units = units;
        args.start = starts.data();
        args.x = x.pointers();
        args.x_size = x_size;
        args.x_weights = packed.x_weights[0];
        args.h_prev = h_prev.pointers();
        args.h_size = units;
        args.h_weights = packed.h_weights[0];
        args.c_prev = c_prev.pointers();
        args.c = result.c.pointers();
        args.h = result.h.pointers();
        args.gates = result.gates.pointers();
        args.last_registers = packed.layout.shape.last_registers;
        return args;
      };
      const std::vector<const T*> whole_starts(most_rows, whole.bias[0]), starts(most_rows, compact.bias[0]);
      for (const Index rows : {1, 2, 3, 4, 5, 6, 13}) {
        CAPTURE(rows);
        const StepResult<T> expected(rows, whole.layout), result(rows, compact.layout), apart(rows, compact.layout);
        table.step(args_of(whole, expected, rows, whole_starts), 0, panels);
        StepArgs<T> args = args_of(compact, result, rows, starts);
        args.last_panel_first = rows % 2 == 0;
        table.step(args, 0, panels);
        CHECK(equal(result, compact.layout, expected, whole.layout, rows, true));
        CHECK(result.guards_hold());
        args = args_of(compact, apart, rows, starts);
        args.gates = nullptr;
        for (Index panel = panels; panel-- > 0;) table.step(args, panel, panel + 1);
        CHECK(equal(apart, compact.layout, expected, whole.layout, rows, false));
        CHECK(apart.guards_hold());

        if (const Index size = compact.layout.packed_size(); size * static_cast<Index>(sizeof(T)) % 64 == 0) {
          Buffer<T> past(rows * size);
          std::vector<T*> past_rows;
          for (Index row = 0; row < rows; ++row) past_rows.push_back(past.data() + row * size);
          args.gates = past_rows.data();
          args.gates_bypass_cache = true;
          table.step(args, 0, panels);
          bool same = true;
          for (Index row = 0; row < rows; ++row) {
            same = same && same_bits<T>(past_rows[static_cast<std::size_t>(row)], result.gates[row], size);
          }
          CHECK(same);
        }

        const Rows<T> d_h(rows, padded, T(0)), d_c_later(rows, padded, T(0)), d_output(random, rows, units);
        for (Index row = 0; row < rows; ++row) {
          for (Index unit = 0; unit < units; ++unit) {
            d_h[row][unit] = static_cast<T>(random.number());
            d_c_later[row][unit] = static_cast<T>(random.number());
          }
        }
        const Index panel_width = 4 * whole.layout.lanes, panel_stride = rows * panel_width;
        const auto differentiate = [&](const PackedStep<T>& packed, const StepResult<T>& step, const Rows<T>& d_c,
                                       const Rows<T>& d_gates, Index cut) {
          std::vector<T*> gate_rows;
          for (Index row = 0; row < rows; ++row) {
            std::copy_n(d_c_later[row], padded, d_c[row]);
            gate_rows.push_back(d_gates[0] + row * panel_width);
          }
          CellBackwardArgs<T> cell{rows,
                                   units,
                                   step.gates.pointers(),
                                   step.c.pointers(),
                                   c_prev.pointers(),
                                   d_h.pointers(),
                                   d_output.pointers(),
                                   d_c.pointers(),
                                   gate_rows.data(),
                                   panel_stride};
          cell.last_registers = packed.layout.shape.last_registers;
          table.cell_backward(cell, cut, panels);
          table.cell_backward(cell, 0, cut);
          CHECK(d_c.guards_hold());
          CHECK(d_gates.guards_hold());
        };
        const Rows<T> whole_d_c(rows, padded), whole_d_gates(1, panels * panel_stride);
        differentiate(whole, expected, whole_d_c, whole_d_gates, 0);
        for (const Index cut : {Index(0), panels / 2, panels}) {
          const Rows<T> d_c(rows, padded), d_gates(1, panels * panel_stride);
          differentiate(compact, result, d_c, d_gates, cut);
          bool same = true;
          for (Index row = 0; row < rows; ++row) {
            for (Index unit = 0; unit < units; ++unit) {
              same = same && same_bits(d_c[row][unit], whole_d_c[row][unit]);
              for (Index gate = 0; gate < 4; ++gate) {
                const Index at = unit / whole.layout.lanes * panel_stride + row * panel_width;
                same = same && same_bits(d_gates[0][at + compact.layout.place(gate, unit)],
                                         whole_d_gates[0][at + whole.layout.place(gate, unit)]);
              }
            }
          }
          CHECK(same);
        }
      }
    }
  });
}

}  // namespace latchwork::test
