#include "latchwork/network.hpp"

#include <algorithm>
#include <limits>
#include <optional>
#include <stdexcept>
#include <string>

#include "machine/float_state.hpp"
#include "machine/interrupt.hpp"
#include "network/chain.hpp"
#include "network/masked_batch.hpp"
#include "network/members.hpp"
#include "network/network_parts.hpp"
#include "network/recording.hpp"
#include "network/sequences.hpp"
#include "network/skipped_call.hpp"
#include "weights/module_sizes.hpp"

namespace latchwork {

namespace {

// fill(parameters, the number of one member's parameters) writes the first values.
template <class T, class Fill>
std::shared_ptr<detail::NetworkParts<T>> new_parts(std::vector<ModuleOptions> modules, TensorNames names, Index members,
                                                   Fill&& fill) {
  validate(modules);
  check_constants(modules, static_cast<double>(std::numeric_limits<T>::max()));
  Index size = 0;
  for (const ParameterSpec& spec : parameter_layout(modules, names)) size += spec.size();
  if (members < 1) throw std::invalid_argument("members: expected at least 1, got " + std::to_string(members));
  if (size > 0 && members > std::numeric_limits<Index>::max() / static_cast<Index>(sizeof(T)) / size) {
    throw std::invalid_argument("members: expected a number for which the sizes do not overflow, got " +
                                std::to_string(members));
  }
  auto store = std::make_shared<ParameterStore<T>>(members * size, [&](T* parameters) { fill(parameters, size); });
  return std::make_shared<detail::NetworkParts<T>>(std::move(modules), names, members, std::move(store), 0, size);
}

// The modules without the options that only say how initial values are drawn.
std::vector<ModuleOptions> without_initial_values(std::vector<ModuleOptions> modules) {
  for (ModuleOptions& module : modules) {
    if (auto* lstm = std::get_if<LstmOptions>(&module)) {
      lstm->forget_bias.reset();
      lstm->init = Initialisation::torch;
      lstm->t_max.reset();
    }
    if (auto* linear = std::get_if<LinearOptions>(&module)) linear->init_scale = 1.0;
  }
  return modules;
}

// A batch whose lengths and resets are copies that the recording holds. What all members share is copied once.
template <class T>
Batch copy_batch(const Batch& batch, Index members, detail::Recording<T>& recording) {
  Batch copy = batch;
  if (batch.lengths != nullptr) {
    const Index copies = batch.lengths_member_stride == 0 ? 1 : members;
    for (Index member = 0; member < copies; ++member) {
      const Index* const lengths = batch.of(member).lengths;
      recording.lengths.insert(recording.lengths.end(), lengths, lengths + batch.rows);
    }
    copy.lengths = recording.lengths.data();
    copy.lengths_member_stride = copies == 1 ? 0 : batch.rows;
  }
  if (batch.reset.data != nullptr) {
    const Index copies = batch.reset.member_stride == 0 ? 1 : members, size = batch.steps * batch.rows;
    recording.reset.reserve(static_cast<std::size_t>(copies * size));
    for (Index member = 0; member < copies; ++member) {
      const SequenceView<const std::uint8_t> reset = batch.reset.of(member);
      for (Index step = 0; step < batch.steps; ++step) {
        for (Index row = 0; row < batch.rows; ++row) recording.reset.push_back(*reset.at(step, row));
      }
    }
    copy.reset = {recording.reset.data(), batch.rows, 1, copies == 1 ? 0 : size};
  }
  return copy;
}

template <class T>
SequenceView<const T> copied(const SequenceView<const T>& from, const Batch& batch, Index features, T* memory) {
  const SequenceView<T> to = contiguous(memory, batch.rows, features);
  copy_sequence(batch, features, from, to);
  return read_only(to);
}

// Takes memory for the output with the skipped steps, if the caller gives none.
template <class T>
void keep_whole_output(const detail::NetworkParts<T>& parts, const Batch& batch, detail::Recording<T>& recording) {
  const Index size = batch.steps * batch.rows * parts.output_size;
  recording.whole_memory = std::make_unique<Workspace<T>>(parts.workspaces.first());
  recording.whole_output =
      contiguous(recording.whole_memory->take(std::max<Index>(1, parts.members * size)), batch.rows, parts.output_size);
  recording.whole_output.member_stride = size;
}

// Copies of the input, because the caller may overwrite the original. The constructor copies what all members share and
// all tokens; of_member() copies the values that belong to one member.
template <class T>
class CopiedInput {
 public:
  CopiedInput(const detail::NetworkParts<T>& parts, const Input<T>& input, const Batch& batch,
              detail::Recording<T>& recording)
      : input_(input), features_(parts.input_size), size_(batch.steps * batch.rows) {
    takes_tokens_ = std::holds_alternative<EmbeddingOptions>(parts.modules.front());
    if (takes_tokens_) {
      const Index copies = input.tokens.member_stride == 0 ? 1 : parts.members;
      recording.tokens.assign(static_cast<std::size_t>(copies * size_), 0);
      for (Index member = 0; member < copies; ++member) {
        // Members that share tokens may differ in lengths: the steps that are valid for any of them are copied.
        for (Index reader = member; reader < (copies == 1 ? parts.members : member + 1); ++reader) {
          copied(input.tokens.of(member), batch.of(reader), 1, recording.tokens.data() + member * size_);
          if (batch.lengths_member_stride == 0) break;
        }
      }
      shared_.tokens = {recording.tokens.data(), batch.rows, 1, copies == 1 ? 0 : size_};
    } else if (input.values.member_stride == 0 && parts.members > 1) {
      recording.shared_input = std::make_unique<Workspace<T>>(parts.workspaces.first());
      T* const memory = recording.shared_input->take(size_ * features_);
      for (Index reader = 0; reader < parts.members; ++reader) {
        shared_.values = copied(input.values, batch.of(reader), features_, memory);
        if (batch.lengths_member_stride == 0) break;
      }
    }
  }

