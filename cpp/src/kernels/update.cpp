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

// Tieleman & Hinton 2012; with `gradient_mean` centred as in Graves 2013.
template <class T>
void rmsprop(const RmspropArgs<T>& args) {
  const RmspropArgs<T> a = args;
  T* __restrict parameters = a.parameters;
  const T* __restrict gradients = a.gradient;
  T* __restrict square_mean = a.square_mean;
  T* __restrict gradient_mean = a.gradient_mean;
  T* __restrict velocity = a.velocity;
  for (Index at = 0; at < a.size; ++at) {
    const T gradient = gradients[at] * a.gradient_scale + a.weight_decay * parameters[at];
    T variance = a.alpha * square_mean[at] + (T(1) - a.alpha) * gradient * gradient;
    square_mean[at] = variance;
    if (gradient_mean != nullptr) {
      const T mean = a.alpha * gradient_mean[at] + (T(1) - a.alpha) * gradient;
      gradient_mean[at] = mean;
      const T centered = variance - mean * mean;
      variance = centered > T(0) ? centered : T(0);  // rounding may take it below
    }
    T direction = gradient / (square_root(variance) + a.eps);
    if (velocity != nullptr) {
      direction = a.momentum * velocity[at] + direction;
      velocity[at] = direction;
    }
    parameters[at] -= a.lr * direction;
  }
}

// Number k goes to chain k modulo 16, whatever the register's width; the chains are joined in a tree.
template <class T>
double sum_of_squares(const T* x, Index size) {
  constexpr Index count = 16;
  double chains[count] = {};
  Index at = 0;
  for (; at + count <= size; at += count) {
    for (Index chain = 0; chain < count; ++chain) {
      const double value = static_cast<double>(x[at + chain]);
      chains[chain] += value * value;
    }
  }
  for (Index chain = 0; at < size; ++at, ++chain) {
    chains[chain] += static_cast<double>(x[at]) * static_cast<double>(x[at]);
  }
  for (Index left = count / 2; left > 0; left /= 2) {
    for (Index chain = 0; chain < left; ++chain) chains[chain] = chains[2 * chain] + chains[2 * chain + 1];
  }
  return chains[0];
}

template void adam<float>(const AdamArgs<float>&);
template void adam<double>(const AdamArgs<double>&);
template void sgd<float>(const SgdArgs<float>&);
template void sgd<double>(const SgdArgs<double>&);
template void rmsprop<float>(const RmspropArgs<float>&);
template void rmsprop<double>(const RmspropArgs<double>&);
template double sum_of_squares<float>(const float*, Index);
template double sum_of_squares<double>(const double*, Index);

}  // namespace latchwork::LATCHWORK_ISA
