// Activations, softmax and optimiser kernels, each against plain loops.
#include <doctest/doctest.h>

#include <bit>
#include <numeric>

#include "machine/float_state.hpp"
#include "reference/activations.hpp"
#include "support/kernels.hpp"
#include "support/support.hpp"

namespace latchwork::test {
namespace {

double exact_sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }
double exact_tanh(double x) { return std::tanh(x); }
double exact_exponential(double x) { return std::exp(x); }
double exact_selu(double x) { return 1.0507009873554804934 * (x > 0.0 ? x : 1.6732632423543772848 * std::expm1(x)); }
double exact_silu(double x) { return x / (1.0 + std::exp(-x)); }
double exact_gelu(double x) { return x * 0.5 * std::erfc(-x / std::sqrt(2.0)); }
double exact_gelu_tanh(double x) {
  const double u = std::sqrt(2.0 / std::acos(-1.0)) * (x + 0.044715 * x * x * x);
  return x / (1.0 + std::exp(-2.0 * u));
}

// The distance in units of the last place of `exact` as a float.
double ulps(float actual, double exact) {
  const double place = std::ldexp(1.0, std::ilogb(exact) - 23);
  return std::abs(static_cast<double>(actual) - exact) / place;
}

// About one in a thousand of all finite floats, with every exponent and both signs.
std::vector<float> sample_of_all_floats() {
  std::vector<float> sample;
  for (std::uint64_t bits = 0; bits <= 0xFFFFFFFFu; bits += 1009) {
    const float value = std::bit_cast<float>(static_cast<std::uint32_t>(bits));
    if (std::isfinite(value)) sample.push_back(value);
  }
  return sample;
}

// `negligible`: results up to this size may be flushed to zero. `limit`: in units of the last place.
void check_ulps(const Elementwise<float>& function, double (*exact)(double), const std::vector<float>& x,
                double negligible = static_cast<double>(std::numeric_limits<float>::min()), double limit = 4.0) {
  std::vector<float> y(x.size());
  function(x.data(), static_cast<Index>(x.size()), y.data());
  double worst = 0.0;
  float worst_at = 0.0f;
  bool subnormal_results_small = true;
  for (std::size_t k = 0; k < x.size(); ++k) {
    const double expected = exact(static_cast<double>(x[k]));
    if (std::abs(expected) < negligible) {
      subnormal_results_small = subnormal_results_small && std::abs(static_cast<double>(y[k])) <= negligible;
      continue;
    }
    if (std::abs(expected) > static_cast<double>(std::numeric_limits<float>::max())) {
      CHECK(std::isinf(y[k]));
      continue;
    }
    const double error = ulps(y[k], expected);
    if (!(error <= worst)) {
      worst = error;
      worst_at = x[k];
    }
  }
  CAPTURE(worst_at);
  CAPTURE(worst);
  CHECK(worst <= limit);
  CHECK(subnormal_results_small);
}

// Checks sigmoid or tanh in double, in the range in which they are neither flushed to zero nor constant, and for small
// arguments.
void check_double(const Elementwise<double>& function, double (*exact)(double)) {
  Random random(21);
  std::vector<double> x;
  for (int k = 0; k < 100000; ++k) {
    x.push_back(random.number() * (random.chance(0.5) ? 40.0 : 700.0));
    x.push_back(std::ldexp(random.number(), static_cast<int>(random.between(-300, 3))));
  }
  std::vector<double> y(x.size());
  function(x.data(), static_cast<Index>(x.size()), y.data());
  double worst = 0.0;
  for (std::size_t k = 0; k < x.size(); ++k) {
    const double expected = exact(x[k]);
    const double error = std::abs(y[k] - expected) / std::abs(expected);
    if (!(error <= worst)) worst = error;
  }
  CHECK(worst <= 2e-15);
}

}  // namespace

TEST_CASE("sigmoid and tanh: at most 4 ulp off in float, over all exponents") {
  const std::vector<float> sample = sample_of_all_floats();
  for_each_isa([&] {
    check_ulps(Elementwise<float>("sigmoid"), exact_sigmoid, sample);
    check_ulps(Elementwise<float>("tanh"), exact_tanh, sample);
  });
}

