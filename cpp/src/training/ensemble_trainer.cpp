#include <algorithm>
#include <string>

#include "latchwork/ensemble.hpp"
#include "machine/float_state.hpp"
#include "network/chain.hpp"
#include "training/ensemble_members.hpp"
#include "training/training_step.hpp"

namespace latchwork {
namespace {

Index hidden_count(const LstmOptions& options, Index rows) {
  return options.states() * rows * options.hidden_output_size();
}
Index cell_count(const LstmOptions& options, Index rows) { return options.states() * rows * options.hidden_size; }

// End states of all members in `memory`, so that the caller's, which may be the start states too, change only at the
// very end. None where `end` wants none.
template <class T>
MemberStates<T> end_states_in(std::vector<T>& memory, const Ensemble<T>& ensemble, Index rows,
                              const MemberStates<T>& end) {
  const Index hidden = hidden_count(ensemble.options(), rows);
  const Index cell = cell_count(ensemble.options(), rows);
  if (end.first.hidden == nullptr && end.first.cell == nullptr) return {};
  memory.resize(static_cast<std::size_t>(ensemble.members() * (hidden + cell)));
  return {{memory.data(), memory.data() + hidden}, hidden + cell, hidden + cell};
}

template <class T>
void copy_states(const Ensemble<T>& ensemble, Index rows, const MemberStates<T>& from, const MemberStates<T>& to) {
  for (Index member = 0; member < ensemble.members(); ++member) {
    const States<T> one = from.of(member), other = to.of(member);
    for (std::size_t at = 0; at < other.size(); ++at) {
      if (other[at].hidden != nullptr) {
        std::copy_n(one[at].hidden, hidden_count(ensemble.options(), rows), other[at].hidden);
      }
      if (other[at].cell != nullptr) std::copy_n(one[at].cell, cell_count(ensemble.options(), rows), other[at].cell);
    }
  }
}

}  // namespace

template <class T>
EnsembleTrainer<T>::EnsembleTrainer(const Ensemble<T>& ensemble, Loss loss, const OptimizerOptions& optimizer,
                                    double max_norm, std::uint64_t seed)
    : ensemble_(ensemble),
      loss_(std::move(loss)),
      optimizer_(optimizer, ensemble.parameter_count()),
      max_norm_(max_norm),
      seed_(seed),
      gradient_(static_cast<std::size_t>(ensemble.parameter_count())) {
  check_max_norm(max_norm);
  loss_and_gradient<T>(loss_, {}, ensemble_.options().output_size(), Batch{}, {}, {});  // refuses what does not fit
}

template <class T>
void EnsembleTrainer<T>::step(const MemberSequences<const T>& input, const Batch& batch,
                              const MemberStates<const T>& start, const MemberSequences<const T>& values,
                              const MemberSequences<const std::int64_t>& labels, const MemberStates<T>& end,
                              double* losses) {
  check_batch(batch);
  const FlushToZero flush_to_zero;
  const Index members = ensemble_.members();
  const Index size = ensemble_.member_parameter_count();
  const Index features = ensemble_.options().output_size();
  const MemberStates<T> own_end = end_states_in(end_, ensemble_, batch.rows, end);
  std::vector<RecordOptions> options(static_cast<std::size_t>(members), {true, 0});
  for (std::size_t member = 0; member < options.size(); ++member) {
    options[member].mask_seed = step_mask_seed(seed_ + member, optimizer_.steps());
  }
  const auto weights = ensemble_.snapshot_of_recording(options);
  std::vector<double> own_losses(static_cast<std::size_t>(members));
  std::vector<double> norms(static_cast<std::size_t>(members));

  ensemble_.for_pieces(3 * ensemble_.work_of(batch), [&](const std::shared_ptr<WorkspaceCache<T>>& cache, Index begin,
                                                         Index end_member) {
    Workspace<T> piece_memory(cache);
    const SequenceView<T> output =
        contiguous(piece_memory.take(batch.steps * batch.rows * features), batch.rows, features);
    for (Index member = begin; member < end_member; ++member) {
      const auto at = static_cast<std::size_t>(member);
      T* const gradient = gradient_.data() + member * size;
      auto recording = ensemble_.recording_of(member, weights, options[at], std::make_shared<Workspace<T>>(cache));
      recording->batch = batch;
      chain_record<T>(*recording, {input.of(member), {}}, ensemble_.options().input_size, start.of(member), output,
                      own_end.of(member));
      const Tape<T> tape(std::move(recording));
      // The gradient takes the place of the output, which nobody reads again.
      own_losses[at] = loss_and_gradient<T>(loss_, read_only(output), features, batch,
                                            {values.of(member), labels.of(member)}, output);
      tape.backward(read_only(output), {}, gradient, false, {}, {});
      norms[at] = gradient_norm(gradient, size);
    }
  });

  std::vector<double> scales(static_cast<std::size_t>(members), 1.0);
  for (std::size_t member = 0; member < scales.size(); ++member) {
    const std::string of_member = " of member " + std::to_string(member);
    check_finite("loss" + of_member, own_losses[member]);
    check_finite("norm of the gradient" + of_member, norms[member]);
    if (max_norm_ > 0.0) scales[member] = clip_scale(norms[member], max_norm_);
  }
  ensemble_.store()->write([&](T* parameters) { optimizer_.step(parameters, gradient_.data(), scales); });
  copy_states(ensemble_, batch.rows, own_end, end);
  std::copy(own_losses.begin(), own_losses.end(), losses);
}

template <class T>
void EnsembleTrainer<T>::evaluate(const MemberSequences<const T>& input, const Batch& batch,
                                  const MemberStates<const T>& start, const MemberSequences<const T>& values,
                                  const MemberSequences<const std::int64_t>& labels, const MemberStates<T>& end,
                                  double* losses) const {
  check_batch(batch);
  const FlushToZero flush_to_zero;
  const Index features = ensemble_.options().output_size();
  // Not the member: several threads may evaluate at once.
  std::vector<T> end_memory;
  const MemberStates<T> own_end = end_states_in(end_memory, ensemble_, batch.rows, end);
  const auto weights = ensemble_.snapshot(false);
  ensemble_.for_pieces(
      ensemble_.work_of(batch), [&](const std::shared_ptr<WorkspaceCache<T>>& cache, Index begin, Index end_member) {
        for (Index member = begin; member < end_member; ++member) {
          Workspace<T> workspace(cache);
          const SequenceView<T> output =
              contiguous(workspace.take(batch.steps * batch.rows * features), batch.rows, features);
          chain_forward<T>(ensemble_.first_.modules(), weights->members[static_cast<std::size_t>(member)],
                           {input.of(member), {}}, ensemble_.options().input_size, batch, start.of(member), output,
                           own_end.of(member), workspace);
          losses[member] = loss_and_gradient<T>(loss_, read_only(output), features, batch,
                                                {values.of(member), labels.of(member)}, {});
        }
      });
  copy_states(ensemble_, batch.rows, own_end, end);
}

template class EnsembleTrainer<float>;
template class EnsembleTrainer<double>;

}  // namespace latchwork
