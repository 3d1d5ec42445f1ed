#include "machine/mathematics.hpp"

#include <bit>
#include <cstdint>
#include <limits>

namespace latchwork::mathematics {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double nan = std::numeric_limits<double>::quiet_NaN();

bool is_nan(double x) { return x != x; }
bool is_infinite(double x) { return x == infinity || x == -infinity; }
double magnitude(double x) {
  return std::bit_cast<double>(std::bit_cast<std::uint64_t>(x) & ~(std::uint64_t{1} << 63));
}
bool is_negative(double x) { return (std::bit_cast<std::uint64_t>(x) >> 63) != 0; }

// ---- Sums of two doubles, high + low, of which `low` is at most half an ulp of `high`: about 106 bits. See Dekker, "A
// floating-point technique for extending the available precision", Numerische Mathematik 18, 1971.

struct Pair {
  double high = 0.0;
  double low = 0.0;
};

// a + b exactly, if |a| >= |b| or a is 0.
Pair sum_of_ordered(double a, double b) {
  const double sum = a + b;
  return {sum, b - (sum - a)};
}

// a + b exactly.
Pair sum_of(double a, double b) {
  const double sum = a + b;
  const double from_b = sum - a;
  return {sum, (a - (sum - from_b)) + (b - from_b)};
}

// a * b exactly, unless something overflows or underflows.
Pair product_of(double a, double b) {
  constexpr double splitter = 134217729.0;  // 2^27 + 1: cuts 53 bits into 26 and 26
  const double a_scaled = splitter * a, b_scaled = splitter * b;
  const double a_high = a_scaled - (a_scaled - a), b_high = b_scaled - (b_scaled - b);
  const double a_low = a - a_high, b_low = b - b_high;
  const double product = a * b;
  return {product, ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low};
}

Pair operator+(const Pair& a, const Pair& b) {
  const Pair sum = sum_of(a.high, b.high);
  return sum_of_ordered(sum.high, sum.low + (a.low + b.low));
}
Pair operator-(const Pair& a) { return {-a.high, -a.low}; }
Pair operator*(const Pair& a, const Pair& b) {
  const Pair product = product_of(a.high, b.high);
  return sum_of_ordered(product.high, product.low + (a.high * b.low + a.low * b.high));
}
Pair operator/(const Pair& a, const Pair& b) {
  const double quotient = a.high / b.high;
  const Pair product = product_of(quotient, b.high);
  const double left = ((a.high - product.high) - product.low) + (a.low - quotient * b.low);
  return sum_of_ordered(quotient, left / b.high);
}

// ---- Powers of two.

double power_of_two(int exponent) {  // -1022 to 1023
  return std::bit_cast<double>(static_cast<std::uint64_t>(exponent + 1023) << 52);
}

// x * 2^exponent for |x| about 1 and exponents from -1100 to 1024, rounded once.
double scaled(double x, int exponent) {
  if (exponent > 1023) return x * power_of_two(1023) * 2.0;
  if (exponent < -1022) return x * power_of_two(exponent + 128) * power_of_two(-128);
  return x * power_of_two(exponent);
}

// The nearest whole number, for |x| below 2^51: adding 1.5 * 2^52 leaves no room for a fraction.
double nearest_whole(double x) {
  constexpr double shift = 6755399441055744.0;
  return (x + shift) - shift;
}

// c[0] + c[1] x + c[2] x^2 + ...
template <int Count>
double polynomial(const double (&c)[Count], double x) {
  double sum = c[Count - 1];
  for (int at = Count - 2; at >= 0; --at) sum = sum * x + c[at];
  return sum;
}

// ln(2). The first part has 21 trailing zeros, so that a product with an exponent is exact.
constexpr double ln2_first = 0x1.62e42fef80000p-1;
constexpr double ln2_second = 0x1.1cf79abc9e3b4p-36;
constexpr double ln2_third = -0x1.9ff0342542fc3p-90;

// ---- exp

// exp(x) = 2^exponent * (1 + minus_one), |minus_one| < 0.42.
struct SplitExponential {
  int exponent = 0;
  Pair minus_one;
};

// For |x| up to 750.
SplitExponential split_exponential(const Pair& x) {
  constexpr double log2_e = 1.44269504088896340736;
  // (exp(r) - 1 - r) / r^2, the Taylor series.
  constexpr double series[] = {0.5,           1.0 / 6,        1.0 / 24,        1.0 / 120,
                               1.0 / 720,     1.0 / 5040,     1.0 / 40320,     1.0 / 362880,
                               1.0 / 3628800, 1.0 / 39916800, 1.0 / 479001600, 1.0 / 6227020800};
  const double exponent = nearest_whole(x.high * log2_e);
  const Pair r = sum_of(x.high - exponent * ln2_first, x.low - exponent * ln2_second);
  const double square = r.high * r.high;
  const double rest = square * polynomial(series, r.high) + r.low * (1.0 + r.high);
  return {static_cast<int>(exponent), sum_of_ordered(r.high, rest)};
}

double exponential(const Pair& x) {
  const SplitExponential split = split_exponential(x);
  const Pair sum = sum_of_ordered(1.0, split.minus_one.high);
  return scaled(sum.high + (sum.low + split.minus_one.low), split.exponent);
}

// ---- log

// For a positive normal x.
Pair logarithm(const Pair& x) {
  constexpr Pair third = {0x1.5555555555555p-2, 0x1.5555555555555p-56};
  // 2 artanh(s) = 2 s (1 + s^2 / 3 + s^4 (1/5 + s^2 / 7 + ...))
  constexpr double series[] = {1.0 / 5,  1.0 / 7,  1.0 / 9,  1.0 / 11, 1.0 / 13,
                               1.0 / 15, 1.0 / 17, 1.0 / 19, 1.0 / 21, 1.0 / 23};
  // x = 2^exponent * m with sqrt(1/2) < m < sqrt(2)
  constexpr std::uint64_t sqrt_half = 0x3FE6A09E667F3BCDu;
  const auto above = static_cast<std::int64_t>(std::bit_cast<std::uint64_t>(x.high) - sqrt_half);
  const auto exponent = static_cast<int>(above >> 52);
  // In two factors, because 2^-1024 is no normal number.
  const double first = exponent > 0 ? 0.25 : 1.0;
  const double second = power_of_two(exponent > 0 ? 2 - exponent : -exponent);
  const Pair m = {x.high * first * second, x.low * first * second};
  const Pair numerator = sum_of_ordered(m.high - 1.0, m.low);
  const Pair denominator = sum_of(m.high, 1.0) + Pair{m.low, 0.0};
  const Pair s = numerator / denominator;
  const Pair square = s * s;
  const double tail = square.high * square.high * polynomial(series, square.high);
  const Pair factor = Pair{1.0, 0.0} + (square * third + Pair{tail, 0.0});
  const Pair mantissa = s * factor;
  const Pair twice = {2.0 * mantissa.high, 2.0 * mantissa.low};
  if (exponent == 0) return twice;
  const auto count = static_cast<double>(exponent);
  return Pair{count * ln2_first, 0.0} + (product_of(count, ln2_second) + (twice + Pair{count * ln2_third, 0.0}));
}

// The logarithm of a positive finite x.
Pair logarithm(double x) {
  if (x < std::numeric_limits<double>::min()) {  // subnormal
    return logarithm(Pair{x * 0x1p54, 0.0}) + Pair{-54.0 * ln2_first, 0.0} + product_of(-54.0, ln2_second);
  }
  return logarithm(Pair{x, 0.0});
}

// ---- sin and cos

// So that x is less than 2^20 quarter turns.
constexpr double largest_angle = 1e6;

// x = quarter * pi / 2 + rest, |rest| < 0.79.
struct Reduced {
  int quarter = 0;  // modulo 4
  Pair rest;
};

Reduced reduced(double x) {
  // pi / 2. The first three parts have 33 bits each, so that a product with a whole number below 2^20 is exact.
  constexpr double first = 0x1.921fb54400000p+0;
  constexpr double second = 0x1.0b4611a600000p-34;
  constexpr double third = 0x1.3198a2e000000p-69;
  constexpr double fourth = 0x1.b839a252049c1p-104;
  constexpr double two_over_pi = 0.63661977236758134308;
  const double count = nearest_whole(x * two_over_pi);
  const Pair left = sum_of(x - count * first, -(count * second)) + Pair{-(count * third), -(count * fourth)};
  return {static_cast<int>(static_cast<std::int64_t>(count) & 3), left};
}

double sine(const Pair& x) {
  // (sin(x) - x) / x^3, the Taylor series.
  constexpr double series[] = {-1.0 / 6,        1.0 / 120,        -1.0 / 5040,          1.0 / 362880,
                               -1.0 / 39916800, 1.0 / 6227020800, -1.0 / 1307674368000, 1.0 / 355687428096000};
  const double square = x.high * x.high;
  const double cube = square * x.high;
  return x.high + (cube * polynomial(series, square) + x.low * (1.0 - 0.5 * square));
}

double cosine(const Pair& x) {
  // (cos(x) - 1 + x^2 / 2) / x^4, the Taylor series.
  constexpr double series[] = {1.0 / 24,        -1.0 / 720,         1.0 / 40320,         -1.0 / 3628800,
                               1.0 / 479001600, -1.0 / 87178291200, 1.0 / 20922789888000};
  const Pair square = product_of(x.high, x.high);
  const Pair start = sum_of_ordered(1.0, -0.5 * square.high);
  return start.high + (start.low + (square.high * square.high * polynomial(series, square.high) -
                                    (0.5 * square.low + x.high * x.low)));
}

bool is_whole(double x) { return magnitude(x) >= 0x1p52 || nearest_whole(x) == x; }
bool is_odd(double x) { return magnitude(x) < 0x1p53 && is_whole(x) && (static_cast<std::int64_t>(x) & 1) != 0; }

// e^(log * exponent) for a finite exponent.
double power(const Pair& log, double exponent) {
  const double about = log.high * exponent;
  if (about > 750.0) return infinity;
  if (about < -750.0) return 0.0;
  if (magnitude(about) < 0x1p-60) return 1.0;
  const Pair product = product_of(log.high, exponent);
  return exponential(sum_of_ordered(product.high, product.low + log.low * exponent));
}

// From here on the asymptotic series of log_gamma and digamma are accurate; smaller arguments are moved up.
constexpr double smallest_asymptotic = 16.0;

}  // namespace

