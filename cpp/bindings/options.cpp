// Converts between mappings of option names to plain Python values and the core's options. The options of each kind of
// module are listed once, in each_option(), which both the reader and the writer of mappings use.
#include "options.hpp"

#include <algorithm>
#include <array>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>

#include "register.hpp"

namespace latchwork::python {
namespace {

template <class Enum>
using Choice = std::pair<std::string_view, Enum>;

// The words that stand for the values of an enumeration in a mapping.
template <class Enum>
struct Words;

template <>
struct Words<Direction> {
  static constexpr Choice<Direction> list[] = {
      {"forward", Direction::forward}, {"reverse", Direction::reverse}, {"both", Direction::both}};
};

template <>
struct Words<Merge> {
  static constexpr Choice<Merge> list[] = {
      {"concat", Merge::concat}, {"sum", Merge::sum}, {"mul", Merge::mul}, {"ave", Merge::ave}};
};

template <>
struct Words<ForgetGate> {
  static constexpr Choice<ForgetGate> list[] = {
      {"own", ForgetGate::own}, {"none", ForgetGate::none}, {"coupled", ForgetGate::coupled}};
};

template <>
struct Words<RecurrentDropoutOn> {
  static constexpr Choice<RecurrentDropoutOn> list[] = {{"hidden", RecurrentDropoutOn::hidden},
                                                        {"candidate", RecurrentDropoutOn::candidate}};
};

template <>
struct Words<Initialisation> {
  static constexpr Choice<Initialisation> list[] = {{"torch", Initialisation::torch},
                                                    {"keras", Initialisation::keras},
                                                    {"orthogonal", Initialisation::orthogonal},
                                                    {"chrono", Initialisation::chrono}};
};

template <>
struct Words<Imputation> {
  static constexpr Choice<Imputation> list[] = {{"forward", Imputation::forward}, {"constant", Imputation::constant}};
};

template <>
struct Words<LossKind> {
  static constexpr Choice<LossKind> list[] = {{"cross_entropy", LossKind::cross_entropy},
                                              {"squared_error", LossKind::squared_error},
                                              {"absolute_error", LossKind::absolute_error},
                                              {"huber", LossKind::huber},
                                              {"quantile", LossKind::quantile},
                                              {"gaussian", LossKind::gaussian},
                                              {"student_t", LossKind::student_t},
                                              {"negative_binomial", LossKind::negative_binomial}};
};

template <>
struct Words<OptimizerKind> {
  static constexpr Choice<OptimizerKind> list[] = {{"sgd", OptimizerKind::sgd},
                                                   {"adam", OptimizerKind::adam},
                                                   {"adamw", OptimizerKind::adamw},
                                                   {"rmsprop", OptimizerKind::rmsprop}};
};

template <class Enum>
std::string all_words() {
  std::string words;
  for (const auto& [word, value] : Words<Enum>::list) words.append(words.empty() ? "" : ", ").append(word);
  return words;
}

template <class Enum>
Enum chosen(const std::string& text, const std::string& name) {
  for (const auto& [word, value] : Words<Enum>::list) {
    if (word == text) return value;
  }
  throw py::value_error(complaint(name, "one of " + all_words<Enum>(), "\"" + text + "\""));
}

template <class Enum>
std::string_view word_for(Enum wanted) {
  const auto found = std::find_if(std::begin(Words<Enum>::list), std::end(Words<Enum>::list),
                                  [&](const auto& choice) { return choice.second == wanted; });
  return found->first;
}

template <class Visit>
void each_option(EmbeddingOptions& options, Visit&& visit) {
  visit("num_embeddings", options.num_embeddings);
  visit("embedding_dim", options.embedding_dim);
}

template <class Visit>
void each_option(LstmOptions& options, Visit&& visit) {
  visit("input_size", options.input_size);
  visit("hidden_size", options.hidden_size);
  visit("num_layers", options.num_layers);
  visit("bias", options.bias);
  visit("dropout", options.dropout);
  visit("direction", options.direction);
  visit("merge", options.merge, Merge::concat);
  visit("proj_size", options.proj_size);
  visit("cell", options.cell);
  visit("forget_gate", options.forget_gate);
  visit("peephole", options.peephole);
  visit("layer_norm", options.layer_norm);
  visit("activations", options.activations);
  visit("clip", options.clip);
  visit("cell_clip", options.cell_clip);
  visit("zoneout_hidden", options.zoneout_hidden);
  visit("zoneout_cell", options.zoneout_cell);
  visit("recurrent_dropout", options.recurrent_dropout);
  visit("recurrent_dropout_on", options.recurrent_dropout_on);
  visit("weight_dropout", options.weight_dropout);
  visit("residual", options.residual);
  visit("learn_start_state", options.learn_start_state);
  visit("forget_bias", options.forget_bias);
  visit("init", options.init);
  visit("t_max", options.t_max);
}

template <class Visit>
void each_option(LastOptions&, Visit&&) {}

template <class Visit>
void each_option(LinearOptions& options, Visit&& visit) {
  visit("in_features", options.in_features);
  visit("out_features", options.out_features);
  visit("bias", options.bias);
  visit("activation", options.activation);
  visit("init_scale", options.init_scale, 1.0);
}

template <class Visit>
void each_option(MeanOptions&, Visit&&) {}

template <class Visit>
void each_option(MaxOptions&, Visit&&) {}

template <class Visit>
void each_option(DropoutOptions& options, Visit&& visit) {
  visit("p", options.p);
}

template <class Visit>
void each_option(ScaleOptions& options, Visit&& visit) {
  visit("shift", options.shift);
  visit("factor", options.factor);
}

template <class Visit>
void each_option(ImputeOptions& options, Visit&& visit) {
  visit("features", options.features);
  visit("method", options.method);
  visit("fill", options.fill);
  visit("indicators", options.indicators);
}

template <class Visit>
void each_option(EmbedColumnsOptions& options, Visit&& visit) {
  visit("features", options.features);
  visit("columns", options.columns);
  visit("num_embeddings", options.num_embeddings);
  visit("embedding_dim", options.embedding_dim);
}

template <class Visit>
void each_option(SortOptions& options, Visit&& visit) {
  visit("group", options.group);
}

template <class Visit>
void each_option(ActivationOptions& options, Visit&& visit) {
  visit("activation", options.activation);
}

template <class Visit>
void each_option(Loss& options, Visit&& visit) {
  visit("quantiles", options.quantiles);  // validate() says why another loss has none
  if (options.kind == LossKind::quantile) visit("quantile_weights", options.quantile_weights);
  if (options.kind == LossKind::huber) visit("delta", options.delta);
  if (options.kind == LossKind::cross_entropy) {
    visit("label_smoothing", options.label_smoothing);
    visit("ignore_index", options.ignore_index);
  }
}

template <class Visit>
void each_option(OptimizerOptions& options, Visit&& visit) {
  visit("lr", options.lr);
  if (options.kind == OptimizerKind::sgd) {
    visit("momentum", options.momentum);
    visit("dampening", options.dampening);
    visit("nesterov", options.nesterov);
  } else if (options.kind == OptimizerKind::rmsprop) {
    visit("alpha", options.alpha);
    visit("eps", options.eps);
    visit("momentum", options.momentum);
    visit("centered", options.centered);
  } else {
    visit("beta1", options.beta1);
    visit("beta2", options.beta2);
    visit("eps", options.eps);
  }
  visit("weight_decay", options.weight_decay);
}

template <class Activations>
auto gates_of(Activations& activations) {
  using Gate = std::remove_reference_t<decltype((activations.input))>;
  return std::array<std::pair<const char*, Gate*>, 5>{{{"input", &activations.input},
                                                       {"forget", &activations.forget},
                                                       {"candidate", &activations.candidate},
                                                       {"output", &activations.output},
                                                       {"cell", &activations.cell}}};
}

// A name, or (name,), (name, alpha), (name, alpha, beta).
Activation activation_argument(py::handle value, const std::string& name) {
  static constexpr const char* expected = "a name or (name, alpha, beta)";
  if (py::isinstance<py::str>(value)) return {text_argument(value, name)};
  if (PyCallable_Check(value.ptr()) != 0) {
    throw py::type_error(complaint(name, expected, type_name(value)) +
                         ": the core computes activations and their slopes itself and cannot call Python; a layer "
                         "without an activation leaves the rest to you, on what it returns");
  }
  if (!py::isinstance<py::sequence>(value)) throw py::type_error(complaint(name, expected, type_name(value)));
  const py::tuple parts = sequence_argument(value, name, expected);
  if (parts.empty() || parts.size() > 3) {
    throw py::value_error(complaint(name, expected, std::to_string(parts.size()) + " items"));
  }
  Activation activation{text_argument(parts[0], name)};
  if (parts.size() > 1) activation.alpha = float_argument(parts[1], name + ".alpha");
  if (parts.size() > 2) activation.beta = float_argument(parts[2], name + ".beta");
  return activation;
}

// A gate that is not in the mapping keeps its default.
CellActivations cell_activations(py::handle mapping, const std::string& name) {
  CellActivations activations;
  const auto gates = gates_of(activations);
  for (const auto& [key, value] : mapping_argument(mapping, name)) {
    const auto* const gate = std::find_if(gates.begin(), gates.end(), [&, key = key](const auto& known) {
      return py::isinstance<py::str>(key) && key.equal(py::str(known.first));
    });
    if (gate == gates.end()) {
      throw py::value_error(
          complaint(name, "keys among input, forget, candidate, output, cell", std::string(py::repr(key))));
    }
    *gate->second = activation_argument(value, name + "." + gate->first);
  }
  return activations;
}

// A copy of a mapping. Options are taken out of it one by one, and any that are left at the end are unknown options.
class OptionReader {
 public:
  // `name` is the mapping's name in messages. If it is empty, messages name the option alone.
  OptionReader(py::handle mapping, std::string name)
      : name_(std::move(name)), options_(mapping_argument(mapping, name_.empty() ? "options" : name_)) {}

