#include "latchwork/tape.hpp"

#include <algorithm>
#include <exception>
#include <optional>
#include <stdexcept>

#include "machine/float_state.hpp"
#include "machine/interrupt.hpp"
#include "network/chain.hpp"
#include "network/members.hpp"
#include "network/recording.hpp"
#include "network/signal_gradients.hpp"
#include "network/skipped_call.hpp"

namespace latchwork {

namespace {

// Copies the values of one gate from a packed row. The values of a forget gate that the cell does not have of its own
// are 1, or 1 - input gate if it is coupled.
template <class T>
void copy_gate(const LstmOptions& lstm, Signal signal, const T* packed, const PackedLayer<T>& weights,
               const Kernels<T>& kernels, T* values) {
  const GateShape shape = weights.shape();
  const Index units_per_panel = kernels.units;
  const bool own_forget = lstm.forget_gate == ForgetGate::own;
  const bool coupled = lstm.forget_gate == ForgetGate::coupled;
  const bool derived = signal == Signal::forget_gate && !own_forget;
  if (derived && !coupled) return void(std::fill_n(values, lstm.hidden_size, T(1)));
  Index gate = derived ? 0 : static_cast<Index>(signal);
  const CellVariant<T>& variant = weights.variant;
  const ActivationArgs<T>* const activations[] = {&variant.input, &variant.forget, &variant.candidate, &variant.output};
  const ActivationArgs<T>& activation = *activations[gate];
  if (!own_forget && gate > 0) --gate;
  for (Index unit = 0; unit < lstm.hidden_size; ++unit) {
    const Index panel = unit / units_per_panel;
    const bool last = (panel + 1) * units_per_panel >= shape.units;
    const Index room = (last ? shape.last_registers : shape.gates) * units_per_panel / shape.gates;
    values[unit] = packed[panel * shape.gates * units_per_panel + gate * room + unit % units_per_panel];
  }
  if (slope_follows_input(activation)) kernels.activate(activation, values, lstm.hidden_size, values);
  for (Index unit = 0; derived && unit < lstm.hidden_size; ++unit) values[unit] = T(1) - values[unit];
}

// Which of the recorded steps a trace shows at a step, or what it shows instead (see ComputedSteps).
struct ShownStep {
  Index step;
  bool carried;  // whether it shows the state of another step, because this one was skipped
};

ShownStep shown_step(const ComputedSteps* computed, const Batch& recorded, Index member, Index step, Index row,
                     bool reverse) {
  if (computed == nullptr) {
    return {Schedule{recorded, false}.active(step, row) ? step : ComputedSteps::padding, false};
  }
  return {computed->repeated(member, step, row, reverse), !computed->computed(member, step, row)};
}

// Copies the state of a row that no step has computed yet.
template <class T>
void copy_start(const LayerRecord<T>& layer, const PackedLayer<T>& weights, Signal signal, bool restarted, Index row,
                T* values) {
  if (signal == Signal::cell) {
    const T* const passed = layer.segment_cell + row * weights.padded;
    std::copy_n(restarted ? weights.start_cell.data() : passed, weights.units, values);
  } else {
    const Index size = weights.output_size();
    const bool own = restarted || layer.start_hidden == nullptr;
    std::copy_n(own ? weights.start_hidden.data() : layer.start_hidden + row * size, size, values);
  }
}

// The sequences of a backward pass, as the recording needs them: if steps were skipped, those of the computed steps.
template <class T>
class BackwardSequences {
 public:
  BackwardSequences(const detail::Recording<T>& recording, const SequenceView<const T>& d_output,
                    const SequenceView<T>& d_input)
      : d_output_(d_output), d_input_(d_input), parts_(*recording.network), whole_d_input_(d_input) {
    if (recording.computed == nullptr) return;
    computed_ = &recording.computed->of(false);
    const ComputedSteps& outputs = recording.computed->of(parts_.output_is_backwards());
    memory_.emplace(parts_.workspaces.first());
    if (d_output.data != nullptr && parts_.keeps_sequence()) {
      const Index sequences = detail::sequence_count(outputs, parts_.members, d_output.member_stride);
      T* const memory = memory_->take(detail::computed_size(outputs, sequences, parts_.output_size));
      d_output_ = detail::gather_d_output(outputs, parts_, d_output, memory);
    }
    if (d_input.data != nullptr) {
      T* const memory = memory_->take(detail::computed_size(*computed_, parts_.members, parts_.input_size));
      d_input_ = detail::computed_view(*computed_, parts_.members, parts_.input_size, memory);
    }
  }