  Input<T> of_member(Index member, const Batch& batch, Workspace<T>& memory) const {
    if (takes_tokens_ || shared_.values.data != nullptr) return shared_.of(member);
    return {copied(input_.values.of(member), batch, features_, memory.take(size_ * features_)), {}};
  }

 private:
  const Input<T>& input_;
  Index features_, size_;
  bool takes_tokens_;
  Input<T> shared_;
};

}  // namespace

namespace detail {

template <class T>
const std::shared_ptr<NetworkParts<T>>& parts_of(const Network<T>& network) {
  return network.parts_;
}
template const std::shared_ptr<NetworkParts<float>>& parts_of(const Network<float>&);
template const std::shared_ptr<NetworkParts<double>>& parts_of(const Network<double>&);

}  // namespace detail

template <class T>
Network<T>::Network(std::shared_ptr<detail::NetworkParts<T>> parts) : parts_(std::move(parts)) {}

template <class T>
Network<T>::Network(std::vector<ModuleOptions> modules, TensorNames names, std::uint64_t seed, Index members)
    : parts_(new_parts<T>(modules, names, members, [&](T* parameters, Index size) {
        if (size == 0) return;  // a file may claim any number of members that have no parameters
        parallel_or_throw(members, [&](Index member) {
          initialise_parameters(modules, seed + static_cast<std::uint64_t>(member), parameters + member * size);
        });
      })) {
  parts_->mask_counter->set({seed, 0});
}

template <class T>
Network<T> Network<T>::with_parameters(std::vector<ModuleOptions> modules, TensorNames names, Index members,
                                       const std::function<void(T*, Index)>& fill) {
  return Network(new_parts<T>(std::move(modules), names, members, fill));
}

template <class T>
Network<T> Network<T>::module(Index index) const {
  detail::check_index("index", index, static_cast<Index>(modules().size()));
  const auto at = static_cast<std::size_t>(index);
  auto parts = std::make_shared<detail::NetworkParts<T>>(
      std::vector<ModuleOptions>{modules()[at]}, TensorNames::of_layer, members(), store(),
      parts_->parameters_begin + parts_->module_begin(at), parts_->member_stride);
  parts->mask_counter = parts_->mask_counter;
  return Network(std::move(parts));
}

template <class T>
Network<T> Network<T>::member(Index index) const {
  detail::check_index("index", index, members());
  Network one(new_parts<T>(modules(), parts_->names, 1, [&](T* to, Index size) {
    store()->read([&](const T* from) { std::copy_n(parts_->of_member(from, index), size, to); });
  }));
  one.set_mask_seeds(mask_seeds());
  return one;
}

template <class T>
Network<T> Network<T>::stack(const std::vector<Network>& networks) {
  if (networks.empty()) throw std::invalid_argument("networks: expected at least one, got none");
  const Network& first = networks.front();
  const std::vector<ModuleOptions> layers = without_initial_values(first.modules());
  Index members = 0;
  for (std::size_t at = 0; at < networks.size(); ++at) {
    if (without_initial_values(networks[at].modules()) != layers) {
      throw std::invalid_argument("networks[" + std::to_string(at) +
                                  "]: expected the layers of networks[0], got others");
    }
    members += networks[at].members();
  }
  Network all(new_parts<T>(first.modules(), first.parts_->names, members, [&](T* to, Index size) {
    for (const Network& network : networks) {
      network.store()->read([&](const T* from) {
        for (Index member = 0; member < network.members(); ++member) {
          to = std::copy_n(network.parts_->of_member(from, member), size, to);
        }
      });
    }
  }));
  all.set_mask_seeds(first.mask_seeds());
  return all;
}

template <class T>
const std::vector<ModuleOptions>& Network<T>::modules() const {
  return parts_->modules;
}

template <class T>
Index Network<T>::members() const {
  return parts_->members;
}

template <class T>
const std::vector<ParameterSpec>& Network<T>::layout() const {
  return parts_->layout;
}

template <class T>
Index Network<T>::member_parameter_count() const {
  return parts_->member_parameter_count;
}

template <class T>
const std::shared_ptr<ParameterStore<T>>& Network<T>::store() const {
  return parts_->store;
}

template <class T>
Index Network<T>::parameters_begin() const {
  return parts_->parameters_begin;
}

template <class T>
Index Network<T>::member_stride() const {
  return parts_->member_stride;
}

template <class T>
bool Network<T>::takes_tokens() const {
  return std::holds_alternative<EmbeddingOptions>(modules().front());
}

template <class T>
Index Network<T>::input_size() const {
  return parts_->input_size;
}

template <class T>
Index Network<T>::output_size() const {
  return parts_->output_size;
}

template <class T>
bool Network<T>::keeps_sequence() const {
  return parts_->keeps_sequence();
}

template <class T>
bool Network<T>::takes_missing() const {
  const auto first = std::find_if_not(modules().begin(), modules().end(), [](const ModuleOptions& module) {
    return std::holds_alternative<ScaleOptions>(module) || std::holds_alternative<EmbedColumnsOptions>(module) ||
           std::holds_alternative<MaskOptions>(module);
  });
  return first != modules().end() && std::holds_alternative<ImputeOptions>(*first);
}

template <class T>
const std::vector<StateSize>& Network<T>::state_sizes() const {
  return parts_->state_sizes;
}

template <class T>
Index Network<T>::lstm_count() const {
  return std::count_if(modules().begin(), modules().end(),
                       [](const ModuleOptions& module) { return std::holds_alternative<LstmOptions>(module); });
}

template <class T>
const LstmOptions& Network<T>::lstm(Index index) const {
  return std::get<LstmOptions>(modules()[parts_->lstm_place("index", index)]);
}

template <class T>
MaskSeeds Network<T>::mask_seeds() const {
  return parts_->mask_counter->seeds();
}

template <class T>
void Network<T>::set_mask_seeds(const MaskSeeds& seeds) const {
  parts_->mask_counter->set(seeds);
}

template <class T>
std::uint64_t Network<T>::next_mask_seed() const {
  return parts_->mask_counter->next();
}

template <class T>
void Network<T>::forward(const Input<T>& input, const Batch& batch, const States<const T>& start,
                         const SequenceView<T>& output, const States<T>& end, const Tensors<T>& tensors) const {
  run(input, batch, start, output, end, false, tensors);
}

template <class T>
void Network<T>::forward_last_step(const Input<T>& input, const Batch& batch, const States<const T>& start,
                                   const SequenceView<T>& output, const States<T>& end) const {
  if (!keeps_sequence()) {
    throw std::invalid_argument("last_step: expected a network whose output has steps, got one that pools them");
  }
  run(input, batch, start, output, end, true, {});
}

template <class T>
void Network<T>::run(const Input<T>& input, const Batch& given, const States<const T>& start,
                     const SequenceView<T>& output, const States<T>& end, bool last_step,
                     const Tensors<T>& tensors) const {
  const detail::NetworkParts<T>& parts = *parts_;
  const detail::MaskedBatch<T> masked(parts, input, given);
  const Batch& batch = masked.batch();
  check_input(parts, input, batch);
  check_start(parts, start, batch);
  check_places(parts, "output", output, batch);
  check_places(parts, "end", end, batch);
  check_tensors(parts, tensors);
  if (batch.skip.data != nullptr) {
    detail::SkippedCall<T> computed(parts, input, batch);
    const SequenceView<T> place = last_step ? output : computed.place_for(output);
    run(computed.input(), computed.batch(), start, place, end, last_step, tensors);
    return last_step ? computed.write_last_step(output) : computed.write_output();
  }
  const FlushToZero flush;
  const LongCall long_call;
  const std::shared_ptr<const Snapshot<T>> weights = snapshot_of(parts, false, tensors);
  detail::for_member_pieces(parts, parts.work_of(batch),
                            [&](const std::shared_ptr<WorkspaceCache<T>>& cache, Index member_begin, Index member_end) {
                              States<const T> own_start;
                              States<T> own_end;
                              for (Index member = member_begin; member < member_end; ++member) {
                                Workspace<T> workspace(cache);
                                const auto run_chain = last_step ? chain_forward_last_step<T> : chain_forward<T>;
                                run_chain(Chain<T>(parts, *weights, member), input.of(member), batch.of(member),
                                          detail::member_states(parts, start, member, own_start), output.of(member),
                                          detail::member_states(parts, end, member, own_end), workspace);
                              }
                            });
}

template <class T>
std::shared_ptr<Tape<T>> Network<T>::record(const Input<T>& input, const Batch& given, const States<const T>& start,
                                            const SequenceView<T>& output, const States<T>& end,
                                            const RecordOptions& options, const Tensors<T>& tensors) const {
  const detail::NetworkParts<T>& parts = *parts_;
  const detail::MaskedBatch<T> masked(parts, input, given);
  const Batch& batch = masked.batch();
  check_input(parts, input, batch);
  detail::check_record_options(options);
  check_start(parts, start, batch);
  check_places(parts, "output", output, batch);
  check_places(parts, "end", end, batch);
  check_tensors(parts, tensors);
  std::optional<detail::SkippedCall<T>> computed;
  if (batch.skip.data != nullptr) computed.emplace(parts, input, batch);
  const Input<T>& x = computed ? computed->input() : input;
  const Batch& run = computed ? computed->batch() : batch;
  const FlushToZero flush;
  const LongCall long_call;
  std::vector<RecordOptions> member_options(static_cast<std::size_t>(parts.members), options);
  if (options.training || options.mask_seed) {
    const std::uint64_t seed = options.mask_seed ? *options.mask_seed : next_mask_seed();
    for (std::size_t member = 0; member < member_options.size(); ++member) {
      member_options[member].mask_seed = seed + member;
    }
  }
  auto recording = std::make_unique<detail::Recording<T>>();
  recording->network = parts_;
  if (computed && output.data == nullptr && options.checkpoint == 0 && parts.keeps_sequence()) {
    keep_whole_output(parts, batch, *recording);
  }
  const SequenceView<T>& wanted = recording->whole_output.data == nullptr ? output : recording->whole_output;
  const SequenceView<T> y = computed ? computed->place_for(wanted) : output;
  recording->weights = snapshot_of_recording(parts, member_options, tensors);
  recording->work = parts.work_of(run);
  recording->members.resize(member_options.size());
  const Batch copied_batch = copy_batch(run, parts.members, *recording);
  const CopiedInput<T> copied_input(parts, x, run, *recording);
  detail::for_member_pieces(parts, recording->work,
                            [&](const std::shared_ptr<WorkspaceCache<T>>& cache, Index member_begin, Index member_end) {
                              const auto memory = std::make_shared<Workspace<T>>(cache);
                              States<const T> own_start;
                              States<T> own_end;
                              for (Index member = member_begin; member < member_end; ++member) {
                                const auto at = static_cast<std::size_t>(member);
                                ChainRecord<T>& record = recording->members[at];
                                record.options = member_options[at];
                                record.batch = copied_batch.of(member);
                                record.workspace = memory;
                                chain_record(Chain<T>(parts, *recording->weights, member),
                                             copied_input.of_member(member, record.batch, *memory),
                                             detail::member_states(parts, start, member, own_start), y.of(member),
                                             detail::member_states(parts, end, member, own_end), record);
                              }
                            });
  if (computed) {
    computed->write_output();
    recording->computed = computed->steps();
  }
  return std::make_shared<Tape<T>>(std::move(recording));
}

template class Network<float>;
template class Network<double>;

}  // namespace latchwork
