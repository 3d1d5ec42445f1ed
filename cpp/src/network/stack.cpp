#include "network/stack.hpp"

#include <algorithm>
#include <optional>

#include "layer/strategy.hpp"
#include "machine/interrupt.hpp"
#include "machine/parallel.hpp"
#include "network/dropout.hpp"
#include "network/merging.hpp"
#include "network/sequences.hpp"

namespace latchwork {

namespace {

template <class T>
SequenceView<T> from_feature(SequenceView<T> view, Index feature) {
  if (view.data != nullptr) view.data += feature;
  return view;
}

// The state of one layer and direction, out of the module's.
template <class T>
State<T> state_of(const State<T>& states, Index state, const LstmOptions& options, Index rows) {
  State<T> part;
  if (states.hidden != nullptr) part.hidden = states.hidden + state * rows * options.hidden_output_size();
  if (states.cell != nullptr) part.cell = states.cell + state * rows * options.hidden_size;
  return part;
}

template <class T>
LayerCall<T> layer_call(const StackCall<T>& call, const RecordOptions& record, Index state, const State<const T>& start,
                        SequenceView<T> output, const State<T>& end) {
  const LstmOptions& options = *call.options;
  const Index direction = state % options.directions();
  LayerCall<T> layer;
  layer.weights = &call.layer(state);
  layer.kernels = call.kernels;
  layer.schedule = {call.batch, call.reverse(direction)};
  layer.masks = CellMasks(options, record, call.module, state);
  const State<const T> own_start = state_of(start, state, options, call.batch.rows);
  layer.start_hidden = own_start.hidden;
  layer.start_cell = own_start.cell;
  layer.output = from_feature(output, direction * options.hidden_output_size());
  const State<T> own_end = state_of(end, state, options, call.batch.rows);
  layer.end_hidden = own_end.hidden;
  layer.end_cell = own_end.cell;
  return layer;
}

DropoutMask mask_after(const LstmOptions& lstm, const RecordOptions& options, Index module, Index layer) {
  return {*options.mask_seed, module, layer, options.first_row, lstm.dropout};
}

// sum = values + added for every valid step of each row. `sum` may be `values` or `added`.
template <class T>
void add_sequences(const Batch& batch, Index features, const RowSource<T>& added, SequenceView<T> values,
                   SequenceView<T> sum) {
  const Schedule schedule{batch, false};
  const Index parts = number_parts(batch.steps * batch.rows * features, batch.rows);
  parallel(parts, [&](Index part) {
    for (Index step = 0; step < batch.steps; ++step) {
      if (stops_after(batch.rows * features * work_of_moving / parts)) return;
      for (Index row = piece_begin(batch.rows, parts, part); row < piece_begin(batch.rows, parts, part + 1); ++row) {
        if (!schedule.active(step, row)) continue;
        const T *one = values.at(step, row), *other = added.at(step, row);
        T* to = sum.at(step, row);
        for (Index at = 0; at < features; ++at) to[at] = one[at] + other[at];
      }
    }
  });
}

// Sets the end states of one layer's directions in rows that have a reset after their last step.
template <class T>
void restart_ends(const StackCall<T>& call, const std::vector<LayerCall<T>>& directions) {
  for (std::size_t direction = 0; direction < directions.size(); ++direction) {
    if (!call.restarts_ends(static_cast<Index>(direction))) continue;
    const LayerCall<T>& one = directions[direction];
    const PackedLayer<T>& weights = *one.weights;
    const Index h_size = weights.output_size(), units = weights.units;
    for (Index row = 0; row < call.batch.rows; ++row) {
      if (call.end_reset[row] == 0) continue;
      if (one.end_hidden != nullptr) std::copy_n(weights.start_hidden.data(), h_size, one.end_hidden + row * h_size);
      if (one.end_cell != nullptr) std::copy_n(weights.start_cell.data(), units, one.end_cell + row * units);
    }
  }
}

// The gradient with respect to the end states that steps have computed: zeros where restart_ends() set the state.
template <class T>
const T* of_computed_ends(const StackCall<T>& call, const T* d_end, Index size, Workspace<T>& workspace) {
  if (d_end == nullptr) return nullptr;
  T* const computed = workspace.take(call.batch.rows * size);
  for (Index row = 0; row < call.batch.rows; ++row) {
    if (call.end_reset[row] != 0) {
      std::fill_n(computed + row * size, size, T(0));
    } else {
      std::copy_n(d_end + row * size, size, computed + row * size);
    }
  }
  return computed;
}

// Adds the gradient with respect to the end states that restart_ends() set to that of the layer's own start state.
template <class T>
void add_restarted_ends(const StackCall<T>& call, const T* d_end, Index size, T* d_own_start) {
  if (d_end == nullptr || d_own_start == nullptr) return;
  for (Index row = 0; row < call.batch.rows; ++row) {
    if (call.end_reset[row] == 0) continue;
    for (Index at = 0; at < size; ++at) d_own_start[at] += d_end[row * size + at];
  }
}

bool drops(const LstmOptions& lstm, const RecordOptions& options) { return options.training && lstm.dropout > 0.0; }

}  // namespace

template <class T>
void stack_forward(const StackCall<T>& call, const State<const T>& start, SequenceView<T> output, const State<T>& end,
                   Workspace<T>& workspace) {
  const LstmOptions& options = *call.options;
  const Index slots = call.batch.steps * call.batch.rows;
  const Index size = slots * options.output_size();
  const SequenceView<T> joined =
      call.merges(0) ? contiguous(workspace.take(slots * options.joined_size()), call.batch.rows, options.joined_size())
                     : SequenceView<T>{};
  T* between[2] = {options.num_layers > 1 ? workspace.take(size) : nullptr,
                   options.num_layers > 2 ? workspace.take(size) : nullptr};
  RecordOptions inference;
  inference.training = false;
  RowSource<T> input = call.input;
  for (Index layer = 0; layer < options.num_layers; ++layer) {
    const bool last = layer + 1 == options.num_layers, merges = call.merges(layer);
    const Index width = call.width(layer);
    const SequenceView<T> layer_output = last ? output : contiguous(between[layer % 2], call.batch.rows, width);
    std::vector<LayerCall<T>> directions;
    for (Index direction = 0; direction < options.directions(); ++direction) {
      LayerCall<T>& one = directions.emplace_back(layer_call(call, inference, layer * options.directions() + direction,
                                                             start, merges ? joined : layer_output, end));
      one.input = input;
    }
    layer_forward(directions, workspace);
    restart_ends(call, directions);
    if (merges) merge_forward(options, call.batch, read_only(joined), layer_output);
    // The layer's output may be overwritten, because its recurrence is over.
    if (options.residual && layer > 0) add_sequences(call.batch, width, input, layer_output, layer_output);
    input = rows_of(read_only(layer_output), width);
  }
}

template <class T>
SequenceView<T> stack_record(const StackCall<T>& call, const State<const T>& start, SequenceView<T> last_output,
                             const State<T>& end, const RecordOptions& options, StackRecord<T>& record,
                             Workspace<T>& workspace) {
  const LstmOptions& lstm = *call.options;
  const Index steps = call.batch.steps, rows = call.batch.rows;
  const auto sequence = [&](Index features) {
    return contiguous(workspace.take(steps * rows * features), rows, features);
  };
  const bool checkpoints = options.checkpoint > 0;
  State<const T> copied_start;
  if (start.hidden != nullptr) {
    const Index size = lstm.states() * rows * lstm.hidden_output_size();
    T* copy = workspace.take(size);
    std::copy_n(start.hidden, size, copy);
    copied_start.hidden = copy;
  }
  copied_start.cell = start.cell;  // not copied here: each layer copies it into padded rows
  RowSource<T> input = call.input;
  SequenceView<T> below;                                           // the output of the layer below, before dropout
  record.layers.reserve(static_cast<std::size_t>(lstm.states()));  // the layers' calls hold pointers into it
  for (Index layer = 0; layer < lstm.num_layers; ++layer) {
    const bool last = layer + 1 == lstm.num_layers, merges = call.merges(layer);
    const Index width = call.width(layer);
    const bool in_place = last && last_output.data != nullptr;
    const SequenceView<T> output = in_place && !merges ? last_output : sequence(lstm.joined_size());
    // With checkpoints, the steps of a segment are recorded only for a while: in this memory, by these records.
    std::optional<Workspace<T>> segment;
    std::vector<LayerRecord<T>> segment_records;
    if (checkpoints) {
      segment.emplace(workspace.cache());
      segment_records.reserve(static_cast<std::size_t>(lstm.directions()));
    }
    std::vector<LayerCall<T>> directions;
    for (Index direction = 0; direction < lstm.directions(); ++direction) {
      LayerCall<T>& one = directions.emplace_back(
          layer_call(call, options, layer * lstm.directions() + direction, copied_start, output, end));
      one.input = input;
      LayerRecord<T>& layer_record = record.layers.emplace_back();
      layer_record.start_hidden = one.start_hidden;
      layer_record.own_start_cell = one.start_cell == nullptr;
      take_states(*one.weights, *one.kernels, one.masks, steps, rows, options.checkpoint, layer_record, workspace);
      one.record = checkpoints ? &segment_records.emplace_back(layer_record) : &layer_record;
      take_steps(*one.weights, *one.kernels, one.masks, rows, *one.record, segment ? *segment : workspace);
    }
    layer_forward(directions, workspace);
    restart_ends(call, directions);
    if (!checkpoints) record.outputs.push_back(output);
    SequenceView<T> result = output;
    if (merges) {
      result = in_place ? last_output : sequence(width);
      merge_forward(lstm, call.batch, read_only(output), result);
      if (lstm.merge == Merge::mul) record.factors.push_back(output);
    }
    if (lstm.residual && layer > 0) {
      const SequenceView<T> own = result;
      // Backward reads the layer's output, unless checkpoints have it computed again.
      if (!checkpoints && !merges) result = contiguous(workspace.take_zeros(steps * rows * width), rows, width);
      add_sequences(call.batch, width, rows_of(read_only(below), width), own, result);
    }
    below = result;
    if (last) break;
    SequenceView<T> next = result;
    if (drops(lstm, options)) {
      // The values before dropout are needed if backward or the next layer's residual sum reads them.
      if (!checkpoints || lstm.residual) next = sequence(width);
      apply_dropout(*call.kernels, mask_after(lstm, options, call.module, layer), call.batch, width, result.data,
                    next.data);
    }
    record.inputs.push_back(next);
    input = rows_of(read_only(next), width);
  }
  return below;
}

namespace {

// Writes or adds the gradient of one layer, which has the kernels' layouts, to the layer's tensors in `parameters`, the
// gradients of all modules.
template <class T>
void unpack_gradient(const PackedLayer<T>& weights, const Kernels<T>& kernels, const LayerGradient<T>& gradient,
                     T* parameters, bool add) {
  const Index units = weights.units, gates = weights.gates, h_size = weights.output_size();
  const auto matrix = [&](ParameterKind kind, const T* panels, Index columns) {
    T* const to = weights.places.in(parameters, kind);
    const Index count = weights.panels.count(), parts = number_parts(gates * units * columns, count);
    parallel(parts, [&](Index part) {
      kernels.unpack_gate_panels(panels, weights.shape(), columns, to, add, piece_begin(count, parts, part),
                                 piece_begin(count, parts, part + 1));
    });
  };
  // These two do nothing for a tensor that the layer does not have.
  const auto packed_row = [&](ParameterKind kind, const T* row, const GateShape& shape) {
    if (T* const to = weights.places.in(parameters, kind)) kernels.unpack_gate_row(row, shape, to, add);
  };
  const auto plain_row = [&](ParameterKind kind, const T* row, Index size) {
    T* const to = weights.places.in(parameters, kind);
    if (to == nullptr) return;
    for (Index at = 0; at < size; ++at) to[at] = add ? to[at] + row[at] : row[at];
  };
  matrix(ParameterKind::weight_ih, gradient.x_weights, weights.input_size);
  matrix(ParameterKind::weight_hh, gradient.h_weights, h_size);
  // The norms' biases are added to the pre-activations, as the gates' are.
  for (const ParameterKind bias :
       {ParameterKind::bias_ih, ParameterKind::bias_hh, ParameterKind::norm_ih_bias, ParameterKind::norm_hh_bias}) {
    packed_row(bias, gradient.bias, weights.shape());
  }
  if (T* const to = weights.places.in(parameters, ParameterKind::weight_hr)) {
    kernels.unpack_panels(gradient.projection, weights.projection, units, to, add);
  }
  packed_row(ParameterKind::weight_peephole, gradient.peephole, {units, gates - 1, gates - 1});
  packed_row(ParameterKind::norm_ih_weight, gradient.norm_ih_weight, weights.shape());
  packed_row(ParameterKind::norm_hh_weight, gradient.norm_hh_weight, weights.shape());
  plain_row(ParameterKind::norm_cell_weight, gradient.norm_cell_weight, units);
  plain_row(ParameterKind::norm_cell_bias, gradient.norm_cell_bias, units);
  plain_row(ParameterKind::h_0, gradient.start_hidden, h_size);
  plain_row(ParameterKind::c_0, gradient.start_cell, units);
}

}  // namespace

template <class T>
void stack_backward(const StackCall<T>& call, const RecordOptions& options, const StackRecord<T>& record,
                    const StackGradient<T>& gradient, Workspace<T>& workspace) {
  const LstmOptions& lstm = *call.options;
  const Kernels<T>& kernels = *call.kernels;
  const Index rows = call.batch.rows;
  const Index width = lstm.output_size();  // of every layer but the last
  const Index directions = lstm.directions();
  SequenceView<const T> d_output = gradient.d_output;
  for (Index layer = lstm.num_layers - 1; layer >= 0; --layer) {
    RowSource<T> input = call.input;
    SequenceView<T> d_input = gradient.d_input;
    if (layer > 0) {
      input = rows_of(read_only(record.inputs[static_cast<std::size_t>(layer - 1)]), width);
      d_input = contiguous(workspace.take(call.batch.steps * rows * width), rows, width);
    }
    SequenceView<const T> d_joined = d_output;
    if (call.merges(layer) && d_output.data != nullptr) {
      const Index joined = lstm.joined_size();
      const SequenceView<T> both = contiguous(workspace.take(call.batch.steps * rows * joined), rows, joined);
      const auto factors = lstm.merge == Merge::mul ? read_only(record.factors[static_cast<std::size_t>(layer)])
                                                    : SequenceView<const T>{};
      merge_backward(lstm, call.batch, factors, d_output, both);
      d_joined = read_only(both);
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
      one.masks = CellMasks(lstm, options, call.module, state);
      if (!record.outputs.empty()) {
        const SequenceView<T>& output = record.outputs[static_cast<std::size_t>(layer)];
        one.output = from_feature(read_only(output), direction * h_size);
      }
      one.record = &record.layers[static_cast<std::size_t>(state)];
      one.d_output = from_feature(d_joined, direction * h_size);
      const State<const T> d_end = state_of(gradient.d_end, state, lstm, rows);
      one.d_end_hidden = d_end.hidden;
      one.d_end_cell = d_end.cell;
      const bool restarted_ends = call.restarts_ends(direction);
      if (restarted_ends) {
        one.d_end_hidden = of_computed_ends(call, d_end.hidden, h_size, workspace);
        one.d_end_cell = of_computed_ends(call, d_end.cell, weights.units, workspace);
      }
      const State<T> d_start = state_of(gradient.d_start, state, lstm, rows);
      one.d_start_hidden = d_start.hidden;
      one.d_start_cell = d_start.cell;
      if (layer == 0) {
        one.tokens = gradient.tokens;
        one.d_table = gradient.d_table;
      }
      one.d_input = d_input;
      one.accumulate_input = direction > 0;
      one.gradient_blocks = options.gradient_blocks;
      one.parameter_gradients = gradient.parameters != nullptr;
      if (gradient.d_signals != nullptr) one.d_signals = &(*gradient.d_signals)[static_cast<std::size_t>(state)];
      const LayerGradient<T> sums = layer_backward(one, workspace);
      if (!one.parameter_gradients) continue;
      if (restarted_ends) {
        add_restarted_ends(call, d_end.hidden, h_size, sums.start_hidden);
        add_restarted_ends(call, d_end.cell, weights.units, sums.start_cell);
      }
      unpack_gradient(weights, kernels, sums, gradient.parameters, gradient.accumulate);
    }
    if (layer > 0 && drops(lstm, options)) {
      // The mask runs over padding too, because the layer below reads nothing there.
      apply_dropout(kernels, mask_after(lstm, options, call.module, layer - 1), call.batch, width, d_input.data,
                    d_input.data);
    }
    if (lstm.residual && layer > 0 && d_output.data != nullptr) {
      add_sequences(call.batch, width, rows_of(d_output, width), d_input, d_input);
    }
    d_output = read_only(d_input);
  }
}

#define LATCHWORK_INSTANTIATE(T)                                                                                   \
  template void stack_forward<T>(const StackCall<T>&, const State<const T>&, SequenceView<T>, const State<T>&,     \
                                 Workspace<T>&);                                                                   \
  template SequenceView<T> stack_record<T>(const StackCall<T>&, const State<const T>&, SequenceView<T>,            \
                                           const State<T>&, const RecordOptions&, StackRecord<T>&, Workspace<T>&); \
  template void stack_backward<T>(const StackCall<T>&, const RecordOptions&, const StackRecord<T>&,                \
                                  const StackGradient<T>&, Workspace<T>&);
LATCHWORK_INSTANTIATE(float)
LATCHWORK_INSTANTIATE(double)
#undef LATCHWORK_INSTANTIATE

}  // namespace latchwork