TEST_CASE("exponential, SELU, SiLU and GELU: a few ulp off in float, over all exponents") {
  const std::vector<float> sample = sample_of_all_floats();
  // x sigmoid(x) and x Phi(x) are flushed to zero where the exponential in them is, up to 100 times the smallest
  // number.
  const double smallest = std::numeric_limits<float>::min();
  for_each_isa([&] {
    check_ulps(Elementwise<float>("exponential"), exact_exponential, sample);
    check_ulps(Elementwise<float>("selu"), exact_selu, sample);
    check_ulps(Elementwise<float>("silu"), exact_silu, sample, 100.0 * smallest);
    check_ulps(Elementwise<float>("gelu"), exact_gelu, sample, 100.0 * smallest, 8.0);
  });
}

TEST_CASE_TEMPLATE("GELU by tanh: as near as its argument allows", T, float, double) {
  for_each_isa([] {
    Random random(28);
    std::vector<T> x;
    for (int k = 0; k < 100000; ++k) x.push_back(static_cast<T>(random.number() * 40.0));
    std::vector<T> y(x.size());
    Elementwise<T>("gelu_tanh")(x.data(), static_cast<Index>(x.size()), y.data());
    double worst = 0.0;
    for (std::size_t k = 0; k < x.size(); ++k) {
      const double at = static_cast<double>(x[k]), expected = exact_gelu_tanh(at);
      // A rounding error of the sigmoid's argument u counts as u times itself.
      const double steepness = 1.0 + std::abs(1.6 * at + 0.0715 * at * at * at);
      if (std::abs(expected) < 100.0 * static_cast<double>(std::numeric_limits<T>::min())) continue;  // may be zero
      const double error = std::abs(static_cast<double>(y[k]) - expected) / (std::abs(expected) * steepness);
      if (!(error <= worst)) worst = error;
    }
    CHECK(worst <= 4.0 * static_cast<double>(std::numeric_limits<T>::epsilon()));
  });
}

TEST_CASE_TEMPLATE("activations whose slope follows from the input: limits and NaN", T, float, double) {
  for_each_isa([] {
    using Limits = std::numeric_limits<T>;
    const T infinity = Limits::infinity();
    const std::vector<T> x{infinity, -infinity, Limits::max(), Limits::lowest(), T(0), -T(0), Limits::quiet_NaN()};
    const FlushToZero flush_to_zero;
    for (const char* name : {"silu", "gelu", "gelu_tanh"}) {
      CAPTURE(name);
      const Elementwise<T> function(name);
      std::vector<T> y(x.size()), slope(x.size(), T(1));
      function(x.data(), 7, y.data());
      CHECK(y[0] == infinity);
      CHECK(y[1] == T(0));
      CHECK(y[2] == Limits::max());
      CHECK(y[3] == T(0));
      CHECK(y[4] == T(0));
      CHECK(y[5] == T(0));
      CHECK(std::isnan(y[6]));
      function.table->multiply_by_slope({function.number, T(0), T(0)}, x.data(), 7, slope.data());
      for (const std::size_t high : {0U, 2U}) CHECK(slope[high] == T(1));
      for (const std::size_t low : {1U, 3U}) CHECK(slope[low] == T(0));
      CHECK(slope[4] == T(0.5));
      CHECK(std::isnan(slope[6]));
    }
    std::vector<T> y(x.size());
    Elementwise<T>("exponential")(x.data(), 7, y.data());
    CHECK(y[0] == infinity);
    CHECK(y[1] == T(0));
    CHECK(y[2] == infinity);
    CHECK(y[3] == T(0));
    CHECK(y[4] == T(1));
    CHECK(std::isnan(y[6]));
  });
}

