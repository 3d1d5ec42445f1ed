// Converts between mappings of option names to plain Python values and the core's options.
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
#include "weights/option_reader.hpp"

namespace latchwork {

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

namespace python {
namespace {

template <class Enum>
Enum chosen(const std::string& text, const std::string& name) {
  for (const auto& [word, value] : Words<Enum>::list) {
    if (word == text) return value;
  }
  throw py::value_error(complaint(name, "one of " + all_words<Enum>(), "\"" + text + "\""));
}

// Reads plain Python values, for OptionReader.
struct PythonSource {
  using Value = py::object;
  using Mapping = py::dict;

  static Mapping mapping(const Value& value, const std::string& name) { return mapping_argument(value, name); }
  static std::optional<Value> take(Mapping& mapping, const char* key) {
    if (!mapping.contains(key)) return {};
    py::object value = mapping[key];
    mapping.attr("__delitem__")(key);
    return value;
  }
  static std::optional<std::string> left(const Mapping& mapping) {
    if (mapping.empty()) return {};
    return std::string(py::repr(mapping.begin()->first));
  }

  static Index index(const Value& value, const std::string& name) { return index_argument(value, name); }
  static double real(const Value& value, const std::string& name) { return float_argument(value, name); }
  static bool truth(const Value& value, const std::string& name) { return bool_argument(value, name); }
  static std::string text(const Value& value, const std::string& name) { return text_argument(value, name); }
  static bool is_none(const Value& value) { return value.is_none(); }
  static bool is_text(const Value& value) { return py::isinstance<py::str>(value); }
  static bool is_list(const Value& value) { return py::isinstance<py::sequence>(value); }
  static std::vector<Value> items(const Value& value, const std::string& name, const char* what) {
    const py::tuple items = sequence_argument(value, name, what);
    std::vector<Value> copies;
    for (const py::handle item : items) copies.push_back(py::reinterpret_borrow<py::object>(item));
    return copies;
  }
  [[noreturn]] static void refuse_activation(const Value& value, const std::string& name, const char* expected) {
    const std::string message = complaint(name, expected, type_name(value));
    if (PyCallable_Check(value.ptr()) == 0) throw py::type_error(message);
    throw py::type_error(message +
                         ": the core computes activations and their slopes itself and cannot call Python; a layer "
                         "without an activation leaves the rest to you, on what it returns");
  }
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

py::dict mapping_of(ModuleOptions module) {
  return std::visit(
      [](auto& options) {
        OptionWriter writer(kind_of(options));
        each_option(options, writer);
        return writer.finish();
      },
      module);
}

py::dict checked_module(const py::object& mapping) {
  ModuleOptions module = read_module<PythonSource>(mapping, "");
  validate(module);
  return mapping_of(std::move(module));
}

py::list checked_modules(const py::object& mappings) {
  const std::vector<ModuleOptions> modules = module_options(mappings);
  validate(modules);
  py::list checked;
  for (const ModuleOptions& module : modules) checked.append(mapping_of(module));
  return checked;
}

Index counted_parameters(const py::object& mappings) {
  const std::vector<ModuleOptions> modules = module_options(mappings);
  for (const ModuleOptions& module : modules) validate(module);
  return parameter_count(modules);
}

// Options of a kind that is one of an enumeration.
template <class Options>
Options options_of_kind(const py::object& mapping) {
  using Kind = decltype(Options::kind);
  OptionReader<PythonSource> reader(mapping, "");
  Options options;
  options.kind = chosen<Kind>(reader.take_kind(all_words<Kind>()), "kind");
  each_option(options, reader);
  reader.finish();
  return options;
}

py::dict checked_optimizer(const py::object& mapping) {
  OptimizerOptions options = optimizer_options(mapping);
  validate(options);
  OptionWriter writer(word_for(options.kind));
  each_option(options, writer);
  return writer.finish();
}

}  // namespace

std::vector<ModuleOptions> module_options(const py::object& modules) { return read_modules<PythonSource>(modules); }

Loss loss_options(const py::object& loss) { return options_of_kind<Loss>(loss); }

OptimizerOptions optimizer_options(const py::object& optimizer) { return options_of_kind<OptimizerOptions>(optimizer); }

void register_options(py::module_& module) {
  module.def("checked_module", &checked_module, py::arg("module"));
  module.def("checked_modules", &checked_modules, py::arg("modules"));
  module.def("checked_optimizer", &checked_optimizer, py::arg("optimizer"));
  module.def("parameter_count", &counted_parameters, py::arg("modules"));
}

}  // namespace python
}  // namespace latchwork
