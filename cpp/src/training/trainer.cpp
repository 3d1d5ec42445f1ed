#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

#include "latchwork/fork.hpp"
#include "latchwork/training.hpp"
#include "machine/float_state.hpp"
#include "machine/interrupt.hpp"
#include "network/chain.hpp"
#include "network/members.hpp"
#include "network/skipped_call.hpp"
#include "training/training_step.hpp"

namespace latchwork {
namespace {

// The batch that the loss sees: the steps, rows and lengths of the network's output.
template <class T>
Batch output_batch(const Network<T>& network, const Batch& batch) {
  if (network.keeps_sequence()) return {batch.steps, batch.rows, batch.lengths, {}, batch.lengths_member_stride};
  return {1, batch.rows};
}

// Places in `memory` for the end states of all members, of the same number and sizes as `end`. Results go there first,
// because the caller's end states may be the start states too and must not change if the step fails.
template <class T>
States<T> end_states_in(std::vector<T>& memory, const Network<T>& network, Index rows, const States<T>& end) {
  if (end.empty() || rows < 0) return {};  // check_input() refuses a negative number of rows
  detail::check_places(*detail::parts_of(network), "end", end, Batch{0, rows});
  States<T> states;
  Index size = 0;  // of one member
  for (Index index = 0; index < network.lstm_count(); ++index) {
    const LstmOptions& lstm = network.lstm(index);
    size += lstm.states() * rows * (lstm.hidden_output_size() + lstm.hidden_size);
  }
  if (static_cast<Index>(memory.size()) < network.members() * size) {
    const NoFork no_fork;
    memory.resize(static_cast<std::size_t>(network.members() * size));
  }
  T* next = memory.data();
  for (Index index = 0; index < network.lstm_count(); ++index) {
    const LstmOptions& lstm = network.lstm(index);
    T* const cell = next + lstm.states() * rows * lstm.hidden_output_size();
    states.push_back({next, cell, size, size});
    next = cell + lstm.states() * rows * lstm.hidden_size;
  }
  return states;
}

template <class T>
void copy_states(const Network<T>& network, Index rows, const States<T>& from, const States<T>& to) {
  for (std::size_t index = 0; index < to.size(); ++index) {
    const LstmOptions& lstm = network.lstm(static_cast<Index>(index));
    const Index blocks = lstm.states() * rows;
    for (Index member = 0; member < network.members(); ++member) {
      const State<T> one = from[index].of(member), other = to[index].of(member);
      if (other.hidden != nullptr) std::copy_n(one.hidden, blocks * lstm.hidden_output_size(), other.hidden);
      if (other.cell != nullptr) std::copy_n(one.cell, blocks * lstm.hidden_size, other.cell);
    }
  }
}

// The targets of the computed steps. After Last a target belongs to no step.
template <class T>
Target<T> computed_target(detail::SkippedCall<T>& computed, const Network<T>& network, const Loss& loss,
                          const Target<T>& target) {
  if (!network.keeps_sequence()) return target;
  const Index levels = loss.kind == LossKind::quantile ? static_cast<Index>(loss.quantiles.size()) : 1;
  return {computed.gathered(target.values, network.output_size() / levels), computed.gathered(target.labels, 1)};
}

// "loss" if there is one member, "loss of member 3" if there are several.
std::string of_member(const char* what, std::size_t member, Index members) {
  return members == 1 ? what : std::string(what) + " of member " + std::to_string(member);
}

}  // namespace

template <class T>
Trainer<T>::Trainer(const Network<T>& network, Loss loss, const OptimizerOptions& optimizer, double clip_norm,
                    std::uint64_t seed, Index gradient_blocks)
    : network_(network),
      loss_(std::move(loss)),
      optimizer_(optimizer, network.parameter_count()),
      clip_norm_(clip_norm),
      seed_(seed),
      gradient_blocks_(gradient_blocks),
      gradients_(static_cast<std::size_t>(network.parameter_count())) {
  validate(loss_, network_.output_size());
  check_not_negative("clip_norm", clip_norm);
  detail::check_gradient_blocks(gradient_blocks);
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
std::vector<double> Trainer<T>::gradient_and_end(const Input<T>& input, const Batch& batch,
                                                 const States<const T>& start, const Target<T>& target,
                                                 const States<T>& end, Index first_row, const ModuleReady<T>& ready) {
  const auto& parts = detail::parts_of(network_);
  check_input(*parts, input, batch);
  RecordOptions all;
  all.training = true;
  all.first_row = first_row;
  all.gradient_blocks = gradient_blocks_;
  detail::check_record_options(all);
  check_states(*parts, "start", start);
  if (batch.skip.data != nullptr) {
    detail::SkippedCall<T> computed(*parts, input, batch);
    const Target<T> targets = computed_target(computed, network_, loss_, target);
    return gradient_and_end(computed.input(), computed.batch(), start, targets, end, first_row, ready);
  }
  const FlushToZero flush_to_zero;
  const LongCall long_call;
  const Index members = network_.members(), features = network_.output_size();
  std::vector<RecordOptions> options(static_cast<std::size_t>(members), all);
  for (std::size_t member = 0; member < options.size(); ++member) {
    options[member].mask_seed = step_mask_seed(seed_ + member, optimizer_.steps());
  }
  std::vector<double> losses(options.size());
  gradients_complete_ = false;
  const detail::ReadyModules<T> ready_modules(*parts, ready, gradients_.data());
  const auto weights = snapshot_of_recording(*parts, options);
  detail::for_member_pieces(
      *parts, 3 * parts->work_of(batch),
      [&](const std::shared_ptr<WorkspaceCache<T>>& cache, Index member_begin, Index member_end) {
        States<const T> own_start;
        States<T> own_end;
        for (Index member = member_begin; member < member_end; ++member) {
          const auto at = static_cast<std::size_t>(member);
          ChainRecord<T> record;
          record.options = options[at];
          record.batch = batch.of(member);
          record.workspace = std::make_shared<Workspace<T>>(cache);
          const Chain<T> chain(*parts, *weights, member);
          chain_record(chain, input.of(member), detail::member_states(*parts, start, member, own_start), {},
                       detail::member_states(*parts, end, member, own_end), record);
          const Batch outputs = output_batch(network_, record.batch);
          const SequenceView<T> d_output =
              contiguous(record.workspace->take(outputs.steps * outputs.rows * features), outputs.rows, features);
          losses[at] = loss_and_gradient<T>(loss_, read_only(record.modules.back().output), features, outputs,
                                            target.of(member), d_output);
          if (!std::isfinite(losses[at])) continue;  // refused below
          Workspace<T> workspace(cache);
          chain_backward<T>(chain, record, read_only(d_output), {},
                            gradients_.data() + member * parts->member_parameter_count, false, {}, {}, workspace,
                            ready_modules.meanwhile());
        }
      });
  for (std::size_t member = 0; member < losses.size(); ++member) {
    if (!std::isfinite(losses[member])) refuse_infinite(of_member("loss", member, members), losses[member]);
  }
  ready_modules.afterwards();
  gradients_complete_ = true;
  return losses;
}

template <class T>
void Trainer<T>::apply() {
  if (!gradients_complete_) throw std::logic_error("apply(): expected a call of gradient() that succeeded before it");
  const FlushToZero flush_to_zero;
  const Index members = network_.members(), size = network_.member_parameter_count();
  std::vector<double> norms(static_cast<std::size_t>(members)), scales(norms.size(), 1.0);
  const auto measure = [&](Index member) {
    norms[static_cast<std::size_t>(member)] = gradient_norm(gradients_.data() + member * size, size);
  };
  if (members == 1) {
    measure(0);  // several threads share this one
  } else {
    parallel_or_throw(members, measure);
  }
  for (std::size_t member = 0; member < norms.size(); ++member) {
    if (!std::isfinite(norms[member])) {
      refuse_infinite(of_member("norm of the gradient", member, members), norms[member]);
    }
    if (clip_norm_ > 0.0) scales[member] = clip_scale(norms[member], clip_norm_);
  }
  network_.store()->write([&](T* parameters) {
    gradients_complete_ = false;  // in here, so that a child that is forked now does not apply them again
    optimizer_.step(parameters + network_.parameters_begin(), network_.member_stride(), gradients_.data(), scales);
  });
}

template <class T>
std::vector<double> Trainer<T>::evaluate(const Input<T>& input, const Batch& batch, const States<const T>& start,
                                         const Target<T>& target, const States<T>& end) const {
  const auto& parts = detail::parts_of(network_);
  check_input(*parts, input, batch);
  check_states(*parts, "start", start);
  if (batch.skip.data != nullptr) {
    detail::SkippedCall<T> computed(*parts, input, batch);
    return evaluate(computed.input(), computed.batch(), start, computed_target(computed, network_, loss_, target), end);
  }
  const FlushToZero flush_to_zero;
  const LongCall long_call;
  const Index features = network_.output_size();
  // Memory of this call, because several threads may evaluate at once.
  std::vector<T> end_memory;
  const States<T> own_end = end_states_in(end_memory, network_, batch.rows, end);
  std::vector<double> losses(static_cast<std::size_t>(network_.members()));
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
          losses[static_cast<std::size_t>(member)] =
              loss_and_gradient<T>(loss_, read_only(output), features, outputs, target.of(member), {});
        }
      });
  copy_states(network_, batch.rows, own_end, end);
  return losses;
}

template class Trainer<float>;
template class Trainer<double>;

}  // namespace latchwork
