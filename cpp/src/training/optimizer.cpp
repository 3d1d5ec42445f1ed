#include <cmath>
#include <utility>

#include "latchwork/fork.hpp"
#include "latchwork/training.hpp"
#include "training/moments.hpp"
#include "training/optimizer_step.hpp"
#include "training/parameter_blocks.hpp"
#include "training/training_step.hpp"

namespace latchwork {
namespace {

void check_decay(const char* name, double value) {
  if (!(value >= 0.0 && value < 1.0)) refuse(name, "at least 0 and less than 1", text(value));
}

// Whether two targets have a parameter in common.
template <class T>
bool share(const Network<T>& one, const Network<T>& other) {
  const auto end = [](const Network<T>& network) {
    return network.parameters_begin() + network.member_parameter_count();
  };
  return one.store() == other.store() && one.parameters_begin() < end(other) && other.parameters_begin() < end(one);
}

template <class T>
Index size_of(const std::vector<Network<T>>& targets) {
  check_separate(targets);
  Index size = 0;
  for (const Network<T>& target : targets) size += target.parameter_count();
  return size;
}

}  // namespace

template <class T>
void check_separate(const std::vector<Network<T>>& targets) {
  for (std::size_t at = 0; at < targets.size(); ++at) {
    const std::string name = "targets[" + std::to_string(at) + "]";
    if (targets[at].members() != targets[0].members()) {
      refuse(name, "as many members as targets[0], " + text(targets[0].members()), text(targets[at].members()));
    }
    for (std::size_t before = 0; before < at; ++before) {
      if (!share(targets[before], targets[at])) continue;
      refuse(name, "parameters of its own", "some that belong to targets[" + std::to_string(before) + "] too");
    }
  }
}

template void check_separate(const std::vector<Network<float>>&);
template void check_separate(const std::vector<Network<double>>&);

void validate(const OptimizerOptions& options) {
  check_not_negative("lr", options.lr);
  check_not_negative("weight_decay", options.weight_decay);
  switch (options.kind) {
    case OptimizerKind::sgd:
      check_not_negative("momentum", options.momentum);
      if (!std::isfinite(options.dampening)) refuse("dampening", "a finite number", text(options.dampening));
      if (options.nesterov && (options.momentum == 0.0 || options.dampening != 0.0)) {
        refuse("nesterov", "false unless momentum is above 0 and dampening 0",
               "true with momentum " + text(options.momentum) + " and dampening " + text(options.dampening));
      }
      return;
    case OptimizerKind::rmsprop:
      check_decay("alpha", options.alpha);
      check_not_negative("eps", options.eps);
      check_not_negative("momentum", options.momentum);
      return;
    case OptimizerKind::adam:
    case OptimizerKind::adamw:
      check_decay("beta1", options.beta1);
      check_decay("beta2", options.beta2);
      check_not_negative("eps", options.eps);
      return;
  }
}

template <class T>
Optimizer<T>::Optimizer(const OptimizerOptions& options, std::vector<Network<T>> targets)
    : targets_(std::move(targets)), versions_(targets_.size()) {
  if (targets_.empty()) refuse("targets", "at least one", "none");
  moments_ = std::make_unique<Moments<T>>(options, size_of(targets_), members());
}

template <class T>
Optimizer<T>::~Optimizer() = default;

template <class T>
const OptimizerOptions& Optimizer<T>::options() const {
  return moments_->options();
}
template <class T>
void Optimizer<T>::set_lr(double lr) {
  moments_->set_lr(lr);
}
template <class T>
const std::vector<std::int64_t>& Optimizer<T>::steps() const {
  return moments_->steps();
}
template <class T>
const std::vector<std::vector<T>>& Optimizer<T>::buffers() const {
  return moments_->buffers();
}
template <class T>
void Optimizer<T>::restore(const OptimizerOptions& options, std::vector<std::int64_t> steps,
                           std::vector<std::vector<T>> buffers) {
  const NoFork no_fork;
  moments_->restore(options, std::move(steps), std::move(buffers));
}

template <class T>
void Optimizer<T>::step(const std::vector<TargetGradients<T>>& gradients, bool check_finite) {
  const MemberScales scales(static_cast<std::size_t>(members()), 1.0);
  std::vector<double> norms(scales.size());
  for (std::size_t member = 0; check_finite && member < norms.size(); ++member) {
    norms[member] = norm_of(targets_, gradients, static_cast<Index>(member));
    if (!std::isfinite(norms[member])) {
      refuse_infinite(of_member("norm of the gradient", member, members()), norms[member]);
    }
  }
  OptimizerStep<T>({this}).run({gradients}, scales, largest_gradient(norms, scales), check_finite, [] {});
}

template class Optimizer<float>;
template class Optimizer<double>;

}  // namespace latchwork
