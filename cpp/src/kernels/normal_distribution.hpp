#pragma once

#include "kernels/activations.hpp"

// The distribution function of the standard normal distribution, Phi(x) = (1 + erf(x / sqrt(2))) / 2, of which GELU is
// made, with nearly all digits even where it is tiny.
namespace latchwork::LATCHWORK_ISA {

template <class T>
struct NormalConstants;

template <>
struct NormalConstants<float> {
  static constexpr float bound = 13.266f;         // from here on exp(-a^2 / 2) is zero, because it would be subnormal
  static constexpr float round = 1.5f * 0x1p17f;  // adding it rounds a to a multiple of 1/64, whose square is exact
  // (1 + a) Phi(-a) exp(a^2 / 2) as a polynomial in t = (a - 4) / (a + 4), lowest power first: a Chebyshev series for
  // the range up to the bound. Shepherd and Laframboise, "Chebyshev approximation of (1 + 2x) exp(x^2) erfc(x) in 0 <=
  // x < infinity", Mathematics of Computation 36 (1981), have the idea. The largest error is 1.7e-9.
  static constexpr float series[] = {0.472053207f,    -0.0967034681f,  0.0139995971f,   0.0286000161f,
                                     -0.0321972379f,  0.0179399657f,   -0.00500479161f, -0.000303503159f,
                                     0.000693872963f, -5.97962975e-5f, -7.14339734e-5f};
};

template <>
struct NormalConstants<double> {
  static constexpr double bound = 37.66;
  static constexpr double round = 1.5 * 0x1p32;  // multiples of 2^-20
  // The largest error is 6.4e-18.
  static constexpr double series[] = {
      0.47205320650984468,   -0.096703477326525795,  0.013999634724425472,   0.028600364053549376,
      -0.032197837428089504, 0.017936097479719508,   -0.0050023785909519855, -0.00028562309862953863,
      0.0006948971033664955, -9.4430248853172156e-5, -8.7853174576382974e-5, 2.1250026667002171e-5,
      1.362682710218304e-5,  -3.4321371720243148e-6, -2.6127840554451178e-6, 4.0438473806522864e-7,
      5.5177488416557291e-7, 1.5470512677909049e-9,  -1.1074984924344339e-7, -1.9913153981794071e-8,
      1.7486959607416349e-8, 6.2037974421950897e-9,  -1.4969677108052143e-9, -7.6909582066147205e-10};
};

// Phi(-|x|) = exponential * ratio.
template <class T>
struct NormalTail {
  Packet<T> exponential;  // exp(-x^2 / 2)
  Packet<T> ratio;
};

template <class T>
EIGEN_ALWAYS_INLINE NormalTail<T> normal_tail(const Packet<T>& x) {
  using Constant = NormalConstants<T>;
  const Packet<T> one = broadcast(T(1)), half = broadcast(T(-0.5));
  const Packet<T> a = at_most(magnitude(x), broadcast(Constant::bound));
  // The square has more digits than a number holds, and each of them counts in the exponential.
  const Packet<T> high = subtract(add(a, broadcast(Constant::round)), broadcast(Constant::round));
  const Packet<T> low = multiply(multiply(subtract(a, high), add(a, high)), half);
  const SplitExponential<T> split = split_exponential<T>(multiply(high, high), half, low);

  const Packet<T> t = divide(subtract(a, broadcast(T(4))), add(a, broadcast(T(4))));
  constexpr int terms = static_cast<int>(sizeof(Constant::series) / sizeof(T));
  Packet<T> sum = broadcast(Constant::series[terms - 1]);
#pragma GCC unroll 24
  for (int term = terms - 2; term >= 0; --term) sum = multiply_add(sum, t, broadcast(Constant::series[term]));
  return {multiply(split.scale, add(one, split.minus_one)), divide(sum, add(one, a))};
}

// x limited to +-bound.
template <class T>
EIGEN_ALWAYS_INLINE Packet<T> within(const Packet<T>& x, T bound) {
  return at_least(at_most(x, broadcast(bound)), broadcast(-bound));
}

}  // namespace latchwork::LATCHWORK_ISA