TEST_CASE_TEMPLATE("softmax and log_softmax: equal plain loops, with the gradient", T, float, double) {
  for_each_isa([] {
    Random random(29);
    const double tolerance = sizeof(T) == 4 ? 1e-6 : 2e-15;
    for (const char* name : {"softmax", "log_softmax"}) {
      const Activation activation{name};
      const ActivationArgs<T> args{activation_number(name), T(0), T(0)};
      for (const Index size : {1, 2, 7, 17, 31, 100}) {
        for (const double magnitude : {1.0, 30.0, 1000.0}) {
          CAPTURE(name);
          CAPTURE(size);
          CAPTURE(magnitude);
          std::vector<T> x = converted<T>(random.numbers(size)), d = converted<T>(random.numbers(size));
          for (T& value : x) value *= static_cast<T>(magnitude);
          const std::vector<double> exact = reference::activate_row(activation, converted<double>(x));
          const std::vector<double> gradient =
              reference::activate_row_backward(activation, converted<double>(x), converted<double>(d));
          std::vector<T> y(x.size() + 1, T(-12345));
          kernels<T>().activate(args, x.data(), size, y.data());
          CHECK(y.back() == T(-12345));
          y.pop_back();
          CHECK(difference(y, exact) < tolerance);
          kernels<T>().multiply_by_slope(args, y.data(), size, d.data());
          CHECK(difference(d, gradient) < 4.0 * tolerance);
          kernels<T>().activate(args, x.data(), size, x.data());
          CHECK(same_bits(x, y));
        }
      }
    }
  });
}

TEST_CASE_TEMPLATE("softmax: of infinite numbers", T, float, double) {
  for_each_isa([] {
    const T infinity = std::numeric_limits<T>::infinity(), nan = std::numeric_limits<T>::quiet_NaN();
    const auto of = [](const char* name, std::vector<T> x) {
      kernels<T>().activate({activation_number(name), T(0), T(0)}, x.data(), static_cast<Index>(x.size()), x.data());
      return x;
    };
    CHECK(of("softmax", {T(1), -infinity, T(1)}) == std::vector<T>{T(0.5), T(0), T(0.5)});
    CHECK(of("log_softmax", {T(1), -infinity})[1] == -infinity);
    for (const char* name : {"softmax", "log_softmax"}) {
      for (const std::vector<T>& row :
           {std::vector<T>{infinity, T(0)}, {-infinity, -infinity}, {T(0), nan}, {nan, T(0)}}) {
        for (const T value : of(name, row)) CHECK(std::isnan(value));
      }
    }
  });
}

TEST_CASE("GELU: nearly all digits in double") {
  // By a series of 50 digits.
  const std::vector<double> x{-37.0, -20.0, -8.5, -3.0, -1.25, -0.75, -1e-3, 1e-300, 0.5, 2.0, 6.0, 9.0};
  const std::vector<double> exact{-2.1184613523340934e-298, -5.5072482372124674e-88, -8.0576045988728206e-17,
                                  -0.0040496940948902836,   -0.13206221708356907,    -0.16997051428265115,
                                  -0.00049960105778608895,  5.0000000000000001e-301, 0.34573123063700655,
                                  1.9544997361036416,       5.9999999940804741,      9.0};
  for_each_isa([&] {
    std::vector<double> y(x.size());
    Elementwise<double>("gelu")(x.data(), static_cast<Index>(x.size()), y.data());
    for (std::size_t k = 0; k < x.size(); ++k) {
      CAPTURE(x[k]);
      CHECK(std::abs(y[k] - exact[k]) <= 2e-15 * std::abs(exact[k]));
    }
  });
}

TEST_CASE("sigmoid and tanh: nearly all digits in double") {
  for_each_isa([] {
    check_double(Elementwise<double>("sigmoid"), exact_sigmoid);
    check_double(Elementwise<double>("tanh"), exact_tanh);
    check_double(Elementwise<double>("exponential"), exact_exponential);
    check_double(Elementwise<double>("selu"), exact_selu);
    check_double(Elementwise<double>("silu"), exact_silu);
  });
}

