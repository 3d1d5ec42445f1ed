// Options that are refused, with the words that Python gives too. tests/refused_options.txt lists them for both.
#include <doctest/doctest.h>

#include <cstdlib>
#include <fstream>
#include <map>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "latchwork/options.hpp"
#include "latchwork/training.hpp"

namespace latchwork::test {
namespace {

std::vector<std::string> split(const std::string& text, const std::string& separator) {
  std::vector<std::string> parts;
  std::size_t begin = 0;
  for (std::size_t end; (end = text.find(separator, begin)) != std::string::npos; begin = end + separator.size()) {
    parts.push_back(text.substr(begin, end - begin));
  }
  parts.push_back(text.substr(begin));
  return parts;
}

// ---- Values given as text. A text that is no such value is an error in the table.

template <class Value>
Value one_of(const std::map<std::string, Value>& words, const std::string& text) {
  return words.at(text);
}

void set(Index& option, const std::string& text) { option = std::stoll(text); }
void set(double& option, const std::string& text) { option = std::stod(text); }
void set(bool& option, const std::string& text) { option = one_of<bool>({{"true", true}, {"false", false}}, text); }
void set(Direction& option, const std::string& text) {
  option = one_of<Direction>(
      {{"forward", Direction::forward}, {"reverse", Direction::reverse}, {"both", Direction::both}}, text);
}
void set(Merge& option, const std::string& text) {
  option = one_of<Merge>({{"sum", Merge::sum}, {"mul", Merge::mul}, {"ave", Merge::ave}}, text);
}
void set(ForgetGate& option, const std::string& text) {
  option = one_of<ForgetGate>({{"none", ForgetGate::none}, {"coupled", ForgetGate::coupled}}, text);
}
void set(Initialisation& option, const std::string& text) {
  option = one_of<Initialisation>({{"keras", Initialisation::keras}, {"chrono", Initialisation::chrono}}, text);
}

void set(Imputation& option, const std::string& text) {
  option = one_of<Imputation>({{"constant", Imputation::constant}}, text);
}

template <class Number>
void set(std::vector<Number>& option, const std::string& text) {
  if (text == "-") return;
  for (const std::string& number : split(text, ",")) set(option.emplace_back(), number);
}

template <class Value>
void set(std::optional<Value>& option, const std::string& text) {
  set(option.emplace(), text);
}

// Name, or name:alpha, or name:alpha:beta.
void set(Activation& option, const std::string& text) {
  const std::vector<std::string> parts = split(text, ":");
  option = {parts.at(0)};
  if (parts.size() > 1) set(option.alpha, parts[1]);
  if (parts.size() > 2) set(option.beta, parts[2]);
}

void set(std::vector<CellActivations>& option, const std::string& text) {
  option.clear();
  for (const std::string& activations : split(text, "|")) {
    CellActivations& given = option.emplace_back();
    if (activations == "-") continue;
    const std::map<std::string, Activation*> gates = {{"input", &given.input},
                                                      {"forget", &given.forget},
                                                      {"candidate", &given.candidate},
                                                      {"output", &given.output},
                                                      {"cell", &given.cell}};
    for (const std::string& gate : split(activations, ",")) {
      const std::string name = split(gate, ":").front();
      set(*gates.at(name), gate.substr(name.size() + 1));
    }
  }
}

// ---- Modules given as text.

using Values = std::map<std::string, std::string>;

// Sets an option to its value, if the text gives one.
template <class Option>
void take(Values& values, const char* name, Option& option) {
  const auto found = values.find(name);
  if (found == values.end()) return;
  set(option, found->second);
  values.erase(found);
}

LstmOptions lstm(Values& values) {
  LstmOptions options;
  take(values, "input_size", options.input_size);
  take(values, "hidden_size", options.hidden_size);
  take(values, "num_layers", options.num_layers);
  take(values, "bias", options.bias);
  take(values, "dropout", options.dropout);
  take(values, "direction", options.direction);
  take(values, "merge", options.merge);
  take(values, "proj_size", options.proj_size);
  take(values, "cell", options.cell);
  take(values, "forget_gate", options.forget_gate);
  take(values, "activations", options.activations);
  take(values, "clip", options.clip);
  take(values, "cell_clip", options.cell_clip);
  take(values, "zoneout_hidden", options.zoneout_hidden);
  take(values, "zoneout_cell", options.zoneout_cell);
  take(values, "recurrent_dropout", options.recurrent_dropout);
  take(values, "weight_dropout", options.weight_dropout);
  take(values, "residual", options.residual);
  take(values, "forget_bias", options.forget_bias);
  take(values, "init", options.init);
  take(values, "t_max", options.t_max);
  return options;
}

Values values_of(const std::string& text) {
  std::istringstream words(text);
  std::string word;
  words >> word;  // the kind
  Values values;
  while (words >> word) {
    const std::vector<std::string> parts = split(word, "=");
    values[parts.at(0)] = parts.at(1);
  }
  return values;
}

ModuleOptions module_of(const std::string& text) {
  const std::string kind = split(text, " ").front();
  Values values = values_of(text);
  ModuleOptions module = LastOptions{};
  if (kind == "lstm") {
    module = lstm(values);
  } else if (kind == "embedding") {
    EmbeddingOptions options;
    take(values, "num_embeddings", options.num_embeddings);
    take(values, "embedding_dim", options.embedding_dim);
    take(values, "mask_token", options.mask_token);
    module = options;
  } else if (kind == "linear") {
    LinearOptions options;
    take(values, "in_features", options.in_features);
    take(values, "out_features", options.out_features);
    take(values, "activation", options.activation);
    take(values, "init_scale", options.init_scale);
    module = options;
  } else if (kind == "dropout") {
    DropoutOptions options;
    take(values, "p", options.p);
    module = options;
  } else if (kind == "scale") {
    ScaleOptions options;
    take(values, "shift", options.shift);
    take(values, "factor", options.factor);
    module = options;
  } else if (kind == "impute") {
    ImputeOptions options;
    take(values, "features", options.features);
    take(values, "method", options.method);
    take(values, "fill", options.fill);
    take(values, "indicators", options.indicators);
    take(values, "persistence", options.persistence);
    module = options;
  } else if (kind == "embed_columns") {
    EmbedColumnsOptions options;
    take(values, "features", options.features);
    take(values, "columns", options.columns);
    take(values, "num_embeddings", options.num_embeddings);
    take(values, "embedding_dim", options.embedding_dim);
    module = options;
  } else if (kind == "sort") {
    SortOptions options;
    take(values, "group", options.group);
    module = options;
  } else if (kind == "input_skip") {
    InputSkipOptions options;
    take(values, "features", options.features);
    take(values, "factor", options.factor);
    module = options;
  } else if (kind == "mask") {
    MaskOptions options;
    take(values, "value", options.value);
    module = options;
  } else if (kind == "reverse") {
    module = ReverseOptions{};
  } else if (kind == "activation") {
    ActivationOptions options;
    take(values, "activation", options.activation);
    module = options;
  } else if (kind == "mean") {
    module = MeanOptions{};
  } else if (kind == "max") {
    module = MaxOptions{};
  } else {
    REQUIRE(kind == "last");
  }
  REQUIRE(values.empty());
  return module;
}

// ---- Optimisers and losses given as text.

const std::map<std::string, OptimizerKind> optimizers = {{"sgd", OptimizerKind::sgd},
                                                         {"adam", OptimizerKind::adam},
                                                         {"adamw", OptimizerKind::adamw},
                                                         {"rmsprop", OptimizerKind::rmsprop}};
const std::map<std::string, LossKind> losses = {{"squared_error", LossKind::squared_error},
                                                {"cross_entropy", LossKind::cross_entropy},
                                                {"huber", LossKind::huber},
                                                {"quantile", LossKind::quantile},
                                                {"gaussian", LossKind::gaussian},
                                                {"student_t", LossKind::student_t},
                                                {"negative_binomial", LossKind::negative_binomial}};

void validate_optimizer(const std::string& text) {
  Values values = values_of(text);
  OptimizerOptions options;
  options.kind = optimizers.at(split(text, " ").front());
  take(values, "lr", options.lr);
  take(values, "momentum", options.momentum);
  take(values, "dampening", options.dampening);
  take(values, "nesterov", options.nesterov);
  take(values, "beta1", options.beta1);
  take(values, "beta2", options.beta2);
  take(values, "alpha", options.alpha);
  take(values, "eps", options.eps);
  take(values, "weight_decay", options.weight_decay);
  REQUIRE(values.empty());
  validate(options);
}

void validate_loss(const std::string& text) {
  Values values = values_of(text);
  Loss loss;
  loss.kind = losses.at(split(text, " ").front());
  Index output_size = 0;
  take(values, "output_size", output_size);
  take(values, "quantiles", loss.quantiles);
  take(values, "quantile_weights", loss.quantile_weights);
  take(values, "delta", loss.delta);
  take(values, "label_smoothing", loss.label_smoothing);
  REQUIRE(values.empty());
  validate(loss, output_size);
}

}  // namespace

TEST_CASE("options are refused with the words that Python gives too") {
  std::ifstream table(LATCHWORK_REFUSED_OPTIONS);
  REQUIRE(table);
  int lines = 0;
  for (std::string line; std::getline(table, line);) {
    if (line.empty() || line.front() == '#') continue;
    ++lines;
    CAPTURE(line);
    const std::vector<std::string> parts = split(line, " -> ");
    REQUIRE(parts.size() == 2);
    const std::string kind = split(parts[0], " ").front();
    if (optimizers.contains(kind) || losses.contains(kind)) {
      const auto check = optimizers.contains(kind) ? validate_optimizer : validate_loss;
      CHECK_THROWS_WITH_AS(check(parts[0]), parts[1].c_str(), std::invalid_argument);
      continue;
    }
    std::vector<ModuleOptions> modules;
    for (const std::string& module : split(parts[0], " ; ")) modules.push_back(module_of(module));
    CHECK_THROWS_WITH_AS(validate(modules), parts[1].c_str(), std::invalid_argument);
    if (modules.size() == 1) CHECK_THROWS_WITH_AS(validate(modules[0]), parts[1].c_str(), std::invalid_argument);
  }
  CHECK(lines > 125);
}

}  // namespace latchwork::test
