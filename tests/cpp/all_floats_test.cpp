// Sigmoid and tanh of every float, under each instruction set. Slow.
#include <doctest/doctest.h>

#include <bit>
#include <cstdint>
#include <cstdio>
#include <thread>

#include "machine/cpu_count.hpp"
#include "machine/dispatch.hpp"
#include "machine/float_state.hpp"
#include "machine/parallel.hpp"
#include "support/kernels.hpp"
#include "support/support.hpp"

namespace latchwork::test {
namespace {

constexpr std::uint32_t infinity_bits = 0x7F800000;
constexpr std::uint32_t sign_bit = 0x80000000;
constexpr std::uint32_t last_bits = 0x7FFFFFFF;  // the largest bit pattern of a number without its sign
constexpr std::uint32_t block_size = 4096;

template <class T>
using Block = std::vector<T>;

// Magnitudes from 0 to infinity, a block at a time. The last number of a block is also the first of the next, so that
// every pair of neighbours is compared.
constexpr std::uint32_t block_count = (infinity_bits + block_size - 2) / (block_size - 1);
constexpr std::uint32_t block_begin(std::uint32_t block) {
  return std::min(block * (block_size - 1), infinity_bits + 1 - block_size);
}

void fill(Block<float>& x, std::uint32_t first, std::uint32_t sign) {
  for (std::uint32_t k = 0; k < block_size; ++k) x[k] = std::bit_cast<float>((first + k) | sign);
}

// What the test found about one function under one instruction set.
struct Findings {
  double worst_ulps = 0.0;
  float worst_at = 0.0f;
  bool within_range = true;
  bool odd = true;
  bool monotone = true;
  bool nan_stays_nan = true;