  const SequenceView<const T>& d_output() const { return d_output_; }
  const SequenceView<T>& d_input() const { return d_input_; }

  // Writes the caller's d_input, once that of the computed steps is complete.
  void finish() const {
    if (computed_ == nullptr || whole_d_input_.data == nullptr) return;
    detail::scatter(*computed_, parts_.members, parts_.input_size, d_input_, whole_d_input_);
  }

 private:
  SequenceView<const T> d_output_;
  SequenceView<T> d_input_;
  const detail::NetworkParts<T>& parts_;
  const ComputedSteps* computed_ = nullptr;  // in the order in which the chain takes them
  SequenceView<T> whole_d_input_;
  std::optional<Workspace<T>> memory_;
};

// A backward pass that adds to gradients needs a copy of them to be stopped. One that goes with a forward pass of fewer
// multiply-adds than this takes less than about a tenth of a second, and is spared the copy.
constexpr Index least_work_to_stop = 500'000'000;

// Copies gradients to which a call is to add, and puts the copy back if it ends by an exception.
template <class T>
class KeptParameters {
 public:
  KeptParameters(const detail::NetworkParts<T>& parts, T* parameters)
      : memory_(parts.workspaces.first()),
        size_(parts.members * parts.member_parameter_count),
        parameters_(parameters) {
    if (parameters_ == nullptr) return;
    copy_ = memory_.take(size_);
    std::copy_n(parameters_, size_, copy_);
  }
  ~KeptParameters() {
    if (parameters_ != nullptr && std::uncaught_exceptions() > exceptions_) std::copy_n(copy_, size_, parameters_);
  }
  KeptParameters(const KeptParameters&) = delete;
  KeptParameters& operator=(const KeptParameters&) = delete;

