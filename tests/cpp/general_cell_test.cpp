// The general epilogue by itself: it gives the plain cell bit for bit, and every activation over its whole range.
#include <doctest/doctest.h>

#include "machine/buffer.hpp"
#include "machine/dispatch.hpp"
#include "reference/activations.hpp"
#include "support/kernels.hpp"
#include "support/mask_number.hpp"
#include "support/support.hpp"

namespace latchwork::test {
namespace {

template <class T>
CellVariant<T> plain_variant() {
  CellVariant<T> variant{};
  variant.gates = 4;
  const Index sigmoid = activation_number("sigmoid"), tanh = activation_number("tanh");
  variant.input = variant.forget = variant.output = {sigmoid, T(0), T(0)};
  variant.candidate = variant.cell = {tanh, T(0), T(0)};
  return variant;
}

// One step of some rows without a product, from given pre-activations. The rows of each array lie one after another.
template <class T>
struct Step {
  Step(Index row_count, Index unit_count, const std::vector<T>& pre, const std::vector<T>& c)
      : rows(row_count),
        units(unit_count),
        padded((units + kernels<T>().units - 1) / kernels<T>().units * kernels<T>().units),
        start(pre),
        c_prev(c),
        c_new(c.size(), T(7)),
        h(static_cast<std::size_t>(rows * units), T(7)),
        gates(pre.size(), T(7)) {
    for (Index row = 0; row < rows; ++row) {
      start_rows.push_back(start.data() + row * 4 * padded);
      c_prev_rows.push_back(c_prev.data() + row * padded);
      c_rows.push_back(c_new.data() + row * padded);
      h_rows.push_back(h.data() + row * units);
      gate_rows.push_back(gates.data() + row * 4 * padded);
    }
  }

  StepArgs<T> args() const {
    StepArgs<T> args{};
    args.rows = rows;
    args.units = units;
    args.start = start_rows.data();
    args.h_prev = c_prev_rows.data();  // not read, because h_size is 0
    args.c_prev = c_prev_rows.data();
    args.c = c_rows.data();
    args.h = h_rows.data();
    args.gates = gate_rows.data();
    return args;
  }

