// Activations and the softmax of arrays.
#include <limits>

#include "kernels/activation_list.hpp"
#include "kernels/kernels.hpp"

namespace latchwork::LATCHWORK_ISA {

namespace {

// y = function(x). The tail goes through the same packet function as everything else.
template <class T, class Function>
EIGEN_ALWAYS_INLINE void map_all(const T* x, Index size, T* y, Function&& function) {
  Index at = 0;
  for (; at + lanes<T> <= size; at += lanes<T>) store(y + at, function(load(x + at)));
  if (at < size) store_part(y + at, function(load_part(x + at, size - at)), size - at);
}

// Returns NaN if a logit is not finite: there is no softmax then, and both the loss and the gradient become NaN.
template <class T>
T largest_logit(const T* logits, Index classes) {
  Packet<T> largest_lanes = broadcast(logits[0]), undefined_lanes = broadcast(T(0));
  Index k = 0;
  for (; k + lanes<T> <= classes; k += lanes<T>) {
    const Packet<T> logit = load(logits + k);
    largest_lanes = at_least(largest_lanes, logit);
    undefined_lanes = add(undefined_lanes, subtract(logit, logit));
  }
  T largest = eigen::predux_max(largest_lanes), undefined = eigen::predux(undefined_lanes);
  for (; k < classes; ++k) {
    if (logits[k] > largest) largest = logits[k];
    undefined += logits[k] - logits[k];
  }
  return largest + undefined;
}

// exp(logit - largest)
template <class T>
EIGEN_ALWAYS_INLINE Packet<T> shifted_exponential(const Packet<T>& logits, const Packet<T>& largest) {
  return exponential<T>(subtract(logits, largest));
}

// The sum of a row of `size` numbers. summand(at) gives a register of them, from the registers at(array) of the arrays
// that it reads. Number k is added to chain k modulo 16, whatever the register's width.
template <class T, class Summand>
EIGEN_ALWAYS_INLINE T sum_of_row(Index size, Summand&& summand) {
  constexpr Index chain_count = 16;
  constexpr Index registers = (chain_count + lanes<T> - 1) / lanes<T>;
  Packet<T> chains[registers];
  for (Packet<T>& chain : chains) chain = broadcast(T(0));
  Index k = 0;
  for (; k + registers * lanes<T> <= size; k += registers * lanes<T>) {
#pragma GCC unroll 16
    for (Index at = 0; at < registers; ++at) {
      chains[at] = add(chains[at], summand([&](const T* array) { return load(array + k + at * lanes<T>); }));
    }
  }
  for (Index at = 0; k < size; ++at, k += lanes<T>) {
    const Index left = size - k < lanes<T> ? size - k : lanes<T>;
    const Packet<T> last = summand([&](const T* array) { return load_part(array + k, left); });
    chains[at] = add(chains[at], first_lanes<T>(last, left));
  }
  T sums[registers * lanes<T>];
  for (Index at = 0; at < registers; ++at) store(sums + at * lanes<T>, chains[at]);
  for (Index left = chain_count / 2; left > 0; left /= 2) {
    for (Index chain = 0; chain < left; ++chain) sums[chain] = sums[2 * chain] + sums[2 * chain + 1];
  }
  return sums[0];
}

// The sum of exp(x - largest).
template <class T>
EIGEN_ALWAYS_INLINE T sum_of_exponentials(const T* x, Index size, const Packet<T>& largest) {
  return sum_of_row<T>(size, [&](auto&& at) { return shifted_exponential<T>(at(x), largest); });
}

// The natural logarithm of a finite number of at least 1; NaN stays NaN.
template <class T>
T logarithm(T x) {
  if (!(x < std::numeric_limits<T>::infinity())) return x;
  int exponent = 0;
  for (; x >= T(2); x *= T(0.5)) ++exponent;
  T logarithms[lanes<T>];
  store(logarithms, logarithm_of_one_plus<T>(broadcast(x - T(1))));
  return static_cast<T>(exponent) * T(0.69314718055994530942) + logarithms[0];
}

// y = softmax of x, or its logarithm; NaN if no number is finite or one is infinite.
template <class T>
void softmax_of_row(const T* x, Index size, bool of_logarithm, T* y) {
  Packet<T> largest = broadcast(x[0]);
  Index k = 0;
  for (; k + lanes<T> <= size; k += lanes<T>) largest = at_least(largest, load(x + k));
  for (; k < size; ++k) largest = at_least(largest, broadcast(x[k]));
  const Packet<T> shift = broadcast(eigen::predux_max(largest));
  const T sum = sum_of_exponentials<T>(x, size, shift);
  if (of_logarithm) {
    const Packet<T> of_sum = broadcast(logarithm(sum));
    map_all(x, size, y, [&](const Packet<T>& value) { return subtract(subtract(value, shift), of_sum); });
  } else {
    const Packet<T> of_all = broadcast(sum);
    map_all(x, size, y, [&](const Packet<T>& value) { return divide(shifted_exponential<T>(value, shift), of_all); });
  }
}

// d = function(y, d), element by element.
template <class T, class Function>
EIGEN_ALWAYS_INLINE void update_all(const T* y, Index size, T* d, Function&& function) {
  Index at = 0;
  for (; at + lanes<T> <= size; at += lanes<T>) store(d + at, function(load(y + at), load(d + at)));
  const Index left = size - at;
  if (left > 0) store_part(d + at, function(load_part(y + at, left), load_part(d + at, left)), left);
}

// The gradient of softmax_of_row(): y (d - sum(y d)), or d - exp(y) sum(d) for the logarithm.
template <class T>
void differentiate_softmax(const T* y, Index size, bool of_logarithm, T* d) {
  if (of_logarithm) {
    const Packet<T> sum = broadcast(sum_of_row<T>(size, [&](auto&& at) { return at(d); }));
    update_all(y, size, d, [&](const Packet<T>& value, const Packet<T>& gradient) {
      return subtract(gradient, multiply(exponential<T>(value), sum));
    });
  } else {
    const Packet<T> sum = broadcast(sum_of_row<T>(size, [&](auto&& at) { return multiply(at(y), at(d)); }));
    update_all(y, size, d, [&](const Packet<T>& value, const Packet<T>& gradient) {
      return multiply(value, subtract(gradient, sum));
    });
  }
}

}  // namespace

template <class T>
void activate_all(const ActivationArgs<T>& activation, const T* x, Index size, T* y) {
  if (activation.number >= Activations::count) {
    return softmax_of_row(x, size, activation.number == Activations::log_softmax, y);
  }
  const Coefficients<T> k{broadcast(activation.alpha), broadcast(activation.beta)};
  Activations::with(activation.number, [&]<class A>(A) {
    map_all(x, size, y, [&](const Packet<T>& value) { return A::template value<T>(value, k); });
  });
}

template <class T>
void multiply_all_by_slope(const ActivationArgs<T>& activation, const T* y, Index size, T* d) {
  if (activation.number >= Activations::count) {
    return differentiate_softmax(y, size, activation.number == Activations::log_softmax, d);
  }
  const Coefficients<T> k{broadcast(activation.alpha), broadcast(activation.beta)};
  Activations::with(activation.number, [&]<class A>(A) {
    update_all(y, size, d, [&](const Packet<T>& value, const Packet<T>& gradient) {
      return multiply(gradient, A::template slope<T>(value, k));
    });
  });
}

template <class T>
SoftmaxSum<T> softmax_cross_entropy(const SoftmaxArgs<T>& args) {
  const T largest = largest_logit(args.logits, args.classes);
  const Packet<T> shift = broadcast(largest);
  const T sum = sum_of_exponentials<T>(args.logits, args.classes, shift);
  if (args.d_logits != nullptr) {
    const Packet<T> factor = broadcast(args.gradient_scale / sum);
    map_all(args.logits, args.classes, args.d_logits,
            [&](const Packet<T>& logits) { return multiply(shifted_exponential<T>(logits, shift), factor); });
    args.d_logits[args.label] -= args.gradient_scale;
  }
  return {largest, sum};
}

template void activate_all<float>(const ActivationArgs<float>&, const float*, Index, float*);
template void activate_all<double>(const ActivationArgs<double>&, const double*, Index, double*);
template void multiply_all_by_slope<float>(const ActivationArgs<float>&, const float*, Index, float*);
template void multiply_all_by_slope<double>(const ActivationArgs<double>&, const double*, Index, double*);
template SoftmaxSum<float> softmax_cross_entropy<float>(const SoftmaxArgs<float>&);
template SoftmaxSum<double> softmax_cross_entropy<double>(const SoftmaxArgs<double>&);

}  // namespace latchwork::LATCHWORK_ISA
