#include "latchwork/options.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>
#include <unordered_set>
#include <utility>

#include "machine/dispatch.hpp"
#include "weights/module_sizes.hpp"
#include "weights/option_names.hpp"
#include "weights/refusal.hpp"

namespace latchwork {
namespace {

// The largest number of parameters of a network. In double they then take less than 2^62 bytes, which leaves room for
// padding and for sums of sizes.
constexpr Index max_parameters = Index{1} << 58;
constexpr Index max_layers = 10000;

void check_at_least(const char* name, Index minimum, Index value) {
  if (value < minimum) refuse(name, "at least " + text(minimum), text(value));
}

constexpr const char* identity = "identity";

void check_probability(const char* name, double value) {
  if (!(value >= 0.0 && value <= 1.0)) refuse(name, "0 to 1", text(value));  // NaN is refused too
}

void check_finite(const std::string& name, double value) {
  if (!std::isfinite(value)) refuse(name, "a finite number", text(value));
}

// A number of parameters. Once it exceeds the limit it stays just above it, so that it never overflows.
class Count {
 public:
  explicit Count(Index value) : value_(value < too_many ? value : too_many) {}
  Count operator*(Count other) const {
    return Count(value_ != 0 && other.value_ > too_many / value_ ? too_many : value_ * other.value_);
  }
  Count operator+(Count other) const { return Count(value_ + other.value_); }
  bool fits() const { return value_ < too_many; }
  Index value() const { return value_; }

