// Plain Python numbers and mappings become the core's options; an unknown key is a ValueError.
#include "options.hpp"

#include <algorithm>
#include <array>
#include <initializer_list>
#include <optional>
#include <string>
#include <utility>

namespace latchwork::python {
namespace {

std::string type_name(py::handle value) { return Py_TYPE(value.ptr())->tp_name; }

py::int_ int_argument(py::handle value, std::string_view name) {
  if (PyBool_Check(value.ptr()) || PyIndex_Check(value.ptr()) == 0) {
    throw py::type_error(complaint(name, "int", type_name(value)));
  }
  PyObject* number = PyNumber_Index(value.ptr());
  if (number == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::int_>(number);
}

double float_argument(py::handle value, std::string_view name) {
  // Strings have no __float__, but arrays of one element do; PyNumber_Float says what is wrong with the others.
  if (PyBool_Check(value.ptr()) || PyNumber_Check(value.ptr()) == 0) {
    throw py::type_error(complaint(name, "float", type_name(value)));
  }
  const double number = PyFloat_AsDouble(value.ptr());
  if (number == -1.0 && PyErr_Occurred() != nullptr) throw py::error_already_set();
  return number;
}

std::string text_argument(py::handle value, const std::string& name) {
  if (!py::isinstance<py::str>(value)) throw py::type_error(complaint(name, "str", type_name(value)));
  return value.cast<std::string>();
}

// `items`: what a sequence is expected to hold, for the message.
py::tuple sequence_argument(py::handle value, const std::string& name, const char* items) {
  if (!py::isinstance<py::sequence>(value) || py::isinstance<py::str>(value)) {
    throw py::type_error(complaint(name, std::string("a sequence of ") + items, type_name(value)));
  }
  PyObject* tuple = PySequence_Tuple(value.ptr());
  if (tuple == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::tuple>(tuple);
}

// A copy of a mapping.
py::dict mapping_argument(py::handle mapping, const std::string& name) {
  if (!py::hasattr(mapping, "keys")) throw py::type_error(complaint(name, "a mapping", type_name(mapping)));
  PyObject* copy = PyDict_New();
  if (copy == nullptr) throw py::error_already_set();
  auto dict = py::reinterpret_steal<py::dict>(copy);
  if (PyDict_Update(copy, mapping.ptr()) != 0) throw py::error_already_set();
  return dict;
}

std::optional<double> optional_float_argument(py::handle value, const std::string& name) {
  if (value.is_none()) return std::nullopt;
  return float_argument(value, name);
}

GateActivation gate_activation(py::handle value, const std::string& name) {
  const py::tuple parts = sequence_argument(value, name, "name, alpha and beta");
  if (parts.size() != 3) throw py::value_error(complaint(name, "3 items", std::to_string(parts.size())));
  return {text_argument(parts[0], name), optional_float_argument(parts[1], name + ".alpha"),
          optional_float_argument(parts[2], name + ".beta")};
}

// A gate that is missing keeps its default.
CellActivations cell_activations(py::handle mapping, const std::string& name) {
  CellActivations activations;
  const std::array<std::pair<std::string_view, GateActivation*>, 5> gates{{{"input", &activations.input},
                                                                           {"forget", &activations.forget},
                                                                           {"candidate", &activations.candidate},
                                                                           {"output", &activations.output},
                                                                           {"cell", &activations.cell}}};
  for (const auto& [key, value] : mapping_argument(mapping, name)) {
    const std::string key_text = text_argument(key, name + ": a key");
    const auto* const gate =
        std::find_if(gates.begin(), gates.end(), [&](const auto& known) { return known.first == key_text; });
    if (gate == gates.end()) {
      throw py::value_error(
          complaint(name, "\"input\", \"forget\", \"candidate\", \"output\" or \"cell\"", "\"" + key_text + "\""));
    }
    *gate->second = gate_activation(value, name + "." + key_text);
  }
  return activations;
}

template <class Enum>
using Choices = std::initializer_list<std::pair<std::string_view, Enum>>;

// A copy of a mapping from which options are taken one by one; what is left at the end is unknown.
class OptionReader {
 public:
  OptionReader(py::handle mapping, std::string name)
      : name_(std::move(name)), options_(mapping_argument(mapping, name_)), kind_(take_kind()) {}

  const std::string& kind() const { return kind_; }
  std::string label(std::string_view key) const { return name_ + "." + std::string(key); }

  void take(const char* key, Index& option) {
    if (const py::object value = pop(key)) option = index_argument(value, label(key));
  }
  void take(const char* key, double& option) {
    if (const py::object value = pop(key)) option = float_argument(value, label(key));
  }
  void take(const char* key, bool& option) {
    if (const py::object value = pop(key)) option = bool_argument(value, label(key));
  }
  void take(const char* key, std::optional<double>& option) {
    if (const py::object value = pop(key)) option = optional_float_argument(value, label(key));
  }
  template <class Enum>
  void take(const char* key, Enum& option, Choices<Enum> choices) {
    if (const py::object value = pop(key)) option = choose(text_argument(value, label(key)), key, choices);
  }
  void take(const char* key, std::vector<double>& option) {
    const py::object value = pop(key);
    if (!value) return;
    option.clear();
    for (py::handle item : sequence_argument(value, label(key), "float")) {
      option.push_back(float_argument(item, label(key)));
    }
  }

  // One set of activations is that of both directions.
  void take(const char* key, std::array<CellActivations, 2>& option) {
    const py::object value = pop(key);
    if (!value) return;
    const py::tuple sets = sequence_argument(value, label(key), "mappings");
    if (sets.size() != 1 && sets.size() != 2) {
      throw py::value_error(complaint(label(key), "1 or 2 mappings", std::to_string(sets.size())));
    }
    for (std::size_t direction = 0; direction < option.size(); ++direction) {
      const std::size_t at = std::min(direction, sets.size() - 1);
      option[direction] = cell_activations(sets[at], label(key) + "[" + std::to_string(at) + "]");
    }
  }

  // None is the activation that does nothing.
  void take_activation(Activation& option) {
    const py::object value = pop("activation");
    if (!value || value.is_none()) return;
    option =
        choose<Activation>(text_argument(value, label("activation")), "activation",
                           {{"relu", Activation::relu}, {"sigmoid", Activation::sigmoid}, {"tanh", Activation::tanh}});
  }

  template <class Enum>
  Enum choose_kind(Choices<Enum> choices) const {
    return choose(kind_, "kind", choices);
  }

  void finish() const {
    for (const auto& item : options_) {
      throw py::value_error(name_ + ": unknown option " + std::string(py::repr(item.first)) + " for kind \"" + kind_ +
                            "\"");
    }
  }

 private:
  std::string take_kind() {
    const py::object value = pop("kind");
    if (!value) throw py::value_error(name_ + ": option \"kind\" is missing");
    return text_argument(value, label("kind"));
  }

  py::object pop(const char* key) {
    if (!options_.contains(key)) return {};
    py::object value = options_[key];
    options_.attr("__delitem__")(key);
    return value;
  }

  template <class Enum>
  Enum choose(const std::string& value, const char* key, Choices<Enum> choices) const {
    std::string expected;
    for (const auto& [text, choice] : choices) {
      if (text == value) return choice;
      expected.append(expected.empty() ? "\"" : "\", \"").append(text);
    }
    throw py::value_error(complaint(label(key), expected + "\"", "\"" + value + "\""));
  }

  std::string name_;
  py::dict options_;
  std::string kind_;
};

LstmOptions lstm_options(OptionReader& reader) {
  LstmOptions lstm;
  reader.take("input_size", lstm.input_size);
  reader.take("hidden_size", lstm.hidden_size);
  reader.take("num_layers", lstm.num_layers);
  reader.take("bias", lstm.bias);
  reader.take("dropout", lstm.dropout);
  reader.take<Direction>("direction", lstm.direction,
                         {{"forward", Direction::forward}, {"reverse", Direction::reverse}, {"both", Direction::both}});
  reader.take("proj_size", lstm.proj_size);
  reader.take("cell", lstm.cell);
  reader.take<ForgetGate>("forget_gate", lstm.forget_gate,
                          {{"own", ForgetGate::own}, {"none", ForgetGate::none}, {"coupled", ForgetGate::coupled}});
  reader.take("peephole", lstm.peephole);
  reader.take("layer_norm", lstm.layer_norm);
  reader.take("activations", lstm.activations);
  reader.take("clip", lstm.clip);
  reader.take("cell_clip", lstm.cell_clip);
  reader.take("zoneout_hidden", lstm.zoneout_hidden);
  reader.take("zoneout_cell", lstm.zoneout_cell);
  reader.take("recurrent_dropout", lstm.recurrent_dropout);
  reader.take<RecurrentDropoutOn>(
      "recurrent_dropout_on", lstm.recurrent_dropout_on,
      {{"hidden", RecurrentDropoutOn::hidden}, {"candidate", RecurrentDropoutOn::candidate}});
  reader.take("weight_dropout", lstm.weight_dropout);
  reader.take("residual", lstm.residual);
  reader.take("learn_start_state", lstm.learn_start_state);
  reader.take("forget_bias", lstm.forget_bias);
  reader.take<Initialisation>("init", lstm.init,
                              {{"torch", Initialisation::torch},
                               {"keras", Initialisation::keras},
                               {"orthogonal", Initialisation::orthogonal},
                               {"chrono", Initialisation::chrono}});
  reader.take("t_max", lstm.t_max);
  return lstm;
}

enum class ModuleKind { embedding, lstm, last, linear };

ModuleOptions one_module(py::handle mapping, std::string name) {
  OptionReader reader(mapping, std::move(name));
  ModuleOptions module;
  switch (reader.choose_kind<ModuleKind>({{"embedding", ModuleKind::embedding},
                                          {"lstm", ModuleKind::lstm},
                                          {"last", ModuleKind::last},
                                          {"linear", ModuleKind::linear}})) {
    case ModuleKind::embedding: {
      EmbeddingOptions embedding;
      reader.take("vocabulary", embedding.vocabulary);
      reader.take("size", embedding.size);
      module = embedding;
      break;
    }
    case ModuleKind::lstm:
      module = lstm_options(reader);
      break;
    case ModuleKind::last:
      module = LastOptions{};
      break;
    case ModuleKind::linear: {
      LinearOptions linear;
      reader.take("input_size", linear.input_size);
      reader.take("output_size", linear.output_size);
      reader.take("bias", linear.bias);
      reader.take_activation(linear.activation);
      module = linear;
      break;
    }
  }
  reader.finish();
  return module;
}

}  // namespace

bool bool_argument(py::handle value, std::string_view name) {
  // np.bool_ is no subclass of bool.
  if (!PyBool_Check(value.ptr()) && !py::isinstance(value, py::module_::import("numpy").attr("bool_"))) {
    throw py::type_error(complaint(name, "bool", type_name(value)));
  }
  return PyObject_IsTrue(value.ptr()) == 1;
}

Index index_argument(py::handle value, std::string_view name) {
  const py::int_ number = int_argument(value, name);
  int overflow = 0;
  const long long result = PyLong_AsLongLongAndOverflow(number.ptr(), &overflow);
  const auto index = static_cast<Index>(result);
  if (overflow != 0 || index != result) {
    throw py::value_error(complaint(name, "an int of at most 64 bits", std::string(py::str(number))));
  }
  return index;
}

Index size_argument(py::handle value, std::string_view name) {
  const Index index = index_argument(value, name);
  if (index < 0) throw py::value_error(complaint(name, "an int of at least 0", std::to_string(index)));
  return index;
}

std::uint64_t seed_argument(py::handle value, std::string_view name) {
  const py::int_ number = int_argument(value, name);
  const unsigned long long seed = PyLong_AsUnsignedLongLong(number.ptr());
  if (PyErr_Occurred() != nullptr) {
    PyErr_Clear();
    throw py::value_error(complaint(name, "an int from 0 to 2^64 - 1", std::string(py::str(number))));
  }
  return seed;
}

Signal signal_named(const std::string& name) {
  static constexpr std::pair<const char*, Signal> signals[] = {{"input_gate", Signal::input_gate},
                                                               {"forget_gate", Signal::forget_gate},
                                                               {"candidate", Signal::candidate},
                                                               {"output_gate", Signal::output_gate},
                                                               {"cell", Signal::cell},
                                                               {"hidden", Signal::hidden}};
  for (const auto& [text, signal] : signals) {
    if (name == text) return signal;
  }
  throw py::value_error(
      complaint("signal", "input_gate, forget_gate, candidate, output_gate, cell or hidden", "\"" + name + "\""));
}

Index position_argument(py::handle value, std::string_view name, Index count) {
  const Index index = index_argument(value, name);
  if (index < 0 || index >= count) {
    throw py::value_error(complaint(name, "an int from 0 to " + std::to_string(count - 1), std::to_string(index)));
  }
  return index;
}

std::vector<ModuleOptions> module_options(py::handle modules) {
  if (!py::isinstance<py::sequence>(modules)) {
    throw py::type_error(complaint("modules", "a sequence of mappings", type_name(modules)));
  }
  std::vector<ModuleOptions> options;
  const py::tuple items(py::reinterpret_borrow<py::object>(modules));
  for (py::handle item : items) options.push_back(one_module(item, "modules[" + std::to_string(options.size()) + "]"));
  return options;
}

Loss loss_options(py::handle loss) {
  OptionReader reader(loss, "loss");
  Loss options;
  options.kind = reader.choose_kind<LossKind>({{"cross_entropy", LossKind::cross_entropy},
                                               {"squared_error", LossKind::squared_error},
                                               {"absolute_error", LossKind::absolute_error},
                                               {"quantile", LossKind::quantile}});
  reader.take("quantiles", options.quantiles);
  reader.finish();
  return options;
}

OptimizerOptions optimizer_options(py::handle optimizer) {
  OptionReader reader(optimizer, "optimizer");
  OptimizerOptions options;
  options.kind = reader.choose_kind<OptimizerKind>(
      {{"sgd", OptimizerKind::sgd}, {"adam", OptimizerKind::adam}, {"adamw", OptimizerKind::adamw}});
  reader.take("lr", options.lr);
  reader.take("momentum", options.momentum);
  reader.take("dampening", options.dampening);
  reader.take("nesterov", options.nesterov);
  reader.take("beta1", options.beta1);
  reader.take("beta2", options.beta2);
  reader.take("eps", options.eps);
  reader.take("weight_decay", options.weight_decay);
  reader.finish();
  return options;
}

}  // namespace latchwork::python
