// Optimisers and norms, each in a single pass over contiguous parameters. Every element is computed by itself, so that
// the vectorisation by the compiler cannot change a bit.
#include "kernels/kernels.hpp"

namespace latchwork::LATCHWORK_ISA {

// Kingma & Ba 2015; with `shrink` the decoupled weight decay of Loshchilov & Hutter 2019.
template <class T>
void adam(const AdamArgs<T>& args) {
  const AdamArgs<T> a = args;
  T* __restrict parameters = a.parameters;
  const T* __restrict gradients = a.gradient;
  T* __restrict first = a.first_moment;
  T* __restrict second = a.second_moment;
  for (Index at = 0; at < a.size; ++at) {
    const T parameter = parameters[at];
    const T gradient = gradients[at] * a.gradient_scale + a.weight_decay * parameter;
    first[at] = a.beta1 * first[at] + (T(1) - a.beta1) * gradient;
    second[at] = a.beta2 * second[at] + (T(1) - a.beta2) * gradient * gradient;
    const T denominator = square_root(second[at]) / a.second_correction + a.eps;
    parameters[at] = parameter * a.shrink - a.step_size * first[at] / denominator;
  }
}

template <class T>
void sgd(const SgdArgs<T>& args) {
  const SgdArgs<T> a = args;
  T* __restrict parameters = a.parameters;
  const T* __restrict gradients = a.gradient;
  T* __restrict velocity = a.velocity;
  for (Index at = 0; at < a.size; ++at) {
    T direction = gradients[at] * a.gradient_scale + a.weight_decay * parameters[at];
    if (velocity != nullptr) {
      const T moved = a.first ? direction : a.momentum * velocity[at] + (T(1) - a.dampening) * direction;
      velocity[at] = moved;
      direction = a.nesterov ? direction + a.momentum * moved : moved;
    }
    parameters[at] -= a.lr * direction;
  }
}

template <class T>
double sum_of_squares(const T* x, Index size) {
  double chains[8] = {};
  Index at = 0;
  for (; at + 8 <= size; at += 8) {
    for (Index lane = 0; lane < 8; ++lane) {
      const double value = static_cast<double>(x[at + lane]);
      chains[lane] += value * value;
    }
  }
  for (Index lane = 0; at < size; ++at, ++lane) chains[lane] += static_cast<double>(x[at]) * static_cast<double>(x[at]);
  double sum = 0.0;
  for (double chain : chains) sum += chain;
  return sum;
}

template void adam<float>(const AdamArgs<float>&);
template void adam<double>(const AdamArgs<double>&);
template void sgd<float>(const SgdArgs<float>&);
template void sgd<double>(const SgdArgs<double>&);
template double sum_of_squares<float>(const float*, Index);
template double sum_of_squares<double>(const double*, Index);

}  // namespace latchwork::LATCHWORK_ISA