double exp(double x) {
  if (is_nan(x)) return x;
  if (x > 750.0) return infinity;
  if (x < -750.0) return 0.0;
  return exponential({x, 0.0});
}

double expm1(double x) {
  if (is_nan(x) || magnitude(x) < 0x1p-60) return x;
  if (x > 40.0) return exp(x);
  if (x < -40.0) return -1.0;
  const SplitExponential split = split_exponential({x, 0.0});
  const double scale = power_of_two(split.exponent);
  const Pair start = sum_of(scale, -1.0), sum = sum_of(start.high, scale * split.minus_one.high);
  return sum.high + (sum.low + (start.low + scale * split.minus_one.low));
}

double log(double x) {
  if (is_nan(x) || x == infinity) return x;
  if (x == 0.0) return -infinity;
  if (x < 0.0) return nan;
  return logarithm(x).high;
}

double log1p(double x) {
  if (is_nan(x) || x == infinity || magnitude(x) < 0x1p-60) return x;
  if (x == -1.0) return -infinity;
  if (x < -1.0) return nan;
  return logarithm(sum_of(1.0, x)).high;
}

double pow(double base, double exponent) {
  if (exponent == 0.0 || base == 1.0) return 1.0;
  if (is_nan(base) || is_nan(exponent)) return nan;
  if (is_infinite(exponent)) {
    const double size = magnitude(base);
    if (size == 1.0) return 1.0;
    return (size > 1.0) == (exponent > 0.0) ? infinity : 0.0;
  }
  const bool negative = is_negative(base) && is_odd(exponent);
  const double size = magnitude(base);
  double result = 0.0;
  if (size == 0.0 || size == infinity) {
    result = (size == 0.0) == (exponent > 0.0) ? 0.0 : infinity;
  } else {
    if (base < 0.0 && !is_whole(exponent)) return nan;
    result = power(logarithm(size), exponent);
  }
  return negative ? -result : result;
}

