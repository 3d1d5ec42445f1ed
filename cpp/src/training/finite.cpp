#include <array>
#include <atomic>

#include "latchwork/training.hpp"
#include "machine/parallel.hpp"

namespace latchwork {

namespace {

// Zero times NaN or infinity is NaN, and a sum with a NaN in it is NaN. The numbers go into 16 sums, because additions
// to one sum would have to wait for each other.
template <class T>
bool finite(const T* values, Index size) {
  constexpr std::size_t lanes = 16;
  std::array<T, lanes> sums{};
  Index at = 0;
  for (; at + static_cast<Index>(lanes) <= size; at += static_cast<Index>(lanes)) {
    for (std::size_t lane = 0; lane < lanes; ++lane) sums[lane] += values[at + static_cast<Index>(lane)] * T(0);
  }
  for (; at < size; ++at) sums[0] += values[at] * T(0);
  T sum = T(0);
  for (const T each : sums) sum += each;
  return sum == T(0);
}

}  // namespace

template <class T>
bool all_finite(const T* values, Index size) {
  const Index parts = number_parts(size, size);
  std::atomic<bool> all{true};
  parallel(parts, [&](Index part) {
    const Index begin = piece_begin(size, parts, part), end = piece_begin(size, parts, part + 1);
    if (!finite(values + begin, end - begin)) all = false;
  });
  return all;
}

template bool all_finite(const float*, Index);
template bool all_finite(const double*, Index);

}  // namespace latchwork