 private:
  static constexpr Index too_many = max_parameters + 1;
  Index value_;
};

Count parameters_of(const EmbeddingOptions& options) {
  return Count(options.num_embeddings) * Count(options.embedding_dim);
}

Count parameters_of(const LstmOptions& options) {
  const Count hidden(options.hidden_size);
  const Count gates = Count(options.gates()) * hidden;
  const Count output(options.hidden_output_size());
  const Count directions(options.directions());
  Count all_but_w = gates * output + Count(options.proj_size) * hidden;  // of one layer and direction, without W
  if (options.bias) all_but_w = all_but_w + Count(2) * gates;
  if (options.peephole) all_but_w = all_but_w + Count(options.gates() - 1) * hidden;
  if (options.layer_norm) all_but_w = all_but_w + Count(4) * gates + Count(2) * hidden;
  if (options.learn_start_state) all_but_w = all_but_w + output + hidden;
  const Count between = options.merges() ? output : directions * output;  // features from one layer to the next
  return directions * (gates * Count(options.input_size) + all_but_w) +
         Count(options.num_layers - 1) * directions * (gates * between + all_but_w);
}

Count parameters_of(const LastOptions&) { return Count(0); }
Count parameters_of(const MeanOptions&) { return Count(0); }
Count parameters_of(const MaxOptions&) { return Count(0); }
Count parameters_of(const DropoutOptions&) { return Count(0); }
Count parameters_of(const ScaleOptions&) { return Count(0); }
Count parameters_of(const ImputeOptions&) { return Count(0); }
Count parameters_of(const SortOptions&) { return Count(0); }
Count parameters_of(const ReverseOptions&) { return Count(0); }
Count parameters_of(const InputSkipOptions&) { return Count(0); }
Count parameters_of(const MaskOptions&) { return Count(0); }
Count parameters_of(const ActivationOptions&) { return Count(0); }

Count parameters_of(const EmbedColumnsOptions& options) {
  Count sum(0);
  for (std::size_t table = 0; table < options.columns.size(); ++table) {
    sum = sum + Count(options.num_embeddings[table]) * Count(options.embedding_dim[table]);
  }
  return sum;
}

Count parameters_of(const LinearOptions& options) {
  return Count(options.out_features) * (Count(options.in_features) + Count(options.bias ? 1 : 0));
}

// The number of parameters of any module.
Count parameters_of(const ModuleOptions& module) {
  return std::visit([](const auto& options) { return parameters_of(options); }, module);
}

void check(const EmbeddingOptions& options) {
  check_at_least("num_embeddings", 1, options.num_embeddings);
  check_at_least("embedding_dim", 1, options.embedding_dim);
  if (!parameters_of(options).fits()) {
    refuse("num_embeddings",
           "a number whose product with embedding_dim (" + text(options.embedding_dim) + ") does not overflow",
           text(options.num_embeddings));
  }
  if (options.mask_token && (*options.mask_token < 0 || *options.mask_token >= options.num_embeddings)) {
    refuse("mask_token", "a token, 0 to " + text(options.num_embeddings - 1) + ", or none", text(*options.mask_token));
  }
}

void check_cell(const LstmOptions& options) {
  if (options.num_layers != 1) refuse("num_layers", "1 for a cell", text(options.num_layers));
  if (options.direction != Direction::forward) {
    refuse("direction", "forward for a cell", options.direction == Direction::reverse ? "reverse" : "both");
  }
  if (options.dropout != 0.0) refuse("dropout", "0 for a cell", text(options.dropout));
}

void check_coefficient(const std::string& name, const std::optional<double>& value, bool taken,
                       const ActivationInfo& info) {
  if (!value) return;
  if (!taken) refuse(name, std::string("none for ") + info.name, text(*value));
  check_finite(name, *value);
}

void check_activation(const std::string& name, const Activation& activation, bool of_gate) {
  if (!of_gate && activation.name == identity) {
    if (activation.alpha) refuse(name + ".alpha", "none for identity", text(*activation.alpha));
    if (activation.beta) refuse(name + ".beta", "none for identity", text(*activation.beta));
    return;
  }
  const auto is_taken = [&](Index known) { return !of_gate || activation_info(known).kind != ActivationKind::by_row; };
  const Index number = activation_number(activation.name);
  if (number < 0 || !is_taken(number)) {
    std::string names = of_gate ? "" : identity;
    for (Index known = 0; known < current_kernels().activation_count; ++known) {
      if (is_taken(known)) names.append(names.empty() ? "" : ", ").append(activation_info(known).name);
    }
    refuse(name, "one of " + names, "\"" + activation.name + "\"");
  }
  const ActivationInfo& info = activation_info(number);
  check_coefficient(name + ".alpha", activation.alpha, info.parameters >= 1, info);
  check_coefficient(name + ".beta", activation.beta, info.parameters >= 2, info);
  if (!activation.alpha) return;
  if (info.alpha_range == AlphaRange::not_negative && *activation.alpha < 0.0) {
    refuse(name + ".alpha", std::string("at least 0 for ") + info.name, text(*activation.alpha));
  }
  if (info.alpha_range == AlphaRange::not_zero && *activation.alpha == 0.0) {
    refuse(name + ".alpha", std::string("any number but 0 for ") + info.name, text(*activation.alpha));
  }
}

void check_activations(const LstmOptions& options) {
  const auto sets = static_cast<Index>(options.activations.size());
  if (sets != 1 && sets != options.directions()) {
    refuse("activations",
           options.directions() == 1 ? "one set for one direction" : "one set, or two for two directions", text(sets));
  }
  for (Index set = 0; set < sets; ++set) {
    const CellActivations& activations = options.activations_of(set);
    const std::string name = "activations[" + text(set) + "].";
    check_activation(name + "input", activations.input, true);
    check_activation(name + "forget", activations.forget, true);
    check_activation(name + "candidate", activations.candidate, true);
    check_activation(name + "output", activations.output, true);
    check_activation(name + "cell", activations.cell, true);
    if (options.forget_gate != ForgetGate::own && activations.forget != CellActivations{}.forget) {
      refuse(name + "forget", "none without a forget gate of its own", "\"" + activations.forget.name + "\"");
    }
  }
}

void check_clip(const char* name, const std::optional<double>& value) {
  if (value && !(*value > 0.0 && std::isfinite(*value))) {
    refuse(name, "a positive finite number or none", text(*value));
  }
}

void check_initialisation(const LstmOptions& options) {
  if (options.forget_bias) {
    const double forget_bias = *options.forget_bias;
    if (options.forget_gate != ForgetGate::own) {
      refuse("forget_bias", "none without a forget gate of its own", text(forget_bias));
    }
    if (!options.bias) refuse("forget_bias", "none without bias", text(forget_bias));
    check_finite("forget_bias", forget_bias);
  }
  if (options.init != Initialisation::chrono) {
    if (options.t_max) refuse("t_max", "none unless init is \"chrono\"", text(*options.t_max));
    return;
  }
  if (!options.bias) refuse("init", "another initialisation without bias, because chrono sets biases", "\"chrono\"");
  if (options.forget_gate == ForgetGate::none) {
    refuse("init", "another initialisation without a forget gate, because chrono sets how long that gate remembers",
           "\"chrono\"");
  }
  if (options.forget_bias) {
    refuse("forget_bias", "none with init \"chrono\", which sets the same bias", text(*options.forget_bias));
  }
  if (!options.t_max || *options.t_max < 2) {
    refuse("t_max", "the longest dependency in steps, at least 2, with init \"chrono\"",
           options.t_max ? text(*options.t_max) : "none");
  }
}

void check(const LstmOptions& options) {
  check_at_least("input_size", 1, options.input_size);
  check_at_least("hidden_size", 1, options.hidden_size);
  check_at_least("num_layers", 1, options.num_layers);
  if (options.num_layers > max_layers) refuse("num_layers", "at most " + text(max_layers), text(options.num_layers));
  check_probability("dropout", options.dropout);
  if (options.merge != Merge::concat && options.direction != Direction::both) {
    refuse("merge", "concat without two directions", std::string(word_for(options.merge)));
  }
  check_at_least("proj_size", 0, options.proj_size);
  if (options.proj_size >= options.hidden_size) {
    refuse("proj_size", "less than hidden_size (" + text(options.hidden_size) + ")", text(options.proj_size));
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
           "a size whose weights (input_size " + text(options.input_size) + ", num_layers " + text(options.num_layers) +
               ") do not overflow",
           text(options.hidden_size));
  }
}

void check(const LastOptions&) {}
void check(const MeanOptions&) {}
void check(const MaxOptions&) {}
void check(const ReverseOptions&) {}
void check(const DropoutOptions& options) { check_probability("p", options.p); }

void check(const LinearOptions& options) {
  check_at_least("in_features", 1, options.in_features);
  check_at_least("out_features", 1, options.out_features);
  check_activation("activation", options.activation, false);
  if (!(options.init_scale >= 0.0 && std::isfinite(options.init_scale))) {
    refuse("init_scale", "a finite number of at least 0", text(options.init_scale));
  }
  if (!parameters_of(options).fits()) {
    refuse("out_features",
           "a size whose product with in_features (" + text(options.in_features) + ") does not overflow",
           text(options.out_features));
  }
}

// The name of one item of an option that is a list.
std::string item(std::string name, std::size_t at) {
  return std::move(name).append("[").append(text(static_cast<Index>(at))).append("]");
}

void check_count(const char* name, std::size_t expected, std::size_t count) {
  if (count == expected) return;
  const auto size = static_cast<Index>(expected);
  refuse(name, text(size) + (size == 1 ? " number" : " numbers"), text(static_cast<Index>(count)));
}

void check_all_finite(const char* name, const std::vector<double>& values) {
  for (std::size_t at = 0; at < values.size(); ++at) check_finite(item(name, at), values[at]);
}

// Checks the numbers of some of the features.
void check_features(const char* name, const std::vector<Index>& chosen, Index features) {
  std::unordered_set<Index> seen;  // there may be many in a hostile file
  for (std::size_t at = 0; at < chosen.size(); ++at) {
    if (chosen[at] < 0 || chosen[at] >= features) {
      refuse(item(name, at), "0 to " + text(features - 1), text(chosen[at]));
    }
    if (!seen.insert(chosen[at]).second) {
      refuse(item(name, at), "each feature once", text(chosen[at]) + " again");
    }
  }
}

// Modules without weights have features too, whose number must leave room for that of all numbers of a batch.
void check_feature_count(Index features) {
  check_at_least("features", 1, features);
  if (features > max_parameters) refuse("features", "a number that does not overflow", text(features));
}

void check(const ScaleOptions& options) {
  if (options.shift.empty()) refuse("shift", "at least one number", "none");
  check_count("factor", options.shift.size(), options.factor.size());
  check_all_finite("shift", options.shift);
  check_all_finite("factor", options.factor);
}

void check(const ImputeOptions& options) {
  check_feature_count(options.features);
  if (!options.fill.empty()) check_count("fill", static_cast<std::size_t>(options.features), options.fill.size());
  check_all_finite("fill", options.fill);
  check_features("indicators", options.indicators, options.features);
  if (options.persistence.empty()) return;
  if (options.method != Imputation::forward) {
    refuse("persistence", "none, because only the method \"forward\" carries values", "some");
  }
  check_count("persistence", static_cast<std::size_t>(options.features), options.persistence.size());
  for (std::size_t at = 0; at < options.persistence.size(); ++at) {
    check_probability(item("persistence", at).c_str(), options.persistence[at]);
  }
}

void check(const EmbedColumnsOptions& options) {
  check_feature_count(options.features);
  if (options.columns.empty()) refuse("columns", "at least one feature", "none");
  check_features("columns", options.columns, options.features);
  check_count("num_embeddings", options.columns.size(), options.num_embeddings.size());
  check_count("embedding_dim", options.columns.size(), options.embedding_dim.size());
  for (std::size_t table = 0; table < options.columns.size(); ++table) {
    check_at_least(item("num_embeddings", table).c_str(), 1, options.num_embeddings[table]);
    check_at_least(item("embedding_dim", table).c_str(), 1, options.embedding_dim[table]);
  }
  if (!parameters_of(options).fits()) {
    refuse("num_embeddings", "sizes whose products with embedding_dim do not overflow", "too many parameters");
  }
}

void check(const SortOptions& options) { check_at_least("group", 1, options.group); }
void check(const ActivationOptions& options) { check_activation("activation", options.activation, false); }

void check(const InputSkipOptions& options) {
  check_feature_count(options.features);
  check_finite("factor", options.factor);
}

void check(const MaskOptions& options) { check_finite("value", options.value); }

// What error messages call a module. The only module of a chain of one is called "modules".
std::string place(const std::vector<ModuleOptions>& modules, std::size_t index) {
  return modules.size() == 1 ? "modules" : "modules[" + text(static_cast<Index>(index)) + "]";
}

// The name and the value of the option that says how many features a module takes; the name is null for modules that
// take any number of features, or tokens.
struct InputSize {
  const char* name = nullptr;
  Index value = 0;
};

InputSize input_size_of(const ModuleOptions& module) {
  if (const auto* lstm = std::get_if<LstmOptions>(&module)) return {"input_size", lstm->input_size};
  if (const auto* linear = std::get_if<LinearOptions>(&module)) return {"in_features", linear->in_features};
  if (const auto* scale = std::get_if<ScaleOptions>(&module)) return {"shift", static_cast<Index>(scale->shift.size())};
  if (const auto* impute = std::get_if<ImputeOptions>(&module)) return {"features", impute->features};
  if (const auto* embed = std::get_if<EmbedColumnsOptions>(&module)) return {"features", embed->features};
  return {};
}

// Checks that the columns of the EmbedColumns at this place hold codes: they come from the input, through no other
// modules than Scale and Impute, and are not among what an Impute adds.
void check_codes(const std::vector<ModuleOptions>& modules, std::size_t index, const std::string& here) {
  Index features = std::get<EmbedColumnsOptions>(modules[index]).features;
  for (std::size_t before = 0; before < index; ++before) {
    if (const auto* impute = std::get_if<ImputeOptions>(&modules[before])) {
      features = std::min(features, impute->features);
    } else if (std::holds_alternative<EmbedColumnsOptions>(modules[before])) {
      refuse(here, "at most one EmbedColumns, which may have several columns", "another one");
    } else if (!std::holds_alternative<ScaleOptions>(modules[before]) &&
               !std::holds_alternative<MaskOptions>(modules[before])) {
      refuse(here, "an EmbedColumns only after Scale and Impute", "an EmbedColumns after another module");
    }
  }
  const std::vector<Index>& columns = std::get<EmbedColumnsOptions>(modules[index]).columns;
  for (std::size_t at = 0; at < columns.size(); ++at) {
    if (columns[at] < features) continue;
    refuse(here + "." + item("columns", at), "a feature of the input, 0 to " + text(features - 1),
           text(columns[at]) + ", which an Impute adds");
  }
  for (std::size_t before = 0; before < index; ++before) {
    const auto* impute = std::get_if<ImputeOptions>(&modules[before]);
    if (impute == nullptr || impute->persistence.empty()) continue;
    for (const Index column : columns) {
      const auto feature = static_cast<std::size_t>(column);
      if (impute->persistence[feature] == 1.0) continue;
      refuse(place(modules, before) + "." + item("persistence", feature), "1, because this feature holds codes",
             text(impute->persistence[feature]));
    }
  }
}

// Checks that the InputSkip at this place can add the network's input to its own, which has `size` features.
void check_input_skip(const InputSkipOptions& options, const std::vector<ModuleOptions>& modules, std::size_t index,
                      const std::string& here, const char* pooled, Index size) {
  if (index == 0) refuse(here, "an InputSkip only after another module", "an InputSkip in the first place");
  if (std::holds_alternative<EmbeddingOptions>(modules.front())) {
    refuse(here, "no InputSkip in a network whose input is tokens", "one");
  }
  if (pooled != nullptr) refuse(here, std::string("an InputSkip only before ") + pooled, "an InputSkip after it");
  if (backwards_after(modules, index)) {
    refuse(here, "an InputSkip only where the steps are in the order of the input", "an InputSkip after a Reverse");
  }
  const Index most = std::min(size, chain_input_size(modules));
  if (options.features > most) {
    refuse(here + ".features", "at most " + text(most) + ", which both the network's input and its own have",
           text(options.features));
  }
}

}  // namespace

