#pragma once

#include "kernels/packet.hpp"

// Sigmoid, tanh, their slopes, and exponentials. They are at most 4 ulp off, and exact at infinity if subnormals are
// flushed to zero, as they are at every entry point. NaN stays NaN.
namespace latchwork::LATCHWORK_ISA {

// exp(y) = scale * (1 + minus_one), where scale is a power of two and minus_one = exp(r) - 1 is accurate even if it is
// tiny. Both exp(y) and exp(y) - 1 follow from it without cancellation.
template <class T>
struct SplitExponential {
  Packet<T> scale;
  Packet<T> minus_one;
  Packet<T> exponent;  // the biased exponent of `scale`, in the lowest bits of the mantissa
};

template <class T>
struct ExponentialConstants;

template <>
struct ExponentialConstants<float> {
  static constexpr float lowest = -88.0f;  // from here down scale is zero, because the result would be subnormal
  static constexpr float highest = 89.0f;  // from here up the result is infinite
  // Adding 1.5 * 2^23 rounds to an integer, which then stands in the lowest bits of the mantissa; 127 makes it a biased
  // exponent.
  static constexpr float round = 12582912.0f + 127.0f;
  static constexpr float log2e = 1.44269504088896341f;
  static constexpr float ln2_high = 0.693359375f;  // few bits, so that a multiple is exact
  static constexpr float ln2_low = -2.12194440054690583e-4f;
  // (exp(r) - 1 - r) / r^2 for |r| <= ln(2) / 2, lowest power first: the polynomial with the smallest largest error,
  // 1.6e-8 / r.
  static constexpr float series[] = {0.5f, 0.16666545f, 0.041666288f, 0.008366374f, 0.0013946051f};
};

template <>
struct ExponentialConstants<double> {
  static constexpr double lowest = -709.2;
  static constexpr double highest = 710.0;
  static constexpr double round = 6755399441055744.0 + 1023.0;
  static constexpr double log2e = 1.44269504088896340736;
  static constexpr double ln2_high = 0.693145751953125;
  static constexpr double ln2_low = 1.42860682030941723212e-6;
  // The Taylor series.
  static constexpr double series[] = {0.5,           1.0 / 6,        1.0 / 24,        1.0 / 120,
                                      1.0 / 720,     1.0 / 5040,     1.0 / 40320,     1.0 / 362880,
                                      1.0 / 3628800, 1.0 / 39916800, 1.0 / 479001600, 1.0 / 6227020800};
};

// The exponential of factor * y, or of that plus a small `low`. A short chain of operations matters here, because a
// single row waits for it; therefore the polynomial is summed in pairs of terms.
template <class T, class... Low>
EIGEN_ALWAYS_INLINE SplitExponential<T> split_exponential(const Packet<T>& y, const Packet<T>& factor,
                                                          const Low&... low) {
  using Constant = ExponentialConstants<T>;
  constexpr int terms = static_cast<int>(sizeof(Constant::series) / sizeof(T));
  const Packet<T> rounded = multiply_add(y, multiply(factor, broadcast(Constant::log2e)), broadcast(Constant::round));
  const Packet<T> exponent = subtract(rounded, broadcast(Constant::round));
  Packet<T> r = multiply_add(exponent, broadcast(-Constant::ln2_high), multiply(factor, y));
  r = multiply_add(exponent, broadcast(-Constant::ln2_low), r);
  ((r = add(r, low)), ...);
  const Packet<T> square = multiply(r, r);
  const auto pair = [&](int term) {
    const Packet<T> lower = broadcast(Constant::series[term]);
    return term + 1 < terms ? multiply_add(broadcast(Constant::series[term + 1]), r, lower) : lower;
  };
  constexpr int last = (terms - 1) / 2 * 2;
  Packet<T> sum = pair(last);
#pragma GCC unroll 8
  for (int term = last - 2; term >= 0; term -= 2) sum = multiply_add(sum, square, pair(term));
  return {mantissa_to_exponent(rounded), multiply_add(square, sum, r), rounded};
}

// exp(y) for y <= 0.
template <class T>
EIGEN_ALWAYS_INLINE Packet<T> exponential(const Packet<T>& y) {
  const SplitExponential<T> split =
      split_exponential<T>(at_least(y, broadcast(ExponentialConstants<T>::lowest)), broadcast(T(1)));
  // Not scale * minus_one + scale: without a fused multiply-add the product alone may be subnormal and would be flushed
  // to zero.
  return multiply(split.scale, add(broadcast(T(1)), split.minus_one));
}

// exp(x) for any x.
template <class T>
EIGEN_ALWAYS_INLINE Packet<T> exponential_of_any(const Packet<T>& x) {
  using Constant = ExponentialConstants<T>;
  const Packet<T> zero = broadcast(T(0)), one = broadcast(T(1));
  const SplitExponential<T> split =
      split_exponential<T>(at_most(at_least(x, broadcast(Constant::lowest)), broadcast(Constant::highest)), one);
  // The scale of the largest results is more than a number can be, half of it is not.
  const Packet<T> half_scale = mantissa_to_exponent(subtract(split.exponent, where_less(zero, x, one, zero)));
  return multiply(multiply(half_scale, add(one, split.minus_one)), where_less(zero, x, broadcast(T(2)), one));
}

// exp(y) - 1 for y <= 0, without cancellation.
template <class T>
EIGEN_ALWAYS_INLINE Packet<T> exponential_minus_one(const Packet<T>& y) {
  const SplitExponential<T> split =
      split_exponential<T>(at_least(y, broadcast(ExponentialConstants<T>::lowest)), broadcast(T(1)));
  return multiply_add(split.scale, split.minus_one, subtract(split.scale, broadcast(T(1))));
}

// log(1 + e) for 0 <= e <= 1, as the series of 2 artanh(s) with s = e / (2 + e), which is at most 1/3.
template <class T>
EIGEN_ALWAYS_INLINE Packet<T> logarithm_of_one_plus(const Packet<T>& e) {
  constexpr int terms = sizeof(T) == 4 ? 8 : 17;
  const Packet<T> s = divide(e, add(broadcast(T(2)), e));
  const Packet<T> square = multiply(s, s);
  Packet<T> sum = broadcast(T(2.0 / (2 * terms - 1)));
#pragma GCC unroll 17
  for (int term = terms - 2; term >= 0; --term) sum = multiply_add(sum, square, broadcast(T(2.0 / (2 * term + 1))));
  return multiply(s, sum);
}

// 1 / (1 + exp(-x)). If x is beyond the range of exp, the result is subnormal or 1.
template <class T>
EIGEN_ALWAYS_INLINE Packet<T> sigmoid(const Packet<T>& x) {
  const Packet<T> bound = broadcast(ExponentialConstants<T>::lowest);
  const Packet<T> y = at_least(at_most(x, subtract(broadcast(T(0)), bound)), bound);
  const SplitExponential<T> split = split_exponential<T>(y, broadcast(T(-1)));
  return divide(broadcast(T(1)), multiply_add(split.scale, split.minus_one, add(split.scale, broadcast(T(1)))));
}

// -m / (2 + m) with m = exp(-2|x|) - 1, given the sign of x.
template <class T>
EIGEN_ALWAYS_INLINE Packet<T> tanh(const Packet<T>& x) {
  const Packet<T> one = broadcast(T(1));
  const Packet<T> y = at_least(negative_magnitude<T>(x), broadcast(ExponentialConstants<T>::lowest / 2));
  const SplitExponential<T> split = split_exponential<T>(y, broadcast(T(2)));
  const Packet<T> m = multiply_add(split.scale, split.minus_one, subtract(split.scale, one));
  return divide(copy_sign<T>(magnitude(m), x), multiply_add(split.scale, split.minus_one, add(split.scale, one)));
}

// The derivatives, computed from the values: sigmoid' = s (1 - s), tanh' = 1 - t^2.
template <class T>
EIGEN_ALWAYS_INLINE Packet<T> sigmoid_slope(const Packet<T>& s) {
  return multiply(s, subtract(broadcast(T(1)), s));
}
template <class T>
EIGEN_ALWAYS_INLINE Packet<T> tanh_slope(const Packet<T>& t) {
  return subtract(broadcast(T(1)), multiply(t, t));
}

}  // namespace latchwork::LATCHWORK_ISA
