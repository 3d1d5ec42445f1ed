#include <algorithm>
#include <cmath>
#include <optional>
#include <stdexcept>
#include <string>

#include "latchwork/fork.hpp"
#include "latchwork/training.hpp"
#include "machine/float_state.hpp"
#include "machine/interrupt.hpp"
#include "network/chain.hpp"
#include "network/masked_batch.hpp"
#include "network/members.hpp"
#include "network/skipped_call.hpp"
#include "training/moments.hpp"
#include "training/optimizer_step.hpp"
#include "training/training_step.hpp"
#include "weights/module_sizes.hpp"

namespace latchwork {
namespace {

// The batch that the loss sees: the steps, rows, lengths and skipped steps of the network's output.
template <class T>
Batch output_batch(const Network<T>& network, const Batch& batch) {
  if (!network.keeps_sequence()) return {1, batch.rows};
  Batch outputs{batch.steps, batch.rows, batch.lengths, {}, batch.lengths_member_stride};
  outputs.skip = batch.skip;
  return outputs;
}

// Places in `memory` for the end states of all members, of the same number and sizes as `end`. Results go there first,
// because the caller's end states may be the start states too and must not change if the step fails.
template <class T>
States<T> end_states_in(std::vector<T>& memory, const Network<T>& network, Index rows, const States<T>& end) {
  if (end.empty() || rows < 0) return {};  // check_input() refuses a negative number of rows
  detail::check_places(*detail::parts_of(network), "end", end, Batch{0, rows});
  States<T> states;
  Index size = 0;  // of one member
  for (const StateSize& one : network.state_sizes()) size += one.count * rows * (one.hidden + one.cell);
  if (static_cast<Index>(memory.size()) < network.members() * size) {
    const NoFork no_fork;
    memory.resize(static_cast<std::size_t>(network.members() * size));
  }
  T* next = memory.data();
  for (const StateSize& one : network.state_sizes()) {
    T* const cell = next + one.count * rows * one.hidden;
    states.push_back({next, cell, size, size});
    next = cell + one.count * rows * one.cell;
  }
  return states;
}

template <class T>
void copy_states(const Network<T>& network, Index rows, const States<T>& from, const States<T>& to) {
  for (std::size_t index = 0; index < to.size(); ++index) {
    const StateSize& size = network.state_sizes()[index];
    for (Index member = 0; member < network.members(); ++member) {
      const State<T> one = from[index].of(member), other = to[index].of(member);
      if (other.hidden != nullptr) std::copy_n(one.hidden, size.count * rows * size.hidden, other.hidden);
      if (other.cell != nullptr) std::copy_n(one.cell, size.count * rows * size.cell, other.cell);
    }
  }
}

// The targets of the computed steps. After Last a target belongs to no step.
template <class T>
Target<T> computed_target(detail::SkippedCall<T>& computed, const Network<T>& network, const Loss& loss,
                          const Target<T>& target) {
  if (target.custom != nullptr) {
    throw std::invalid_argument("skip: expected none with a loss of the program's own, got a mask");
  }
  if (!network.keeps_sequence()) return target;
  Target<T> gathered;
  gathered.values = computed.of_output(target.values, network.output_size() / outputs_per_target(loss));
  gathered.labels = computed.of_output(target.labels, 1);
  gathered.weights = computed.of_output(target.weights, target.weight_features);
  gathered.weight_features = target.weight_features;
  return gathered;
}

// Refuses a network that ends in softmax, perhaps through modules after it that choose among its results, average or
// reorder them.
void check_logits(const std::vector<ModuleOptions>& modules) {
  const auto keeps_softmax = [](const ModuleOptions& module) {
    return pooling_name(module) != nullptr || std::holds_alternative<DropoutOptions>(module) ||
           std::holds_alternative<ReverseOptions>(module);
  };
  std::size_t last = modules.size() - 1;
  while (last > 0 && keeps_softmax(modules[last])) --last;
  const auto* linear = std::get_if<LinearOptions>(&modules[last]);
  const auto* activation = std::get_if<ActivationOptions>(&modules[last]);
  const Activation* const end = linear != nullptr       ? &linear->activation
                                : activation != nullptr ? &activation->activation
                                                        : nullptr;
  if (end == nullptr || end->name != "softmax") return;
  refuse("loss",
         "another one for a network that ends in softmax, because cross_entropy takes logits and applies the "
         "softmax itself",
         "cross_entropy");
}

// Throws std::invalid_argument for a target or a weight that does not fit, before any computation.
template <class T>
void check_targets(const Loss& loss, const Network<T>& network, const Batch& batch, const Target<T>& target) {
  if (target.custom != nullptr) return;
  const bool shared = target.values.member_stride == 0 && target.labels.member_stride == 0 &&
                      target.weights.member_stride == 0 && batch.lengths_member_stride == 0;
  const Index members = shared ? 1 : network.members();
  for (Index member = 0; member < members; ++member) {
    try {
      check_target<T>(loss, network.output_size(), output_batch(network, batch.of(member)), target.of(member));
    } catch (const std::invalid_argument& error) {
      if (shared) throw;
      std::string message = error.what();
      const auto place = message.rfind(" at step ");
      if (place != std::string::npos) message.insert(place + 4, "member " + std::to_string(member) + ", ");
      throw std::invalid_argument(message);
    }
  }
}

template <class T>
void copy_sequence(SequenceView<const T> from, const Batch& batch, Index features, SequenceView<T> to) {
  for (Index step = 0; step < batch.steps; ++step) {
    for (Index row = 0; row < batch.rows; ++row) std::copy_n(from.at(step, row), features, to.at(step, row));
  }
}

// What a loss of the program's own sees of all members.
template <class T>
struct Recorded {
  void resize(const Network<T>& network, const Batch& batch) {
    const Index features = network.output_size();
    steps = output_batch(network, batch).steps;
    const Index size = steps * batch.rows * features;
    memory.resize(static_cast<std::size_t>(2 * network.members() * size));
    output = {memory.data(), batch.rows * features, features, size};
    d_output = {memory.data() + network.members() * size, batch.rows * features, features, size};
    records.resize(static_cast<std::size_t>(network.members()));
  }