  void add(const Findings& other) {
    if (other.worst_ulps > worst_ulps) {
      worst_ulps = other.worst_ulps;
      worst_at = other.worst_at;
    }
    within_range = within_range && other.within_range;
    odd = odd && other.odd;
    monotone = monotone && other.monotone;
    nan_stays_nan = nan_stays_nan && other.nan_stays_nan;
  }
};

// The distance in units of the last place of `exact` as a float. If `exact` is subnormal, any result that is not larger
// than the smallest normal number counts as exact.
double ulps(float actual, double exact) {
  constexpr auto smallest = static_cast<double>(std::numeric_limits<float>::min());
  const auto value = static_cast<double>(actual);
  const std::uint64_t exponent = std::bit_cast<std::uint64_t>(exact) & 0x7FF0000000000000;
  const double places = std::bit_cast<double>((std::uint64_t{1023 + 1023 + 23} << 52) - exponent);
  const double of_subnormal = std::abs(value) <= smallest ? 0.0 : std::numeric_limits<double>::infinity();
  return std::abs(exact) < smallest ? of_subnormal : std::abs(value - exact) * places;
}

double worst_ulps(const Block<float>& y, const Block<double>& exact) {
  constexpr std::uint32_t lanes = 8;  // so that the compiler can use SIMD
  double worst[lanes] = {};
  for (std::uint32_t k = 0; k < block_size; k += lanes) {
    for (std::uint32_t lane = 0; lane < lanes; ++lane) {
      const double distance = ulps(y[k + lane], exact[k + lane]);
      worst[lane] = distance > worst[lane] ? distance : worst[lane];
    }
  }
  return *std::max_element(worst, worst + lanes);
}

bool all_within(const Block<float>& y, float lowest) {  // false for a NaN
  int within = 1;
  for (std::uint32_t k = 0; k < block_size; ++k) within &= int{y[k] >= lowest} & int{y[k] <= 1.0f};
  return within != 0;
}

bool all_ascend(const Block<float>& y) {
  int ascend = 1;
  for (std::uint32_t k = 1; k < block_size; ++k) ascend &= int{y[k] >= y[k - 1]};
  return ascend != 0;
}

bool all_descend(const Block<float>& y) {
  int descend = 1;
  for (std::uint32_t k = 1; k < block_size; ++k) descend &= int{y[k] <= y[k - 1]};
  return descend != 0;
}

bool all_opposite(const Block<float>& a, const Block<float>& b) {
  std::uint32_t same = 0;
  for (std::uint32_t k = 0; k < block_size; ++k) {
    same |= std::bit_cast<std::uint32_t>(a[k]) ^ std::bit_cast<std::uint32_t>(b[k]) ^ sign_bit;
  }
  return same == 0;
}

void judge(const Block<float>& x, const Block<float>& y, const Block<double>& exact, float lowest, Findings& findings) {
  findings.within_range = findings.within_range && all_within(y, lowest);
  findings.monotone = findings.monotone && (std::signbit(x[0]) ? all_descend(y) : all_ascend(y));
  const double worst = worst_ulps(y, exact);
  if (worst <= findings.worst_ulps) return;
  findings.worst_ulps = worst;
  for (std::uint32_t k = 0; k < block_size; ++k) {
    if (ulps(y[k], exact[k]) == worst) findings.worst_at = x[k];
  }
}

// Calls the function as the library does: subnormals are flushed to zero.
void apply(Elementwise<float> function, const Block<float>& x, Block<float>& y) {
  const FlushToZero flush_to_zero;
  function(x.data(), block_size, y.data());
}

// Examines one of `parts` parts of all floats, for each of `functions`.
void examine(const std::vector<Elementwise<float>>& functions, Elementwise<double> reference, float lowest, Index part,
             Index parts, std::vector<Findings>& findings) {
  Block<float> x(block_size), y(block_size);
  std::vector<Block<float>> of_positive(functions.size(), y);
  Block<double> exact(block_size);
  const auto end = static_cast<std::uint32_t>(piece_begin(block_count, parts, part + 1));
  for (auto block = static_cast<std::uint32_t>(piece_begin(block_count, parts, part)); block < end; ++block) {
    for (const std::uint32_t sign : {std::uint32_t{0}, sign_bit}) {
      fill(x, block_begin(block), sign);
      std::copy(x.begin(), x.end(), exact.begin());
      reference(exact.data(), block_size, exact.data());
      for (std::size_t at = 0; at < functions.size(); ++at) {
        apply(functions[at], x, y);
        const bool opposite = sign != 0 && all_opposite(y, of_positive[at]);
        if (sign != 0) findings[at].odd = findings[at].odd && opposite;
        if (!opposite) judge(x, y, exact, lowest, findings[at]);  // else what was found for the positive numbers holds
        of_positive[at].swap(y);
      }
    }
  }
  for (std::uint32_t first = infinity_bits; first <= last_bits; first += block_size) {
    for (const std::uint32_t sign : {std::uint32_t{0}, sign_bit}) {
      fill(x, first, sign);
      for (std::size_t at = 0; at < functions.size(); ++at) {
        apply(functions[at], x, y);
        for (std::uint32_t k = 0; k < block_size; ++k) {
          findings[at].nan_stays_nan = findings[at].nan_stays_nan && std::isnan(x[k]) == std::isnan(y[k]);
        }
      }
    }
  }
}

// The largest relative error over a thousandth of all finite floats.
template <class Exact>
double worst_relative_error(Elementwise<double> function, Exact&& exact) {
  std::vector<double> x;
  for (std::uint32_t bits = 0; bits < infinity_bits; bits += 1009) {
    x.push_back(static_cast<double>(std::bit_cast<float>(bits)));
    x.push_back(-x.back());
  }
  std::vector<double> y(x.size());
  function(x.data(), static_cast<Index>(x.size()), y.data());
  double worst = 0.0;
  for (std::size_t k = 0; k < x.size(); ++k) {
    const long double expected = exact(static_cast<long double>(x[k]));
    const long double scale = std::max(std::abs(expected), 1e-290L);
    worst = std::max(worst, static_cast<double>(std::abs(static_cast<long double>(y[k]) - expected) / scale));
  }
  return worst;
}

float value_at(Elementwise<float> function, float x) {
  const FlushToZero flush_to_zero;
  float y;
  function(&x, 1, &y);
  return y;
}

struct Function {
  const char* name;
  float lowest;
};

void check_all_floats(const Function& function) {
  const std::vector<std::string> isas = available_isas();
  const Elementwise<double> reference(function.name);
  std::vector<Elementwise<float>> functions;
  for_each_isa([&] { functions.emplace_back(function.name); });

  const Index parts = usable_cpus();
  std::vector<std::vector<Findings>> found(static_cast<std::size_t>(parts), std::vector<Findings>(isas.size()));
  std::vector<std::thread> threads;
  for (Index part = 0; part < parts; ++part) {
    threads.emplace_back([&, part] {
      examine(functions, reference, function.lowest, part, parts, found[static_cast<std::size_t>(part)]);
    });
  }
  for (std::thread& thread : threads) thread.join();

  for (std::size_t at = 0; at < isas.size(); ++at) {
    Findings findings;
    for (const auto& part : found) findings.add(part[at]);
    CAPTURE(isas[at]);
    std::printf("%-7s  %-8s  at most %.3f ulp, at %.9g; %s\n", function.name, isas[at].c_str(), findings.worst_ulps,
                static_cast<double>(findings.worst_at), findings.monotone ? "monotone" : "not monotone");
    CHECK(findings.worst_ulps <= 4.0);
    CHECK(findings.within_range);
    CHECK(findings.nan_stays_nan);
    CHECK(value_at(functions[at], std::numeric_limits<float>::infinity()) == 1.0f);
    CHECK(value_at(functions[at], -std::numeric_limits<float>::infinity()) == function.lowest);
    CHECK(findings.monotone);
    if (function.lowest < 0.0f) CHECK(findings.odd);
  }
}

}  // namespace

TEST_CASE("sigmoid of every float") {
  const auto exact = [](long double x) { return 1.0L / (1.0L + std::exp(-x)); };
  REQUIRE(worst_relative_error(Elementwise<double>("sigmoid"), exact) < 1e-14);
  check_all_floats({"sigmoid", 0.0f});
}

TEST_CASE("tanh of every float") {
  const auto exact = [](long double x) { return std::tanh(x); };
  REQUIRE(worst_relative_error(Elementwise<double>("tanh"), exact) < 1e-14);
  check_all_floats({"tanh", -1.0f});
}

}  // namespace latchwork::test