TEST_CASE_TEMPLATE("sigmoid and tanh: exact limits, NaN stays NaN, tanh is odd", T, float, double) {
  for_each_isa([] {
    using Limits = std::numeric_limits<T>;
    const T infinity = Limits::infinity();
    const std::vector<T> x{infinity, -infinity, Limits::max(),       Limits::lowest(),
                           T(0),     -T(0),     Limits::quiet_NaN(), -Limits::quiet_NaN()};
    std::vector<T> y(x.size());
    const FlushToZero flush_to_zero;  // as at every entry point: subnormal numbers become zero
    Elementwise<T>("sigmoid")(x.data(), 8, y.data());
    CHECK(y[0] == T(1));
    CHECK(y[1] == T(0));
    CHECK(y[2] == T(1));
    CHECK(y[3] == T(0));
    CHECK(y[4] == T(0.5));
    CHECK(y[5] == T(0.5));
    CHECK(std::isnan(y[6]));
    CHECK(std::isnan(y[7]));
    Elementwise<T>("tanh")(x.data(), 8, y.data());
    CHECK(y[0] == T(1));
    CHECK(y[1] == T(-1));
    CHECK(y[2] == T(1));
    CHECK(y[3] == T(-1));
    CHECK(same_bits<T>({y[4], y[5]}, {T(0), -T(0)}));
    CHECK(std::isnan(y[6]));
    CHECK(std::isnan(y[7]));

    Random random(22);
    std::vector<T> plus, minus;
    for (int k = 0; k < 10000; ++k) {
      plus.push_back(static_cast<T>(std::ldexp(random.number(), static_cast<int>(random.between(-40, 6)))));
      minus.push_back(-plus.back());
    }
    Elementwise<T>("tanh")(plus.data(), 10000, plus.data());
    Elementwise<T>("tanh")(minus.data(), 10000, minus.data());
    for (T& value : minus) value = -value;
    CHECK(same_bits(plus, minus));
  });
}

TEST_CASE_TEMPLATE("activations: tails have the same bits, and nothing beyond them is written", T, float, double) {
  for_each_isa([] {
    Random random(23);
    const std::vector<T> x = converted<T>(random.numbers(100));
    for (const Elementwise<T>& function :
         {Elementwise<T>("sigmoid"), Elementwise<T>("tanh"), Elementwise<T>("gelu"), Elementwise<T>("exponential")}) {
      std::vector<T> whole(100);
      function(x.data(), 100, whole.data());
      for (const Index size : {0, 1, 7, 17, 31, 99}) {
        for (const Index from : {0, 1}) {
          std::vector<T> part(100, T(-12345));
          function(x.data() + from, size, part.data() + from);
          std::vector<T> expected(100, T(-12345));
          std::copy_n(whole.begin() + from, size, expected.begin() + from);
          CHECK(same_bits(part, expected));
        }
      }
    }
  });
}

TEST_CASE_TEMPLATE("softmax_cross_entropy: loss and gradient equal plain loops", T, float, double) {
  for_each_isa([] {
    Random random(24);
    const double tolerance = sizeof(T) == 4 ? 1e-6 : 2e-15;
    for (const Index classes : {1, 2, 7, 17, 31, 100}) {
      for (const double magnitude : {1.0, 30.0, 1000.0}) {
        CAPTURE(classes);
        CAPTURE(magnitude);
        std::vector<T> logits = converted<T>(random.numbers(classes));
        for (T& logit : logits) logit *= static_cast<T>(magnitude);
        const Index label = random.between(0, classes - 1);
        const double largest = static_cast<double>(*std::max_element(logits.begin(), logits.end()));
        double sum = 0.0;
        for (const T logit : logits) sum += std::exp(static_cast<double>(logit) - largest);
        std::vector<double> expected;
        for (const T logit : logits) expected.push_back(0.25 * std::exp(static_cast<double>(logit) - largest) / sum);
        expected[static_cast<std::size_t>(label)] -= 0.25;
        const double loss = largest + std::log(sum) - static_cast<double>(logits[static_cast<std::size_t>(label)]);

        std::vector<T> gradient(logits.size());
        const auto alone = kernels<T>().softmax_cross_entropy({classes, logits.data(), label, T(0.25), nullptr});
        const auto both = kernels<T>().softmax_cross_entropy({classes, logits.data(), label, T(0.25), gradient.data()});
        CHECK(alone.largest == both.largest);
        CHECK(alone.sum == both.sum);
        const double label_logit = static_cast<double>(logits[static_cast<std::size_t>(label)]);
        const double actual = std::log(static_cast<double>(both.sum)) + static_cast<double>(both.largest) - label_logit;
        CHECK(difference<double, double>({actual}, {loss}) < tolerance);
        CHECK(difference(gradient, expected) < tolerance);
        kernels<T>().softmax_cross_entropy({classes, logits.data(), label, T(0.25), logits.data()});
        CHECK(same_bits(logits, gradient));
      }
    }
  });
}