  Index rows, units, padded;
  std::vector<T> start, c_prev, c_new, h, gates;
  std::vector<const T*> start_rows, c_prev_rows;
  std::vector<T*> c_rows, h_rows, gate_rows;
};

}  // namespace

TEST_CASE_TEMPLATE("general cell: without a variant it is the plain one, bit for bit", T, float, double) {
  for_each_isa([] {
    Random random(81);
    const Kernels<T>& table = kernels<T>();
    const CellVariant<T> variant = plain_variant<T>();
    for (const Index units : {1, 7, 17, 31, 100, 401}) {
      for (const Index rows : {1, 2, 7, 50, 101}) {
        CAPTURE(units);
        CAPTURE(rows);
        const Index padded = (units + table.units - 1) / table.units * table.units;
        std::vector<T> pre = converted<T>(random.numbers(rows * 4 * padded));
        for (T& value : pre) value *= T(6);
        std::vector<T> c = converted<T>(random.numbers(rows * padded));
        for (Index row = 0; row < rows; ++row) {
          for (Index unit = units; unit < padded; ++unit) c[static_cast<std::size_t>(row * padded + unit)] = T(0);
        }
        Step<T> plain(rows, units, pre, c), general(rows, units, pre, c);
        table.step(plain.args(), 0, padded / table.units);
        GeneralStepArgs<T> args{};
        args.step = general.args();
        args.variant = &variant;
        table.general_step(args, 0, padded / table.units);
        CHECK(same_bits(general.h, plain.h));
        CHECK(same_bits(general.gates, plain.gates));
        for (Index row = 0; row < rows; ++row) {  // padding is zero in `general`; in `plain` it does not matter
          const auto at = static_cast<std::size_t>(row);
          CHECK(same_bits(general.c_rows[at], plain.c_rows[at], units));
        }
      }
    }
  });
}

TEST_CASE_TEMPLATE("general cell: every activation over its range, at infinity and for NaN", T, float, double) {
  constexpr T infinity = std::numeric_limits<T>::infinity();
  for_each_isa([] {
    Random random(82);
    const Kernels<T>& table = kernels<T>();
    const KernelTable& list = current_kernels();
    for (Index number = 0; number < list.activation_count; ++number) {
      const std::string name = list.activations[number].name;
      CAPTURE(name);
      CHECK(activation_number(name) == number);
      const ActivationKind kind = list.activations[number].kind;
      if (kind == ActivationKind::by_row) continue;  // no gate may have it
      for (const bool defaults : {true, false}) {
        Activation activation{name};
        if (!defaults && list.activations[number].parameters > 0) activation.alpha = 0.375;
        if (!defaults && list.activations[number].parameters > 1) activation.beta = 0.625;
        CellVariant<T> variant = plain_variant<T>();
        variant.input = {number, static_cast<T>(activation.alpha.value_or(list.activations[number].alpha)),
                         static_cast<T>(activation.beta.value_or(list.activations[number].beta))};
        const Index units = 4096;
        std::vector<T> pre(4 * units, T(0));
        std::vector<T> x = converted<T>(random.numbers(units));
        for (Index unit = 0; unit < units; ++unit) {
          x[static_cast<std::size_t>(unit)] *= T(unit % 4 == 0   ? 1e-3
                                                 : unit % 4 == 1 ? 1.0
                                                 : unit % 4 == 2 ? 12.0
                                                                 : 100.0);
        }
        x[0] = infinity;
        x[1] = -infinity;
        x[2] = std::numeric_limits<T>::quiet_NaN();
        x[3] = T(0);
        const auto place = [&](Index unit) {
          return static_cast<std::size_t>(unit / table.units * 4 * table.units + unit % table.units);
        };
        for (Index unit = 0; unit < units; ++unit) pre[place(unit)] = x[static_cast<std::size_t>(unit)];
        Step<T> step(1, units, pre, std::vector<T>(units, T(0)));
        GeneralStepArgs<T> args{};
        args.step = step.args();
        args.variant = &variant;
        table.general_step(args, 0, units / table.units);
        bool right = true;
        // The gate's values: what is kept of it, unless that is the input.
        std::vector<T> values;
        for (Index unit = 0; unit < units; ++unit) values.push_back(step.gates[place(unit)]);
        if (kind == ActivationKind::by_input) {
          CHECK(same_bits(values, x));
          table.activate(variant.input, x.data(), units, values.data());
        }
        for (Index unit = 0; unit < units; ++unit) {
          const double at = static_cast<double>(x[static_cast<std::size_t>(unit)]);
          const double actual = static_cast<double>(values[static_cast<std::size_t>(unit)]);
          if (std::isnan(at)) {
            right = right && std::isnan(actual);
            continue;
          }
          if (std::isinf(at) && name == "softsign") {  // the reference's formula gives NaN here
            right = right && actual == (at > 0 ? 1.0 : -1.0);
            continue;
          }
          if (at == -std::numeric_limits<double>::infinity() && kind == ActivationKind::by_input) {
            // Likewise; here nothing flushes subnormals to zero.
            right = right && std::abs(actual) <= 100.0 * static_cast<double>(std::numeric_limits<T>::min());
            continue;
          }
          const double expected = reference::activate(activation, at).value;
          if (std::abs(expected) > static_cast<double>(std::numeric_limits<T>::max())) {
            right = right && std::isinf(actual) && (actual > 0) == (expected > 0);
            continue;
          }
          if (std::isinf(expected)) {
            right = right && actual == expected;
            continue;
          }
          // The error is relative to the value, unless numbers of size 1 cancel in it.
          const bool line = name == "affine" || name == "hard_sigmoid";
          const double scale = std::max(line ? 1.0 : 1e-3, std::abs(expected));
          // A rounding error in the exponent of an exponential counts as often as the exponent says.
          const double tolerance = (kind == ActivationKind::by_input ? 10.0 : 1.0) * (sizeof(T) == 4 ? 5e-7 : 1e-15);
          right = right && std::abs(actual - expected) <= tolerance * scale;
        }
        CHECK(right);
      }
    }
  });
}

TEST_CASE_TEMPLATE("masks: a row's factors are those of the generator, for any size", T, float, double) {
  for_each_isa([] {
    for (const Index size : {1, 3, 4, 31, 32, 33, 64, 100, 257}) {
      for (const double probability : {0.0, 0.25, 0.3, 1.0}) {
        const MaskKey key{0x123456789ABCDEF0u, MaskOn::candidate, 3, 7};
        const auto counter = mask_counter(key, 5, 11, 0);
        std::vector<T> factors(static_cast<std::size_t>(size) + 3, T(9));
        MaskArgs<T> args{};
        args.seed = key.seed;
        std::copy(counter.begin(), counter.end(), args.counter);
        args.probability = probability;
        args.below = T(2);
        args.above = T(4);
        args.size = size;
        args.factors = factors.data();
        kernels<T>().mask(args);
        bool right = true;
        for (Index unit = 0; unit < size; ++unit) {
          const T expected = mask_number(key, 5, 11, unit) < probability ? T(2) : T(4);
          right = right && factors[static_cast<std::size_t>(unit)] == expected;
        }
        CHECK(right);
        CHECK(factors[static_cast<std::size_t>(size)] == T(9));
      }
    }
  });
}

}  // namespace latchwork::test
