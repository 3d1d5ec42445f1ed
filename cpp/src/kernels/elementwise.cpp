// Activations and the softmax of arrays.
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

}  // namespace

template <class T>
void activate_all(const ActivationArgs<T>& activation, const T* x, Index size, T* y) {
  const Coefficients<T> k{broadcast(activation.alpha), broadcast(activation.beta)};
  Activations::with(activation.number, [&]<class A>(A) {
    map_all(x, size, y, [&](const Packet<T>& value) { return A::template value<T>(value, k); });
  });
}

template <class T>
void multiply_all_by_slope(const ActivationArgs<T>& activation, const T* y, Index size, T* d) {
  const Coefficients<T> k{broadcast(activation.alpha), broadcast(activation.beta)};
  Activations::with(activation.number, [&]<class A>(A) {
    const auto product = [&](const Packet<T>& gradient, const Packet<T>& value) {
      return multiply(gradient, A::template slope<T>(value, k));
    };
    Index at = 0;
    for (; at + lanes<T> <= size; at += lanes<T>) store(d + at, product(load(d + at), load(y + at)));
    const Index left = size - at;
    if (left > 0) store_part(d + at, product(load_part(d + at, left), load_part(y + at, left)), left);
  });
}

template <class T>
SoftmaxSum<T> softmax_cross_entropy(const SoftmaxArgs<T>& args) {
  const T largest = largest_logit(args.logits, args.classes);
  const auto shifted = [&](const Packet<T>& logits) { return exponential<T>(subtract(logits, broadcast(largest))); };

  // Class k is added to chain k modulo 16, whatever the register's width.
  constexpr Index chain_count = 16;
  constexpr Index registers = (chain_count + lanes<T> - 1) / lanes<T>;
  Packet<T> chains[registers];
  for (Packet<T>& chain : chains) chain = broadcast(T(0));
  Index k = 0;
  for (; k + registers * lanes<T> <= args.classes; k += registers * lanes<T>) {
#pragma GCC unroll 16
    for (Index at = 0; at < registers; ++at) {
      chains[at] = add(chains[at], shifted(load(args.logits + k + at * lanes<T>)));
    }
  }
  for (Index at = 0; k < args.classes; ++at, k += lanes<T>) {
    const Index left = args.classes - k < lanes<T> ? args.classes - k : lanes<T>;
    chains[at] = add(chains[at], first_lanes<T>(shifted(load_part(args.logits + k, left)), left));
  }
  T sums[registers * lanes<T>];
  for (Index at = 0; at < registers; ++at) store(sums + at * lanes<T>, chains[at]);
  for (Index left = chain_count / 2; left > 0; left /= 2) {
    for (Index chain = 0; chain < left; ++chain) sums[chain] = sums[2 * chain] + sums[2 * chain + 1];
  }

  if (args.d_logits != nullptr) {
    const Packet<T> factor = broadcast(args.gradient_scale / sums[0]);
    map_all(args.logits, args.classes, args.d_logits,
            [&](const Packet<T>& logits) { return multiply(shifted(logits), factor); });
    args.d_logits[args.label] -= args.gradient_scale;
  }
  return {largest, sums[0]};
}

template void activate_all<float>(const ActivationArgs<float>&, const float*, Index, float*);
template void activate_all<double>(const ActivationArgs<double>&, const double*, Index, double*);
template void multiply_all_by_slope<float>(const ActivationArgs<float>&, const float*, Index, float*);
template void multiply_all_by_slope<double>(const ActivationArgs<double>&, const double*, Index, double*);
template SoftmaxSum<float> softmax_cross_entropy<float>(const SoftmaxArgs<float>&);
template SoftmaxSum<double> softmax_cross_entropy<double>(const SoftmaxArgs<double>&);

}  // namespace latchwork::LATCHWORK_ISA
