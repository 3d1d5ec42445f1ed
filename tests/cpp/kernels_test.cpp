// Packing, products and the cell, each function of the table against plain loops; see kernels/table.hpp for the
// layouts.
#include <doctest/doctest.h>

#include "machine/buffer.hpp"
#include "machine/dispatch.hpp"
#include "reference/cell.hpp"
#include "support/support.hpp"

namespace latchwork::test {
namespace {

constexpr Index odd_sizes[] = {1, 7, 17, 31, 100};

// Rows as far apart and in as odd an order as a caller may have them, with a guard after each.
template <class T>
class Rows {
 public:
  Rows(Index count, Index size, T fill = T(0)) : size_(size), stride_(size + guard), values_(count * stride_) {
    std::fill_n(values_.data(), count * stride_, sentinel);
    for (Index row = 0; row < count; ++row) {
      pointers_.push_back(values_.data() + (count - 1 - row) * stride_);
      std::fill_n(pointers_.back(), size, fill);
    }
  }
  Rows(const std::vector<double>& values, Index size) : Rows(static_cast<Index>(values.size()) / size, size) {
    for (std::size_t k = 0; k < values.size(); ++k) {
      const auto place = static_cast<Index>(k);
      pointers_[static_cast<std::size_t>(place / size)][place % size] = static_cast<T>(values[k]);
    }
  }

  T* operator[](Index row) const { return pointers_[static_cast<std::size_t>(row)]; }
  T* const* pointers() const { return pointers_.data(); }
  std::vector<T> all() const {
    std::vector<T> values;
    for (const T* row : pointers_) values.insert(values.end(), row, row + size_);
    return values;
  }
  bool guards_hold() const {
    for (const T* row : pointers_) {
      for (Index k = size_; k < stride_; ++k) {
        if (row[k] != sentinel) return false;
      }
    }
    return true;
  }

 private:
  static constexpr Index guard = 19;
  static constexpr T sentinel = T(-12345);
  Index size_, stride_;
  Buffer<T> values_;
  std::vector<T*> pointers_;
};

template <class T>
Buffer<T> buffer_of(const std::vector<T>& values) {
  Buffer<T> buffer(static_cast<Index>(values.size()));
  std::copy(values.begin(), values.end(), buffer.data());
  return buffer;
}

template <class T>
struct Layout {  // of panels and packed rows, told once more from the description in table.hpp
  explicit Layout(const Kernels<T>& kernels, Index gate_count = 4) : lanes(kernels.units), gates(gate_count) {}

  Index padded(Index size) const { return (size + lanes - 1) / lanes * lanes; }
  Index panels(Index units) const { return padded(units) / lanes; }
  Index column_panels(Index columns) const { return (columns + 4 * lanes - 1) / (4 * lanes); }
  Index packed(Index gate, Index unit) const { return (unit / lanes * gates + gate) * lanes + unit % lanes; }
  Index gate_element(Index gate, Index unit, Index k, Index k_size) const {
    return ((unit / lanes * k_size + k) * gates + gate) * lanes + unit % lanes;
  }
  Index column_element(Index column, Index k, Index columns, Index k_size) const {
    const Index first = column / (4 * lanes) * 4 * lanes;
    const Index width = std::min(4 * lanes, padded(columns - first));
    return first * k_size + k * width + column - first;
  }