 private:
  Workspace<T> memory_;
  Index size_;
  T* parameters_;
  T* copy_ = nullptr;
  int exceptions_ = std::uncaught_exceptions();
};

}  // namespace

template <class T>
Tape<T>::Tape(std::unique_ptr<const detail::Recording<T>> recording) : recording_(std::move(recording)) {}

template <class T>
Tape<T>::~Tape() = default;

template <class T>
SequenceView<const T> Tape<T>::output(Index member) const {
  detail::check_index("member", member, recording_->network->members);
  const ChainRecord<T>& record = recording_->members[static_cast<std::size_t>(member)];
  if (record.options.checkpoint > 0) {
    throw std::invalid_argument("output: expected a recording without checkpoints, which keeps the output");
  }
  if (recording_->computed != nullptr && recording_->network->keeps_sequence()) {
    if (recording_->whole_output.data == nullptr) {
      throw std::invalid_argument(
          "output: expected a recording with a skip mask to keep its output, which was written "
          "where the caller asked for it");
    }
    return read_only(recording_->whole_output.of(member));
  }
  return read_only(record.modules.back().output);
}

template <class T>
std::optional<std::uint64_t> Tape<T>::mask_seed() const {
  return recording_->members.front().options.mask_seed;
}

template <class T>
void Tape<T>::backward(const SequenceView<const T>& d_output, const States<const T>& d_end, T* parameters,
                       bool accumulate, const SequenceView<T>& d_input, const States<T>& d_start,
                       const ModuleReady<T>& ready, const ChainSignals<T>& d_signals) const {
  const detail::Recording<T>& recording = *recording_;
  const detail::NetworkParts<T>& parts = *recording.network;
  detail::check_states(parts, "d_end", d_end);
  detail::check_places(parts, "d_input", d_input, recording.members.front().batch);
  detail::check_places(parts, "d_start", d_start, recording.members.front().batch);
  detail::SignalGradients<T> signals(recording, d_signals);
  const FlushToZero flush;
  const Batch& batch = recording.members.front().batch;
  const Index work = parts.members * (recording.work + batch.steps * batch.rows * work_of_a_round);
  const bool can_stop = !accumulate || work >= least_work_to_stop;
  std::optional<LongCall> long_call;
  if (can_stop) long_call.emplace();
  const KeptParameters<T> kept(parts, accumulate && can_stop ? parameters : nullptr);
  const BackwardSequences<T> sequences(recording, d_output, d_input);
  const detail::ReadyModules<T> ready_modules(parts, ready, parameters);
  detail::for_member_pieces(
      parts, 2 * recording.work, [&](const std::shared_ptr<WorkspaceCache<T>>& cache, Index begin, Index end) {
        States<const T> own_d_end;
        States<T> own_d_start;
        // In reverse order, because the record of the last member is the likeliest to be in a cache.
        for (Index member = end - 1; member >= begin; --member) {
          Workspace<T> workspace(cache);
          chain_backward(
              Chain<T>(parts, *recording.weights, member), recording.members[static_cast<std::size_t>(member)],
              sequences.d_output().of(member), detail::member_states(parts, d_end, member, own_d_end),
              parameters == nullptr ? nullptr : parameters + member * parts.member_parameter_count, accumulate,
              sequences.d_input().of(member), detail::member_states(parts, d_start, member, own_d_start), workspace,
              ready_modules.meanwhile(), signals.of(member));
        }
      });
  sequences.finish();
  signals.finish();
  ready_modules.afterwards();
}

template <class T>
void Tape<T>::signal(Index lstm_index, Index state, Signal signal, T* values) const {
  const detail::Recording<T>& recording = *recording_;
  const std::size_t at = recording.network->lstm_place("lstm", lstm_index);
  const LstmOptions& lstm = std::get<LstmOptions>(recording.network->modules[at]);
  detail::check_index("state", state, lstm.states());
  const ComputedSteps* const computed = recording.computed == nullptr
                                            ? nullptr
                                            : &recording.computed->of(recording.members.front().modules[at].backwards);
  const Index steps = computed == nullptr ? recording.members.front().batch.steps : computed->steps();
  const Kernels<T>& kernels = *recording.weights->kernels;
  const LongCall long_call;
  const Index size = signal_size(lstm, signal);
  for (std::size_t member = 0; member < recording.members.size(); ++member) {
    const ChainRecord<T>& member_record = recording.members[member];
    if (member_record.options.checkpoint > 0) {
      throw std::invalid_argument("signal: expected a recording without checkpoints, which keeps every step");
    }
    const ModuleRecord<T>& record = member_record.modules[at];
    const LayerRecord<T>& layer = record.stack.layers[static_cast<std::size_t>(state)];
    const PackedLayer<T>& weights = recording.weights->members[member][at].layers[static_cast<std::size_t>(state)];
    const bool reverse = lstm.direction == Direction::reverse || state % lstm.directions() == 1;
    const bool is_gate = signal != Signal::hidden && signal != Signal::cell;
    for (Index step = 0; step < steps; ++step) {
      throw_if_stopped(record.batch.rows * size * work_of_moving);
      for (Index row = 0; row < record.batch.rows; ++row, values += size) {
        const auto [shown, carried] =
            shown_step(computed, record.batch, static_cast<Index>(member), step, row, reverse);
        const Index slot = shown * record.batch.rows + row;
        if (shown == ComputedSteps::padding || (carried && is_gate)) {
          std::fill_n(values, size, T(0));
        } else if (shown < 0) {
          copy_start(layer, weights, signal, shown == ComputedSteps::restarted, row, values);
        } else if (signal == Signal::hidden) {
          const SequenceView<T>& output = record.stack.outputs[static_cast<std::size_t>(state / lstm.directions())];
          std::copy_n(output.at(shown, row) + state % lstm.directions() * size, size, values);
        } else if (signal == Signal::cell) {
          std::copy_n(layer.cell + slot * weights.padded, size, values);
        } else {
          copy_gate(lstm, signal, layer.gates + slot * weights.packed_size, weights, kernels, values);
        }
      }
    }
  }
}

template class Tape<float>;
template class Tape<double>;

}  // namespace latchwork