  std::string label(std::string_view key) const {
    return name_.empty() ? std::string(key) : name_ + "." + std::string(key);
  }

  std::string take_kind(const std::string& kinds) {
    const py::object value = pop("kind");
    if (!value) throw py::value_error(complaint(label("kind"), "one of " + kinds, "none"));
    return kind_ = text_argument(value, label("kind"));
  }

  template <class Option>
  void operator()(const char* key, Option& option) {
    if (const py::object value = pop(key)) read(value, label(key), option);
  }

  template <class Option>
  void operator()(const char* key, Option& option, const Option&) {
    (*this)(key, option);
  }

  void finish() const {
    for (const auto& item : options_) {
      throw py::value_error((name_.empty() ? "" : name_ + ": ") + "unknown option " +
                            std::string(py::repr(item.first)) + " for kind \"" + kind_ + "\"");
    }
  }

 private:
  static void read(py::handle value, const std::string& name, Index& option) { option = index_argument(value, name); }
  static void read(py::handle value, const std::string& name, double& option) { option = float_argument(value, name); }
  static void read(py::handle value, const std::string& name, bool& option) { option = bool_argument(value, name); }

  template <class Enum>
    requires std::is_enum_v<Enum>
  static void read(py::handle value, const std::string& name, Enum& option) {
    option = chosen<Enum>(text_argument(value, name), name);
  }

