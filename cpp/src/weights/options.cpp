#include "latchwork/options.hpp"

#include <cmath>
#include <sstream>
#include <stdexcept>
#include <string>

#include "machine/dispatch.hpp"

namespace latchwork {
namespace {

// Of all parameters together: in double they then stay below 2^62 bytes, with room for padding and for sums of sizes.
constexpr Index max_parameters = Index{1} << 58;
constexpr Index max_layers = 10000;

template <class Value>
[[noreturn]] void refuse(const std::string& name, const std::string& expected, const Value& got) {
  std::ostringstream message;
  message << name << ": expected " << expected << ", got " << got;
  throw std::invalid_argument(message.str());
}

void check_positive(const char* name, Index value) {
  if (value <= 0) refuse(name, "a positive integer", value);
}

void check_probability(const char* name, double value) {
  if (!(value >= 0.0 && value <= 1.0)) refuse(name, "a number from 0 to 1", value);  // refuses NaN
}

// A number of parameters that stays at the limit once it is beyond.
class Count {
 public:
  explicit Count(Index value) : value_(value < too_many ? value : too_many) {}
  Count operator*(Count other) const {
    return Count(value_ != 0 && other.value_ > too_many / value_ ? too_many : value_ * other.value_);
  }
  Count operator+(Count other) const { return Count(value_ + other.value_); }
  bool fits() const { return value_ < too_many; }