  Index lanes, gates;
};

template <class T>
const Kernels<T>& kernels() {
  return kernels_of<T>(current_kernels());
}

template <class T>
constexpr double tolerance = sizeof(T) == 4 ? 2e-6 : 4e-15;

}  // namespace

TEST_CASE_TEMPLATE("packing: every element where the layout says, padding zero, and back again", T, float, double) {
  for_each_isa([] {
    const Kernels<T>& table = kernels<T>();
    std::vector<std::pair<Index, Index>> sizes_and_gates;
    for (const Index units : odd_sizes) {
      for (const Index gates : {2, 3, 4}) sizes_and_gates.push_back({units, gates});
    }
    Random random(11);
    for (const auto& size : sizes_and_gates) {
      const Index units = size.first, gates = size.second;
      const Layout<T> layout(table, gates);
      for (const Index k_size : {1, 5, 16, 33}) {
        CAPTURE(units);
        CAPTURE(gates);
        CAPTURE(k_size);
        const std::vector<T> weight = converted<T>(random.numbers(gates * units * k_size));
        const auto at = [&](Index gate, Index unit, Index k) {
          return unit < units ? weight[static_cast<std::size_t>((gate * units + unit) * k_size + k)] : T(0);
        };
        const Index packed_size = gates * layout.padded(units);

        Rows<T> panels(1, packed_size * k_size, T(7));
        const Index cut = layout.panels(units) / 2, end = layout.panels(units);
        table.pack_gate_panels(weight.data(), {units, gates, gates}, k_size, panels[0], cut, end);
        table.pack_gate_panels(weight.data(), {units, gates, gates}, k_size, panels[0], 0, cut);
        bool right = true;
        for (Index gate = 0; gate < gates; ++gate) {
          for (Index unit = 0; unit < layout.padded(units); ++unit) {
            for (Index k = 0; k < k_size; ++k) {
              right = right && panels[0][layout.gate_element(gate, unit, k, k_size)] == at(gate, unit, k);
            }
          }
        }
        CHECK(right);
        CHECK(panels.guards_hold());

        std::vector<T> back(weight.size(), T(7));
        table.unpack_gate_panels(panels[0], {units, gates, gates}, k_size, back.data(), false, cut, end);
        table.unpack_gate_panels(panels[0], {units, gates, gates}, k_size, back.data(), false, 0, cut);
        CHECK(back == weight);
        table.unpack_gate_panels(panels[0], {units, gates, gates}, k_size, back.data(), true, 0, end);
        for (T& value : back) value /= 2;
        CHECK(back == weight);

        Rows<T> gate_rows(1, packed_size * layout.padded(k_size), T(7));
        table.pack_gate_rows(weight.data(), {units, gates, gates}, k_size, gate_rows[0], cut, end);
        table.pack_gate_rows(weight.data(), {units, gates, gates}, k_size, gate_rows[0], 0, cut);
        right = true;
        for (Index gate = 0; gate < gates; ++gate) {
          for (Index unit = 0; unit < layout.padded(units); ++unit) {
            for (Index column = 0; column < layout.padded(k_size); ++column) {
              const T value =
                  gate_rows[0][layout.column_element(column, layout.packed(gate, unit), k_size, packed_size)];
              right = right && value == (column < k_size ? at(gate, unit, column) : T(0));
            }
          }
        }
        CHECK(right);
        CHECK(gate_rows.guards_hold());

        // The same numbers as an ordinary matrix, (units, gates x k_size).
        const Index columns = gates * k_size;
        Rows<T> plain(1, layout.padded(columns) * units, T(7));
        table.pack_panels(weight.data(), units, columns, plain[0]);
        Rows<T> transposed(1, layout.padded(units) * columns, T(7));
        table.pack_transposed_panels(weight.data(), units, columns, transposed[0]);
        right = true;
        for (Index row = 0; row < layout.padded(units); ++row) {
          for (Index column = 0; column < layout.padded(columns); ++column) {
            const T value =
                row < units && column < columns ? weight[static_cast<std::size_t>(row * columns + column)] : T(0);
            if (row < units) right = right && plain[0][layout.column_element(column, row, columns, units)] == value;
            if (column < columns) {
              right = right && transposed[0][layout.column_element(row, column, units, columns)] == value;
            }
          }
        }
        CHECK(right);
        CHECK(plain.guards_hold());
        CHECK(transposed.guards_hold());
        std::fill(back.begin(), back.end(), T(0));
        table.unpack_panels(plain[0], units, columns, back.data(), false);
        CHECK(back == weight);
        table.unpack_panels(plain[0], units, columns, back.data(), true);
        for (T& value : back) value /= 2;
        CHECK(back == weight);
      }

      const std::vector<T> ih = converted<T>(random.numbers(gates * units));
      const std::vector<T> hh = converted<T>(random.numbers(gates * units));
      Rows<T> row(1, gates * layout.padded(units), T(7));
      table.pack_gate_row(ih.data(), hh.data(), {units, gates, gates}, row[0]);
      std::vector<T> sum(ih.size(), T(7));
      table.unpack_gate_row(row[0], {units, gates, gates}, sum.data(), false);
      bool right = true;
      for (std::size_t k = 0; k < sum.size(); ++k) right = right && sum[k] == ih[k] + hh[k];
      for (Index unit = units; unit < layout.padded(units); ++unit)
        right = right && row[0][layout.packed(gates - 1, unit)] == 0;
      CHECK(right);
      CHECK(row.guards_hold());
      table.unpack_gate_row(row[0], {units, gates, gates}, sum.data(), true);
      CHECK(sum.back() == 2 * (ih.back() + hh.back()));
      table.pack_gate_row(ih.data(), nullptr, {units, gates, gates}, row[0]);
      table.unpack_gate_row(row[0], {units, gates, gates}, sum.data(), false);
      CHECK(sum == ih);
      table.pack_gate_row(nullptr, nullptr, {units, gates, gates}, row[0]);
      CHECK(row.all() == std::vector<T>(row.all().size(), T(0)));
    }
  });
}

TEST_CASE_TEMPLATE("product: each result is one chain of multiply-adds, in ascending k, to the bit", T, float, double) {
  for_each_isa([] {
    const Kernels<T>& table = kernels<T>();
    const Layout<T> layout(table);
    Random random(12);
    for (const Index columns : {1, 7, 8, 17, 31, 64, 100, 410}) {
      for (const Index depth : {1, 6, 40}) {
        for (const Index rows : {0, 1, 2, 3, 5, 8, 13}) {
          CAPTURE(columns);
          CAPTURE(depth);
          CAPTURE(rows);
          const std::vector<T> weight = converted<T>(random.numbers(depth * columns));
          const Rows<T> a(random.numbers(rows * depth), depth);
          const Rows<T> start(random.numbers(layout.padded(columns)), layout.padded(columns));
          Buffer<T> panels(layout.padded(columns) * depth);
          table.pack_panels(weight.data(), depth, columns, panels.data());
          const Rows<T> y(rows, columns, T(7));
          const bool with_start = rows != 2;
          table.product({rows, columns, with_start ? start[0] : nullptr, a.pointers(), depth, depth, 0, panels.data(),
                         y.pointers()},
                        0, layout.column_panels(columns));

          bool right = true;
          for (Index row = 0; row < rows; ++row) {
            for (Index column = 0; column < columns; ++column) {
              T chain = with_start ? start[0][column] : T(0);
              for (Index k = 0; k < depth; ++k) {
                chain = multiply_add(a[row][k], weight[static_cast<std::size_t>(k * columns + column)], chain);
              }
              right = right && y[row][column] == chain;
            }
          }
          CHECK(right);
          CHECK(y.guards_hold());

          const Rows<T> backwards(rows, columns, T(7));
          table.product({rows, columns, with_start ? start[0] : nullptr, a.pointers(), depth, depth, 0, panels.data(),
                         backwards.pointers(), false, 4, true},
                        0, layout.column_panels(columns));
          CHECK(same_bits(backwards.all(), y.all()));
          CHECK(backwards.guards_hold());
        }
      }
    }
  });
}

TEST_CASE_TEMPLATE("product: rows of great depth have the bits that each has alone", T, float, double) {
  for_each_isa([] {
    const Kernels<T>& table = kernels<T>();
    const Layout<T> layout(table);
    Random random(15);
    // Many rows whose depth is cut; weights beyond the second cache, whose panels are.
    struct Shape {
      Index columns, depth, rows;
    };
    const Index beyond_cache = 2'700'000 / static_cast<Index>(sizeof(T));
    for (const Shape& shape : {Shape{5 * layout.lanes + 3, 704, 130}, Shape{beyond_cache / 1300 + 3, 1300, 13}}) {
      const Index columns = shape.columns, depth = shape.depth, rows = shape.rows;
      const Index block = 64, block_stride = (rows + 1) * block;
      CAPTURE(depth);
      const std::vector<T> weight = converted<T>(random.numbers(depth * columns));
      Buffer<T> panels(layout.padded(columns) * depth);
      table.pack_panels(weight.data(), depth, columns, panels.data());
      const Buffer<T> a = buffer_of(converted<T>(random.numbers((depth + block - 1) / block * block_stride)));
      std::vector<const T*> a_rows;
      for (Index row = 0; row < rows; ++row) a_rows.push_back(a.data() + row * block);
      const Rows<T> start(random.numbers(layout.padded(columns)), layout.padded(columns));
      const Rows<T> together(rows, columns), alone(rows, columns);
      const auto run = [&](Index first, Index count, const Rows<T>& y, bool last_panel_first) {
        table.product({count, columns, start[0], a_rows.data() + first, depth, block, block_stride, panels.data(),
                       y.pointers() + first, false, 4, last_panel_first},
                      0, layout.column_panels(columns));
      };
      for (Index row = 0; row < rows; ++row) run(row, 1, alone, false);
      for (const bool last_panel_first : {false, true}) {
        run(0, rows, together, last_panel_first);
        CHECK(same_bits(together.all(), alone.all()));
        CHECK(together.guards_hold());
      }
    }
  });
}

TEST_CASE_TEMPLATE("product: blocks of a, pieces of panels and an interrupted chain change no bit", T, float, double) {
  for_each_isa([] {
    const Kernels<T>& table = kernels<T>();
    const Layout<T> layout(table);
    Random random(13);
    const Index columns = 10 * layout.lanes + 3, depth = 24, block = 7, block_stride = 11, rows = 4;
    const Index columns_padded = layout.padded(columns), panel_count = layout.column_panels(columns);
    const std::vector<T> weight = converted<T>(random.numbers(depth * columns));
    const Rows<T> a(random.numbers(rows * depth), depth);
    Buffer<T> panels(columns_padded * depth);
    table.pack_panels(weight.data(), depth, columns, panels.data());
    const Rows<T> whole(rows, columns);
    table.product({rows, columns, nullptr, a.pointers(), depth, depth, 0, panels.data(), whole.pointers()}, 0,
                  panel_count);

    const Rows<T> blocked_a(rows, (depth / block + 1) * block_stride, T(99));
    for (Index row = 0; row < rows; ++row) {
      for (Index k = 0; k < depth; ++k) blocked_a[row][k / block * block_stride + k % block] = a[row][k];
    }
    const Rows<T> blocked(rows, columns);
    for (Index panel = panel_count; panel-- > 0;) {
      table.product(
          {rows, columns, nullptr, blocked_a.pointers(), depth, block, block_stride, panels.data(), blocked.pointers()},
          panel, panel + 1);
    }
    CHECK(same_bits(blocked.all(), whole.all()));

    // Depth 9, then 15 more from where that stopped: through `start`, and in place.
    const Index first = 9;
    Buffer<T> head(columns_padded * first), tail(columns_padded * (depth - first));
    table.pack_panels(weight.data(), first, columns, head.data());
    table.pack_panels(weight.data() + first * columns, depth - first, columns, tail.data());
    std::vector<const T*> tail_rows;
    for (Index row = 0; row < rows; ++row) tail_rows.push_back(a[row] + first);
    const Rows<T> in_place(rows, columns);
    table.product({rows, columns, nullptr, a.pointers(), first, first, 0, head.data(), in_place.pointers()}, 0,
                  panel_count);
    for (Index row = 0; row < rows; ++row) {
      const Rows<T> start(1, columns_padded), continued(1, columns);
      std::copy_n(in_place[row], columns, start[0]);
      table.product({1, columns, start[0], tail_rows.data() + row, depth - first, depth - first, 0, tail.data(),
                     continued.pointers()},
                    0, panel_count);
      CHECK(std::memcmp(continued[0], whole[row], static_cast<std::size_t>(columns) * sizeof(T)) == 0);
    }
    table.product({rows, columns, nullptr, tail_rows.data(), depth - first, depth - first, 0, tail.data(),
                   in_place.pointers(), true},
                  0, panel_count);
    CHECK(same_bits(in_place.all(), whole.all()));
    CHECK(in_place.guards_hold());
  });
}

TEST_CASE_TEMPLATE("outer and add_rows: one chain over k, continued from call to call, to the bit", T, float, double) {
  for_each_isa([] {
    const Kernels<T>& table = kernels<T>();
    const Layout<T> layout(table);
    Random random(14);
    for (const Index columns : odd_sizes) {
      for (Index registers = 1; registers <= 4; ++registers) {
        CAPTURE(columns);
        CAPTURE(registers);
        const Index depth = 13, width = registers * layout.lanes;
        const Rows<T> a(random.numbers(depth * columns), columns);
        const Index b_stride = width + registers % 2 * 5;
        const Buffer<T> b = buffer_of(converted<T>(random.numbers(depth * b_stride)));
        const std::vector<T> before = converted<T>(random.numbers(columns * width));

        const auto run = [&](std::vector<Index> cuts) {  // from one cut of k to the next
          Rows<T> c(1, columns * width);
          std::copy(before.begin(), before.end(), c[0]);
          for (std::size_t piece = 0; piece + 1 < cuts.size(); ++piece) {
            const Index from = cuts[piece], count = cuts[piece + 1] - from;
            const Index blocks = (columns + table.outer_block - 1) / table.outer_block;
            Rows<T> packed(1, count * blocks * table.outer_block);
            table.pack_outer(a.pointers() + from, count / 2, columns, packed[0], 0, count);
            table.pack_outer(a.pointers() + from + count / 2, count - count / 2, columns, packed[0], count / 2, count);
            CHECK(packed.guards_hold());
            table.outer({count, columns, packed[0], registers, b.data() + from * b_stride, b_stride, c[0]});
          }
          CHECK(c.guards_hold());
          return c.all();
        };
        std::vector<T> expected = before;
        for (Index j = 0; j < columns; ++j) {
          for (Index lane = 0; lane < width; ++lane) {
            T& chain = expected[static_cast<std::size_t>(j * width + lane)];
            for (Index k = 0; k < depth; ++k) chain = multiply_add(a[k][j], b.data()[k * b_stride + lane], chain);
          }
        }
        CHECK(same_bits(run({0, depth}), expected));
        CHECK(same_bits(run({0, 1, 6, depth}), expected));

        // As wide as any number of registers: here the columns' outputs side by side.
        const Index sums = std::min<Index>(columns, 7) * layout.lanes;
        const Index stride = sums + registers % 2 * 5;
        const Buffer<T> rows = buffer_of(converted<T>(random.numbers(depth * stride)));
        Rows<T> sum(1, sums);
        std::copy_n(before.begin(), sums, sum[0]);
        table.add_rows(rows.data(), stride, 4, sums, sum[0]);
        table.add_rows(rows.data() + 4 * stride, stride, depth - 4, sums, sum[0]);
        bool right = true;
        for (Index lane = 0; lane < sums; ++lane) {
          T chain = before[static_cast<std::size_t>(lane)];
          for (Index k = 0; k < depth; ++k) chain += rows.data()[k * stride + lane];
          right = right && sum[0][lane] == chain;
        }
        CHECK(right);
        CHECK(sum.guards_hold());
      }
    }
  });
}

TEST_CASE_TEMPLATE("scatter_rows: each row is added, in order, to the one with its number, to the bit", T, float,
                   double) {
  for_each_isa([] {
    const Kernels<T>& table = kernels<T>();
    Random random(15);
    const Index depth = 23, sums = 5;  // of which number 3 never comes
    for (Index registers = 1; registers <= 4; ++registers) {
      CAPTURE(registers);
      const Index width = registers * table.units, stride = 4 * table.units;
      const Buffer<T> rows = buffer_of(converted<T>(random.numbers(depth * stride)));
      const std::vector<T> before = converted<T>(random.numbers(sums * stride));
      std::vector<Index> numbers;
      for (Index k = 0; k < depth; ++k) {
        const Index number = random.between(0, 3);
        numbers.push_back(number == 3 ? 4 : number);
      }
      std::vector<T> expected = before;
      for (Index k = 0; k < depth; ++k) {
        for (Index lane = 0; lane < width; ++lane) {
          const Index number = numbers[static_cast<std::size_t>(k)];
          expected[static_cast<std::size_t>(number * stride + lane)] += rows.data()[k * stride + lane];
        }
      }
      Rows<T> sum(1, sums * stride);
      std::copy(before.begin(), before.end(), sum[0]);
      table.scatter_rows(rows.data(), stride, numbers.data(), 9, width, sum[0], stride);
      table.scatter_rows(rows.data() + 9 * stride, stride, numbers.data() + 9, depth - 9, width, sum[0], stride);
      CHECK(same_bits(sum.all(), expected));
      CHECK(sum.guards_hold());
    }
  });
}

namespace {

// One step of one layer for some rows, in the reference's terms and packed.
template <class T>
struct StepProblem {
  StepProblem(Random& random, Index row_count, Index unit_count, Index x_count, Index h_count)
      : layout(kernels<T>()),
        rows(row_count),
        units(unit_count),
        x_size(x_count),
        h_size(h_count),
        padded(layout.padded(unit_count)),
        x(random.numbers(rows * x_size), x_size),
        h_prev(random.numbers(rows * h_size), h_size),
        c_prev(rows, padded),
        bias(1, 4 * padded),
        x_weights(4 * padded * x_size),
        h_weights(4 * padded * h_size),
        starts(static_cast<std::size_t>(rows), bias[0]) {
    weights.weight_ih = random.numbers(4 * units * x_size);
    weights.weight_hh = random.numbers(4 * units * h_size);
    weights.bias_ih = random.numbers(4 * units);
    weights.bias_hh = random.numbers(4 * units);
    for (Index row = 0; row < rows; ++row) {
      for (Index unit = 0; unit < units; ++unit) c_prev[row][unit] = static_cast<T>(random.number());
    }
    const Kernels<T>& table = kernels<T>();
    const auto pack = [&](const reference::Vector& weight, Index k_size, Buffer<T>& panels) {
      table.pack_gate_panels(converted<T>(weight).data(), {units, 4, 4}, k_size, panels.data(), 0,
                             layout.panels(units));
    };
    pack(weights.weight_ih, x_size, x_weights);
    pack(weights.weight_hh, h_size, h_weights);
    table.pack_gate_row(converted<T>(weights.bias_ih).data(), converted<T>(weights.bias_hh).data(), {units, 4, 4},
                        bias[0]);
  }

