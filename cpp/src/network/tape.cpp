#include "network/tape.hpp"

#include <algorithm>
#include <optional>
#include <stdexcept>

#include "layer/row_blocks.hpp"
#include "layer/strategy.hpp"
#include "layer/token_numbers.hpp"
#include "machine/float_state.hpp"
#include "machine/parallel.hpp"
#include "network/last.hpp"
#include "network/linear.hpp"
#include "weights/weight_dropout.hpp"

namespace latchwork {

namespace {

// table[token] += d_output, steps descending, then rows ascending. Threads split the features.
template <class T>
void embedding_backward(const Batch& batch, const RowSource<T>& tokens, SequenceView<const T> d_output, Index features,
                        T* table) {
  const Schedule schedule{batch, false};
  const Index work = batch.steps * batch.rows * features * work_of_moving;
  const Index parts = work < smallest_parallel_work ? 1 : std::min(num_threads(), features);
  parallel(parts, [&](Index part) {
    const Index begin = piece_begin(features, parts, part);
    const Index end = piece_begin(features, parts, part + 1);
    for (Index step = batch.steps - 1; step >= 0; --step) {
      for (Index row = 0; row < batch.rows; ++row) {
        if (!schedule.active(step, row)) continue;
        T* sum = table + *tokens.tokens.at(step, row) * features;
        const T* d_row = d_output.at(step, row);
        for (Index at = begin; at < end; ++at) sum[at] += d_row[at];
      }
    }
  });
}

template <class T>
void clear_padding(const Batch& batch, Index features, SequenceView<T> values) {
  const Schedule schedule{batch, false};
  for (Index row = 0; row < batch.rows; ++row) {
    for (Index step = schedule.length(row); step < batch.steps; ++step) {
      std::fill_n(values.at(step, row), features, T(0));
    }
  }
}

// One gate of a packed row.
template <class T>
void copy_gate(const LstmOptions& lstm, Signal signal, const T* packed, const GateShape& shape, Index units_per_panel,
               T* values) {
  const bool own_forget = lstm.forget_gate == ForgetGate::own;
  const bool coupled = lstm.forget_gate == ForgetGate::coupled;
  const bool derived = signal == Signal::forget_gate && !own_forget;
  if (derived && !coupled) return void(std::fill_n(values, lstm.hidden_size, T(1)));
  Index gate = derived ? 0 : static_cast<Index>(signal);
  if (!own_forget && gate > 0) --gate;
  for (Index unit = 0; unit < lstm.hidden_size; ++unit) {
    const Index panel = unit / units_per_panel;
    const bool last = (panel + 1) * units_per_panel >= shape.units;
    const Index room = (last ? shape.last_registers : shape.gates) * units_per_panel / shape.gates;
    const T value = packed[panel * shape.gates * units_per_panel + gate * room + unit % units_per_panel];
    values[unit] = derived ? T(1) - value : value;
  }
}

// The tokens by which backward sums an LSTM's gate gradients, where it does.
template <class T>
std::optional<TokenNumbers> tokens_to_sum(const PackedModule<T>& weights, const ModuleRecord<T>& record) {
  if (weights.layers.empty()) return {};
  const Schedule schedule{record.batch, false};
  const Index blocks = row_blocks(schedule, weights.layers.front()).count();
  return repeated_tokens(record.input, schedule, 0, record.batch.steps, blocks);
}

// Tape::backward, but that the gradients are those by the weights as dropout left them.
template <class T>
void chain_backward(const typename Tape<T>::Recording& recording, SequenceView<const T> d_output,
                    const States<const T>& d_end, T* parameters, bool accumulate, SequenceView<T> d_input,
                    const States<T>& d_start, Workspace<T>& workspace) {
  const Kernels<T>& kernels = *recording.weights->kernels;
  std::size_t lstm_index = static_cast<std::size_t>(
      std::count_if(recording.chain->begin(), recording.chain->end(),
                    [](const ModuleOptions& module) { return std::holds_alternative<LstmOptions>(module); }));
  const auto* first_embedding = std::get_if<EmbeddingOptions>(&recording.chain->front());
  if (first_embedding != nullptr && !accumulate) {
    T* const table = parameters + recording.weights->modules.front().parameters_begin;
    std::fill_n(table, first_embedding->num_embeddings * first_embedding->embedding_dim, T(0));
  }
  SequenceView<const T> d_result = d_output;
  for (std::size_t at = recording.chain->size(); at-- > 0;) {
    const ModuleOptions& module = (*recording.chain)[at];
    const ModuleRecord<T>& record = recording.modules[at];
    const PackedModule<T>& weights = recording.weights->modules[at];
    const Index features = record.input.features;
    T* gradient = parameters + weights.parameters_begin;
    const std::optional<TokenNumbers> tokens = tokens_to_sum(weights, record);
    SequenceView<T> d_source = d_input;
    if (tokens) {
      d_source = {};
    } else if (at > 0) {
      d_source =
          contiguous(workspace.take(record.batch.steps * record.batch.rows * features), record.batch.rows, features);
    }
    if (const auto* lstm = std::get_if<LstmOptions>(&module)) {
      --lstm_index;
      const StackCall<T> call{lstm, &weights, &kernels, record.batch, record.input, static_cast<Index>(at)};
      StackGradient<T> own;
      own.d_output = d_result;
      if (!d_end.empty()) own.d_end = d_end[lstm_index];
      own.d_input = d_source;
      if (tokens) {
        own.tokens = &*tokens;
        own.d_table = parameters + recording.weights->modules[at - 1].parameters_begin;
      }
      if (!d_start.empty()) own.d_start = d_start[lstm_index];
      own.parameters = parameters;
      own.accumulate = accumulate;
      stack_backward(call, recording.options, record.stack, own, workspace);
    } else if (const auto* linear = std::get_if<LinearOptions>(&module)) {
      LinearGradient<T> own;
      own.d_output = d_result;
      own.d_input = d_source;
      own.weight = gradient;
      own.bias = linear->bias ? gradient + linear->out_features * linear->in_features : nullptr;
      own.accumulate = accumulate;
      linear_backward(LinearCall<T>{&weights.linear, &kernels, record.batch, record.input, record.output}, own,
                      workspace);
    } else if (const auto* embedding = std::get_if<EmbeddingOptions>(&module)) {
      if (d_result.data != nullptr)
        embedding_backward(record.batch, record.input, d_result, embedding->embedding_dim, gradient);
      return;
    } else if (d_source.data != nullptr) {
      const LastColumns columns = last_columns(at == 0 ? nullptr : &(*recording.chain)[at - 1], features);
      last_backward(columns, Schedule{record.batch, false}, d_result, d_source);
    }
    d_result = {d_source.data, d_source.step_stride, d_source.row_stride};
  }
  if (d_input.data != nullptr) clear_padding(recording.batch, recording.modules.front().input.features, d_input);
}

}  // namespace

template <class T>
Tape<T>::Tape(std::unique_ptr<Recording> recording) : recording_(std::move(recording)) {}

template <class T>
Tape<T>::~Tape() = default;

template <class T>
SequenceView<const T> Tape<T>::output() const {
  if (recording_->options.checkpoint > 0) {
    throw std::invalid_argument("output: expected a recording without checkpoints, which keeps the output");
  }
  const SequenceView<T>& output = recording_->modules.back().output;
  return {output.data, output.step_stride, output.row_stride};
}

template <class T>
void Tape<T>::backward(SequenceView<const T> d_output, const States<const T>& d_end, T* parameters, bool accumulate,
                       SequenceView<T> d_input, const States<T>& d_start) const {
  const FlushToZero flush;
  const Recording& recording = *recording_;
  Workspace<T> workspace(recording.workspace->cache());
  if (!drops_weights(*recording.chain, recording.options)) {
    chain_backward<T>(recording, d_output, d_end, parameters, accumulate, d_input, d_start, workspace);
    return;
  }
  // The gradients by the weights that were dropped become those by the parameters.
  const Index size = recording.parameter_count();
  T* gradient = workspace.take(size);
  chain_backward<T>(recording, d_output, d_end, gradient, false, d_input, d_start, workspace);
  apply_weight_dropout(*recording.chain, *recording.weights->kernels, recording.options, gradient);
  for (Index at = 0; at < size; ++at) parameters[at] = accumulate ? parameters[at] + gradient[at] : gradient[at];
}

template <class T>
void Tape<T>::signal(Index lstm_wanted, Index state, Signal signal, T* values) const {
  const Recording& recording = *recording_;
  if (recording.options.checkpoint > 0) {
    throw std::invalid_argument("signal: expected a recording without checkpoints, which keeps every step");
  }
  const Index units_per_panel = recording.weights->kernels->units;
  for (std::size_t at = 0; at < recording.chain->size(); ++at) {
    const auto* lstm = std::get_if<LstmOptions>(&(*recording.chain)[at]);
    if (lstm == nullptr || lstm_wanted-- > 0) continue;
    const ModuleRecord<T>& record = recording.modules[at];
    const LayerRecord<T>& layer = record.stack.layers[static_cast<std::size_t>(state)];
    const PackedLayer<T>& weights = recording.weights->modules[at].layers[static_cast<std::size_t>(state)];
    const Index size = signal == Signal::hidden ? lstm->hidden_output_size() : lstm->hidden_size;
    const Schedule schedule{record.batch, false};
    for (Index step = 0; step < record.batch.steps; ++step) {
      for (Index row = 0; row < record.batch.rows; ++row, values += size) {
        const Index slot = step * record.batch.rows + row;
        if (!schedule.active(step, row)) {
          std::fill_n(values, size, T(0));
        } else if (signal == Signal::hidden) {
          const SequenceView<T>& output = record.stack.outputs[static_cast<std::size_t>(state / lstm->directions())];
          std::copy_n(output.at(step, row) + state % lstm->directions() * size, size, values);
        } else if (signal == Signal::cell) {
          std::copy_n(layer.cell + slot * weights.padded, size, values);
        } else {
          copy_gate(*lstm, signal, layer.gates + slot * weights.packed_size, weights.shape(), units_per_panel, values);
        }
      }
    }
    return;
  }
}

template class Tape<float>;
template class Tape<double>;

}  // namespace latchwork
