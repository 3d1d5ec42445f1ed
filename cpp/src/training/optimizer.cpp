#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

#include "latchwork/fork.hpp"
#include "latchwork/training.hpp"
#include "machine/dispatch.hpp"
#include "machine/float_state.hpp"
#include "machine/parallel.hpp"
#include "training/training_step.hpp"

namespace latchwork {
namespace {

// Threads take parameters, and sums over parameters are added up, in blocks of this size. It is fixed, so that no sum
// depends on the number of threads.
constexpr Index block_size = 16384;

constexpr Index block_count(Index size) { return (size + block_size - 1) / block_size; }

// Calls work(begin, size) for every block.
template <class Work>
void for_each_block(Index size, Work&& work) {
  parallel(block_count(size), [&](Index block) {
    const Index begin = block * block_size;
    work(begin, std::min(block_size, size - begin));
  });
}

// Calls work(scale of the member, offset of the parameters, offset of the gradient, size) for every block of every
// member's parameters.
template <class Work>
void for_each_block(const std::vector<double>& scales, Index stride, Index member_size, Work&& work) {
  const Index blocks = block_count(member_size);
  parallel(static_cast<Index>(scales.size()) * blocks, [&](Index at) {
    const Index member = at / blocks;
    const Index begin = at % blocks * block_size;
    work(scales[static_cast<std::size_t>(member)], member * stride + begin, member * member_size + begin,
         std::min(block_size, member_size - begin));
  });
}

void check_decay(const char* name, double value) {
  if (!(value >= 0.0 && value < 1.0)) refuse(name, "at least 0 and less than 1", text(value));
}

std::size_t buffer_count(const OptimizerOptions& options) {
  if (options.kind == OptimizerKind::sgd) return options.momentum != 0.0 ? 1 : 0;
  return 2;
}

template <class T>
AdamArgs<T> adam_args(const OptimizerOptions& options, std::int64_t steps) {
  const auto t = static_cast<double>(steps);
  const bool decoupled = options.kind == OptimizerKind::adamw;
  AdamArgs<T> args{};
  args.beta1 = static_cast<T>(options.beta1);
  args.beta2 = static_cast<T>(options.beta2);
  args.eps = static_cast<T>(options.eps);
  args.step_size = static_cast<T>(options.lr / (1.0 - std::pow(options.beta1, t)));
  args.second_correction = static_cast<T>(std::sqrt(1.0 - std::pow(options.beta2, t)));
  args.weight_decay = static_cast<T>(decoupled ? 0.0 : options.weight_decay);
  args.shrink = static_cast<T>(decoupled ? 1.0 - options.lr * options.weight_decay : 1.0);
  return args;
}

template <class T>
SgdArgs<T> sgd_args(const OptimizerOptions& options, std::int64_t steps) {
  SgdArgs<T> args{};
  args.first = steps == 1;
  args.lr = static_cast<T>(options.lr);
  args.momentum = static_cast<T>(options.momentum);
  args.dampening = static_cast<T>(options.dampening);
  args.weight_decay = static_cast<T>(options.weight_decay);
  args.nesterov = options.nesterov;
  return args;
}

}  // namespace

void validate(const OptimizerOptions& options) {
  check_not_negative("lr", options.lr);
  check_not_negative("weight_decay", options.weight_decay);
  if (options.kind == OptimizerKind::sgd) {
    check_not_negative("momentum", options.momentum);
    if (!std::isfinite(options.dampening)) refuse("dampening", "a finite number", text(options.dampening));
    if (options.nesterov && (options.momentum == 0.0 || options.dampening != 0.0)) {
      refuse("nesterov", "false unless momentum is above 0 and dampening 0",
             "true with momentum " + text(options.momentum) + " and dampening " + text(options.dampening));
    }
  } else {
    check_decay("beta1", options.beta1);
    check_decay("beta2", options.beta2);
    check_not_negative("eps", options.eps);
  }
}

template <class T>
Optimizer<T>::Optimizer(const OptimizerOptions& options, Index size) : options_(options), size_(size) {
  validate(options);
  if (size < 0) refuse("size", "at least 0", text(size));
  buffers_.assign(buffer_count(options), std::vector<T>(static_cast<std::size_t>(size)));
}

template <class T>
void Optimizer<T>::set_lr(double lr) {
  check_not_negative("lr", lr);
  options_.lr = lr;
}

template <class T>
void Optimizer<T>::step(T* parameters, const T* gradient, double gradient_scale) {
  step(parameters, size_, gradient, std::vector<double>{gradient_scale});
}

template <class T>
void Optimizer<T>::step(T* parameters, Index stride, const T* gradient, const std::vector<double>& gradient_scales) {
  const FlushToZero flush_to_zero;
  const Kernels<T>& kernels = kernels_of<T>(current_kernels());
  const Index member_size = size_ / static_cast<Index>(gradient_scales.size());
  ++steps_;
  if (options_.kind == OptimizerKind::sgd) {
    const SgdArgs<T> all = sgd_args<T>(options_, steps_);
    T* const velocity = buffers_.empty() ? nullptr : buffers_[0].data();
    for_each_block(gradient_scales, stride, member_size, [&](double scale, Index to, Index from, Index size) {
      SgdArgs<T> args = all;
      args.gradient_scale = static_cast<T>(scale);
      args.size = size;
      args.parameters = parameters + to;
      args.gradient = gradient + from;
      args.velocity = velocity == nullptr ? nullptr : velocity + from;
      kernels.sgd(args);
    });
  } else {
    const AdamArgs<T> all = adam_args<T>(options_, steps_);
    for_each_block(gradient_scales, stride, member_size, [&](double scale, Index to, Index from, Index size) {
      AdamArgs<T> args = all;
      args.gradient_scale = static_cast<T>(scale);
      args.size = size;
      args.parameters = parameters + to;
      args.gradient = gradient + from;
      args.first_moment = buffers_[0].data() + from;
      args.second_moment = buffers_[1].data() + from;
      kernels.adam(args);
    });
  }
}

template <class T>
void Optimizer<T>::restore(std::int64_t steps, std::vector<std::vector<T>> buffers) {
  if (steps < 0) refuse("steps", "at least 0", std::to_string(steps));
  if (buffers.size() != buffers_.size()) {
    throw std::invalid_argument("buffers: expected " + std::to_string(buffers_.size()) + ", got " +
                                std::to_string(buffers.size()));
  }
  for (const std::vector<T>& buffer : buffers) {
    if (static_cast<Index>(buffer.size()) == size_) continue;
    throw std::invalid_argument("buffers: expected " + std::to_string(size_) + " elements in each, got " +
                                std::to_string(buffer.size()));
  }
  const NoFork no_fork;
  steps_ = steps;
  buffers_ = std::move(buffers);
}

template <class T>
double gradient_norm(const T* gradient, Index size) {
  const FlushToZero flush_to_zero;
  const Kernels<T>& kernels = kernels_of<T>(current_kernels());
  std::vector<double> partial(static_cast<std::size_t>(block_count(size)));
  for_each_block(size, [&](Index begin, Index length) {
    partial[static_cast<std::size_t>(begin / block_size)] = kernels.sum_of_squares(gradient + begin, length);
  });
  double sum = 0.0;
  for (double part : partial) sum += part;
  return std::sqrt(sum);
}

double clip_scale(double norm, double clip_norm) {
  const double scale = clip_norm / (norm + 1e-6);
  return scale > 1.0 ? 1.0 : scale;  // std::min would turn NaN into 1
}

template class Optimizer<float>;
template class Optimizer<double>;
template double gradient_norm(const float*, Index);
template double gradient_norm(const double*, Index);

}  // namespace latchwork
