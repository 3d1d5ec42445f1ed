#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "latchwork/isa.hpp"
#include "latchwork/threads.hpp"
#include "latchwork/types.hpp"

namespace latchwork::test {

// Random numbers that are exact in float, so that float, double and the reference see the same problem.
class Random {
 public:
  explicit Random(std::uint64_t seed) : generator_(seed) {}

  // A number from `lowest` to `highest`, both included.
  Index between(Index lowest, Index highest) {
    return lowest + static_cast<Index>(generator_() % static_cast<std::uint64_t>(highest - lowest + 1));
  }
  bool chance(double probability) { return static_cast<double>(generator_() >> 11) * 0x1p-53 < probability; }
  // A number from -1 to 1, always an odd multiple of 2^-21.
  double number() { return (static_cast<double>(generator_() >> 43) + 0.5) * 0x1p-20 - 1.0; }
  std::vector<double> numbers(Index size) {
    std::vector<double> values(static_cast<std::size_t>(size));
    for (double& value : values) value = number();
    return values;
  }

 private:
  std::mt19937_64 generator_;
};

template <class To, class From>
std::vector<To> converted(const std::vector<From>& values) {
  std::vector<To> result;
  for (const From value : values) result.push_back(static_cast<To>(value));
  return result;
}

// The largest difference, divided by max(1, largest magnitude). It is infinite if a difference is not finite or if the
// sizes differ.
template <class T, class U>
double difference(const std::vector<T>& actual, const std::vector<U>& expected) {
  if (actual.size() != expected.size()) return std::numeric_limits<double>::infinity();
  double largest = 0.0;
  double magnitude = 1.0;
  for (std::size_t k = 0; k < actual.size(); ++k) {
    const double apart = std::abs(static_cast<double>(actual[k]) - static_cast<double>(expected[k]));
    if (!std::isfinite(apart)) return std::numeric_limits<double>::infinity();
    largest = std::max(largest, apart);
    magnitude = std::max(magnitude, std::abs(static_cast<double>(expected[k])));
  }
  return largest / magnitude;
}

// Whether two numbers are equal bit for bit, so that -0 differs from 0. Any NaN equals any other, because it is not
// promised which NaN a result is.
template <class T>
bool same_bits(T a, T b) {
  return std::memcmp(&a, &b, sizeof(T)) == 0 || (std::isnan(a) && std::isnan(b));
}

template <class T>
bool same_bits(const T* a, const T* b, Index size) {
  for (Index k = 0; k < size; ++k) {
    if (!same_bits(a[k], b[k])) return false;
  }
  return true;
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && same_bits(a.data(), b.data(), static_cast<Index>(a.size()));
}

template <class T>
bool is_finite(const std::vector<T>& values) {
  return std::all_of(values.begin(), values.end(), [](T value) { return std::isfinite(value); });
}

// Runs `body` once for each instruction set of this CPU, with it as the current one.
template <class Body>
void for_each_isa(Body&& body) {
  const std::string before = current_isa();
  for (const std::string& name : available_isas()) {
    CAPTURE(name);
    set_isa(name);
    body();
  }
  set_isa(before);
}

// What an explicit multiply-add computes on the current instruction set: baseline rounds the product.
template <class T>
T multiply_add(T a, T b, T c) {
#if defined(__x86_64__)
  if (current_isa() == "baseline") {
    const volatile T product = a * b;
    return product + c;
  }
#endif
  return std::fma(a, b, c);
}

// (0 + 1) + (2 + 3) and so on, element by element. The number of vectors is a power of two.
template <class T>
std::vector<T> tree_sum(std::vector<std::vector<T>> vectors) {
  for (std::size_t distance = 1; distance < vectors.size(); distance *= 2) {
    for (std::size_t at = 0; at < vectors.size(); at += 2 * distance) {
      for (std::size_t k = 0; k < vectors[at].size(); ++k) vectors[at][k] += vectors[at + distance][k];
    }
  }
  return vectors.front();
}

// Sets the number of threads for the lifetime of the object.
class ThreadCount {
 public:
  explicit ThreadCount(Index count) : before_(num_threads()) { set_num_threads(count); }
  ~ThreadCount() { set_num_threads(before_); }
  ThreadCount(const ThreadCount&) = delete;
  ThreadCount& operator=(const ThreadCount&) = delete;

 private:
  Index before_;
};

}  // namespace latchwork::test