TEST_CASE_TEMPLATE("adam: PyTorch's rule, coupled and decoupled decay", T, float, double) {
  for_each_isa([] {
    Random random(25);
    for (const Index size : {1, 7, 17, 31, 100}) {
      for (const bool decoupled : {false, true}) {
        CAPTURE(size);
        const std::vector<double> gradient = random.numbers(size);
        std::vector<double> p = random.numbers(size), m = random.numbers(size), v = random.numbers(size);
        for (double& value : v) value = std::abs(value);
        std::vector<T> parameters = converted<T>(p), first = converted<T>(m), second = converted<T>(v);
        const std::vector<T> g = converted<T>(gradient);
        const T decay = decoupled ? T(0) : T(0.01), shrink = decoupled ? T(0.875) : T(1);
        kernels<T>().adam({size, parameters.data(), g.data(), first.data(), second.data(), T(0.5), T(0.875), T(0.96875),
                           T(1e-8), T(0.125), T(0.75), decay, shrink});
        for (std::size_t k = 0; k < p.size(); ++k) {
          const double slope = 0.5 * gradient[k] + static_cast<double>(decay) * p[k];
          m[k] = 0.875 * m[k] + 0.125 * slope;
          v[k] = 0.96875 * v[k] + 0.03125 * slope * slope;
          p[k] = static_cast<double>(shrink) * p[k] - 0.125 * m[k] / (std::sqrt(v[k]) / 0.75 + 1e-8);
        }
        const double tolerance = sizeof(T) == 4 ? 1e-6 : 1e-14;
        CHECK(difference(parameters, p) < tolerance);
        CHECK(difference(first, m) < tolerance);
        CHECK(difference(second, v) < tolerance);
      }
    }
  });
}

TEST_CASE_TEMPLATE("sgd: PyTorch's rule, with momentum, dampening, nesterov and decay", T, float, double) {
  for_each_isa([] {
    Random random(26);
    for (const Index size : {1, 7, 17, 31, 100}) {
      for (int variant = 0; variant < 4; ++variant) {
        CAPTURE(size);
        CAPTURE(variant);
        const bool momentum = variant > 0, first = variant == 1, nesterov = variant == 3;
        const double dampening = nesterov ? 0.0 : 0.25;
        const std::vector<double> gradient = random.numbers(size);
        std::vector<double> p = random.numbers(size), v = random.numbers(size);
        std::vector<T> parameters = converted<T>(p), velocity = converted<T>(v);
        const std::vector<T> g = converted<T>(gradient);
        kernels<T>().sgd({size, parameters.data(), g.data(), momentum ? velocity.data() : nullptr, first, T(0.5),
                          T(0.125), T(0.875), static_cast<T>(dampening), T(0.0625), nesterov});
        for (std::size_t k = 0; k < p.size(); ++k) {
          double slope = 0.5 * gradient[k] + 0.0625 * p[k];
          if (momentum) {
            v[k] = first ? slope : 0.875 * v[k] + (1.0 - dampening) * slope;
            slope = nesterov ? slope + 0.875 * v[k] : v[k];
          }
          p[k] -= 0.125 * slope;
        }
        const double tolerance = sizeof(T) == 4 ? 1e-6 : 1e-14;
        CHECK(difference(parameters, p) < tolerance);
        CHECK(difference(velocity, v) < tolerance);
      }
    }
  });
}

TEST_CASE_TEMPLATE("sum_of_squares: the sum is a double, and does not overflow when a float would", T, float, double) {
  for_each_isa([] {
    Random random(27);
    for (const Index size : {0, 1, 7, 8, 17, 31, 100, 10000}) {
      CAPTURE(size);
      std::vector<T> x = converted<T>(random.numbers(size));
      for (T& value : x) value *= T(1e25);
      double expected = 0.0;
      for (const T value : x) expected += static_cast<double>(value) * static_cast<double>(value);
      CHECK(kernels<T>().sum_of_squares(x.data(), size) == doctest::Approx(expected).epsilon(1e-13));
    }
  });
}

}  // namespace latchwork::test
