// One step of a layer, forward and backward, by the kernels' table and by the reference.
#include <doctest/doctest.h>

#include "reference/cell.hpp"
#include "support/kernel_arrays.hpp"

namespace latchwork::test {
namespace {

// One step of one layer for some rows, as the reference takes it and packed for the kernels.
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
      // The last two are deep enough for AVX2's largest tiles, and leave over 3 and 7 of the k that these do at once.
      for (const Index x_size : {13, 163, 167}) {
        CAPTURE(units);
        CAPTURE(x_size);
        const Index rows = 11, h_size = units;
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
        StepArgs<T> bypassing = problem.args(past.c.pointers(), past.h.pointers(), gate_rows.data());
        bypassing.gates_bypass_cache = true;
        table.step(bypassing, 0, panels);
        for (Index row = 0; row < rows; ++row)
          std::copy_n(gate_rows[static_cast<std::size_t>(row)], packed, past.gates[row]);
        CHECK(same_bits(past.gates.all(), whole.gates.all()));
        CHECK(same_bits(past.h.all(), whole.h.all()));

        // Each row alone, the last panel first, gates not stored.
        const StepResult<T> apart(rows, units, problem.padded);
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

        // With W x computed before the step, and c written in place of c_prev.
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
      // The gates' gradients lie panel by panel, as outer() reads them: [panel][row][4U].
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
          const Index panels = layout.panels(units),
                      cut = adds_output ? panels / 2 : 0;  // one call for each piece of the panels
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
        reference::Weights d_weights = problem.weights;  // the gradient of a bias is that of the pre-activation
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
