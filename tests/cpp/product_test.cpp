// Products: each function of the kernels' table against plain loops, bit for bit.
#include <doctest/doctest.h>

#include "support/kernel_arrays.hpp"

namespace latchwork::test {

TEST_CASE_TEMPLATE("product: each result is one chain of multiply-adds, in ascending k, bit for bit", T, float,
                   double) {
  for_each_isa([] {
    const Kernels<T>& table = kernels<T>();
    const Layout<T> layout(table);
    Random random(12);
    for (const Index columns : {1, 7, 8, 17, 31, 64, 100, 410}) {
      // The last two are deep enough for AVX2's largest tiles, and leave over 3 and 7 of the k that these do at once.
      for (const Index depth : {1, 6, 40, 163, 167}) {
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
              right = right && same_bits(y[row][column], chain);
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

TEST_CASE_TEMPLATE("product: rows of great depth give the bits that each gives alone", T, float, double) {
  for_each_isa([] {
    const Kernels<T>& table = kernels<T>();
    const Layout<T> layout(table);
    Random random(15);
    // The first shape has so many rows that their depth is cut. The weights of the second are larger than L2, so their
    // panels are cut.
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

TEST_CASE_TEMPLATE("product: blocks of the left factor, pieces of panels and an interrupted chain change no bit", T,
                   float, double) {
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

    // The first 9 of the depth, then the other 15 continue the chain: through `start`, and in place.
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
      CHECK(same_bits(continued[0], whole[row], columns));
    }
    table.product({rows, columns, nullptr, tail_rows.data(), depth - first, depth - first, 0, tail.data(),
                   in_place.pointers(), true},
                  0, panel_count);
    CHECK(same_bits(in_place.all(), whole.all()));
    CHECK(in_place.guards_hold());
  });
}

TEST_CASE_TEMPLATE("product: a left factor whose elements take turns between gates gives the bits of a contiguous one",
                   T, float, double) {
  for_each_isa([] {
    const Kernels<T>& table = kernels<T>();
    const Layout<T> layout(table);
    Random random(14);
    const Index block_units = 5, block_stride = 61, gate_stride = 7, last_gate_stride = 6;
    for (const Index gates : {2, 3, 4}) {
      for (const Index units : {1, 5, 7, 23}) {
        for (const Index rows : {1, 2, 9}) {
          CAPTURE(gates);
          CAPTURE(units);
          CAPTURE(rows);
          const Index columns = 3 * layout.lanes + 1, depth = gates * units, block = gates * block_units;
          const std::vector<T> weight = converted<T>(random.numbers(depth * columns));
          const Rows<T> a(random.numbers(rows * depth), depth);
          const Rows<T> in_gates(rows, (units / block_units + 1) * block_stride, T(99));
          const Index last_block = (units - 1) / block_units;
          for (Index row = 0; row < rows; ++row) {
            for (Index unit = 0; unit < units; ++unit) {
              const Index at_block = unit / block_units,
                          stride = at_block == last_block ? last_gate_stride : gate_stride;
              for (Index gate = 0; gate < gates; ++gate) {
                in_gates[row][at_block * block_stride + gate * stride + unit % block_units] =
                    a[row][unit * gates + gate];
              }
            }
          }
          Buffer<T> panels(layout.padded(columns) * depth);
          table.pack_panels(weight.data(), depth, columns, panels.data());
          const Rows<T> contiguous(rows, columns), alternating(rows, columns);
          table.product({rows, columns, nullptr, a.pointers(), depth, depth, 0, panels.data(), contiguous.pointers()},
                        0, layout.column_panels(columns));
          table.product({rows, columns, nullptr, in_gates.pointers(), depth, block, block_stride, panels.data(),
                         alternating.pointers(), false, 4, false, gates, gate_stride, last_gate_stride},
                        0, layout.column_panels(columns));
          CHECK(same_bits(alternating.all(), contiguous.all()));
          CHECK(alternating.guards_hold());
        }
      }
    }
  });
}

}  // namespace latchwork::test
