// Packing: each function of the kernels' table against plain loops. kernels/table.hpp describes the layouts.
#include <doctest/doctest.h>

#include "support/kernel_arrays.hpp"

namespace latchwork::test {

TEST_CASE_TEMPLATE("packing: every element is where the layout says, padding is zero, and gradients are unpacked", T,
                   float, double) {
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
        Rows<T> gradient(1, packed_size * k_size, T(7));
        for (Index gate = 0; gate < gates; ++gate) {
          for (Index unit = 0; unit < layout.padded(units); ++unit) {
            for (Index k = 0; k < k_size; ++k) {
              gradient[0][layout.gate_gradient_element(gate, unit, k, k_size)] = at(gate, unit, k);
              right = right && panels[0][layout.gate_element(gate, unit, k, k_size)] == at(gate, unit, k);
            }
          }
        }
        CHECK(right);
        CHECK(panels.guards_hold());

        std::vector<T> back(weight.size(), T(7));
        table.unpack_gate_panels(gradient[0], {units, gates, gates}, k_size, back.data(), false, cut, end);
        table.unpack_gate_panels(gradient[0], {units, gates, gates}, k_size, back.data(), false, 0, cut);
        CHECK(back == weight);
        table.unpack_gate_panels(gradient[0], {units, gates, gates}, k_size, back.data(), true, 0, end);
        for (T& value : back) value /= 2;
        CHECK(back == weight);

        const Index gate_row_count = gates * units;
        Rows<T> gate_rows(1, gate_row_count * layout.padded(k_size), T(7));
        table.pack_gate_rows(weight.data(), {units, gates, gates}, k_size, gate_rows[0], cut, end);
        table.pack_gate_rows(weight.data(), {units, gates, gates}, k_size, gate_rows[0], 0, cut);
        right = true;
        for (Index gate = 0; gate < gates; ++gate) {
          for (Index unit = 0; unit < units; ++unit) {
            for (Index column = 0; column < layout.padded(k_size); ++column) {
              const T value = gate_rows[0][layout.column_element(column, unit * gates + gate, k_size, gate_row_count)];
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
        Rows<T> plain_gradient(1, layout.padded(columns) * units, T(7));
        Rows<T> transposed(1, layout.padded(units) * columns, T(7));
        table.pack_transposed_panels(weight.data(), units, columns, transposed[0]);
        right = true;
        for (Index row = 0; row < layout.padded(units); ++row) {
          for (Index column = 0; column < layout.padded(columns); ++column) {
            const T value =
                row < units && column < columns ? weight[static_cast<std::size_t>(row * columns + column)] : T(0);
            if (row < units) {
              right = right && plain[0][layout.column_element(column, row, columns, units)] == value;
              plain_gradient[0][layout.column_gradient_element(column, row, columns, units)] = value;
            }
            if (column < columns) {
              right = right && transposed[0][layout.column_element(row, column, units, columns)] == value;
            }
          }
        }
        CHECK(right);
        CHECK(plain.guards_hold());
        CHECK(transposed.guards_hold());
        std::fill(back.begin(), back.end(), T(0));
        table.unpack_panels(plain_gradient[0], units, columns, back.data(), false);
        CHECK(back == weight);
        table.unpack_panels(plain_gradient[0], units, columns, back.data(), true);
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

}  // namespace latchwork::test
