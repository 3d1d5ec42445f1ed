#include "weights/snapshot.hpp"

#include <algorithm>

#include "machine/parallel.hpp"

namespace latchwork {

namespace {

// Hands out the tensors of a layout one after the other.
template <class T>
class TensorReader {
 public:
  TensorReader(const std::vector<ParameterSpec>& layout, const T* parameters)
      : next_(layout.begin()), end_(layout.end()), parameters_(parameters) {}
  const T* next() { return parameters_ + (next_++)->offset; }
  // Where the next tensor begins; 0 behind the last.
  Index offset() const { return next_ == end_ ? 0 : next_->offset; }

 private:
  std::vector<ParameterSpec>::const_iterator next_, end_;
  const T* parameters_;
};

template <class T>
ActivationArgs<T> activation_args(const GateActivation& activation) {
  const GateActivation filled = with_defaults(activation);
  return {activation_number(filled.name), static_cast<T>(filled.alpha.value_or(0.0)),
          static_cast<T>(filled.beta.value_or(0.0))};
}

// The options that decide about the epilogue.
template <class T>
CellVariant<T> cell_variant(const LstmOptions& lstm, Index direction) {
  const CellActivations& activations = lstm.activations_of(direction);
  CellVariant<T> variant{};
  variant.gates = lstm.gates();
  variant.coupled = lstm.forget_gate == ForgetGate::coupled;
  variant.input = activation_args<T>(activations.input);
  variant.forget = activation_args<T>(activations.forget);
  variant.candidate = activation_args<T>(activations.candidate);
  variant.output = activation_args<T>(activations.output);
  variant.cell = activation_args<T>(activations.cell);
  variant.clip = static_cast<T>(lstm.clip.value_or(0.0));
  variant.cell_clip = static_cast<T>(lstm.cell_clip.value_or(0.0));
  return variant;
}

bool has_plain_cell(const LstmOptions& lstm, Index direction) {
  return lstm.forget_gate == ForgetGate::own && !lstm.peephole && !lstm.layer_norm && !lstm.clip && !lstm.cell_clip &&
         lstm.zoneout_cell == 0.0 && lstm.activations_of(direction) == CellActivations{};
}

// Whether no step of the layer needs the general epilogue, which reads panels of whole registers.
bool may_be_compact(const LstmOptions& lstm, Index direction) {
  const bool drops_candidate = lstm.recurrent_dropout_on == RecurrentDropoutOn::candidate;
  return has_plain_cell(lstm, direction) && !(drops_candidate && lstm.recurrent_dropout > 0.0);
}

// Numbers, then zeros up to `padded`.
template <class T>
void pack_padded_row(const T* values, Index size, Index padded, Buffer<T>& row) {
  row.resize(padded);
  std::fill_n(row.data(), padded, T(0));
  if (values != nullptr) std::copy_n(values, size, row.data());
}

// The tensors that only a variant has, in the order of the layout.
template <class T>
void pack_variant(const LstmOptions& lstm, Index direction, TensorReader<T>& tensors, const Kernels<T>& kernels,
                  PackedLayer<T>& packed) {
  const Index units = packed.units;
  const auto pack_row = [&](const T* values, Index gates, Buffer<T>& row) {
    row.resize(gates * packed.padded);
    kernels.pack_gate_row(values, nullptr, {units, gates, gates}, row.data());
  };
  packed.plain = has_plain_cell(lstm, direction);
  packed.variant = cell_variant<T>(lstm, direction);
  if (lstm.peephole) {
    pack_row(tensors.next(), packed.gates - 1, packed.peephole);
    packed.variant.peephole = packed.peephole.data();
  }
  if (lstm.layer_norm) {
    pack_row(tensors.next(), packed.gates, packed.norm_ih_weight);
    pack_row(tensors.next(), packed.gates, packed.norm_ih_bias);
    pack_row(tensors.next(), packed.gates, packed.norm_hh_weight);
    pack_row(tensors.next(), packed.gates, packed.norm_hh_bias);
    pack_padded_row(tensors.next(), units, packed.padded, packed.norm_cell_weight);
    pack_padded_row(tensors.next(), units, packed.padded, packed.norm_cell_bias);
    packed.variant.norm_ih_weight = packed.norm_ih_weight.data();
    packed.variant.norm_ih_bias = packed.norm_ih_bias.data();
    packed.variant.norm_hh_weight = packed.norm_hh_weight.data();
    packed.variant.norm_hh_bias = packed.norm_hh_bias.data();
    packed.variant.norm_cell_weight = packed.norm_cell_weight.data();
    packed.variant.norm_cell_bias = packed.norm_cell_bias.data();
  }
  const Index padded_h = round_up(packed.output_size(), kernels.units);
  const auto fill_expectation = [](double probability, Index size, Buffer<T>& row) {
    row.resize(probability > 0.0 ? size : 0);
    std::fill_n(row.data(), row.size(), static_cast<T>(probability));
  };
  fill_expectation(lstm.zoneout_hidden, padded_h, packed.hidden_zoneout);
  fill_expectation(lstm.zoneout_cell, packed.padded, packed.cell_zoneout);
  packed.learns_start = lstm.learn_start_state;
  const T* hidden = packed.learns_start ? tensors.next() : nullptr;
  const T* cell = packed.learns_start ? tensors.next() : nullptr;
  pack_padded_row(hidden, packed.output_size(), padded_h, packed.start_hidden);
  pack_padded_row(cell, units, packed.padded, packed.start_cell);
}

template <class T>
void pack_layer(const LstmOptions& lstm, Index layer, Index direction, TensorReader<T>& tensors,
                const Kernels<T>& kernels, bool with_backward, PackedLayer<T>& packed) {
  packed.input_size = layer == 0 ? lstm.input_size : lstm.output_size();
  packed.units = lstm.hidden_size;
  packed.padded = round_up(lstm.hidden_size, kernels.units);
  packed.gates = lstm.gates();
  packed.panels = packed.padded / kernels.units;
  packed.last_registers =
      may_be_compact(lstm, direction) ? compact_registers(lstm.hidden_size, packed.gates, kernels.units) : packed.gates;
  packed.panel_width = (packed.panels > 1 ? packed.gates : packed.last_registers) * kernels.units;
  packed.packed_size = ((packed.panels - 1) * packed.gates + packed.last_registers) * kernels.units;
  packed.projection = lstm.proj_size;
  packed.parameters_begin = tensors.offset();
  const GateShape shape = packed.shape();
  const Index units = packed.units, h_size = packed.output_size();

  const T* weight_ih = tensors.next();
  const T* weight_hh = tensors.next();
  const T* bias_ih = lstm.bias ? tensors.next() : nullptr;
  const T* bias_hh = lstm.bias ? tensors.next() : nullptr;
  packed.bias.resize(packed.packed_size);
  kernels.pack_gate_row(bias_ih, bias_hh, shape, packed.bias.data());
  packed.x_weights.resize(packed.packed_size * packed.input_size);
  packed.h_weights.resize(packed.packed_size * h_size);
  packed.x_gradient.resize(with_backward ? packed.packed_size * round_up(packed.input_size, kernels.units) : 0);
  packed.h_gradient.resize(with_backward ? packed.packed_size * round_up(h_size, kernels.units) : 0);
  const Index parts = number_parts(packed.packed_size * (packed.input_size + h_size), packed.panels);
  parallel(parts, [&](Index part) {
    const Index begin = piece_begin(packed.panels, parts, part), end = piece_begin(packed.panels, parts, part + 1);
    kernels.pack_gate_panels(weight_ih, shape, packed.input_size, packed.x_weights.data(), begin, end);
    kernels.pack_gate_panels(weight_hh, shape, h_size, packed.h_weights.data(), begin, end);
    if (!with_backward) return;
    kernels.pack_gate_rows(weight_ih, shape, packed.input_size, packed.x_gradient.data(), begin, end);
    kernels.pack_gate_rows(weight_hh, shape, h_size, packed.h_gradient.data(), begin, end);
  });
  if (lstm.proj_size > 0) {
    const T* weight_hr = tensors.next();
    packed.projection_weights.resize(units * round_up(h_size, kernels.units));
    kernels.pack_transposed_panels(weight_hr, h_size, units, packed.projection_weights.data());
    packed.projection_gradient.resize(with_backward ? h_size * packed.padded : 0);
    if (with_backward) {
      kernels.pack_panels(weight_hr, h_size, units, packed.projection_gradient.data());
    }
  }
  pack_variant(lstm, direction, tensors, kernels, packed);
}

template <class T>
void pack_linear(const LinearOptions& linear, TensorReader<T>& tensors, const Kernels<T>& kernels, bool with_backward,
                 PackedLinear<T>& packed) {
  packed.input_size = linear.in_features;
  packed.output_size = linear.out_features;
  packed.activation = linear.activation;
  const T* weight = tensors.next();
  const Index columns = round_up(linear.out_features, kernels.units);
  packed.weights.resize(linear.in_features * columns);
  kernels.pack_transposed_panels(weight, linear.out_features, linear.in_features, packed.weights.data());
  packed.bias.resize(columns);
  std::fill(packed.bias.data(), packed.bias.data() + columns, T(0));
  if (linear.bias) std::copy_n(tensors.next(), linear.out_features, packed.bias.data());
  packed.gradient.resize(with_backward ? linear.out_features * round_up(linear.in_features, kernels.units) : 0);
  if (with_backward) {
    kernels.pack_panels(weight, linear.out_features, linear.in_features, packed.gradient.data());
  }
}

}  // namespace

template <class T>
const Kernels<T>& kernels_for(const std::vector<ModuleOptions>& modules) {
  const Kernels<T>& narrower = kernels_of<T>(narrower_kernels());
  const auto is_narrow = [&](const ModuleOptions& module) {
    if (const auto* lstm = std::get_if<LstmOptions>(&module)) {
      return lstm->hidden_size <= narrower.units && !lstm->layer_norm;
    }
    const auto* linear = std::get_if<LinearOptions>(&module);
    return linear == nullptr || linear->out_features <= narrower.units;
  };
  return std::all_of(modules.begin(), modules.end(), is_narrow) ? narrower : kernels_of<T>(current_kernels());
}
template const Kernels<float>& kernels_for<float>(const std::vector<ModuleOptions>&);
template const Kernels<double>& kernels_for<double>(const std::vector<ModuleOptions>&);

template <class T>
void pack(const std::vector<ModuleOptions>& modules, const std::vector<ParameterSpec>& layout, const T* parameters,
          const Kernels<T>& kernels, bool with_backward, Snapshot<T>& snapshot) {
  snapshot.kernels = &kernels;
  snapshot.with_backward = with_backward;
  snapshot.modules.resize(modules.size());
  TensorReader<T> tensors(layout, parameters);
  for (std::size_t at = 0; at < modules.size(); ++at) {
    PackedModule<T>& packed = snapshot.modules[at];
    packed.parameters_begin = tensors.offset();
    if (const auto* lstm = std::get_if<LstmOptions>(&modules[at])) {
      packed.layers.resize(static_cast<std::size_t>(lstm->states()));
      for (Index state = 0; state < lstm->states(); ++state) {
        pack_layer(*lstm, state / lstm->directions(), state % lstm->directions(), tensors, kernels, with_backward,
                   packed.layers[static_cast<std::size_t>(state)]);
      }
    } else if (const auto* linear = std::get_if<LinearOptions>(&modules[at])) {
      pack_linear(*linear, tensors, kernels, with_backward, packed.linear);
    } else if (const auto* embedding = std::get_if<EmbeddingOptions>(&modules[at])) {
      packed.table.resize(embedding->num_embeddings * embedding->embedding_dim);
      std::copy_n(tensors.next(), packed.table.size(), packed.table.data());
    }
  }
}

template void pack(const std::vector<ModuleOptions>&, const std::vector<ParameterSpec>&, const float*,
                   const Kernels<float>&, bool, Snapshot<float>&);
template void pack(const std::vector<ModuleOptions>&, const std::vector<ParameterSpec>&, const double*,
                   const Kernels<double>&, bool, Snapshot<double>&);

}  // namespace latchwork