Activation with_defaults(const Activation& activation) {
  if (activation.name == identity) return {identity};
  const ActivationInfo& info = activation_info(activation_number(activation.name));
  Activation filled = activation;
  if (info.parameters >= 1) filled.alpha = activation.alpha.value_or(info.alpha);
  if (info.parameters >= 2) filled.beta = activation.beta.value_or(info.beta);
  return filled;
}

void validate(const ModuleOptions& options) {
  std::visit([](const auto& module) { check(module); }, options);
}

void validate(const std::vector<ModuleOptions>& modules) {
  if (modules.empty()) refuse("modules", "at least one module", "none");
  Count parameters(0);
  Index size = chain_input_size(modules);
  const bool sized = !std::all_of(modules.begin(), modules.end(), keeps_features);
  const char* pooled = nullptr;
  bool recurrent = false, reversed = false;
  for (std::size_t index = 0; index < modules.size(); ++index) {
    const ModuleOptions& module = modules[index];
    const std::string here = place(modules, index);
    try {
      validate(module);
    } catch (const std::invalid_argument& error) {
      if (modules.size() == 1) throw;
      throw std::invalid_argument(here + "." + error.what());
    }
    parameters = parameters + parameters_of(module);
    if (!parameters.fits()) refuse("modules", "sizes whose sum does not overflow", "too many parameters");

    const bool first = index == 0;
    const bool embedding = std::holds_alternative<EmbeddingOptions>(module);
    const bool lstm = std::holds_alternative<LstmOptions>(module);
    const char* const pooling = pooling_name(module);
    if (embedding && !first) refuse(here, "an Embedding only in the first place", "an Embedding after another module");
    if (pooling != nullptr && first) {
      refuse(here, std::string(pooling) + " only after another module", std::string(pooling) + " in the first place");
    }
    if (lstm && pooled != nullptr) refuse(here, std::string("an LSTM only before ") + pooled, "an LSTM after it");
    const bool reverse = std::holds_alternative<ReverseOptions>(module);
    if (reverse && pooled != nullptr)
      refuse(here, std::string("a Reverse only before ") + pooled, "a Reverse after it");
    if (std::holds_alternative<MaskOptions>(module) && !first) {
      refuse(here, "a Mask only in the first place", "a Mask after another module");
    }
    if (const auto* skip = std::get_if<InputSkipOptions>(&module)) {
      check_input_skip(*skip, modules, index, here, pooled, sized ? size : skip->features);
    }
    const bool impute = std::holds_alternative<ImputeOptions>(module);
    if (impute && reversed) refuse(here, "an Impute only before a Reverse", "an Impute after one");
    if (impute && (recurrent || pooled != nullptr)) {
      refuse(here, std::string("an Impute only before ") + (recurrent ? "the LSTMs" : pooled),
             recurrent ? "an Impute after one" : "an Impute after it");
    }
    recurrent = recurrent || lstm;
    reversed = reversed || reverse;
    if (std::holds_alternative<EmbedColumnsOptions>(module)) check_codes(modules, index, here);
    if (std::holds_alternative<LastOptions>(module)) {
      const std::size_t source = directed_source(modules, index);
      const auto* merging = source == index ? nullptr : std::get_if<LstmOptions>(&modules[source]);
      if (merging != nullptr && merging->merges() && source + 1 != index) {
        refuse(here, "a Last right after the LSTM whose directions merge", "one after another module");
      }
      if (merging != nullptr && merging->merges() && merging->residual) {
        refuse(here, "no Last after an LSTM with residual sums whose directions merge", "one");
      }
    }
    if (pooling != nullptr && pooled != nullptr) {
      refuse(here, "at most one of Last, Mean and Max", std::string(pooling) + " after " + pooled);
    }
    const auto [name, input_size] = input_size_of(module);
    if (!first && name != nullptr && input_size != size) {
      refuse(here + "." + name, text(size) + ", the output size of " + place(modules, index - 1), text(input_size));
    }
    const auto* sort = std::get_if<SortOptions>(&module);
    if (sort != nullptr && sized && size % sort->group != 0) {
      refuse(here + ".group", "a divisor of the " + text(size) + " features that it sorts", text(sort->group));
    }
    if (pooling != nullptr) pooled = pooling;
    size = module_output_size(module, size);
  }
  if (!sized) {
    refuse("modules", "at least one module that says how many features it takes", "none");
  }
}

