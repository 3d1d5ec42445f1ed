#include "weights/snapshot.hpp"

#include <algorithm>

#include "machine/parallel.hpp"

namespace latchwork {

namespace {

// The options that the general epilogue needs.
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

// Whether the last gate panel may be compact, because no step of the layer needs the general epilogue, which only reads
// panels of whole registers.
bool may_be_compact(const LstmOptions& lstm, bool plain) {
  const bool drops_candidate = lstm.recurrent_dropout_on == RecurrentDropoutOn::candidate;
  return plain && !(drops_candidate && lstm.recurrent_dropout > 0.0);
}

// Sets what depends on the options alone, and so is the same each time that the layer is packed.
template <class T>
void describe_layer(const LstmOptions& lstm, Index layer, Index direction, PackedLayer<T>& packed) {
  packed.input_size = layer == 0 ? lstm.input_size : lstm.output_size();
  packed.units = lstm.hidden_size;
  packed.gates = lstm.gates();
  packed.projection = lstm.proj_size;
  packed.plain = has_plain_cell(lstm, direction);
  packed.variant = cell_variant<T>(lstm, direction);
  packed.learns_start = lstm.learn_start_state;
}

template <class T>
void fill_constants(const std::vector<double>& values, Buffer<T>& constants) {
  constants.resize(static_cast<Index>(values.size()));
  std::transform(values.begin(), values.end(), constants.data(), [](double value) { return static_cast<T>(value); });
}

template <class T>
PackedChain<T> described_chain(const std::vector<ModuleOptions>& modules, const std::vector<ParameterSpec>& layout) {
  PackedChain<T> chain(modules.size());
  for (std::size_t at = 0; at < modules.size(); ++at) {
    const auto module = static_cast<Index>(at);
    chain[at].places = ParameterPlaces(layout, module);
    if (const auto* scale = std::get_if<ScaleOptions>(&modules[at])) {
      fill_constants(scale->shift, chain[at].shift);
      fill_constants(scale->factor, chain[at].factor);
    } else if (const auto* impute = std::get_if<ImputeOptions>(&modules[at])) {
      const auto features = static_cast<std::size_t>(impute->features);
      fill_constants(impute->fill.empty() ? std::vector<double>(features) : impute->fill, chain[at].fill);
      fill_constants(impute->persistence, chain[at].persistence);
    }
    if (const auto* activation = std::get_if<ActivationOptions>(&modules[at])) {
      chain[at].activation = activation_args<T>(activation->activation);
    }
    const auto* lstm = std::get_if<LstmOptions>(&modules[at]);
    if (lstm == nullptr) continue;
    chain[at].layers.resize(static_cast<std::size_t>(lstm->states()));
    for (Index state = 0; state < lstm->states(); ++state) {
      const Index layer = state / lstm->directions(), direction = state % lstm->directions();
      PackedLayer<T>& packed = chain[at].layers[static_cast<std::size_t>(state)];
      packed.places = ParameterPlaces(layout, module, layer, direction);
      describe_layer(*lstm, layer, direction, packed);
    }
  }
  return chain;
}

// Packs `size` numbers, followed by zeros up to `padded` numbers.
template <class T>
void pack_padded_row(const T* values, Index size, Index padded, Buffer<T>& row) {
  row.resize(padded);
  std::fill_n(row.data(), padded, T(0));
  if (values != nullptr) std::copy_n(values, size, row.data());
}

// Makes room for the panels that only the backward pass reads, of a weight that maps `columns` inputs to `depth`
// outputs.
template <class T>
void resize_gradient(bool with_backward, Index columns, Index depth, const Kernels<T>& kernels,
                     WeightPanels<T>& panels) {
  if (!with_backward) return panels.clear();
  panels.resize(PanelShape::of_columns(columns, kernels.units), depth);
}

// Packs the tensors that only variants of the cell have.
template <class T>
void pack_variant(const LstmOptions& lstm, const T* parameters, const Kernels<T>& kernels, PackedLayer<T>& packed) {
  const Index units = packed.units;
  const auto tensor = [&](ParameterKind kind) { return packed.places.in(parameters, kind); };
  const auto pack_row = [&](const T* values, Index gates, Buffer<T>& row) {
    row.resize(gates * packed.padded);
    kernels.pack_gate_row(values, nullptr, {units, gates, gates}, row.data());
  };
  if (lstm.peephole) {
    pack_row(tensor(ParameterKind::weight_peephole), packed.gates - 1, packed.peephole);
    packed.variant.peephole = packed.peephole.data();
  }
  if (lstm.layer_norm) {
    pack_row(tensor(ParameterKind::norm_ih_weight), packed.gates, packed.norm_ih_weight);
    pack_row(tensor(ParameterKind::norm_ih_bias), packed.gates, packed.norm_ih_bias);
    pack_row(tensor(ParameterKind::norm_hh_weight), packed.gates, packed.norm_hh_weight);
    pack_row(tensor(ParameterKind::norm_hh_bias), packed.gates, packed.norm_hh_bias);
    pack_padded_row(tensor(ParameterKind::norm_cell_weight), units, packed.padded, packed.norm_cell_weight);
    pack_padded_row(tensor(ParameterKind::norm_cell_bias), units, packed.padded, packed.norm_cell_bias);
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
  pack_padded_row(tensor(ParameterKind::h_0), packed.output_size(), padded_h, packed.start_hidden);
  pack_padded_row(tensor(ParameterKind::c_0), units, packed.padded, packed.start_cell);
}

template <class T>
void pack_layer(const LstmOptions& lstm, const T* parameters, const Kernels<T>& kernels, bool with_backward,
                PackedLayer<T>& packed) {
  packed.padded = round_up(packed.units, kernels.units);
  const Index last_registers =
      may_be_compact(lstm, packed.plain) ? compact_registers(packed.units, packed.gates, kernels.units) : packed.gates;
  const GateShape shape{packed.units, packed.gates, last_registers};
  packed.panels = PanelShape::of_gates(shape, kernels.units);
  packed.packed_size = packed.panels.row_size();
  const Index units = packed.units, h_size = packed.output_size();

  const auto tensor = [&](ParameterKind kind) { return packed.places.in(parameters, kind); };
  const T *weight_ih = tensor(ParameterKind::weight_ih), *weight_hh = tensor(ParameterKind::weight_hh);
  packed.bias.resize(packed.packed_size);
  kernels.pack_gate_row(tensor(ParameterKind::bias_ih), tensor(ParameterKind::bias_hh), shape, packed.bias.data());
  packed.x_weights.resize(packed.panels, packed.input_size);
  packed.h_weights.resize(packed.panels, h_size);
  resize_gradient(with_backward, packed.input_size, packed.gates * units, kernels, packed.x_gradient);
  resize_gradient(with_backward, h_size, packed.gates * units, kernels, packed.h_gradient);
  const Index panels = packed.panels.count();
  const Index parts = number_parts(packed.packed_size * (packed.input_size + h_size), panels);
  parallel(parts, [&](Index part) {
    const Index begin = piece_begin(panels, parts, part), end = piece_begin(panels, parts, part + 1);
    kernels.pack_gate_panels(weight_ih, shape, packed.input_size, packed.x_weights.data(), begin, end);
    kernels.pack_gate_panels(weight_hh, shape, h_size, packed.h_weights.data(), begin, end);
    if (!with_backward) return;
    kernels.pack_gate_rows(weight_ih, shape, packed.input_size, packed.x_gradient.data(), begin, end);
    kernels.pack_gate_rows(weight_hh, shape, h_size, packed.h_gradient.data(), begin, end);
  });
  if (lstm.proj_size > 0) {
    const T* weight_hr = tensor(ParameterKind::weight_hr);
    packed.projection_weights.resize(PanelShape::of_columns(h_size, kernels.units), units);
    kernels.pack_transposed_panels(weight_hr, h_size, units, packed.projection_weights.data());
    resize_gradient(with_backward, units, h_size, kernels, packed.projection_gradient);
    if (with_backward) kernels.pack_panels(weight_hr, h_size, units, packed.projection_gradient.data());
  }
  pack_variant(lstm, parameters, kernels, packed);
}

template <class T>
void pack_linear(const LinearOptions& linear, const T* weight, const T* bias, const Kernels<T>& kernels,
                 bool with_backward, PackedLinear<T>& packed) {
  packed.input_size = linear.in_features;
  packed.output_size = linear.out_features;
  packed.activation = activation_args<T>(linear.activation);
  packed.weights.resize(PanelShape::of_columns(linear.out_features, kernels.units), linear.in_features);
  kernels.pack_transposed_panels(weight, linear.out_features, linear.in_features, packed.weights.data());
  pack_padded_row(bias, linear.out_features, packed.weights.shape().row_size(), packed.bias);
  resize_gradient(with_backward, linear.in_features, linear.out_features, kernels, packed.gradient);
  if (with_backward) kernels.pack_panels(weight, linear.out_features, linear.in_features, packed.gradient.data());
}

}  // namespace

template <class T>
ActivationArgs<T> activation_args(const Activation& activation) {
  const Activation filled = with_defaults(activation);
  static_assert(no_activation == -1, "what activation_number() says of the identity");
  return {activation_number(filled.name), static_cast<T>(filled.alpha.value_or(0.0)),
          static_cast<T>(filled.beta.value_or(0.0))};
}
template ActivationArgs<float> activation_args<float>(const Activation&);
template ActivationArgs<double> activation_args<double>(const Activation&);

template <class T>
const Kernels<T>& kernels_for(const std::vector<ModuleOptions>& modules) {
  const Kernels<T>& narrower = kernels_of<T>(narrower_kernels());
  const auto is_narrow = [&](const ModuleOptions& module) {
    if (const auto* lstm = std::get_if<LstmOptions>(&module)) {
      return lstm->hidden_size <= narrower.units;
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
          const Kernels<T>& kernels, bool with_backward, PackedChain<T>& chain) {
  if (chain.empty()) chain = described_chain<T>(modules, layout);
  for (std::size_t at = 0; at < modules.size(); ++at) {
    PackedModule<T>& packed = chain[at];
    const T* weight = packed.places.in(parameters, ParameterKind::weight);
    if (const auto* lstm = std::get_if<LstmOptions>(&modules[at])) {
      for (PackedLayer<T>& layer : packed.layers) pack_layer(*lstm, parameters, kernels, with_backward, layer);
    } else if (const auto* linear = std::get_if<LinearOptions>(&modules[at])) {
      pack_linear(*linear, weight, packed.places.in(parameters, ParameterKind::bias), kernels, with_backward,
                  packed.linear);
    } else if (std::holds_alternative<EmbeddingOptions>(modules[at]) ||
               std::holds_alternative<EmbedColumnsOptions>(modules[at])) {
      packed.table.resize(parameter_count({modules[at]}));
      std::copy_n(weight, packed.table.size(), packed.table.data());
    }
  }
}

template void pack(const std::vector<ModuleOptions>&, const std::vector<ParameterSpec>&, const float*,
                   const Kernels<float>&, bool, PackedChain<float>&);
template void pack(const std::vector<ModuleOptions>&, const std::vector<ParameterSpec>&, const double*,
                   const Kernels<double>&, bool, PackedChain<double>&);

}  // namespace latchwork
