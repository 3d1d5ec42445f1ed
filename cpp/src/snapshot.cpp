#include "snapshot.hpp"

#include <algorithm>

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
PackedLayer<T> pack_layer(const LstmOptions& lstm, Index input_size, TensorReader<T>& tensors,
                          const Kernels<T>& kernels, bool with_backward) {
  PackedLayer<T> packed;
  packed.input_size = input_size;
  packed.units = lstm.hidden_size;
  packed.padded = round_up(lstm.hidden_size, kernels.units);
  packed.panels = packed.padded / kernels.units;
  packed.projection = lstm.proj_size;
  packed.parameters_begin = tensors.offset();
  const Index units = packed.units;
  const Index gates = 4 * packed.padded;
  const Index h_size = packed.output_size();

  const T* weight_ih = tensors.next();
  const T* weight_hh = tensors.next();
  const T* bias_ih = lstm.bias ? tensors.next() : nullptr;
  const T* bias_hh = lstm.bias ? tensors.next() : nullptr;
  packed.bias = Buffer<T>(gates);
  kernels.pack_gate_bias(bias_ih, bias_hh, units, packed.bias.data());
  packed.x_weights = Buffer<T>(gates * input_size);
  kernels.pack_gate_panels(weight_ih, units, input_size, packed.x_weights.data());
  packed.h_weights = Buffer<T>(gates * h_size);
  kernels.pack_gate_panels(weight_hh, units, h_size, packed.h_weights.data());
  if (with_backward) {
    packed.x_gradient = Buffer<T>(gates * round_up(input_size, kernels.units));
    kernels.pack_gate_rows(weight_ih, units, input_size, packed.x_gradient.data());
    packed.h_gradient = Buffer<T>(gates * round_up(h_size, kernels.units));
    kernels.pack_gate_rows(weight_hh, units, h_size, packed.h_gradient.data());
  }
  if (lstm.proj_size > 0) {
    const T* weight_hr = tensors.next();
    packed.projection_weights = Buffer<T>(units * round_up(h_size, kernels.units));
    kernels.pack_transposed_panels(weight_hr, h_size, units, packed.projection_weights.data());
    if (with_backward) {
      packed.projection_gradient = Buffer<T>(h_size * packed.padded);
      kernels.pack_panels(weight_hr, h_size, units, packed.projection_gradient.data());
    }
  }
  return packed;
}

template <class T>
PackedLinear<T> pack_linear(const LinearOptions& linear, TensorReader<T>& tensors, const Kernels<T>& kernels,
                            bool with_backward) {
  PackedLinear<T> packed;
  packed.input_size = linear.input_size;
  packed.output_size = linear.output_size;
  packed.activation = linear.activation;
  const T* weight = tensors.next();
  const Index columns = round_up(linear.output_size, kernels.units);
  packed.weights = Buffer<T>(linear.input_size * columns);
  kernels.pack_transposed_panels(weight, linear.output_size, linear.input_size, packed.weights.data());
  packed.bias = Buffer<T>(columns);
  std::fill(packed.bias.data(), packed.bias.data() + columns, T(0));
  if (linear.bias) std::copy_n(tensors.next(), linear.output_size, packed.bias.data());
  if (with_backward) {
    packed.gradient = Buffer<T>(linear.output_size * round_up(linear.input_size, kernels.units));
    kernels.pack_panels(weight, linear.output_size, linear.input_size, packed.gradient.data());
  }
  return packed;
}

}  // namespace

template <class T>
Snapshot<T> pack(const std::vector<ModuleOptions>& modules, const std::vector<ParameterSpec>& layout,
                 const T* parameters, const Kernels<T>& kernels, bool with_backward) {
  Snapshot<T> snapshot;
  snapshot.kernels = &kernels;
  snapshot.with_backward = with_backward;
  TensorReader<T> tensors(layout, parameters);
  for (const ModuleOptions& module : modules) {
    PackedModule<T>& packed = snapshot.modules.emplace_back();
    packed.parameters_begin = tensors.offset();
    if (const auto* lstm = std::get_if<LstmOptions>(&module)) {
      for (Index layer = 0; layer < lstm->num_layers; ++layer) {
        const Index input_size = layer == 0 ? lstm->input_size : lstm->output_size();
        for (Index direction = 0; direction < lstm->directions(); ++direction) {
          packed.layers.push_back(pack_layer(*lstm, input_size, tensors, kernels, with_backward));
        }
      }
    } else if (const auto* linear = std::get_if<LinearOptions>(&module)) {
      packed.linear = pack_linear(*linear, tensors, kernels, with_backward);
    } else if (const auto* embedding = std::get_if<EmbeddingOptions>(&module)) {
      packed.table = Buffer<T>(embedding->vocabulary * embedding->size);
      std::copy_n(tensors.next(), packed.table.size(), packed.table.data());
    }
  }
  return snapshot;
}

template Snapshot<float> pack(const std::vector<ModuleOptions>&, const std::vector<ParameterSpec>&, const float*,
                              const Kernels<float>&, bool);
template Snapshot<double> pack(const std::vector<ModuleOptions>&, const std::vector<ParameterSpec>&, const double*,
                               const Kernels<double>&, bool);

}  // namespace latchwork
