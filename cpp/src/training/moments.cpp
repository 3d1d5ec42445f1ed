#include "training/moments.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "machine/dispatch.hpp"
#include "machine/float_state.hpp"
#include "machine/parallel.hpp"
#include "training/parameter_blocks.hpp"
#include "training/training_step.hpp"

namespace latchwork {
namespace {

std::size_t buffer_count(const OptimizerOptions& options) {
  const bool momentum = options.momentum != 0.0;
  switch (options.kind) {
    case OptimizerKind::sgd:
      return momentum ? 1 : 0;
    case OptimizerKind::rmsprop:
      return 1 + (options.centered ? 1 : 0) + (momentum ? 1 : 0);
    case OptimizerKind::adam:
    case OptimizerKind::adamw:
      break;
  }
  return 2;
}

// Calls work(piece, offset in the piece, size) for every block of every piece.
template <class T, class Work>
void for_each_block(const std::vector<Piece<T>>& pieces, Work&& work) {
  Index most = 0;
  for (const Piece<T>& piece : pieces) most = std::max(most, piece.size);
  const Index blocks = block_count(most);
  parallel(static_cast<Index>(pieces.size()) * blocks, [&](Index at) {
    const Piece<T>& piece = pieces[static_cast<std::size_t>(at / blocks)];
    const Index begin = at % blocks * block_size;
    if (begin < piece.size) work(piece, begin, std::min(block_size, piece.size - begin));
  });
}

// The part of a kernel's arguments that all of them have.
template <class Args, class T>
Args of_block(Args args, const Piece<T>& piece, Index begin, Index size, double scale) {
  args.gradient_scale = static_cast<T>(scale);
  args.size = size;
  args.parameters = piece.parameters + begin;
  args.gradient = piece.gradient + begin;
  return args;
}

}  // namespace

void check_steps(const std::vector<std::int64_t>& steps, std::size_t members) {
  if (steps.size() != members) refuse("steps", std::to_string(members) + " numbers", std::to_string(steps.size()));
  for (const std::int64_t count : steps) {
    if (count < 0) refuse("steps", "at least 0", std::to_string(count));
  }
}

template <class T>
Moments<T>::Moments(const OptimizerOptions& options, Index size, Index members)
    : options_(options),
      beta1_powers_(options.beta1),
      beta2_powers_(options.beta2),
      size_(size),
      steps_(static_cast<std::size_t>(members)),
      factors_(static_cast<std::size_t>(members)) {
  validate(options);
  if (size < 0) refuse("size", "at least 0", text(size));
  buffers_.assign(buffer_count(options), std::vector<T>(static_cast<std::size_t>(size)));
}

template <class T>
void Moments<T>::set_lr(double lr) {
  check_not_negative("lr", lr);
  options_.lr = lr;
}

template <class T>
void Moments<T>::restore(const OptimizerOptions& options, std::vector<std::int64_t> steps,
                         std::vector<std::vector<T>> buffers) {
  validate(options);
  check_steps(steps, steps_.size());
  const std::size_t count = buffer_count(options);
  if (buffers.size() != count) refuse("buffers", std::to_string(count), std::to_string(buffers.size()));
  for (const std::vector<T>& buffer : buffers) {
    if (static_cast<Index>(buffer.size()) == size_) continue;
    refuse("buffers", std::to_string(size_) + " elements in each", std::to_string(buffer.size()));
  }
  options_ = options;
  beta1_powers_ = mathematics::PowersOf(options.beta1);
  beta2_powers_ = mathematics::PowersOf(options.beta2);
  steps_ = std::move(steps);
  buffers_ = std::move(buffers);
  forget();
}

template <class T>
void Moments<T>::begin(const MemberScales& scales) {
  const bool adaptive = options_.kind == OptimizerKind::adam || options_.kind == OptimizerKind::adamw;
  for (std::size_t member = 0; member < factors_.size(); ++member) {
    Factors& factors = factors_[member];
    factors.takes_part = scales[member].has_value();
    if (!factors.takes_part) continue;
    factors.scale = *scales[member];
    factors.step = ++steps_[member];
    if (!adaptive) continue;
    const auto t = static_cast<double>(factors.step);
    factors.step_size = options_.lr / (1.0 - beta1_powers_(t));
    factors.second_correction = std::sqrt(1.0 - beta2_powers_(t));
  }
}

template <class T>
void Moments<T>::cancel() {
  for (std::size_t member = 0; member < factors_.size(); ++member)
    steps_[member] -= factors_[member].takes_part ? 1 : 0;
}

template <class T>
void Moments<T>::update(const std::vector<Piece<T>>& pieces) {
  const FlushToZero flush_to_zero;
  const Kernels<T>& kernels = kernels_of<T>(current_kernels());
  const OptimizerOptions& o = options_;
  const bool decoupled = o.kind == OptimizerKind::adamw;
  const auto number = [](double value) { return static_cast<T>(value); };
  for_each_block(pieces, [&](const Piece<T>& piece, Index begin, Index size) {
    const Factors& factors = factors_[static_cast<std::size_t>(piece.member)];
    if (!factors.takes_part) return;
    const auto buffer = [&](std::size_t index) { return buffers_[index].data() + piece.begin + begin; };
    if (o.kind == OptimizerKind::sgd) {
      auto args = of_block(SgdArgs<T>{}, piece, begin, size, factors.scale);
      args.first = factors.step == 1;
      args.lr = number(o.lr);
      args.momentum = number(o.momentum);
      args.dampening = number(o.dampening);
      args.weight_decay = number(o.weight_decay);
      args.nesterov = o.nesterov;
      args.velocity = buffers_.empty() ? nullptr : buffer(0);
      kernels.sgd(args);
    } else if (o.kind == OptimizerKind::rmsprop) {
      auto args = of_block(RmspropArgs<T>{}, piece, begin, size, factors.scale);
      args.lr = number(o.lr);
      args.alpha = number(o.alpha);
      args.eps = number(o.eps);
      args.momentum = number(o.momentum);
      args.weight_decay = number(o.weight_decay);
      args.square_mean = buffer(0);
      args.gradient_mean = o.centered ? buffer(1) : nullptr;
      args.velocity = o.momentum != 0.0 ? buffer(buffers_.size() - 1) : nullptr;
      kernels.rmsprop(args);
    } else {
      auto args = of_block(AdamArgs<T>{}, piece, begin, size, factors.scale);
      args.beta1 = number(o.beta1);
      args.beta2 = number(o.beta2);
      args.eps = number(o.eps);
      args.step_size = number(factors.step_size);
      args.second_correction = number(factors.second_correction);
      args.weight_decay = number(decoupled ? 0.0 : o.weight_decay);
      args.shrink = number(decoupled ? 1.0 - o.lr * o.weight_decay : 1.0);
      args.first_moment = buffer(0);
      args.second_moment = buffer(1);
      kernels.adam(args);
    }
  });
}

template <class T>
void Moments<T>::measure(const std::vector<Piece<T>>& pieces) {
  if (!parameters_known_) {
    double squares = 0.0;
    for (const Piece<T>& piece : pieces) squares += sum_of_squares(piece.parameters, piece.size);
    parameter_bound_ = std::sqrt(squares);
    parameters_known_ = true;
  }
  if (!buffers_known_) {
    for (std::size_t index = 0; index < buffers_.size(); ++index) {
      buffer_bounds_[index] = gradient_norm(buffers_[index].data(), size_);
    }
    buffers_known_ = true;
  }
}

template <class T>
bool Moments<T>::allows(double gradient) {
  if (!parameters_known_ || !buffers_known_) return false;
  // Half of the largest number, and a bound that grows a little more than it must, leave room for rounding.
  constexpr double limit = static_cast<double>(std::numeric_limits<T>::max()) / 2.0;
  constexpr double more = 1.001;
  const OptimizerOptions& o = options_;
  double largest_step = o.lr, smallest_correction = 1.0;
  for (const Factors& factors : factors_) {
    if (!factors.takes_part) continue;
    largest_step = std::max(largest_step, factors.step_size);
    smallest_correction = std::min(smallest_correction, factors.second_correction);
  }
  const bool decoupled = o.kind == OptimizerKind::adamw;
  const double direction = (gradient + (decoupled ? 0.0 : o.weight_decay) * parameter_bound_) * more;
  // What is divided by the root of a mean of squares is divided by eps at the least.
  const auto eps = static_cast<double>(static_cast<T>(o.eps));
  const double inverse = eps >= static_cast<double>(std::numeric_limits<T>::min()) ? 1.0 / eps : limit;
  double bounds[3] = {buffer_bounds_[0], buffer_bounds_[1], buffer_bounds_[2]};
  bool fits = true;  // everything that is computed on the way
  const auto see = [&](double value) {
    fits = fits && value <= limit;  // NaN is not
    return value;
  };
  see(direction);
  see(largest_step);
  double move = 0.0;
  if (o.kind == OptimizerKind::sgd) {
    move = direction;
    if (o.momentum != 0.0) {
      bounds[0] = see((o.momentum * bounds[0] + std::max(1.0, std::abs(1.0 - o.dampening)) * direction) * more);
      move = see(bounds[0] + direction + o.momentum * bounds[0]);
    }
    see(std::abs(1.0 - o.dampening));
    see(o.momentum);
  } else if (o.kind == OptimizerKind::rmsprop) {
    bounds[0] = std::max(bounds[0], see(direction * direction)) * more;
    move = see(direction * inverse);
    if (o.centered) bounds[1] = std::max(bounds[1], direction) * more;
    if (o.momentum != 0.0) {
      double& velocity = bounds[buffers_.size() - 1];
      velocity = move = see((o.momentum * velocity + move) * more);
    }
  } else {
    bounds[0] = std::max(bounds[0], direction) * more;
    bounds[1] = std::max(bounds[1], see(direction * direction)) * more;
    see(std::sqrt(bounds[1]) / std::max(smallest_correction, std::numeric_limits<double>::min()));
    see(largest_step * bounds[0]);
    move = see(bounds[0] * inverse);
  }
  const double shrink = decoupled ? std::max(1.0, std::abs(1.0 - o.lr * o.weight_decay)) : 1.0;
  const double parameters = see((parameter_bound_ * shrink + largest_step * move) * more);
  for (const double bound : bounds) see(bound);
  if (!fits) return false;
  parameter_bound_ = parameters;
  std::copy(std::begin(bounds), std::end(bounds), std::begin(buffer_bounds_));
  return true;
}

template <class T>
std::vector<std::vector<T>> Moments<T>::copy(const std::vector<Piece<T>>& pieces) const {
  std::vector<std::vector<T>> copies = buffers_;
  for (const Piece<T>& piece : pieces) copies.emplace_back(piece.parameters, piece.parameters + piece.size);
  return copies;
}

template <class T>
void Moments<T>::bring_back(const std::vector<Piece<T>>& pieces, std::vector<std::vector<T>> copies) {
  for (std::size_t index = 0; index < pieces.size(); ++index) {
    const std::vector<T>& values = copies[buffers_.size() + index];
    std::copy(values.begin(), values.end(), pieces[index].parameters);
  }
  copies.resize(buffers_.size());
  buffers_ = std::move(copies);
}

template <class T>
bool Moments<T>::is_finite(const std::vector<Piece<T>>& pieces) const {
  for (const std::vector<T>& buffer : buffers_) {
    if (!all_finite(buffer.data(), size_)) return false;
  }
  return std::all_of(pieces.begin(), pieces.end(),
                     [](const Piece<T>& piece) { return all_finite(piece.parameters, piece.size); });
}

template class Moments<float>;
template class Moments<double>;

}  // namespace latchwork