  template <class Value>
  static void read(py::handle value, const std::string& name, std::optional<Value>& option) {
    option.reset();
    if (!value.is_none()) read(value, name, option.emplace());
  }

  static void read(py::handle value, const std::string& name, Activation& option) {
    option = activation_argument(value, name);
  }

  static void read(py::handle value, const std::string& name, std::vector<double>& option) {
    option.clear();
    for (py::handle item : sequence_argument(value, name, "float")) option.push_back(float_argument(item, name));
  }

  static void read(py::handle value, const std::string& name, std::vector<Index>& option) {
    option.clear();
    for (py::handle item : sequence_argument(value, name, "int")) option.push_back(index_argument(item, name));
  }

  static void read(py::handle value, const std::string& name, std::vector<CellActivations>& option) {
    option.clear();
    for (py::handle item : sequence_argument(value, name, "mappings")) {
      option.push_back(cell_activations(item, name + "[" + std::to_string(option.size()) + "]"));
    }
  }

  py::object pop(const char* key) {
    if (!options_.contains(key)) return {};
    py::object value = options_[key];
    options_.attr("__delitem__")(key);
    return value;
  }

  std::string name_;
  py::dict options_;
  std::string kind_;
};

// Writes all options of a module, which must be valid, to a mapping that JSON can hold and that OptionReader reads.
class OptionWriter {
 public:
  explicit OptionWriter(std::string_view kind) { options_["kind"] = py::str(kind); }

