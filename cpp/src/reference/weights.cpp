#include "reference/weights.hpp"

#include <algorithm>

namespace latchwork::reference {
namespace {

// The arrays of one layer and direction that a model keeps, in the order of parameter_layout().
template <class AnyWeights>
auto stored_arrays(const LstmOptions& options, AnyWeights& weights) {
  std::vector arrays{&weights.weight_ih, &weights.weight_hh};
  if (options.bias) arrays.insert(arrays.end(), {&weights.bias_ih, &weights.bias_hh});
  if (options.proj_size > 0) arrays.push_back(&weights.weight_hr);
  if (options.peephole) arrays.push_back(&weights.weight_peephole);
  if (options.layer_norm) {
    arrays.insert(arrays.end(), {&weights.norm_ih_weight, &weights.norm_ih_bias, &weights.norm_hh_weight,
                                 &weights.norm_hh_bias, &weights.norm_cell_weight, &weights.norm_cell_bias});
  }
  if (options.learn_start_state) arrays.insert(arrays.end(), {&weights.h_0, &weights.c_0});
  return arrays;
}

}  // namespace

std::vector<GeneralWeights> zero_weights(const LstmOptions& options) {
  const auto units = static_cast<std::size_t>(options.hidden_size);
  const auto h_size = static_cast<std::size_t>(options.hidden_output_size());
  const auto gates = static_cast<std::size_t>(options.gates()) * units;
  std::vector<GeneralWeights> all(static_cast<std::size_t>(options.states()));
  for (std::size_t state = 0; state < all.size(); ++state) {
    const bool first_layer = state < static_cast<std::size_t>(options.directions());
    const auto x_size = static_cast<std::size_t>(first_layer ? options.input_size : options.output_size());
    GeneralWeights& weights = all[state];
    weights.weight_ih.resize(gates * x_size);
    weights.weight_hh.resize(gates * h_size);
    weights.bias_ih.resize(gates);
    weights.bias_hh.resize(gates);
    if (options.proj_size > 0) weights.weight_hr.resize(h_size * units);
    if (options.peephole) weights.weight_peephole.resize(gates - units);
    if (options.layer_norm) {
      for (Vector* of_gates :
           {&weights.norm_ih_weight, &weights.norm_ih_bias, &weights.norm_hh_weight, &weights.norm_hh_bias}) {
        of_gates->resize(gates);
      }
      weights.norm_cell_weight.resize(units);
      weights.norm_cell_bias.resize(units);
    }
    if (options.learn_start_state) {
      weights.h_0.resize(h_size);
      weights.c_0.resize(units);
    }
  }
  return all;
}

std::vector<GeneralWeights> split(const LstmOptions& options, const Vector& parameters) {
  std::vector<GeneralWeights> all = zero_weights(options);
  auto next = parameters.begin();
  for (GeneralWeights& weights : all) {
    for (Vector* array : stored_arrays(options, weights)) {
      std::copy_n(next, array->size(), array->begin());
      next += static_cast<Index>(array->size());
    }
  }
  return all;
}

Vector join(const LstmOptions& options, const std::vector<GeneralWeights>& all) {
  Vector parameters;
  for (const GeneralWeights& weights : all) {
    for (const Vector* array : stored_arrays(options, weights)) {
      parameters.insert(parameters.end(), array->begin(), array->end());
    }
  }
  return parameters;
}

}  // namespace latchwork::reference
