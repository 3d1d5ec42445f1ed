// The core's own elementary functions against the C library's in long double, and their bits.
#include "machine/mathematics.hpp"

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "support/support.hpp"

namespace latchwork::test {
namespace {

namespace m = mathematics;

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double nan = std::numeric_limits<double>::quiet_NaN();

// How many ulps of the true value the value is off.
double ulps(double value, long double truth) {
  const auto rounded = static_cast<double>(truth);
  if (std::isinf(rounded) || rounded == 0.0) return value == rounded ? 0.0 : infinity;
  const double size = std::abs(rounded);
  const double ulp = std::nextafter(size, infinity) - size;
  return static_cast<double>(std::abs(static_cast<long double>(value) - truth) / static_cast<long double>(ulp));
}

// A grid of `count` numbers from `low` to `high`, each moved by chance.
std::vector<double> numbers_between(double low, double high, int count) {
  Random random(7);
  const std::vector<double> moves = random.numbers(count);
  std::vector<double> numbers;
  for (int i = 0; i < count; ++i) {
    const double place = (i + 0.5 + 0.5 * moves[static_cast<std::size_t>(i)]) / count;
    numbers.push_back(low + (high - low) * place);
  }
  return numbers;
}

// Numbers of every size.
std::vector<double> sizes(double low_exponent, double high_exponent, int count) {
  std::vector<double> numbers = numbers_between(low_exponent, high_exponent, count);
  for (double& number : numbers) number = std::exp2(number);
  return numbers;
}

template <class Function, class Oracle>
double largest_error(const std::vector<double>& numbers, Function&& function, Oracle&& oracle) {
  double largest = 0.0;
  for (const double x : numbers) {
    const double error = ulps(function(x), oracle(static_cast<long double>(x)));
    if (error > largest || std::isnan(error)) largest = error;
  }
  return largest;
}

bool same(double a, double b) {
  return std::isnan(b) ? std::isnan(a) : std::bit_cast<std::uint64_t>(a) == std::bit_cast<std::uint64_t>(b);
}

long double oracle_digamma(long double x) {
  long double moved = 0.0L;
  while (x < 40.0L) moved += 1.0L / x++;
  const long double square = 1.0L / (x * x);
  const long double series =
      square * (1.0L / 12 - square * (1.0L / 120 - square * (1.0L / 252 - square * (1.0L / 240 - square / 132))));
  return std::log(x) - 0.5L / x - series - moved;
}

}  // namespace

TEST_CASE("exp, expm1, log and log1p are at most 1 ulp off") {
  const auto exp = [](long double x) { return std::exp(x); };
  const auto expm1 = [](long double x) { return std::expm1(x); };
  const auto log = [](long double x) { return std::log(x); };
  const auto log1p = [](long double x) { return std::log1p(x); };
  for (const double bound : {1e-9, 0.01, 0.3, 1.0, 40.0, 708.0}) {
    CAPTURE(bound);
    CHECK(largest_error(numbers_between(-bound, bound, 50000), m::exp, exp) < 1.0);
    CHECK(largest_error(numbers_between(-bound, bound, 50000), m::expm1, expm1) < 1.0);
  }
  CHECK(largest_error(numbers_between(708.0, 709.78, 10000), m::exp, exp) < 1.0);
  CHECK(largest_error(sizes(-1022.0, 1023.99, 100000), m::log, log) < 1.0);
  CHECK(largest_error(sizes(-60.0, 1023.99, 100000), m::log1p, log1p) < 1.0);
  for (const double bound : {1e-12, 1e-6, 0.01, 0.3, 0.999}) {
    CAPTURE(bound);
    CHECK(largest_error(numbers_between(1.0 - bound, 1.0 + bound, 50000), m::log, log) < 1.0);
    CHECK(largest_error(numbers_between(-bound, bound, 50000), m::log1p, log1p) < 1.0);
  }
}

TEST_CASE("sin and cos are at most 1 ulp off up to a million") {
  const auto sin = [](long double x) { return std::sin(x); };
  const auto cos = [](long double x) { return std::cos(x); };
  for (const double bound : {1e-8, 0.01, 0.79, 10.0, 1e3, 1e6}) {
    CAPTURE(bound);
    CHECK(largest_error(numbers_between(-bound, bound, 100000), m::sin, sin) < 1.0);
    CHECK(largest_error(numbers_between(-bound, bound, 100000), m::cos, cos) < 1.0);
  }
  std::vector<double> quarters;  // the closest to multiples of pi / 2, where one of the two is close to zero
  for (int quarter = -600000; quarter < 600000; quarter += 11) quarters.push_back(quarter * 1.5707963267948966);
  CHECK(largest_error(quarters, m::sin, sin) < 1.0);
  CHECK(largest_error(quarters, m::cos, cos) < 1.0);
}

TEST_CASE("pow is at most 1 ulp off") {
  for (const double exponent : {-3.5, -1.0, 0.1, 0.5, 2.0, 3.0, 17.25, 100.0, 700.0}) {
    CAPTURE(exponent);
    const double range = std::min(1020.0, 1020.0 / std::abs(exponent));
    const auto error = largest_error(
        sizes(-range, range, 30000), [&](double base) { return m::pow(base, exponent); },
        [&](long double base) { return std::pow(base, static_cast<long double>(exponent)); });
    CHECK(error < 1.0);
  }
  for (const double base : {0.9, 0.999, 0.9999999, 1.0000001, 1.5, 10.0}) {
    CAPTURE(base);
    const double range = 700.0 / std::abs(std::log(base));
    const auto error = largest_error(
        numbers_between(-range, range, 30000), [&](double exponent) { return m::pow(base, exponent); },
        [&](long double exponent) { return std::pow(static_cast<long double>(base), exponent); });
    CHECK(error < 1.0);
  }
  for (const double base : {-1.0, -2.0, -0.5}) {
    for (const double exponent : {-3.0, -2.0, 3.0, 4.0}) CHECK(m::pow(base, exponent) == std::pow(base, exponent));
  }
}

TEST_CASE("log_gamma and digamma are at most 2 ulp or 1e-15 off") {
  std::vector<double> numbers = sizes(-60.0, 60.0, 20000);
  for (const double x : numbers_between(0.01, 40.0, 40000)) numbers.push_back(x);
  for (const double x : numbers) {
    CAPTURE(x);
    const long double gamma = std::lgamma(static_cast<long double>(x)), slope = oracle_digamma(x);
    CHECK((ulps(m::log_gamma(x), gamma) <= 2.0 || std::abs(m::log_gamma(x) - gamma) <= 1e-15L));
    CHECK((ulps(m::digamma(x), slope) <= 2.0 || std::abs(m::digamma(x) - slope) <= 1e-15L));
  }
  CHECK(ulps(m::log_gamma(1e250), std::lgamma(1e250L)) <= 2.0);
  CHECK(ulps(m::log_gamma(1e-310), std::lgamma(1e-310L)) <= 2.0);
}

TEST_CASE("limits are exact, and NaN stays NaN") {
  const auto check = [](double value, double expected) { CHECK(same(value, expected)); };
  check(m::exp(0.0), 1.0);
  check(m::exp(-0.0), 1.0);
  check(m::exp(infinity), infinity);
  check(m::exp(-infinity), 0.0);
  check(m::exp(709.79), infinity);
  check(m::exp(-746.0), 0.0);
  check(m::exp(1e300), infinity);
  check(m::exp(-1e300), 0.0);
  check(m::expm1(-0.0), -0.0);
  check(m::expm1(infinity), infinity);
  check(m::expm1(-infinity), -1.0);
  check(m::expm1(1e-300), 1e-300);
  check(m::log(1.0), 0.0);
  check(m::log(0.0), -infinity);
  check(m::log(-0.0), -infinity);
  check(m::log(-1.0), nan);
  check(m::log(-infinity), nan);
  check(m::log(infinity), infinity);
  check(m::log1p(-1.0), -infinity);
  check(m::log1p(-1.5), nan);
  check(m::log1p(-0.0), -0.0);
  check(m::log1p(infinity), infinity);
  check(m::sin(-0.0), -0.0);
  check(m::cos(0.0), 1.0);
  for (const double x : {infinity, -infinity, 1.1e6}) {
    check(m::sin(x), nan);
    check(m::cos(x), nan);
  }
  check(m::log_gamma(0.0), infinity);
  check(m::log_gamma(infinity), infinity);
  check(m::log_gamma(-0.5), nan);
  check(m::digamma(0.0), -infinity);
  check(m::digamma(infinity), infinity);
  check(m::digamma(-0.5), nan);
  for (const auto function : {m::exp, m::expm1, m::log, m::log1p, m::sin, m::cos, m::log_gamma, m::digamma}) {
    check(function(nan), nan);
  }
  const double special[] = {0.0, -0.0, 1.0,   -1.0,   0.5,      -0.5,      2.0, -2.0,
                            3.0, -3.0, 1e300, -1e300, infinity, -infinity, nan};
  for (const double base : special) {
    for (const double exponent : special) {
      CAPTURE(base);
      CAPTURE(exponent);
      const double power = m::pow(base, exponent), expected = std::pow(base, exponent);
      CHECK((same(power, expected) || ulps(power, expected) <= 1.0));
      CHECK(same(m::PowersOf(base)(exponent), power));
    }
  }
}

TEST_CASE("subnormal numbers are read and given") {
  CHECK(ulps(m::log(0x1.8p-1070), std::log(0x1.8p-1070L)) < 1.0);
  CHECK(std::abs(m::exp(-740.0) - std::exp(-740.0)) <= 0x1p-1074);
}

// The sum is the same on every CPU and with every compiler: it was computed once and stands here for all.
TEST_CASE("the bits are the same everywhere") {
  std::uint64_t sum = 0xCBF29CE484222325u;
  const auto add = [&](double value) {
    const auto bits = std::bit_cast<std::uint64_t>(value);
    for (int byte = 0; byte < 8; ++byte) sum = (sum ^ ((bits >> (8 * byte)) & 0xFF)) * 0x100000001B3u;
  };
  for (int i = 1; i <= 20000; ++i) {
    const double x = i * 0.03515625 - 351.5;  // exact
    add(m::exp(x));
    add(m::expm1(x / 64));
    add(m::sin(x * 1024));
    add(m::cos(x * 1024));
    const double positive = i * 0.0078125;
    add(m::log(positive));
    add(m::log1p(positive));
    add(m::pow(positive, x / 64));
    add(m::log_gamma(positive));
    add(m::digamma(positive));
  }
  CHECK(sum == 559118665154702385u);
}

}  // namespace latchwork::test