  template <class Option>
  void operator()(const char* key, const Option& option) {
    options_[key] = written(option);
  }

  // An option that came later than the first files: with its default it is left out, as in files from before it came.
  template <class Option>
  void operator()(const char* key, const Option& option, const Option& default_value) {
    if (option != default_value) (*this)(key, option);
  }

  py::dict finish() { return std::move(options_); }

 private:
  static py::object written(Index option) { return py::int_(option); }
  static py::object written(double option) { return py::float_(option); }
  static py::object written(bool option) { return py::bool_(option); }

  template <class Enum>
    requires std::is_enum_v<Enum>
  static py::object written(Enum option) {
    return py::str(word_for(option));
  }

  template <class Value>
  static py::object written(const std::optional<Value>& option) {
    return option ? written(*option) : py::none();
  }

  template <class Number>
    requires std::is_arithmetic_v<Number>
  static py::object written(const std::vector<Number>& option) {
    py::list numbers;
    for (const Number number : option) numbers.append(number);
    return numbers;
  }

  static py::object written(const Activation& option) {
    const Activation activation = with_defaults(option);
    if (!activation.alpha) return py::str(activation.name);
    py::list parts;
    parts.append(activation.name);
    parts.append(*activation.alpha);
    if (activation.beta) parts.append(*activation.beta);
    return parts;
  }

  // If both directions have the same activations, they are written once.
  static py::object written(const std::vector<CellActivations>& option) {
    py::list sets;
    for (const CellActivations& activations : option) {
      py::dict set;
      for (const auto& [gate, activation] : gates_of(activations)) set[gate] = written(*activation);
      if (sets.empty() || !set.equal(sets[0])) sets.append(set);
    }
    return sets;
  }

