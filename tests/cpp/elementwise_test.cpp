// Activations, softmax and optimiser kernels, each against plain loops.
#include <doctest/doctest.h>

#include <bit>
#include <numeric>

#include "machine/float_state.hpp"
#include "support/kernels.hpp"
#include "support/support.hpp"

namespace latchwork::test {
namespace {

double exact_sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }
double exact_tanh(double x) { return std::tanh(x); }

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

void check_ulps(const Elementwise<float>& function, double (*exact)(double), const std::vector<float>& x) {
  std::vector<float> y(x.size());
  function(x.data(), static_cast<Index>(x.size()), y.data());
  double worst = 0.0;
  float worst_at = 0.0f;
  bool subnormal_results_small = true;
  for (std::size_t k = 0; k < x.size(); ++k) {
    const double expected = exact(static_cast<double>(x[k]));
    const double smallest = std::numeric_limits<float>::min();
    if (std::abs(expected) < smallest) {  // may be flushed to zero
      subnormal_results_small = subnormal_results_small && std::abs(static_cast<double>(y[k])) <= smallest;
      continue;
    }
    const double error = ulps(y[k], expected);
    if (!(error <= worst)) {
      worst = error;
      worst_at = x[k];
    }
  }
  CAPTURE(worst_at);
  CHECK(worst <= 4.0);
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

TEST_CASE("sigmoid and tanh: nearly all digits in double") {
  for_each_isa([] {
    check_double(Elementwise<double>("sigmoid"), exact_sigmoid);
    check_double(Elementwise<double>("tanh"), exact_tanh);
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

TEST_CASE_TEMPLATE("sigmoid and tanh: tails have the same bits, and nothing beyond them is written", T, float, double) {
  for_each_isa([] {
    Random random(23);
    const std::vector<T> x = converted<T>(random.numbers(100));
    for (const Elementwise<T>& function : {Elementwise<T>("sigmoid"), Elementwise<T>("tanh")}) {
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