  std::vector<T> memory;
  SequenceView<T> output, d_output;
  Index steps = 0;
  std::vector<ChainRecord<T>> records;
};

}  // namespace

template <class T>
Trainer<T>::Trainer(const Network<T>& network, Loss loss, const OptimizerOptions& optimizer, double clip_norm,
                    std::uint64_t seed, Index gradient_blocks)
    : Trainer(network, std::move(loss), {std::make_shared<Optimizer<T>>(optimizer, std::vector<Network<T>>{network})},
              clip_norm, seed, gradient_blocks) {}

template <class T>
Trainer<T>::Trainer(const Network<T>& network, Loss loss, std::vector<std::shared_ptr<Optimizer<T>>> optimizers,
                    double clip_norm, std::uint64_t seed, Index gradient_blocks)
    : network_(network),
      loss_(std::move(loss)),
      optimizers_(std::move(optimizers)),
      clip_norm_(clip_norm),
      seed_(seed),
      gradient_blocks_(gradient_blocks),
      steps_(static_cast<std::size_t>(network.members())),
      gradients_(static_cast<std::size_t>(network.parameter_count())) {
  validate(loss_, network_.output_size());
  if (loss_.kind == LossKind::cross_entropy) check_logits(network_.modules());
  check_not_negative("clip_norm", clip_norm);
  detail::check_gradient_blocks(gradient_blocks);
  if (optimizers_.empty()) refuse("optimizers", "at least one", "none");
  std::vector<Optimizer<T>*> all;
  const Index begin = network_.parameters_begin(), size = network_.member_parameter_count();
  for (const std::shared_ptr<Optimizer<T>>& optimizer : optimizers_) {
    std::vector<TargetGradients<T>>& gradients = target_gradients_.emplace_back();
    for (const Network<T>& target : optimizer->targets()) {
      const Index offset = target.parameters_begin() - begin;
      if (target.store() != network_.store() || offset < 0 || offset + target.member_parameter_count() > size) {
        refuse("optimizers[" + std::to_string(all.size()) + "]", "one whose targets are the network or modules of it",
               "one with another target");
      }
      gradients.push_back({gradients_.data() + offset, size});
      targets_.push_back(target);
      all_gradients_.push_back(gradients.back());
    }
    all.push_back(optimizer.get());
  }
  check_separate(targets_);
  update_ = std::make_unique<OptimizerStep<T>>(all);
}

template <class T>
Trainer<T>::~Trainer() = default;
template <class T>
Trainer<T>::Trainer(Trainer&&) noexcept = default;

template <class T>
void Trainer<T>::restore(std::uint64_t seed, std::vector<std::int64_t> steps) {
  check_steps(steps, steps_.size());
  const NoFork no_fork;
  seed_ = seed;
  steps_ = std::move(steps);
  norms_.clear();
  gradients_complete_ = false;
}

template <class T>
void Trainer<T>::set_checkpoint(Index checkpoint) {
  if (checkpoint < 0) refuse("checkpoint", "at least 0", std::to_string(checkpoint));
  checkpoint_ = checkpoint;
}

template <class T>
std::vector<double> Trainer<T>::step(const Input<T>& input, const Batch& batch, const States<const T>& start,
                                     const Target<T>& target, const States<T>& end) {
  const States<T> own_end = end_states_in(end_, network_, batch.rows, end);
  std::vector<double> losses = gradient_and_end(input, batch, start, target, own_end, 0, {});
  apply();
  copy_states(network_, batch.rows, own_end, end);
  return losses;
}

template <class T>
std::vector<double> Trainer<T>::gradient(const Input<T>& input, const Batch& batch, const States<const T>& start,
                                         const Target<T>& target, const States<T>& end, Index first_row,
                                         const ModuleReady<T>& ready) {
  const States<T> own_end = end_states_in(end_, network_, batch.rows, end);
  std::vector<double> losses = gradient_and_end(input, batch, start, target, own_end, first_row, ready);
  copy_states(network_, batch.rows, own_end, end);
  return losses;
}

template <class T>
std::vector<double> Trainer<T>::gradient_and_end(const Input<T>& input, const Batch& given,
                                                 const States<const T>& start, const Target<T>& target,
                                                 const States<T>& end, Index first_row, const ModuleReady<T>& ready) {
  const auto& parts = detail::parts_of(network_);
  const detail::MaskedBatch<T> masked(*parts, input, given);
  const Batch& batch = masked.batch();
  check_input(*parts, input, batch);
  RecordOptions all;
  all.training = true;
  all.first_row = first_row;
  all.gradient_blocks = gradient_blocks_;
  all.checkpoint = checkpoint_;
  detail::check_record_options(all);
  check_start(*parts, start, batch);
  if (batch.skip.data != nullptr) {
    detail::SkippedCall<T> computed(*parts, input, batch);
    check_targets(loss_, network_, computed.whole_output(), target);  // by the numbers of the caller's steps
    const Target<T> targets = computed_target(computed, network_, loss_, target);
    return gradient_and_end(computed.input(), computed.batch(), start, targets, end, first_row, ready);
  }
  const FlushToZero flush_to_zero;
  const LongCall long_call;
  const Index members = network_.members(), features = network_.output_size();
  check_targets(loss_, network_, batch, target);
  std::vector<RecordOptions> options(static_cast<std::size_t>(members), all);
  for (std::size_t member = 0; member < options.size(); ++member) {
    options[member].mask_seed = step_mask_seed(seed_ + member, steps_[member]);
  }
  std::vector<double> losses(options.size());
  gradients_complete_ = false;
  const detail::ReadyModules<T> ready_modules(*parts, ready, gradients_.data());
  const auto weights = snapshot_of_recording(*parts, options);
  counts_.assign(options.size(), true);
  // All members are recorded before a loss of the program's own sees their outputs, and go back after it.
  Recorded<T> recorded;
  if (target.custom != nullptr) recorded.resize(network_, batch);
  const auto run = [&](bool forward, bool backward) {
    detail::for_member_pieces(
        *parts, 3 * parts->work_of(batch),
        [&](const std::shared_ptr<WorkspaceCache<T>>& cache, Index member_begin, Index member_end) {
          States<const T> own_start;
          States<T> own_end;
          for (Index member = member_begin; member < member_end; ++member) {
            const auto at = static_cast<std::size_t>(member);
            const Chain<T> chain(*parts, *weights, member);
            std::optional<ChainRecord<T>> alone;
            ChainRecord<T>& record = target.custom == nullptr ? alone.emplace() : recorded.records[at];
            if (forward) {
              record.options = options[at];
              record.batch = batch.of(member);
              record.workspace = std::make_shared<Workspace<T>>(cache);
              chain_record(chain, input.of(member), detail::member_states(*parts, start, member, own_start), {},
                           detail::member_states(*parts, end, member, own_end), record);
            }
            const Batch outputs = output_batch(network_, record.batch);
            const SequenceView<const T> output = read_only(record.modules.back().output);
            SequenceView<T> d_output;
            if (target.custom == nullptr) {
              d_output =
                  contiguous(record.workspace->take(outputs.steps * outputs.rows * features), outputs.rows, features);
              const MeanLoss loss = loss_and_gradient<T>(loss_, output, features, outputs, target.of(member), d_output);
              losses[at] = loss.mean;
              counts_[at] = loss.weights > 0.0;
              if (!std::isfinite(loss.mean)) continue;  // refused below
            } else if (forward) {
              copy_sequence(output, outputs, features, recorded.output.of(member));
              continue;
            } else {
              d_output = recorded.d_output.of(member);
            }
            if (!backward) continue;
            Workspace<T> workspace(cache);
            chain_backward<T>(chain, record, read_only(d_output), {},
                              gradients_.data() + member * parts->member_parameter_count, false, {}, {}, workspace,
                              ready_modules.meanwhile());
          }
        });
  };
  if (target.custom == nullptr) {
    run(true, true);
  } else {
    run(true, false);
    losses = (*target.custom)(read_only(recorded.output), recorded.steps, batch.rows, recorded.d_output);
  }
  for (std::size_t member = 0; member < losses.size(); ++member) {
    if (!std::isfinite(losses[member])) refuse_infinite(of_member("loss", member, members), losses[member]);
  }
  if (target.custom != nullptr) run(false, true);
  ready_modules.afterwards();
  gradients_complete_ = true;
  return losses;
}

template <class T>
void Trainer<T>::apply() {
  if (!gradients_complete_) throw std::logic_error("apply(): expected a call of gradient() that succeeded before it");
  const FlushToZero flush_to_zero;
  const Index members = network_.members();
  norms_.resize(static_cast<std::size_t>(members));
  scales_.assign(norms_.size(), 1.0);
  const auto measure = [&](Index member) {
    norms_[static_cast<std::size_t>(member)] = norm_of(targets_, all_gradients_, member);
  };
  if (members == 1) {
    measure(0);  // several threads share this one
  } else {
    parallel_or_throw(members, measure);
  }
  for (std::size_t member = 0; member < norms_.size(); ++member) {
    if (!std::isfinite(norms_[member])) {
      refuse_infinite(of_member("norm of the gradient", member, members), norms_[member]);
    }
    if (clip_norm_ > 0.0) scales_[member] = clip_scale(norms_[member], clip_norm_);
    if (!counts_[member]) scales_[member] = std::nullopt;
  }
  // Within the update, so that a child that is forked meanwhile does not apply the gradients again.
  const auto done = [&] {
    for (std::size_t member = 0; member < steps_.size(); ++member) steps_[member] += counts_[member] ? 1 : 0;
    gradients_complete_ = false;
  };
  const bool any = std::find(counts_.begin(), counts_.end(), true) != counts_.end();
  if (!any) return done();
  update_->run(target_gradients_, scales_, largest_gradient(norms_, scales_), true, done);
}

template <class T>
std::vector<double> Trainer<T>::evaluate(const Input<T>& input, const Batch& given, const States<const T>& start,
                                         const Target<T>& target, const States<T>& end) const {
  const auto& parts = detail::parts_of(network_);
  const detail::MaskedBatch<T> masked(*parts, input, given);
  const Batch& batch = masked.batch();
  check_input(*parts, input, batch);
  check_start(*parts, start, batch);
  if (batch.skip.data != nullptr) {
    detail::SkippedCall<T> computed(*parts, input, batch);
    check_targets(loss_, network_, computed.whole_output(), target);
    return evaluate(computed.input(), computed.batch(), start, computed_target(computed, network_, loss_, target), end);
  }
  const FlushToZero flush_to_zero;
  const LongCall long_call;
  const Index features = network_.output_size();
  check_targets(loss_, network_, batch, target);
  // Memory of this call, because several threads may evaluate at once.
  std::vector<T> end_memory;
  const States<T> own_end = end_states_in(end_memory, network_, batch.rows, end);
  std::vector<double> losses(static_cast<std::size_t>(network_.members()));
  Recorded<T> recorded;
  if (target.custom != nullptr) recorded.resize(network_, batch);
  const auto weights = snapshot_of(*parts, false);
  detail::for_member_pieces(
      *parts, parts->work_of(batch),
      [&](const std::shared_ptr<WorkspaceCache<T>>& cache, Index member_begin, Index member_end) {
        States<const T> member_start;
        States<T> member_end_states;
        for (Index member = member_begin; member < member_end; ++member) {
          Workspace<T> workspace(cache);
          const Batch own_batch = batch.of(member), outputs = output_batch(network_, own_batch);
          const SequenceView<T> output =
              contiguous(workspace.take(outputs.steps * outputs.rows * features), outputs.rows, features);
          chain_forward(Chain<T>(*parts, *weights, member), input.of(member), own_batch,
                        detail::member_states(*parts, start, member, member_start), output,
                        detail::member_states(*parts, own_end, member, member_end_states), workspace);
          if (target.custom != nullptr) {
            copy_sequence(read_only(output), outputs, features, recorded.output.of(member));
            continue;
          }
          losses[static_cast<std::size_t>(member)] =
              loss_and_gradient<T>(loss_, read_only(output), features, outputs, target.of(member), {}).mean;
        }
      });
  if (target.custom != nullptr) {
    losses = (*target.custom)(read_only(recorded.output), recorded.steps, batch.rows, recorded.d_output);
  }
  copy_states(network_, batch.rows, own_end, end);
  return losses;
}

template class Trainer<float>;
template class Trainer<double>;

}  // namespace latchwork