  py::dict options_;
};

constexpr const char* kind_of(const EmbeddingOptions&) { return "embedding"; }
constexpr const char* kind_of(const LstmOptions&) { return "lstm"; }
constexpr const char* kind_of(const LastOptions&) { return "last"; }
constexpr const char* kind_of(const LinearOptions&) { return "linear"; }
constexpr const char* kind_of(const MeanOptions&) { return "mean"; }
constexpr const char* kind_of(const MaxOptions&) { return "max"; }
constexpr const char* kind_of(const DropoutOptions&) { return "dropout"; }
constexpr const char* kind_of(const ScaleOptions&) { return "scale"; }
constexpr const char* kind_of(const ImputeOptions&) { return "impute"; }
constexpr const char* kind_of(const EmbedColumnsOptions&) { return "embed_columns"; }
constexpr const char* kind_of(const SortOptions&) { return "sort"; }
constexpr const char* kind_of(const ActivationOptions&) { return "activation"; }

ModuleOptions one_module(py::handle mapping, std::string name) {
  OptionReader reader(mapping, std::move(name));
  static constexpr const char* kinds =
      "embedding, lstm, last, linear, mean, max, dropout, scale, impute, embed_columns, sort, activation";
  const std::string kind = reader.take_kind(kinds);
  for (ModuleOptions module :
       {ModuleOptions(EmbeddingOptions{}), ModuleOptions(LstmOptions{}), ModuleOptions(LastOptions{}),
        ModuleOptions(LinearOptions{}), ModuleOptions(MeanOptions{}), ModuleOptions(MaxOptions{}),
        ModuleOptions(DropoutOptions{}), ModuleOptions(ScaleOptions{}), ModuleOptions(ImputeOptions{}),
        ModuleOptions(EmbedColumnsOptions{}), ModuleOptions(SortOptions{}), ModuleOptions(ActivationOptions{})}) {
    const auto read = [&](auto& options) {
      if (kind != kind_of(options)) return false;
      each_option(options, reader);
      reader.finish();
      return true;
    };
    if (std::visit(read, module)) return module;
  }
  throw py::value_error(complaint(reader.label("kind"), std::string("one of ") + kinds, "\"" + kind + "\""));
}

py::dict mapping_of(ModuleOptions module) {
  return std::visit(
      [](auto& options) {
        OptionWriter writer(kind_of(options));
        each_option(options, writer);
        return writer.finish();
      },
      module);
}

py::dict checked_module(py::handle mapping) {
  ModuleOptions module = one_module(mapping, "");
  validate(module);
  return mapping_of(std::move(module));
}

py::list checked_modules(py::handle mappings) {
  const std::vector<ModuleOptions> modules = module_options(mappings);
  validate(modules);
  py::list checked;
  for (const ModuleOptions& module : modules) checked.append(mapping_of(module));
  return checked;
}

Index counted_parameters(py::handle mappings) {
  const std::vector<ModuleOptions> modules = module_options(mappings);
  for (const ModuleOptions& module : modules) validate(module);
  return parameter_count(modules);
}

// Options of a kind that is one of an enumeration.
template <class Options>
Options options_of_kind(py::handle mapping) {
  using Kind = decltype(Options::kind);
  OptionReader reader(mapping, "");
  Options options;
  options.kind = chosen<Kind>(reader.take_kind(all_words<Kind>()), "kind");
  each_option(options, reader);
  reader.finish();
  return options;
}

py::dict checked_optimizer(py::handle mapping) {
  OptimizerOptions options = optimizer_options(mapping);
  validate(options);
  OptionWriter writer(word_for(options.kind));
  each_option(options, writer);
  return writer.finish();
}

}  // namespace

std::vector<ModuleOptions> module_options(py::handle modules) {
  const py::tuple items = sequence_argument(modules, "modules", "mappings");
  std::vector<ModuleOptions> options;
  for (py::handle item : items) {
    // Like validate(), messages about a chain of one module name its options alone.
    options.push_back(one_module(item, items.size() == 1 ? "" : "modules[" + std::to_string(options.size()) + "]"));
  }
  return options;
}

Loss loss_options(py::handle loss) { return options_of_kind<Loss>(loss); }

OptimizerOptions optimizer_options(py::handle optimizer) { return options_of_kind<OptimizerOptions>(optimizer); }

void register_options(py::module_& module) {
  module.def("checked_module", &checked_module, py::arg("module"));
  module.def("checked_modules", &checked_modules, py::arg("modules"));
  module.def("checked_optimizer", &checked_optimizer, py::arg("optimizer"));
  module.def("parameter_count", &counted_parameters, py::arg("modules"));
}

}  // namespace latchwork::python