void check_constants(const std::vector<ModuleOptions>& modules, double largest) {
  const auto check_one = [&](const std::string& name, double value) {
    if (std::abs(value) <= largest) return;
    refuse(name, "a number of at most " + text(largest) + ", which the dtype holds", text(value));
  };
  const auto check_all = [&](const std::string& name, const std::vector<double>& values) {
    for (std::size_t at = 0; at < values.size(); ++at) check_one(item(name, at), values[at]);
  };
  for (std::size_t index = 0; index < modules.size(); ++index) {
    const std::string here = modules.size() == 1 ? "" : place(modules, index) + ".";
    if (const auto* scale = std::get_if<ScaleOptions>(&modules[index])) {
      check_all(here + "shift", scale->shift);
      check_all(here + "factor", scale->factor);
    } else if (const auto* impute = std::get_if<ImputeOptions>(&modules[index])) {
      check_all(here + "fill", impute->fill);
    } else if (const auto* mask = std::get_if<MaskOptions>(&modules[index])) {
      check_one(here + "value", mask->value);
    } else if (const auto* skip = std::get_if<InputSkipOptions>(&modules[index])) {
      check_one(here + "factor", skip->factor);
    }
  }
}

Index parameter_count(const std::vector<ModuleOptions>& modules) {
  Count count(0);
  for (const ModuleOptions& module : modules) count = count + parameters_of(module);
  return count.value();
}

}  // namespace latchwork
