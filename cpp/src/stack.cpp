#include "stack.hpp"

#include <algorithm>

#include "dropout.hpp"

namespace latchwork {

namespace {

template <class T>
SequenceView<T> from_feature(SequenceView<T> view, Index feature) {
  if (view.data != nullptr) view.data += feature;
  return view;
}

// The part of a module's state that belongs to one layer and direction.
template <class T>
State<T> state_of(const State<T>& states, Index state, const LstmOptions& options, Index rows) {
  State<T> part;
  if (states.hidden != nullptr) part.hidden = states.hidden + state * rows * options.hidden_output_size();
  if (states.cell != nullptr) part.cell = states.cell + state * rows * options.hidden_size;
  return part;
}

template <class T>
LayerCall<T> layer_call(const StackCall<T>& call, Index state, const State<const T>& start, SequenceView<T> output,
                        const State<T>& end) {
  const LstmOptions& options = *call.options;
  const Index direction = state % options.directions();
  LayerCall<T> layer;
  layer.weights = &call.layer(state);
  layer.kernels = call.kernels;
  layer.schedule = {call.batch, call.reverse(direction)};
  const State<const T> own_start = state_of(start, state, options, call.batch.rows);
  layer.start_hidden = own_start.hidden;
  layer.start_cell = own_start.cell;
  layer.output = from_feature(output, direction * options.hidden_output_size());
  const State<T> own_end = state_of(end, state, options, call.batch.rows);
  layer.end_hidden = own_end.hidden;
  layer.end_cell = own_end.cell;
  return layer;
}

template <class T>
RowSource<T> source_of(SequenceView<T> view, Index features) {
  RowSource<T> source;
  source.values = {view.data, view.step_stride, view.row_stride};
  source.features = features;
  return source;
}

DropoutMask mask_after(const LstmOptions& lstm, const RecordOptions& options, Index module, Index layer) {
  return {options.mask_seed, module, layer, lstm.dropout};
}

bool drops(const LstmOptions& lstm, const RecordOptions& options) { return options.training && lstm.dropout > 0.0; }

}  // namespace

template <class T>
void stack_forward(const StackCall<T>& call, const State<const T>& start, SequenceView<T> output, const State<T>& end,
                   Workspace<T>& workspace) {
  const LstmOptions& options = *call.options;
  const Index width = options.output_size();
  const Index size = call.batch.steps * call.batch.rows * width;
  T* between[2] = {options.num_layers > 1 ? workspace.take(size) : nullptr,
                   options.num_layers > 2 ? workspace.take(size) : nullptr};
  RowSource<T> input = call.input;
  for (Index layer = 0; layer < options.num_layers; ++layer) {
    const bool last = layer + 1 == options.num_layers;
    const SequenceView<T> layer_output = last ? output : contiguous(between[layer % 2], call.batch.rows, width);
    for (Index direction = 0; direction < options.directions(); ++direction) {
      LayerCall<T> one = layer_call(call, layer * options.directions() + direction, start, layer_output, end);
      one.input = input;
      layer_forward(one, workspace);
    }
    input = source_of(layer_output, width);
  }
}

template <class T>
void stack_record(const StackCall<T>& call, const State<const T>& start, const State<T>& end,
                  const RecordOptions& options, StackRecord<T>& record, Workspace<T>& workspace) {
  const LstmOptions& lstm = *call.options;
  const Index rows = call.batch.rows;
  const Index slots = call.batch.steps * rows;
  const Index width = lstm.output_size();
  State<const T> kept_start;
  if (start.hidden != nullptr) {
    const Index size = lstm.states() * rows * lstm.hidden_output_size();
    T* copy = workspace.take(size);
    std::copy_n(start.hidden, size, copy);
    kept_start.hidden = copy;
  }
  kept_start.cell = start.cell;  // each layer copies it into padded rows
  RowSource<T> input = call.input;
  for (Index layer = 0; layer < lstm.num_layers; ++layer) {
    const SequenceView<T> output = contiguous(workspace.take(slots * width), rows, width);
    record.outputs.push_back(output);
    for (Index direction = 0; direction < lstm.directions(); ++direction) {
      LayerCall<T> one = layer_call(call, layer * lstm.directions() + direction, kept_start, output, end);
      one.input = input;
      LayerRecord<T>& kept = record.layers.emplace_back();
      kept.gates = workspace.take(slots * 4 * one.weights->padded);
      kept.cell = workspace.take(slots * one.weights->padded);
      kept.start_cell = workspace.take(rows * one.weights->padded);
      kept.start_hidden = one.start_hidden;
      if (lstm.proj_size > 0) kept.exposed = workspace.take(slots * lstm.hidden_size);
      one.record = &kept;
      layer_forward(one, workspace);
    }
    input = source_of(output, width);
    if (drops(lstm, options) && layer + 1 < lstm.num_layers) {
      const SequenceView<T> dropped = contiguous(workspace.take(slots * width), rows, width);
      apply_dropout(mask_after(lstm, options, call.module, layer), call.batch, width, output.data, dropped.data);
      record.dropped.push_back(dropped);
      input = source_of(dropped, width);
    }
  }
}

template <class T>
void stack_backward(const StackCall<T>& call, const RecordOptions& options, const StackRecord<T>& record,
                    const StackGradient<T>& gradient, Workspace<T>& workspace) {
  const LstmOptions& lstm = *call.options;
  const Kernels<T>& kernels = *call.kernels;
  const Index rows = call.batch.rows;
  const Index width = lstm.output_size();
  const Index directions = lstm.directions();
  SequenceView<const T> d_output = gradient.d_output;
  for (Index layer = lstm.num_layers - 1; layer >= 0; --layer) {
    RowSource<T> input = call.input;
    SequenceView<T> d_input = gradient.d_input;
    if (layer > 0) {
      const auto below = static_cast<std::size_t>(layer - 1);
      input = source_of(record.dropped.empty() ? record.outputs[below] : record.dropped[below], width);
      d_input = contiguous(workspace.take(call.batch.steps * rows * width), rows, width);
    }
    for (Index direction = 0; direction < directions; ++direction) {
      const Index state = layer * directions + direction;
      const PackedLayer<T>& weights = call.layer(state);
      const Index h_size = weights.output_size();
      LayerBackwardCall<T> one;
      one.weights = &weights;
      one.kernels = &kernels;
      one.schedule = {call.batch, call.reverse(direction)};
      one.input = input;
      const SequenceView<T>& output = record.outputs[static_cast<std::size_t>(layer)];
      one.output =
          from_feature(SequenceView<const T>{output.data, output.step_stride, output.row_stride}, direction * h_size);
      one.record = &record.layers[static_cast<std::size_t>(state)];
      one.d_output = from_feature(d_output, direction * h_size);
      const State<const T> d_end = state_of(gradient.d_end, state, lstm, rows);
      one.d_end_hidden = d_end.hidden;
      one.d_end_cell = d_end.cell;
      const State<T> d_start = state_of(gradient.d_start, state, lstm, rows);
      one.d_start_hidden = d_start.hidden;
      one.d_start_cell = d_start.cell;
      one.d_input = d_input;
      one.accumulate_input = direction > 0;
      one.gradient.x_weights = workspace.take_zeros(4 * weights.padded * weights.input_size);
      one.gradient.h_weights = workspace.take_zeros(4 * weights.padded * h_size);
      one.gradient.bias = workspace.take_zeros(4 * weights.padded);
      if (weights.projection > 0) one.gradient.projection = workspace.take_zeros(h_size * weights.padded);
      layer_backward(one, workspace);

      T* to = gradient.parameters + weights.parameters_begin;
      const auto advance = [&to](Index size) { return std::exchange(to, to + size); };
      const bool add = gradient.accumulate;
      const Index units = weights.units;
      kernels.unpack_gate_panels(one.gradient.x_weights, units, weights.input_size,
                                 advance(4 * units * weights.input_size), add);
      kernels.unpack_gate_panels(one.gradient.h_weights, units, h_size, advance(4 * units * h_size), add);
      if (lstm.bias) {
        kernels.unpack_gate_bias(one.gradient.bias, units, advance(4 * units), add);
        kernels.unpack_gate_bias(one.gradient.bias, units, advance(4 * units), add);
      }
      if (weights.projection > 0) {
        kernels.unpack_panels(one.gradient.projection, weights.projection, units, advance(weights.projection * units),
                              add);
      }
    }
    if (layer > 0 && drops(lstm, options)) {
      // Padding holds nothing that the next layer reads; the mask may run over it.
      apply_dropout(mask_after(lstm, options, call.module, layer - 1), call.batch, width, d_input.data, d_input.data);
    }
    d_output = {d_input.data, d_input.step_stride, d_input.row_stride};
  }
}

#define LATCHWORK_INSTANTIATE(T)                                                                                   \
  template void stack_forward<T>(const StackCall<T>&, const State<const T>&, SequenceView<T>, const State<T>&,     \
                                 Workspace<T>&);                                                                   \
  template void stack_record<T>(const StackCall<T>&, const State<const T>&, const State<T>&, const RecordOptions&, \
                                StackRecord<T>&, Workspace<T>&);                                                   \
  template void stack_backward<T>(const StackCall<T>&, const RecordOptions&, const StackRecord<T>&,                \
                                  const StackGradient<T>&, Workspace<T>&);
LATCHWORK_INSTANTIATE(float)
LATCHWORK_INSTANTIATE(double)
#undef LATCHWORK_INSTANTIATE

}  // namespace latchwork
