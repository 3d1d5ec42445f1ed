// The sums over rows that gradients with respect to weights consist of: each function of the kernels' table against
// plain loops, bit for bit.
#include <doctest/doctest.h>

#include "support/kernel_arrays.hpp"

namespace latchwork::test {

TEST_CASE_TEMPLATE("outer and add_rows: one chain over k, continued from call to call, bit for bit", T, float, double) {
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

        const auto run = [&](std::vector<Index> cuts) {  // in one call from each cut to the next
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

        // add_rows takes rows of any number of registers.
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
          right = right && same_bits(sum[0][lane], chain);
        }
        CHECK(right);
        CHECK(sum.guards_hold());
      }
    }
  });
}

TEST_CASE_TEMPLATE("scatter_rows: each row is added, in order, to the one with its number, bit for bit", T, float,
                   double) {
  for_each_isa([] {
    const Kernels<T>& table = kernels<T>();
    Random random(15);
    const Index depth = 23, sums = 5;  // no row has number 3
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

}  // namespace latchwork::test
