#pragma once

#include "kernels/activations.hpp"
#include "kernels/table.hpp"

// The activations that a gate or the cell may have: ONNX's list. To add one, write its struct here and add it to
// `Activations`. `slope` computes the derivative from the value y alone, because a recording only keeps y.
namespace latchwork::LATCHWORK_ISA {

template <class T>
struct Coefficients {
  Packet<T> alpha, beta;
};

struct Sigmoid {
  static constexpr ActivationInfo info{"sigmoid", 0, 0.0, 0.0, AlphaRange::any};
  template <class T>
  EIGEN_ALWAYS_INLINE static Packet<T> value(const Packet<T>& x, const Coefficients<T>&) {
    return sigmoid<T>(x);
  }
  template <class T>
  EIGEN_ALWAYS_INLINE static Packet<T> slope(const Packet<T>& y, const Coefficients<T>&) {
    return sigmoid_slope<T>(y);
  }
};

struct Tanh {
  static constexpr ActivationInfo info{"tanh", 0, 0.0, 0.0, AlphaRange::any};
  template <class T>
  EIGEN_ALWAYS_INLINE static Packet<T> value(const Packet<T>& x, const Coefficients<T>&) {
    return tanh<T>(x);
  }
  template <class T>
  EIGEN_ALWAYS_INLINE static Packet<T> slope(const Packet<T>& y, const Coefficients<T>&) {
    return tanh_slope<T>(y);
  }
};

struct Relu {  // max(x, 0)
  static constexpr ActivationInfo info{"relu", 0, 0.0, 0.0, AlphaRange::any};
  template <class T>
  EIGEN_ALWAYS_INLINE static Packet<T> value(const Packet<T>& x, const Coefficients<T>&) {
    const Packet<T> zero = broadcast(T(0));
    return where_less(x, zero, zero, x);
  }
  template <class T>
  EIGEN_ALWAYS_INLINE static Packet<T> slope(const Packet<T>& y, const Coefficients<T>&) {
    const Packet<T> zero = broadcast(T(0));
    return where_less(zero, y, broadcast(T(1)), zero);
  }
};

struct HardSigmoid {  // alpha x + beta, limited to 0 to 1
  static constexpr ActivationInfo info{"hard_sigmoid", 2, 0.2, 0.5, AlphaRange::any};
  template <class T>
  EIGEN_ALWAYS_INLINE static Packet<T> value(const Packet<T>& x, const Coefficients<T>& k) {
    const Packet<T> zero = broadcast(T(0)), one = broadcast(T(1));
    const Packet<T> line = multiply_add(k.alpha, x, k.beta);
    const Packet<T> below_one = where_less(one, line, one, line);
    return where_less(below_one, zero, zero, below_one);
  }
  template <class T>
  EIGEN_ALWAYS_INLINE static Packet<T> slope(const Packet<T>& y, const Coefficients<T>& k) {
    const Packet<T> zero = broadcast(T(0));
    return where_less(zero, y, where_less(y, broadcast(T(1)), k.alpha, zero), zero);
  }
};

struct Affine {  // alpha x + beta
  static constexpr ActivationInfo info{"affine", 2, 1.0, 0.0, AlphaRange::any};
  template <class T>
  EIGEN_ALWAYS_INLINE static Packet<T> value(const Packet<T>& x, const Coefficients<T>& k) {
    return multiply_add(k.alpha, x, k.beta);
  }
  template <class T>
  EIGEN_ALWAYS_INLINE static Packet<T> slope(const Packet<T>&, const Coefficients<T>& k) {
    return k.alpha;
  }
};

struct LeakyRelu {  // x, or alpha x if x < 0
  static constexpr ActivationInfo info{"leaky_relu", 1, 0.01, 0.0, AlphaRange::not_negative};
  template <class T>
  EIGEN_ALWAYS_INLINE static Packet<T> value(const Packet<T>& x, const Coefficients<T>& k) {
    return where_less(x, broadcast(T(0)), multiply(k.alpha, x), x);
  }
  template <class T>
  EIGEN_ALWAYS_INLINE static Packet<T> slope(const Packet<T>& y, const Coefficients<T>& k) {
    return where_less(broadcast(T(0)), y, broadcast(T(1)), k.alpha);
  }
};

struct ThresholdedRelu {  // x, or 0 if x < alpha
  static constexpr ActivationInfo info{"thresholded_relu", 1, 1.0, 0.0, AlphaRange::not_negative};
  template <class T>
  EIGEN_ALWAYS_INLINE static Packet<T> value(const Packet<T>& x, const Coefficients<T>& k) {
    return where_less(x, k.alpha, broadcast(T(0)), x);
  }
  template <class T>
  EIGEN_ALWAYS_INLINE static Packet<T> slope(const Packet<T>& y, const Coefficients<T>&) {
    const Packet<T> zero = broadcast(T(0));
    return where_less(zero, y, broadcast(T(1)), zero);
  }
};

struct ScaledTanh {  // alpha tanh(beta x)
  static constexpr ActivationInfo info{"scaled_tanh", 2, 1.0, 1.0, AlphaRange::not_zero};
  template <class T>
  EIGEN_ALWAYS_INLINE static Packet<T> value(const Packet<T>& x, const Coefficients<T>& k) {
    return multiply(k.alpha, tanh<T>(multiply(k.beta, x)));
  }
  template <class T>
  EIGEN_ALWAYS_INLINE static Packet<T> slope(const Packet<T>& y, const Coefficients<T>& k) {
    return multiply(multiply(k.alpha, k.beta), tanh_slope<T>(divide(y, k.alpha)));
  }
};

struct Elu {  // x, or alpha (exp(x) - 1) if x < 0
  static constexpr ActivationInfo info{"elu", 1, 1.0, 0.0, AlphaRange::not_negative};
  template <class T>
  EIGEN_ALWAYS_INLINE static Packet<T> value(const Packet<T>& x, const Coefficients<T>& k) {
    const Packet<T> zero = broadcast(T(0));
    const Packet<T> below = multiply(k.alpha, exponential_minus_one<T>(where_less(x, zero, x, zero)));
    return where_less(x, zero, below, x);
  }
  template <class T>
  EIGEN_ALWAYS_INLINE static Packet<T> slope(const Packet<T>& y, const Coefficients<T>& k) {
    return where_less(broadcast(T(0)), y, broadcast(T(1)), add(y, k.alpha));
  }
};

struct Softsign {  // x / (1 + |x|)
  static constexpr ActivationInfo info{"softsign", 0, 0.0, 0.0, AlphaRange::any};
  template <class T>
  EIGEN_ALWAYS_INLINE static Packet<T> value(const Packet<T>& x, const Coefficients<T>&) {
    const Packet<T> one = broadcast(T(1)), size = magnitude(x);
    return where_less(broadcast(T(1e30)), size, copy_sign<T>(one, x), divide(x, add(one, size)));
  }
  template <class T>
  EIGEN_ALWAYS_INLINE static Packet<T> slope(const Packet<T>& y, const Coefficients<T>&) {
    const Packet<T> one_minus_y = subtract(broadcast(T(1)), magnitude(y));
    return multiply(one_minus_y, one_minus_y);
  }
};

struct Softplus {  // log(1 + exp(x))
  static constexpr ActivationInfo info{"softplus", 0, 0.0, 0.0, AlphaRange::any};
  template <class T>
  EIGEN_ALWAYS_INLINE static Packet<T> value(const Packet<T>& x, const Coefficients<T>&) {
    const Packet<T> zero = broadcast(T(0));
    const Packet<T> e = exponential<T>(negative_magnitude<T>(x));
    return add(where_less(x, zero, zero, x), logarithm_of_one_plus<T>(e));
  }
  template <class T>
  EIGEN_ALWAYS_INLINE static Packet<T> slope(const Packet<T>& y, const Coefficients<T>&) {  // sigmoid(x) = 1 - exp(-y)
    const Packet<T> zero = broadcast(T(0));
    return subtract(zero, exponential_minus_one<T>(subtract(zero, y)));
  }
};

template <class... Each>
struct ActivationList {
  static constexpr Index count = sizeof...(Each);
  static constexpr ActivationInfo infos[] = {Each::info...};

  // Calls task(A{}) for the activation with this number.
  template <class Task>
  EIGEN_ALWAYS_INLINE static void with(Index number, Task&& task) {
    Index at = 0;
    (void)((at++ == number ? (task(Each{}), true) : false) || ...);
  }
};

using Activations = ActivationList<Sigmoid, Tanh, Relu, HardSigmoid, Affine, LeakyRelu, ThresholdedRelu, ScaledTanh,
                                   Elu, Softsign, Softplus>;

}  // namespace latchwork::LATCHWORK_ISA