PowersOf::PowersOf(double base) : base_(base) {
  if (!(base > 0.0) || is_infinite(base)) return;
  const Pair log = logarithm(base);
  log_high_ = log.high;
  log_low_ = log.low;
}

double PowersOf::operator()(double exponent) const {
  const bool ordinary = base_ > 0.0 && !is_infinite(base_) && !is_nan(exponent) && !is_infinite(exponent);
  return ordinary ? power({log_high_, log_low_}, exponent) : pow(base_, exponent);
}

double sin(double x) {
  if (is_nan(x) || magnitude(x) < 0x1p-30) return x;
  if (magnitude(x) > largest_angle) return nan;
  const Reduced r = reduced(x);
  const double value = (r.quarter & 1) != 0 ? cosine(r.rest) : sine(r.rest);
  return (r.quarter & 2) != 0 ? -value : value;
}

double cos(double x) {
  if (is_nan(x)) return x;
  if (magnitude(x) > largest_angle) return nan;
  const Reduced r = reduced(x);
  const double value = (r.quarter & 1) != 0 ? sine(r.rest) : cosine(r.rest);
  return ((r.quarter + 1) & 2) != 0 ? -value : value;
}

double log_gamma(double x) {
  if (is_nan(x) || x == infinity) return x;
  if (x == 0.0) return infinity;
  if (x < 0.0) return nan;
  if (x > 1e20) return x * (log(x) - 1.0);  // all else is beyond the last bit
  // Stirling's series: (x - 1/2) log(x) - x + log(2 pi) / 2 + 1 / (12 x) - ...
  constexpr Pair half_log_two_pi = {0x1.d67f1c864beb5p-1, -0x1.65b5a1b7ff5dfp-55};
  constexpr double series[] = {1.0 / 12,   -1.0 / 360,        1.0 / 1260, -1.0 / 1680,
                               1.0 / 1188, -691.0 / 360360.0, 1.0 / 156,  -3617.0 / 122400.0};
  // gamma(x) = gamma(x + n) / (x (x + 1) ... (x + n - 1))
  Pair product = {1.0, 0.0}, moved = {x, 0.0};
  while (moved.high < smallest_asymptotic) {
    product = product * moved;
    moved = moved + Pair{1.0, 0.0};
  }
  const double inverse = 1.0 / moved.high;
  const double rest = inverse * polynomial(series, inverse * inverse);
  Pair sum = (moved + Pair{-0.5, 0.0}) * logarithm(moved) + -moved;
  sum = sum + (half_log_two_pi + Pair{rest, 0.0});
  if (product.high < std::numeric_limits<double>::min()) return (sum + -logarithm(product.high)).high;
  return (sum + -logarithm(product)).high;
}

double digamma(double x) {
  if (is_nan(x) || x == infinity) return x;
  if (x == 0.0) return -infinity;
  if (x < 0.0) return nan;
  if (x < 1e-20) return -1.0 / x;  // all else is beyond the last bit
  // log(x) - 1 / (2 x) - 1 / (12 x^2) + ...
  constexpr double series[] = {1.0 / 12,  -1.0 / 120,       1.0 / 252, -1.0 / 240,
                               1.0 / 132, -691.0 / 32760.0, 1.0 / 12,  -3617.0 / 8160.0};
  Pair moved = {x, 0.0}, inverses;
  while (moved.high < smallest_asymptotic) {
    inverses = inverses + Pair{1.0, 0.0} / moved;
    moved = moved + Pair{1.0, 0.0};
  }
  const double inverse = 1.0 / moved.high, square = inverse * inverse;
  const double rest = 0.5 * inverse + square * polynomial(series, square);
  return (logarithm(moved) + Pair{-rest, 0.0} + -inverses).high;
}

}  // namespace latchwork::mathematics
