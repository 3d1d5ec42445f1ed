// Packed weights say where their panels lie and how large they are. What the kernels pack and read must agree with it.
#include "weights/panels.hpp"

#include <doctest/doctest.h>

#include <vector>

#include "support/kernels.hpp"
#include "support/support.hpp"

namespace latchwork::test {
namespace {

// Checks that panels follow one another without a gap, and that each has the width that the shape says.
void check_shape(const PanelShape& shape, Index register_size) {
  Index end = 0, widest = 0;
  for (Index panel = 0; panel < shape.count(); ++panel) {
    CHECK(shape.first_column(panel) == end);
    CHECK(shape.begin(panel, 7) == 7 * end);
    CHECK(shape.registers_of(panel) > 0);
    CHECK(shape.registers_of(panel) <= shape.registers());
    const Index width = shape.registers_of(panel) * register_size;
    end += width;
    widest = std::max(widest, width);
  }
  CHECK(shape.row_size() == end);
  CHECK(shape.width() == widest);
  CHECK(shape.register_size() == register_size);
}

// Numbers that all differ from each other and are exact in float.
template <class T>
std::vector<T> numbered(Index size) {
  std::vector<T> values;
  for (Index at = 0; at < size; ++at) values.push_back(static_cast<T>(at + 1));
  return values;
}

}  // namespace

TEST_CASE_TEMPLATE("panels: columns lie where the shape says", T, float, double) {
  for_each_isa([] {
    const Index lanes = kernels<T>().units, depth = 3;
    for (Index columns = 1; columns <= 9 * lanes; ++columns) {
      CAPTURE(columns);
      const PanelShape shape = PanelShape::of_columns(columns, lanes);
      check_shape(shape, lanes);
      CHECK(shape.columns() == columns);
      CHECK(shape.row_size() == round_up(columns, lanes));
      WeightPanels<T> panels;
      panels.resize(shape, depth);
      CHECK(panels.bytes() == shape.row_size() * depth * static_cast<Index>(sizeof(T)));
      CHECK(panels.format() == (sizeof(T) == 4 ? WeightFormat::float32 : WeightFormat::float64));
      const std::vector<T> weight = numbered<T>(columns * depth);
      kernels<T>().pack_transposed_panels(weight.data(), columns, depth, panels.data());
      Index wrong = 0;
      for (Index panel = 0; panel < shape.count(); ++panel) {
        const Index first = shape.first_column(panel), width = shape.registers_of(panel) * lanes;
        for (Index k = 0; k < depth; ++k) {
          for (Index at = 0; at < width; ++at) {
            const T expected = first + at < columns ? weight[static_cast<std::size_t>((first + at) * depth + k)] : T(0);
            const Index place = place_in_panel<T>(at, shape.registers_of(panel), k, depth);
            wrong += panels.data()[shape.begin(panel, depth) + place] != expected;
          }
        }
      }
      CHECK(wrong == 0);
    }
  });
}

TEST_CASE_TEMPLATE("panels: gates lie where the shape says, also in a compact panel", T, float, double) {
  for_each_isa([] {
    const Index lanes = kernels<T>().units, depth = 3;
    for (const Index gates : {3, 4}) {
      for (Index units = 1; units <= 3 * lanes; ++units) {
        for (const bool compact : {false, true}) {
          if (compact && gates == 3) continue;
          CAPTURE(units);
          CAPTURE(compact);
          const GateShape gate_shape{units, gates, compact ? compact_registers(units, gates, lanes) : gates};
          const PanelShape shape = PanelShape::of_gates(gate_shape, lanes);
          check_shape(shape, lanes);
          CHECK(shape.columns() == shape.row_size());
          CHECK(shape.registers() == gates);
          WeightPanels<T> panels;
          panels.resize(shape, depth);
          const std::vector<T> weight = numbered<T>(gates * units * depth);
          kernels<T>().pack_gate_panels(weight.data(), gate_shape, depth, panels.data(), 0, shape.count());
          Index wrong = 0;
          for (Index gate = 0; gate < gates; ++gate) {
            for (Index unit = 0; unit < units; ++unit) {
              const Index panel = unit / lanes, width = shape.registers_of(panel) * lanes;
              for (Index k = 0; k < depth; ++k) {
                const Index at = gate * (width / gates) + unit % lanes;
                const Index place = shape.begin(panel, depth) + place_in_panel<T>(at, width / lanes, k, depth);
                wrong += panels.data()[place] != weight[static_cast<std::size_t>((gate * units + unit) * depth + k)];
              }
            }
          }
          CHECK(wrong == 0);
        }
      }
    }
  });
}

TEST_CASE("panels: pieces of a shape cover every panel once and have nearly as many columns") {
  for (Index columns = 1; columns <= 300; ++columns) {
    const PanelShape shape = PanelShape::of_columns(columns, 8);
    for (Index pieces = 1; pieces <= 7; ++pieces) {
      CHECK(shape.piece_begin(pieces, 0) == 0);
      CHECK(shape.piece_begin(pieces, pieces) == shape.count());
      for (Index piece = 0; piece < pieces; ++piece) {
        const Index begin = shape.piece_begin(pieces, piece), end = shape.piece_begin(pieces, piece + 1);
        CHECK(begin <= end);
        CHECK(std::abs(shape.first_column(begin) - columns * piece / pieces) <= 16);  // half a panel
      }
    }
  }
}

TEST_CASE_TEMPLATE("panels: a product takes sizes and places from the panels", T, float, double) {
  for_each_isa([] {
    constexpr Index rows = 3, depth = 5;
    for (const Index columns : {1, 7, 70}) {
      WeightPanels<T> panels;
      panels.resize(PanelShape::of_columns(columns, kernels<T>().units), depth);
      const std::vector<T> weight = numbered<T>(columns * depth), a = numbered<T>(rows * depth);
      kernels<T>().pack_transposed_panels(weight.data(), columns, depth, panels.data());
      std::vector<T> y(static_cast<std::size_t>(rows * columns));
      std::vector<const T*> a_rows;
      std::vector<T*> y_rows;
      for (Index row = 0; row < rows; ++row) {
        a_rows.push_back(a.data() + row * depth);
        y_rows.push_back(y.data() + row * columns);
      }
      kernels<T>().product(product_of(panels, rows, a_rows.data(), y_rows.data()), 0, panels.count());
      std::vector<T> expected;  // sums of whole numbers are exact
      for (Index row = 0; row < rows; ++row) {
        for (Index column = 0; column < columns; ++column) {
          T sum = 0;
          for (Index k = 0; k < depth; ++k)
            sum += a_rows[static_cast<std::size_t>(row)][k] * weight[static_cast<std::size_t>(column * depth + k)];
          expected.push_back(sum);
        }
      }
      CHECK(same_bits(y, expected));
    }
  });
}

TEST_CASE("panels: resize() to the same size keeps the memory, clear() gives it back") {
  WeightPanels<float> panels;
  CHECK(panels.bytes() == 0);
  panels.resize(PanelShape::of_columns(33, 16), 4);
  const float* const address = panels.data();
  panels.resize(PanelShape::of_columns(47, 16), 4);
  CHECK(panels.data() == address);
  CHECK(panels.columns() == 47);
  panels.clear();
  CHECK(panels.bytes() == 0);
  CHECK(panels.count() == 0);
}

}  // namespace latchwork::test