  reference::CellStep expected(Index row) const {
    const auto vector = [](const T* values, Index size) { return reference::Vector(values, values + size); };
    return reference::cell_forward(weights, vector(x[row], x_size), vector(h_prev[row], h_size),
                                   vector(c_prev[row], units));
  }

  StepArgs<T> args(T* const* c, T* const* h, T* const* gates) const {
    return {rows,
            units,
            starts.data(),
            x.pointers(),
            x_size,
            x_weights.data(),
            h_prev.pointers(),
            h_size,
            h_weights.data(),
            c_prev.pointers(),
            c,
            h,
            gates};
  }

  Layout<T> layout;
  Index rows, units, x_size, h_size, padded;
  Rows<T> x, h_prev, c_prev, bias;
  Buffer<T> x_weights, h_weights;
  std::vector<const T*> starts;
  reference::Weights weights;
};

template <class T>
struct StepResult {
  StepResult(Index rows, Index units, Index padded)
      : c(rows, padded, T(7)), h(rows, units, T(7)), gates(rows, 4 * padded, T(7)) {}
  Rows<T> c, h, gates;
};

}  // namespace

TEST_CASE_TEMPLATE("step: equals the reference", T, float, double) {
  for_each_isa([] {
    Random random(15);
    for (const Index units : odd_sizes) {
      for (const Index rows : {1, 2, 3, 7, 12}) {
        const StepProblem<T> problem(random, rows, units, random.between(1, 40), units > 1 ? units - rows % 2 : 1);
        const StepResult<T> result(rows, units, problem.padded);
        kernels<T>().step(problem.args(result.c.pointers(), result.h.pointers(), result.gates.pointers()), 0,
                          problem.layout.panels(units));
        CAPTURE(units);
        CAPTURE(rows);
        std::vector<double> expected, actual;
        for (Index row = 0; row < rows; ++row) {
          const reference::CellStep step = problem.expected(row);
          for (Index unit = 0; unit < units; ++unit) {
            const auto u = static_cast<std::size_t>(unit);
            expected.insert(expected.end(), {step.i[u], step.f[u], step.g[u], step.o[u], step.c[u], step.h[u]});
            for (Index gate = 0; gate < 4; ++gate) {
              actual.push_back(static_cast<double>(result.gates[row][problem.layout.packed(gate, unit)]));
            }
            actual.push_back(static_cast<double>(result.c[row][unit]));
            actual.push_back(static_cast<double>(result.h[row][unit]));
          }
        }
        CHECK(difference(actual, expected) < tolerance<T>);
        CHECK(result.c.guards_hold());
        CHECK(result.h.guards_hold());
        CHECK(result.gates.guards_hold());
      }
    }
  });
}

TEST_CASE_TEMPLATE("step: one row alone, panel by panel, in place, or from a projected x: the same bits", T, float,
                   double) {
  for_each_isa([] {
    const Kernels<T>& table = kernels<T>();
    Random random(16);
    for (const Index units : odd_sizes) {
      CAPTURE(units);
      const Index rows = 11, x_size = 13, h_size = units;
      const StepProblem<T> problem(random, rows, units, x_size, h_size);
      const Index panels = problem.layout.panels(units);
      const StepResult<T> whole(rows, units, problem.padded);
      table.step(problem.args(whole.c.pointers(), whole.h.pointers(), whole.gates.pointers()), 0, panels);

      for (const Index count : {Index{1}, rows}) {  // the last panel first
        const StepResult<T> turned(count, units, problem.padded), straight(count, units, problem.padded);
        StepArgs<T> args = problem.args(straight.c.pointers(), straight.h.pointers(), straight.gates.pointers());
        args.rows = count;
        table.step(args, 0, panels);
        args.c = turned.c.pointers();
        args.h = turned.h.pointers();
        args.gates = turned.gates.pointers();
        args.last_panel_first = true;
        table.step(args, 0, panels);
        CHECK(same_bits(turned.c.all(), straight.c.all()));
        CHECK(same_bits(turned.h.all(), straight.h.all()));
        CHECK(same_bits(turned.gates.all(), straight.gates.all()));
      }

      const StepResult<T> past(rows, units, problem.padded);  // gates past the caches
      const Index packed = 4 * problem.padded;
      Buffer<T> gates(rows * packed);
      std::vector<T*> gate_rows;
      for (Index row = 0; row < rows; ++row) gate_rows.push_back(gates.data() + row * packed);
      StepArgs<T> past_cache = problem.args(past.c.pointers(), past.h.pointers(), gate_rows.data());
      past_cache.gates_past_cache = true;
      table.step(past_cache, 0, panels);
      for (Index row = 0; row < rows; ++row)
        std::copy_n(gate_rows[static_cast<std::size_t>(row)], packed, past.gates[row]);
      CHECK(same_bits(past.gates.all(), whole.gates.all()));
      CHECK(same_bits(past.h.all(), whole.h.all()));

      const StepResult<T> apart(rows, units, problem.padded);  // rows alone, panels last first, no gates kept
      for (Index row = 0; row < rows; ++row) {
        StepArgs<T> args = problem.args(apart.c.pointers() + row, apart.h.pointers() + row, nullptr);
        args.rows = 1;
        args.x += row;
        args.h_prev += row;
        args.c_prev += row;
        for (Index panel = panels; panel-- > 0;) table.step(args, panel, panel + 1);
      }
      CHECK(same_bits(apart.c.all(), whole.c.all()));
      CHECK(same_bits(apart.h.all(), whole.h.all()));

      // x projected ahead; c in place.
      const Rows<T> projected(rows, 4 * problem.padded, T(7));
      table.product({rows, 4 * problem.padded, problem.bias[0], problem.x.pointers(), x_size, x_size, 0,
                     problem.x_weights.data(), projected.pointers()},
                    0, panels);
      const StepResult<T> continued(rows, units, problem.padded);
      const Rows<T> c(rows, problem.padded);
      for (Index row = 0; row < rows; ++row) std::copy_n(problem.c_prev[row], problem.padded, c[row]);
      StepArgs<T> args = problem.args(c.pointers(), continued.h.pointers(), continued.gates.pointers());
      args.start = projected.pointers();
      args.x = nullptr;
      args.x_weights = nullptr;
      args.c_prev = c.pointers();
      table.step(args, 0, panels);
      CHECK(same_bits(c.all(), whole.c.all()));
      CHECK(same_bits(continued.h.all(), whole.h.all()));
      CHECK(same_bits(continued.gates.all(), whole.gates.all()));
    }
  });
}

TEST_CASE_TEMPLATE(
    "cell_backward: equals the reference; the same bits for a row alone and for a sum of d_h and d_output", T, float,
    double) {
  for_each_isa([] {
    const Kernels<T>& table = kernels<T>();
    Random random(17);
    for (const Index units : odd_sizes) {
      CAPTURE(units);
      const Index rows = 5;
      const StepProblem<T> problem(random, rows, units, 3, 2);
      const Layout<T>& layout = problem.layout;
      const StepResult<T> step(rows, units, problem.padded);
      table.step(problem.args(step.c.pointers(), step.h.pointers(), step.gates.pointers()), 0, layout.panels(units));
      const Rows<T> d_h(rows, problem.padded), d_c_later(rows, problem.padded);
      const Rows<T> d_recurrent(rows, problem.padded), d_output(rows, units);
      for (Index row = 0; row < rows; ++row) {
        for (Index unit = 0; unit < units; ++unit) {
          d_recurrent[row][unit] = static_cast<T>(random.number());
          d_output[row][unit] = static_cast<T>(random.number());
          d_h[row][unit] = d_recurrent[row][unit] + d_output[row][unit];
          d_c_later[row][unit] = static_cast<T>(random.number());
        }
      }
      // Panel-major, as `outer` reads them: [panel][row][4U].
      const Index panel_stride = rows * 4 * layout.lanes;
      const auto run = [&](Index rows_at_once, bool adds_output, std::vector<T>& d_gates, std::vector<T>& d_c_prev) {
        const Rows<T> d_c(rows, problem.padded);
        const Rows<T> all_gates(1, layout.panels(units) * panel_stride, T(7));
        std::vector<T*> gate_rows;
        for (Index row = 0; row < rows; ++row) {
          std::copy_n(d_c_later[row], problem.padded, d_c[row]);
          gate_rows.push_back(all_gates[0] + row * 4 * layout.lanes);
        }
        for (Index row = 0; row < rows; row += rows_at_once) {
          const CellBackwardArgs<T> args{rows_at_once,
                                         units,
                                         step.gates.pointers() + row,
                                         step.c.pointers() + row,
                                         problem.c_prev.pointers() + row,
                                         adds_output ? d_recurrent.pointers() + row : d_h.pointers() + row,
                                         adds_output ? d_output.pointers() + row : nullptr,
                                         d_c.pointers() + row,
                                         gate_rows.data() + row,
                                         panel_stride};
          const Index panels = layout.panels(units), cut = adds_output ? panels / 2 : 0;  // pieces by themselves
          table.cell_backward(args, cut, panels);
          table.cell_backward(args, 0, cut);
        }
        CHECK(all_gates.guards_hold());
        CHECK(d_c.guards_hold());
        d_gates = all_gates.all();
        d_c_prev = d_c.all();
      };
      std::vector<T> d_gates, d_c_prev, d_gates_again, d_c_prev_again;
      run(rows, false, d_gates, d_c_prev);
      for (const auto& [rows_at_once, adds_output] : {std::pair(Index{1}, false), std::pair(rows, true)}) {
        run(rows_at_once, adds_output, d_gates_again, d_c_prev_again);
        CHECK(same_bits(d_gates_again, d_gates));
        CHECK(same_bits(d_c_prev_again, d_c_prev));
      }

      std::vector<double> expected, actual;
      for (Index row = 0; row < rows; ++row) {
        reference::Weights d_weights = problem.weights;  // the biases' gradient is that by the pre-activations
        std::fill(d_weights.bias_ih.begin(), d_weights.bias_ih.end(), 0.0);
        const reference::CellGradients d = reference::cell_backward(
            problem.weights, problem.expected(row), reference::Vector(d_h[row], d_h[row] + units),
            reference::Vector(d_c_later[row], d_c_later[row] + units), d_weights);
        for (Index unit = 0; unit < units; ++unit) {
          for (Index gate = 0; gate < 4; ++gate) {
            expected.push_back(d_weights.bias_ih[static_cast<std::size_t>(gate * units + unit)]);
            const Index place =
                unit / layout.lanes * panel_stride + row * 4 * layout.lanes + gate * layout.lanes + unit % layout.lanes;
            actual.push_back(static_cast<double>(d_gates[static_cast<std::size_t>(place)]));
          }
          expected.push_back(d.c_prev[static_cast<std::size_t>(unit)]);
          actual.push_back(static_cast<double>(d_c_prev[static_cast<std::size_t>(row * problem.padded + unit)]));
        }
      }
      CHECK(difference(actual, expected) < tolerance<T>);
    }
  });
}

}  // namespace latchwork::test
