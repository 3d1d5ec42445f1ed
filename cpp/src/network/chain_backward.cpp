// The backward pass through the modules of one member.
#include <algorithm>
#include <optional>

#include "layer/row_blocks.hpp"
#include "layer/token_numbers.hpp"
#include "machine/interrupt.hpp"
#include "network/activation.hpp"
#include "network/chain.hpp"
#include "network/dropout.hpp"
#include "network/embed_columns.hpp"
#include "network/embedding.hpp"
#include "network/impute.hpp"
#include "network/input_skip.hpp"
#include "network/last.hpp"
#include "network/linear.hpp"
#include "network/merging.hpp"
#include "network/pooling.hpp"
#include "network/reverse.hpp"
#include "network/scale.hpp"
#include "network/sequences.hpp"
#include "network/sort.hpp"
#include "weights/module_sizes.hpp"
#include "weights/weight_dropout.hpp"

namespace latchwork {

namespace {

// The numbered tokens if backward is to sum the LSTM's gate gradients for each token; else nothing.
template <class T>
std::optional<TokenNumbers> tokens_to_sum(const PackedModule<T>& weights, const ModuleRecord<T>& record,
                                          Index gradient_blocks) {
  if (weights.layers.empty()) return {};
  const Schedule schedule{record.batch, false};
  const Index blocks = row_blocks(schedule, weights.layers.front(), gradient_blocks).count();
  return repeated_tokens(record.input, schedule, 0, record.batch.steps, blocks);
}

// A null d_output stands for zeros.
template <class T>
void dropout_backward(const Kernels<T>& kernels, const DropoutMask& mask, const ModuleRecord<T>& record,
                      SequenceView<const T> d_output, SequenceView<T> d_input) {
  const Index features = record.input.features;
  if (d_input.data == nullptr) return;
  if (d_output.data == nullptr) {
    for (Index step = 0; step < record.batch.steps; ++step) {
      for (Index row = 0; row < record.batch.rows; ++row) std::fill_n(d_input.at(step, row), features, T(0));
    }
  } else if (mask.probability > 0.0) {
    dropout_module(kernels, mask, record.batch, rows_of(d_output, features), d_input);
  } else {
    copy_sequence(record.batch, features, d_output, d_input);
  }
}

// The gradient with respect to what Last took from its input: d_output, unless it merged that.
template <class T>
SequenceView<const T> d_joined_of_last(const std::vector<ModuleOptions>& modules, std::size_t at,
                                       const ModuleRecord<T>& record, SequenceView<const T> d_output,
                                       Workspace<T>& workspace) {
  const LstmOptions* const merging = merging_before_last(modules, at);
  if (merging == nullptr || d_output.data == nullptr) return d_output;
  const Index features = record.input.features, rows = record.batch.rows;
  const SequenceView<T> joined = contiguous(workspace.take(rows * features), rows, features);
  const SequenceView<T> d_joined = contiguous(workspace.take(rows * features), rows, features);
  last_forward(last_columns(modules, at, features), Schedule{record.batch, false}, record.input, joined);
  merge_backward(*merging, Batch{1, rows}, read_only(joined), d_output, d_joined);
  return read_only(d_joined);
}

template <class T>
void clear_signal_padding(const Batch& batch, const LstmOptions& lstm, const std::vector<SignalArrays<T>>& d_signals) {
  for (const SignalArrays<T>& of_state : d_signals) {
    for (std::size_t signal = 0; signal < of_state.size(); ++signal) {
      const Index size = signal_size(lstm, static_cast<Signal>(signal));
      clear_padding(batch, size, contiguous(of_state[signal], batch.rows, size));
    }
  }
}

// The first module whose gradients are wanted, if that with respect to the input is not: it has parameters, a start
// state or signals. The number of modules if there is none.
template <class T>
std::size_t first_with_gradients(const detail::NetworkParts<T>& network, bool of_parameters, bool of_starts,
                                 bool of_signals) {
  const auto is_wanted = [&](std::size_t at) {
    return (of_parameters && network.module_size(at) > 0) ||
           (of_starts && module_state_size(network.modules[at]).has_value()) ||
           (of_signals && std::holds_alternative<LstmOptions>(network.modules[at]));
  };
  std::size_t at = 0;
  while (at < network.modules.size() && !is_wanted(at)) ++at;
  return at;
}

// The gradients with respect to the weights that the chain computed with.
template <class T>
void backward_through(const Chain<T>& chain, const ChainRecord<T>& recording, SequenceView<const T> d_output,
                      const States<const T>& d_end, T* parameters, bool accumulate, SequenceView<T> d_input,
                      const States<T>& d_start, Workspace<T>& workspace,
                      const std::function<void(std::size_t module)>& ready, const ChainSignals<T>& d_signals) {
  const std::vector<ModuleOptions>& modules = chain.network.modules;
  const Kernels<T>& kernels = chain.kernels;
  std::size_t state_index = chain.network.state_sizes.size();
  std::size_t lstm_index =
      static_cast<std::size_t>(std::count_if(modules.begin(), modules.end(), [](const ModuleOptions& module) {
        return std::holds_alternative<LstmOptions>(module);
      }));
  const bool wants_parameters = parameters != nullptr;
  for (std::size_t at = 0; at < modules.size() && wants_parameters && !accumulate; ++at) {
    const bool tables = std::holds_alternative<EmbeddingOptions>(modules[at]) ||
                        std::holds_alternative<EmbedColumnsOptions>(modules[at]);
    if (!tables) continue;
    std::fill_n(chain.weights[at].places.in(parameters, ParameterKind::weight), chain.network.module_size(at), T(0));
  }
  // The blocks of rows in which modules are summed that do not choose them by their shape.
  const auto blocks = [&] {
    return row_blocks(Schedule{recording.batch, false}, std::max<Index>(1, recording.options.gradient_blocks));
  };
  const std::size_t first_wanted = d_input.data == nullptr ? first_with_gradients(chain.network, wants_parameters,
                                                                                  !d_start.empty(), !d_signals.empty())
                                                           : 0;
  if (first_wanted == modules.size()) return;
  SequenceView<const T> d_result = d_output;
  InputSkipGradients<T> input_skips;
  for (std::size_t at = modules.size(); at-- > 0;) {
    const ModuleOptions& module = modules[at];
    const ModuleRecord<T>& record = recording.modules[at];
    const PackedModule<T>& weights = chain.weights[at];
    const Index features = record.input.features;
    T* const weight_gradient = weights.places.in(parameters, ParameterKind::weight);
    std::optional<TokenNumbers> tokens;
    if (wants_parameters) tokens = tokens_to_sum(weights, record, recording.options.gradient_blocks);
    SequenceView<T> d_source = d_input;
    if (tokens) {
      d_source = {};
    } else if (at <= first_wanted) {
      if (at > 0) d_source = {};
    } else {
      d_source =
          contiguous(workspace.take(record.batch.steps * record.batch.rows * features), record.batch.rows, features);
    }
    if (const auto* lstm = std::get_if<LstmOptions>(&module)) {
      --lstm_index;
      --state_index;
      StackCall<T> call{lstm, &weights, &kernels, record.batch, record.input, static_cast<Index>(at)};
      call.merged_later = merges_in_last(modules, at);
      call.backwards = record.backwards;
      call.end_reset = recording.batch.end_reset;
      StackGradient<T> gradient;
      gradient.d_output = d_result;
      if (!d_end.empty()) gradient.d_end = d_end[state_index];
      gradient.d_input = d_source;
      if (tokens) {
        gradient.tokens = &*tokens;
        gradient.d_table = chain.weights.front().places.in(parameters, ParameterKind::weight);
      }
      if (!d_start.empty()) gradient.d_start = d_start[state_index];
      gradient.parameters = parameters;
      gradient.accumulate = accumulate;
      if (!d_signals.empty()) gradient.d_signals = &d_signals[lstm_index];
      stack_backward(call, recording.options, record.stack, gradient, workspace);
      if (!d_signals.empty()) clear_signal_padding(record.batch, *lstm, d_signals[lstm_index]);
    } else if (std::holds_alternative<LinearOptions>(module)) {
      LinearGradient<T> gradient;
      gradient.d_output = d_result;
      gradient.d_input = d_source;
      gradient.weight = weight_gradient;
      gradient.bias = weights.places.in(parameters, ParameterKind::bias);
      gradient.accumulate = accumulate;
      const RowBlocks row_blocks = blocks();
      gradient.blocks = &row_blocks;
      linear_backward(LinearCall<T>{&weights.linear, &kernels, record.batch, record.input, record.output}, gradient,
                      workspace);
    } else if (const auto* embedding = std::get_if<EmbeddingOptions>(&module)) {
      if (d_result.data != nullptr) {
        embedding_backward(kernels, record.batch, blocks(), record.input, d_result, *embedding, weight_gradient,
                           workspace);
      }
    } else if (const auto* impute = std::get_if<ImputeOptions>(&module)) {
      ImputeGradient<T> gradient{d_result, nullptr, d_source, {}};
      if (module_state_size(module)) {
        --state_index;
        if (!d_end.empty()) gradient.d_end_value = d_end[state_index].hidden;
        if (!d_start.empty()) gradient.d_start = d_start[state_index];
      }
      impute_backward(Imputer<T>(*impute, weights), record.batch, record.input, gradient, workspace);
    } else if (const auto* embed = std::get_if<EmbedColumnsOptions>(&module)) {
      embed_columns_backward(kernels, *embed, record.batch, blocks(), record.input,
                             EmbedColumnsGradient<T>{d_result, d_source, weight_gradient}, workspace);
    } else if (const auto* dropout = std::get_if<DropoutOptions>(&module)) {
      dropout_backward(kernels, mask_of(*dropout, recording.options, at), record, d_result, d_source);
    } else if (const auto* skip = std::get_if<InputSkipOptions>(&module)) {
      input_skips.take(*skip, d_result);
      if (d_source.data != nullptr) pass_gradient(record.batch, features, d_result, d_source);
    } else if (d_source.data != nullptr) {
      const Schedule schedule{record.batch, false};
      if (std::holds_alternative<MaskOptions>(module)) {
        pass_gradient(record.batch, features, d_result, d_source);
      } else if (std::holds_alternative<ScaleOptions>(module)) {
        scale_backward(weights, record.batch, d_result, d_source);
      } else if (const auto* sort = std::get_if<SortOptions>(&module)) {
        sort_backward(sort->group, record.batch, record.input, d_result, d_source);
      } else if (std::holds_alternative<ReverseOptions>(module)) {
        reverse_backward(record.batch, features, d_result, d_source);
      } else if (std::holds_alternative<ActivationOptions>(module)) {
        activation_backward(kernels, weights.activation, record.batch, record.input, read_only(record.output), d_result,
                            d_source);
      } else if (std::holds_alternative<LastOptions>(module)) {
        last_backward(last_columns(modules, at, features), schedule,
                      d_joined_of_last(modules, at, record, d_result, workspace), d_source);
      } else {
        const Pooling pooling = std::holds_alternative<MeanOptions>(module) ? Pooling::mean : Pooling::max;
        pool_backward(pooling, schedule, record.backwards, record.input, read_only(record.output), d_result, d_source);
      }
    }
    throw_if_stopped(0);
    if (ready && chain.network.module_size(at) > 0) ready(at);
    d_result = read_only(d_source);
    if (at == first_wanted && d_input.data == nullptr) break;
  }
  if (d_input.data != nullptr) input_skips.add_to(recording.batch, d_input);
  if (d_input.data != nullptr) clear_padding(recording.batch, recording.modules.front().input.features, d_input);
}

}  // namespace

template <class T>
void chain_backward(const Chain<T>& chain, const ChainRecord<T>& recording, SequenceView<const T> d_output,
                    const States<const T>& d_end, T* parameters, bool accumulate, SequenceView<T> d_input,
                    const States<T>& d_start, Workspace<T>& workspace,
                    const std::function<void(std::size_t module)>& ready, const ChainSignals<T>& d_signals) {
  if (parameters == nullptr || !drops_weights(chain.network.modules, recording.options)) {
    return backward_through(chain, recording, d_output, d_end, parameters, accumulate, d_input, d_start, workspace,
                            ready, d_signals);
  }
  // The chain computed with weights of which dropout had zeroed some and scaled the others. The same factors turn the
  // gradients with respect to those weights into the gradients with respect to the parameters.
  T* const dropped = workspace.take(chain.network.member_parameter_count);
  const auto finish_module = [&](std::size_t module) {
    const Index begin = chain.network.module_begin(module), size = chain.network.module_size(module);
    T *const from = dropped + begin, *const to = parameters + begin;
    apply_weight_dropout(chain.network.modules[module], static_cast<Index>(module), chain.kernels, recording.options,
                         from);
    for (Index at = 0; at < size; ++at) to[at] = accumulate ? to[at] + from[at] : from[at];
    if (ready) ready(module);
  };
  backward_through<T>(chain, recording, d_output, d_end, dropped, false, d_input, d_start, workspace, finish_module,
                      d_signals);
}

#define LATCHWORK_INSTANTIATE(T)                                                                                      \
  template void chain_backward<T>(const Chain<T>&, const ChainRecord<T>&, SequenceView<const T>,                      \
                                  const States<const T>&, T*, bool, SequenceView<T>, const States<T>&, Workspace<T>&, \
                                  const std::function<void(std::size_t)>&, const ChainSignals<T>&);
LATCHWORK_INSTANTIATE(float)
LATCHWORK_INSTANTIATE(double)
#undef LATCHWORK_INSTANTIATE

}  // namespace latchwork
