#pragma once

#include "kernels/activations.hpp"
#include "kernels/normal_distribution.hpp"
#include "kernels/table.hpp"

// The activations that a gate or the cell may have: ONNX's list, then those of other systems. To add one, write its
// struct here and add it to `Activations`, at the end. `slope` computes the derivative from the value y alone, because
// a recording keeps one number; for those of the kind by_input, from the input x alone, which is then what it keeps.
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

struct Selu {  // scale x, or scale alpha (exp(x) - 1) if x < 0: Klambauer et al. 2017
  static constexpr ActivationInfo info{"selu", 0, 0.0, 0.0, AlphaRange::any};
  static constexpr double scale = 1.0507009873554804934193349852946;
  static constexpr double alpha = 1.6732632423543772848170429916717;
  template <class T>
  EIGEN_ALWAYS_INLINE static Packet<T> value(const Packet<T>& x, const Coefficients<T>&) {
    const Packet<T> zero = broadcast(T(0));
    const Packet<T> below = exponential_minus_one<T>(where_less(x, zero, x, zero));
    return where_less(x, zero, multiply(broadcast(T(scale * alpha)), below), multiply(broadcast(T(scale)), x));
  }
  template <class T>
  EIGEN_ALWAYS_INLINE static Packet<T> slope(const Packet<T>& y, const Coefficients<T>&) {
    return where_less(broadcast(T(0)), y, broadcast(T(scale)), add(y, broadcast(T(scale * alpha))));
  }
};

struct Silu {  // x sigmoid(x)
  static constexpr ActivationInfo info{"silu", 0, 0.0, 0.0, AlphaRange::any, ActivationKind::by_input};
  template <class T>
  EIGEN_ALWAYS_INLINE static Packet<T> value(const Packet<T>& x, const Coefficients<T>&) {
    const Packet<T> e = exponential<T>(negative_magnitude<T>(x));
    const Packet<T> below = multiply(at_least(x, broadcast(ExponentialConstants<T>::lowest)), e);
    return divide(where_less(x, broadcast(T(0)), below, x), add(broadcast(T(1)), e));
  }
  template <class T>
  EIGEN_ALWAYS_INLINE static Packet<T> slope(const Packet<T>& x, const Coefficients<T>&) {
    const Packet<T> one = broadcast(T(1)), s = sigmoid<T>(x);
    const Packet<T> limited = within<T>(x, -ExponentialConstants<T>::lowest);
    return multiply(s, multiply_add(limited, subtract(one, s), one));
  }
};

struct Gelu {  // x Phi(x): Hendrycks & Gimpel 2016
  static constexpr ActivationInfo info{"gelu", 0, 0.0, 0.0, AlphaRange::any, ActivationKind::by_input};
  template <class T>
  EIGEN_ALWAYS_INLINE static Packet<T> value(const Packet<T>& x, const Coefficients<T>&) {
    const NormalTail<T> tail = normal_tail<T>(x);
    const Packet<T> below =
        multiply(multiply(at_least(x, broadcast(-NormalConstants<T>::bound)), tail.ratio), tail.exponential);
    const Packet<T> above = multiply(x, subtract(broadcast(T(1)), multiply(tail.exponential, tail.ratio)));
    return where_less(x, broadcast(T(0)), below, above);
  }
  template <class T>
  EIGEN_ALWAYS_INLINE static Packet<T> slope(const Packet<T>& x, const Coefficients<T>&) {
    const NormalTail<T> tail = normal_tail<T>(x);
    const Packet<T> below = multiply(tail.exponential, tail.ratio);
    const Packet<T> density = multiply(tail.exponential, broadcast(T(0.39894228040143267794)));
    const Packet<T> phi = where_less(x, broadcast(T(0)), below, subtract(broadcast(T(1)), below));
    return multiply_add(within<T>(x, NormalConstants<T>::bound), density, phi);
  }
};

struct GeluTanh {  // x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2 = x sigmoid(a x + b x^3)
  static constexpr ActivationInfo info{"gelu_tanh", 0, 0.0, 0.0, AlphaRange::any, ActivationKind::by_input};
  static constexpr double a = 1.5957691216057307117, b = 0.044715 * a;
  static constexpr double bound = 64.0;  // far beyond where the sigmoid is 0 or 1
  template <class T>
  EIGEN_ALWAYS_INLINE static Packet<T> value(const Packet<T>& x, const Coefficients<T>&) {
    const Packet<T> limited = at_least(x, broadcast(T(-bound)));
    return multiply(limited, gate<T>(limited));
  }
  template <class T>
  EIGEN_ALWAYS_INLINE static Packet<T> slope(const Packet<T>& x, const Coefficients<T>&) {
    const Packet<T> limited = within<T>(x, T(bound)), s = gate<T>(limited);
    const Packet<T> inner = multiply_add(multiply(limited, limited), broadcast(T(3.0 * b)), broadcast(T(a)));
    return multiply_add(multiply(limited, inner), sigmoid_slope<T>(s), s);
  }

 private:
  template <class T>
  EIGEN_ALWAYS_INLINE static Packet<T> gate(const Packet<T>& x) {
    return sigmoid<T>(multiply(x, multiply_add(multiply(x, x), broadcast(T(b)), broadcast(T(a)))));
  }
};

struct Exponential {  // exp(x)
  static constexpr ActivationInfo info{"exponential", 0, 0.0, 0.0, AlphaRange::any};
  template <class T>
  EIGEN_ALWAYS_INLINE static Packet<T> value(const Packet<T>& x, const Coefficients<T>&) {
    return exponential_of_any<T>(x);
  }
  template <class T>
  EIGEN_ALWAYS_INLINE static Packet<T> slope(const Packet<T>& y, const Coefficients<T>&) {
    return y;
  }
};

// Those that a gate cannot have, because they take all numbers of a row. Their functions are in elementwise.cpp.
inline constexpr ActivationInfo softmax_info{"softmax", 0, 0.0, 0.0, AlphaRange::any, ActivationKind::by_row};
inline constexpr ActivationInfo log_softmax_info{"log_softmax", 0, 0.0, 0.0, AlphaRange::any, ActivationKind::by_row};

template <class... Each>
struct ActivationList {
  static constexpr Index count = sizeof...(Each);
  // Those of a row follow.
  static constexpr Index softmax = count, log_softmax = count + 1, count_with_rows = count + 2;
  static constexpr ActivationInfo infos[] = {Each::info..., softmax_info, log_softmax_info};

  // Calls task(A{}) for the activation with this number.
  template <class Task>
  EIGEN_ALWAYS_INLINE static void with(Index number, Task&& task) {
    Index at = 0;
    (void)((at++ == number ? (task(Each{}), true) : false) || ...);
  }
};

using Activations = ActivationList<Sigmoid, Tanh, Relu, HardSigmoid, Affine, LeakyRelu, ThresholdedRelu, ScaledTanh,
                                   Elu, Softsign, Softplus, Selu, Silu, Gelu, GeluTanh, Exponential>;

}  // namespace latchwork::LATCHWORK_ISA
