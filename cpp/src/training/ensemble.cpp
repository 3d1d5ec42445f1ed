#include "latchwork/ensemble.hpp"

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <string>

#include "machine/float_state.hpp"
#include "network/chain.hpp"
#include "training/ensemble_members.hpp"
#include "weights/snapshot_cache.hpp"
#include "weights/weight_dropout.hpp"

namespace latchwork {

namespace {

// Parameters of all members, each as a network of its own would begin with them.
template <class T>
std::shared_ptr<ParameterStore<T>> initial_parameters(Index members, const LstmOptions& options, std::uint64_t seed) {
  if (members < 1) throw std::invalid_argument("members: expected at least 1, got " + std::to_string(members));
  const std::vector<ModuleOptions> modules{options};
  validate(modules);
  Index size = 0;
  for (const ParameterSpec& spec : parameter_layout(modules, false)) size += spec.size();
  if (members > std::numeric_limits<Index>::max() / static_cast<Index>(sizeof(T)) / size) {
    throw std::invalid_argument("members: expected a number for which the sizes do not overflow, got " +
                                std::to_string(members));
  }
  auto store = std::make_shared<ParameterStore<T>>(members * size);
  store->write([&](T* parameters) {
    parallel_or_throw(members, [&](Index member) {
      initialise_parameters(modules, seed + static_cast<std::uint64_t>(member), parameters + member * size);
    });
  });
  return store;
}

}  // namespace

template <class T>
Ensemble<T>::Ensemble(Index members, const LstmOptions& options, std::uint64_t seed)
    : members_(members),
      first_({options}, false, initial_parameters<T>(members, options, seed), 0),
      snapshots_(std::make_shared<SnapshotCache<T, EnsembleSnapshot<T>>>()),
      workspaces_(std::make_shared<WorkspaceCaches>()) {}

template <class T>
void Ensemble<T>::pack_members(const T* parameters, bool with_backward, const std::vector<RecordOptions>& options,
                               EnsembleSnapshot<T>& packed) const {
  const std::vector<ModuleOptions>& modules = first_.modules();
  const Kernels<T>& kernels = kernels_for<T>(modules);
  const Index size = member_parameter_count();
  const bool drops = !options.empty() && drops_weights(modules, options.front());
  packed.kernels = &kernels;
  packed.with_backward = with_backward;
  packed.members.resize(static_cast<std::size_t>(members_));
  for_pieces(work_of_moving * size, [&](const std::shared_ptr<WorkspaceCache<T>>& cache, Index begin, Index end) {
    Workspace<T> workspace(cache);
    T* const dropped = drops ? workspace.take(size) : nullptr;
    for (Index member = begin; member < end; ++member) {
      const auto at = static_cast<std::size_t>(member);
      const T* own = parameters + member * size;
      if (drops) {
        std::copy_n(own, size, dropped);
        apply_weight_dropout(modules, kernels, options[at], dropped);
        own = dropped;
      }
      pack(modules, layout(), own, kernels, with_backward, packed.members[at]);
    }
  });
}

template <class T>
std::shared_ptr<const EnsembleSnapshot<T>> Ensemble<T>::snapshot(bool with_backward) const {
  return snapshots_->latest(*store(), kernels_for<T>(first_.modules()), with_backward,
                            [&](const T* parameters, EnsembleSnapshot<T>& packed) {
                              const FlushToZero flush;
                              pack_members(parameters, with_backward, {}, packed);
                            });
}

template <class T>
std::shared_ptr<const EnsembleSnapshot<T>> Ensemble<T>::snapshot_of_recording(
    const std::vector<RecordOptions>& options) const {
  if (!drops_weights(first_.modules(), options.front())) return snapshot(true);
  return snapshots_->of_recording(*store(), [&](EnsembleSnapshot<T>& packed) {
    const FlushToZero flush;
    store()->read([&](const T* parameters) { pack_members(parameters, true, options, packed); });
  });
}

template <class T>
std::unique_ptr<typename Tape<T>::Recording> Ensemble<T>::recording_of(
    Index member, const std::shared_ptr<const EnsembleSnapshot<T>>& weights, const RecordOptions& options,
    std::shared_ptr<Workspace<T>> memory) const {
  const Snapshot<T>* const own = &weights->members[static_cast<std::size_t>(member)];
  return std::make_unique<typename Tape<T>::Recording>(
      first_.modules_, std::shared_ptr<const Snapshot<T>>(weights, own), options, std::move(memory));
}

template <class T>
void Ensemble<T>::forward(const MemberSequences<const T>& input, const Batch& batch, const MemberStates<const T>& start,
                          const MemberSequences<T>& output, const MemberStates<T>& end) const {
  check_batch(batch);
  const FlushToZero flush;
  const std::shared_ptr<const EnsembleSnapshot<T>> weights = snapshot(false);
  for_pieces(
      work_of(batch), [&](const std::shared_ptr<WorkspaceCache<T>>& cache, Index member_begin, Index member_end) {
        for (Index member = member_begin; member < member_end; ++member) {
          Workspace<T> workspace(cache);
          chain_forward<T>(first_.modules(), weights->members[static_cast<std::size_t>(member)], {input.of(member), {}},
                           options().input_size, batch, start.of(member), output.of(member), end.of(member), workspace);
        }
      });
}

template <class T>
struct EnsembleTape<T>::Recording {
  Index member_parameter_count = 0;
  Index work = 0;         // multiply-adds of one member, roughly
  Index signal_size = 0;  // steps times rows
  LstmOptions options;
  std::unique_ptr<Workspace<T>> input;  // where all members have the same
  std::vector<std::unique_ptr<Tape<T>>> tapes;
};

template <class T>
std::shared_ptr<EnsembleTape<T>> Ensemble<T>::record(const MemberSequences<const T>& input, const Batch& batch,
                                                     const MemberStates<const T>& start,
                                                     const MemberSequences<T>& output, const MemberStates<T>& end,
                                                     const RecordOptions& options_of_first) const {
  check_batch(batch);
  check_record_options(options_of_first);
  const FlushToZero flush;
  std::vector<RecordOptions> member_options(static_cast<std::size_t>(members_), options_of_first);
  for (std::size_t member = 0; member < member_options.size(); ++member) member_options[member].mask_seed += member;
  const std::shared_ptr<const EnsembleSnapshot<T>> weights = snapshot_of_recording(member_options);
  auto whole = std::make_unique<typename EnsembleTape<T>::Recording>();
  whole->member_parameter_count = member_parameter_count();
  whole->work = work_of(batch);
  whole->signal_size = batch.steps * batch.rows;
  whole->options = options();
  whole->tapes.resize(static_cast<std::size_t>(members_));

  // The first member's recording owns the batch of all.
  const Index features = options().input_size;
  const Index input_size = batch.steps * batch.rows * features;
  auto first =
      recording_of(0, weights, member_options.front(), std::make_shared<Workspace<T>>(workspaces_->of_part(0)));
  first->batch = first->own(batch);
  const Batch own_batch = first->batch;
  const auto copied = [&](SequenceView<const T> from, Workspace<T>& memory) -> SequenceView<const T> {
    const SequenceView<T> to = contiguous(memory.take(input_size), batch.rows, features);
    copy_sequence<T>(batch, features, from, to);
    return {to.data, to.step_stride, to.row_stride};
  };
  SequenceView<const T> common;
  if (input.member_stride == 0) {
    whole->input = std::make_unique<Workspace<T>>(workspaces_->of_part(0));
    common = copied(input.first, *whole->input);
  }
  for_pieces(whole->work, [&](const std::shared_ptr<WorkspaceCache<T>>& cache, Index begin, Index end_member) {
    const auto memory = std::make_shared<Workspace<T>>(cache);
    for (Index member = begin; member < end_member; ++member) {
      const auto at = static_cast<std::size_t>(member);
      auto recording = member == 0 ? std::move(first) : recording_of(member, weights, member_options[at], memory);
      recording->batch = own_batch;
      const SequenceView<const T> own =
          common.data == nullptr ? copied(input.of(member), *recording->workspace) : common;
      chain_record<T>(*recording, {own, {}}, features, start.of(member), output.of(member), end.of(member));
      whole->tapes[at] = std::make_unique<Tape<T>>(std::move(recording));
    }
  });
  return std::make_shared<EnsembleTape<T>>(std::move(whole));
}

template <class T>
std::unique_ptr<EnsembleStream<T>> Ensemble<T>::stream(Index rows) const {
  // On a copy of the parameters, so that the members' weights are those of one moment.
  auto copy = std::make_shared<ParameterStore<T>>(parameter_count());
  copy->write([&](T* to) { store()->read([&](const T* from) { std::copy_n(from, parameter_count(), to); }); });
  std::vector<std::unique_ptr<Stream<T>>> streams;
  streams.reserve(static_cast<std::size_t>(members_));
  for (Index member = 0; member < members_; ++member) {
    streams.push_back(Network<T>({options()}, false, copy, member * member_parameter_count()).stream(rows));
  }
  return std::make_unique<EnsembleStream<T>>(*this, std::move(streams));
}

template <class T>
EnsembleTape<T>::EnsembleTape(std::unique_ptr<Recording> recording) : recording_(std::move(recording)) {}

template <class T>
EnsembleTape<T>::~EnsembleTape() = default;

template <class T>
void EnsembleTape<T>::backward(const MemberSequences<const T>& d_output, const MemberStates<const T>& d_end,
                               T* parameters, bool accumulate, const MemberSequences<T>& d_input,
                               const MemberStates<T>& d_start) const {
  const Recording& recording = *recording_;
  const auto members = static_cast<Index>(recording.tapes.size());
  const Index parts = member_parts(members, 2 * recording.work);
  parallel_or_throw(parts, [&](Index part) {
    // From the last member on, whose recording is the likeliest to be in a cache.
    for (Index member = piece_begin(members, parts, part + 1) - 1; member >= piece_begin(members, parts, part);
         --member) {
      recording.tapes[static_cast<std::size_t>(member)]->backward(
          d_output.of(member), d_end.of(member), parameters + member * recording.member_parameter_count, accumulate,
          d_input.of(member), d_start.of(member));
    }
  });
}

template <class T>
void EnsembleTape<T>::signal(Index state, Signal signal, T* values) const {
  const Recording& recording = *recording_;
  const LstmOptions& options = recording.options;
  const Index size =
      recording.signal_size * (signal == Signal::hidden ? options.hidden_output_size() : options.hidden_size);
  for (const std::unique_ptr<Tape<T>>& tape : recording.tapes) {
    tape->signal(0, state, signal, values);
    values += size;
  }
}

template <class T>
EnsembleStream<T>::EnsembleStream(const Ensemble<T>& ensemble, std::vector<std::unique_ptr<Stream<T>>> members)
    : members_(std::move(members)), step_work_(members_.front()->rows() * ensemble.member_parameter_count()) {}

template <class T>
void EnsembleStream<T>::step(const T* x, Index member_stride, T* y, const std::uint8_t* reset) noexcept {
  const auto members = static_cast<Index>(members_.size());
  const Index output_size = members_.front()->rows() * members_.front()->output_size();
  const Index parts = members * step_work_ < smallest_parallel_work ? 1 : std::min(num_threads(), members);
  parallel(parts, [&](Index part) {
    for (Index member = piece_begin(members, parts, part); member < piece_begin(members, parts, part + 1); ++member) {
      members_[static_cast<std::size_t>(member)]->step(x + member * member_stride, y + member * output_size, reset);
    }
  });
}

template <class T>
void EnsembleStream<T>::get_state(const MemberStates<T>& state) const {
  for (std::size_t member = 0; member < members_.size(); ++member) {
    members_[member]->get_state(state.of(static_cast<Index>(member)));
  }
}

template <class T>
void EnsembleStream<T>::set_state(const MemberStates<const T>& state) {
  for (std::size_t member = 0; member < members_.size(); ++member) {
    members_[member]->set_state(state.of(static_cast<Index>(member)));
  }
}

template <class T>
void EnsembleStream<T>::reset() noexcept {
  for (const std::unique_ptr<Stream<T>>& member : members_) member->reset();
}

template class Ensemble<float>;
template class Ensemble<double>;
template class EnsembleTape<float>;
template class EnsembleTape<double>;
template class EnsembleStream<float>;
template class EnsembleStream<double>;

}  // namespace latchwork