 private:
  static constexpr Index too_many = max_parameters + 1;
  Index value_;
};

Count parameters_of(const EmbeddingOptions& options) { return Count(options.vocabulary) * Count(options.size); }

Count parameters_of(const LstmOptions& options) {
  const Count hidden(options.hidden_size);
  const Count gates = Count(options.gates()) * hidden;
  const Count output(options.hidden_output_size());
  const Count directions(options.directions());
  Count all_but_w = gates * output + Count(options.proj_size) * hidden;  // of one layer and direction
  if (options.bias) all_but_w = all_but_w + Count(2) * gates;
  if (options.peephole) all_but_w = all_but_w + Count(options.gates() - 1) * hidden;
  if (options.layer_norm) all_but_w = all_but_w + Count(4) * gates + Count(2) * hidden;
  if (options.learn_start_state) all_but_w = all_but_w + output + hidden;
  return directions * (gates * Count(options.input_size) + all_but_w) +
         Count(options.num_layers - 1) * directions * (gates * directions * output + all_but_w);
}

Count parameters_of(const LastOptions&) { return Count(0); }

Count parameters_of(const LinearOptions& options) {
  return Count(options.output_size) * (Count(options.input_size) + Count(options.bias ? 1 : 0));
}

void check(const EmbeddingOptions& options) {
  check_positive("vocabulary", options.vocabulary);
  check_positive("size", options.size);
  if (!parameters_of(options).fits()) {
    refuse("vocabulary", "a number whose product with size (" + std::to_string(options.size) + ") does not overflow",
           options.vocabulary);
  }
}

void check_cell(const LstmOptions& options) {
  if (options.num_layers != 1) refuse("num_layers", "1 for a cell", options.num_layers);
  if (options.direction != Direction::forward) refuse("direction", "forward for a cell", "another");
  if (options.dropout != 0.0) refuse("dropout", "0 for a cell", options.dropout);
}

void check_coefficient(const std::string& name, const std::optional<double>& value, bool taken,
                       const ActivationInfo& info) {
  if (!value) return;
  if (!taken) refuse(name, std::string("none for ") + info.name, *value);
  if (!std::isfinite(*value)) refuse(name, "a finite number", *value);
}

void check_activation(const std::string& name, const GateActivation& activation) {
  const Index number = activation_number(activation.name);
  if (number < 0) {
    std::string names;
    for (Index known = 0; known < current_kernels().activation_count; ++known) {
      names.append(known > 0 ? ", " : "").append(activation_info(known).name);
    }
    refuse(name + ".name", "one of " + names, "\"" + activation.name + "\"");
  }
  const ActivationInfo& info = activation_info(number);
  check_coefficient(name + ".alpha", activation.alpha, info.parameters >= 1, info);
  check_coefficient(name + ".beta", activation.beta, info.parameters >= 2, info);
  if (!activation.alpha) return;
  if (info.alpha_range == AlphaRange::not_negative && *activation.alpha < 0.0) {
    refuse(name + ".alpha", std::string("at least 0 for ") + info.name, *activation.alpha);
  }
  if (info.alpha_range == AlphaRange::not_zero && *activation.alpha == 0.0) {
    refuse(name + ".alpha", std::string("any number but 0 for ") + info.name, *activation.alpha);
  }
}

void check_activations(const LstmOptions& options) {
  const auto& [first, second] = options.activations;
  // Those of a direction that is not there may be left as they are.
  if (options.directions() == 1 && second != CellActivations{} && second != first) {
    refuse("activations", "one set for one direction", "two");
  }
  for (Index direction = 0; direction < options.directions(); ++direction) {
    const CellActivations& activations = options.activations[static_cast<std::size_t>(direction)];
    const std::string name = "activations[" + std::to_string(direction) + "].";
    check_activation(name + "input", activations.input);
    check_activation(name + "forget", activations.forget);
    check_activation(name + "candidate", activations.candidate);
    check_activation(name + "output", activations.output);
    check_activation(name + "cell", activations.cell);
    if (options.forget_gate != ForgetGate::own && activations.forget != CellActivations{}.forget) {
      refuse(name + "forget", "none without a forget gate of its own", activations.forget.name);
    }
  }
}

// 0 stands for none.
void check_clip(const char* name, double value) {
  if (!(value >= 0.0 && std::isfinite(value))) refuse(name, "0 for none or a positive finite number", value);
}

void check_initialisation(const LstmOptions& options) {
  if (options.forget_bias) {
    const double forget_bias = *options.forget_bias;
    if (options.forget_gate != ForgetGate::own) {
      refuse("forget_bias", "none without a forget gate of its own", forget_bias);
    }
    if (!options.bias) refuse("forget_bias", "none without bias", forget_bias);
    if (!std::isfinite(forget_bias)) refuse("forget_bias", "a finite number", forget_bias);
  }
  if (options.init != Initialisation::chrono) {
    if (options.t_max != 0) refuse("t_max", "0 unless init is chrono", options.t_max);
    return;
  }
  if (!options.bias) refuse("init", "any but chrono without bias, because chrono sets biases", "chrono");
  if (options.forget_gate == ForgetGate::none) {
    refuse("init", "any but chrono without a forget gate, because chrono sets how long it remembers", "chrono");
  }
  if (options.forget_bias) {
    refuse("forget_bias", "none with init chrono, which sets the forget gate's bias", *options.forget_bias);
  }
  if (options.t_max < 2) refuse("t_max", "an integer of at least 2 for init chrono", options.t_max);
}

void check(const LstmOptions& options) {
  check_positive("input_size", options.input_size);
  check_positive("hidden_size", options.hidden_size);
  check_positive("num_layers", options.num_layers);
  if (options.num_layers > max_layers) {
    refuse("num_layers", "an integer from 1 to " + std::to_string(max_layers), options.num_layers);
  }
  check_probability("dropout", options.dropout);
  if (options.proj_size < 0 || options.proj_size >= options.hidden_size) {
    refuse("proj_size",
           "0 for none or a positive integer less than hidden_size (" + std::to_string(options.hidden_size) + ")",
           options.proj_size);
  }
  if (options.cell) check_cell(options);
  check_activations(options);
  check_clip("clip", options.clip);
  check_clip("cell_clip", options.cell_clip);
  check_probability("zoneout_hidden", options.zoneout_hidden);
  check_probability("zoneout_cell", options.zoneout_cell);
  check_probability("recurrent_dropout", options.recurrent_dropout);
  check_probability("weight_dropout", options.weight_dropout);
  if (options.residual && options.num_layers == 1) {
    refuse("residual", "false with one layer, which has no layer below", "true");
  }
  check_initialisation(options);
  if (!parameters_of(options).fits()) {
    refuse("hidden_size",
           "a size whose weights (input_size " + std::to_string(options.input_size) + ", num_layers " +
               std::to_string(options.num_layers) + ") do not overflow",
           options.hidden_size);
  }
}

void check(const LastOptions&) {}

void check(const LinearOptions& options) {
  check_positive("input_size", options.input_size);
  check_positive("output_size", options.output_size);
  if (!parameters_of(options).fits()) {
    refuse("output_size",
           "a size whose product with input_size (" + std::to_string(options.input_size) + ") does not overflow",
           options.output_size);
  }
}

// Where it stands in a chain. A chain of one is spoken of as the module itself.
std::string place(const std::vector<ModuleOptions>& modules, std::size_t index) {
  return modules.size() == 1 ? "modules" : "modules[" + std::to_string(index) + "]";
}

Index input_size_of(const ModuleOptions& module) {
  if (const auto* lstm = std::get_if<LstmOptions>(&module)) return lstm->input_size;
  if (const auto* linear = std::get_if<LinearOptions>(&module)) return linear->input_size;
  return 0;
}

// Last keeps the size that it is given.
Index output_size_of(const ModuleOptions& module, Index input_size) {
  if (const auto* embedding = std::get_if<EmbeddingOptions>(&module)) return embedding->size;
  if (const auto* lstm = std::get_if<LstmOptions>(&module)) return lstm->output_size();
  if (const auto* linear = std::get_if<LinearOptions>(&module)) return linear->output_size;
  return input_size;
}

}  // namespace

void validate(const ModuleOptions& options) {
  std::visit([](const auto& module) { check(module); }, options);
}

void validate(const std::vector<ModuleOptions>& modules) {
  if (modules.empty()) refuse("modules", "at least one module", "none");
  Count parameters(0);
  Index size = 0;
  bool after_last = false;
  for (std::size_t index = 0; index < modules.size(); ++index) {
    const ModuleOptions& module = modules[index];
    const std::string here = place(modules, index);
    try {
      validate(module);
    } catch (const std::invalid_argument& error) {
      if (modules.size() == 1) throw;
      throw std::invalid_argument(here + "." + error.what());
    }
    parameters = parameters + std::visit([](const auto& options) { return parameters_of(options); }, module);
    if (!parameters.fits()) refuse("modules", "sizes whose sum does not overflow", "too many parameters");

    const bool first = index == 0;
    const bool embedding = std::holds_alternative<EmbeddingOptions>(module);
    const bool lstm = std::holds_alternative<LstmOptions>(module);
    const bool last = std::holds_alternative<LastOptions>(module);
    if (embedding && !first) refuse(here, "an Embedding only in the first place", "one after another module");
    if (last && first) refuse(here, "Last only after another module", "it in the first place");
    if (lstm && after_last) refuse(here, "an LSTM only before Last", "one after it");
    if (last && after_last) refuse(here, "Last at most once", "a second one");
    const Index expected = input_size_of(module);
    if (!first && !last && expected != size) {
      refuse(here + ".input_size", std::to_string(size) + ", the output size of " + place(modules, index - 1),
             expected);
    }
    after_last = after_last || last;
    size = output_size_of(module, size);
  }
}

}  // namespace latchwork
