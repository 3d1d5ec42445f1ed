#include "reference/weights.hpp"

#include <algorithm>
#include <map>
#include <stdexcept>
#include <string>
#include <utility>

#include "latchwork/parameters.hpp"

namespace latchwork::reference {
namespace {

// The names of all arrays that a layer and direction can have.
constexpr std::pair<const char*, Vector GeneralWeights::*> named_arrays[] = {
    {"weight_ih", &GeneralWeights::weight_ih},
    {"weight_hh", &GeneralWeights::weight_hh},
    {"bias_ih", &GeneralWeights::bias_ih},
    {"bias_hh", &GeneralWeights::bias_hh},
    {"weight_hr", &GeneralWeights::weight_hr},
    {"weight_peephole", &GeneralWeights::weight_peephole},
    {"norm_ih_weight", &GeneralWeights::norm_ih_weight},
    {"norm_ih_bias", &GeneralWeights::norm_ih_bias},
    {"norm_hh_weight", &GeneralWeights::norm_hh_weight},
    {"norm_hh_bias", &GeneralWeights::norm_hh_bias},
    {"norm_cell_weight", &GeneralWeights::norm_cell_weight},
    {"norm_cell_bias", &GeneralWeights::norm_cell_bias},
    {"h_0", &GeneralWeights::h_0},
    {"c_0", &GeneralWeights::c_0},
};

// The end of the names of a layer and direction.
std::string suffix_of(const LstmOptions& options, std::size_t state) {
  if (options.cell) return "";
  const Index directions = options.directions(), number = static_cast<Index>(state);
  const bool reverse = options.direction == Direction::reverse || number % directions == 1;
  return "_l" + std::to_string(number / directions) + (reverse ? "_reverse" : "");
}

// Calls task(array, its offset in the buffer) for every array that a model has. The arrays are found by their names.
template <class AllWeights, class Task>
void for_each_stored(const LstmOptions& options, AllWeights& all, Task&& task) {
  std::map<std::string, decltype(&all.front().weight_ih)> arrays;
  for (std::size_t state = 0; state < all.size(); ++state) {
    for (const auto& [name, array] : named_arrays) arrays[name + suffix_of(options, state)] = &(all[state].*array);
  }
  for (const ParameterSpec& spec : parameter_layout({options}, TensorNames::of_layer)) {
    auto& array = *arrays.at(spec.name);
    if (static_cast<Index>(array.size()) != spec.size()) {
      throw std::logic_error(spec.name + ": expected " + std::to_string(spec.size()) + " numbers, got " +
                             std::to_string(array.size()));
    }
    task(array, spec.offset);
  }
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
  for_each_stored(options, all, [&](Vector& array, Index offset) {
    std::copy_n(parameters.begin() + offset, array.size(), array.begin());
  });
  return all;
}

Vector join(const LstmOptions& options, const std::vector<GeneralWeights>& all) {
  Vector parameters;
  for_each_stored(options, all, [&](const Vector& array, Index offset) {
    parameters.resize(std::max(parameters.size(), static_cast<std::size_t>(offset) + array.size()));
    std::copy(array.begin(), array.end(), parameters.begin() + offset);
  });
  return parameters;
}

}  // namespace latchwork::reference
