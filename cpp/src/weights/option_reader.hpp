// Reads the options of modules from mappings of names to plain values, whatever holds them: Python's dictionaries, or
// the JSON of a model file. Both are so refused by the same words.
#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "latchwork/options.hpp"
#include "weights/option_names.hpp"
#include "weights/refusal.hpp"

namespace latchwork {

template <class Enum>
Enum chosen(const std::string& text, const std::string& name) {
  for (const auto& [word, value] : Words<Enum>::list) {
    if (word == text) return value;
  }
  refuse(name, "one of " + all_words<Enum>(), "\"" + text + "\"");
}

// Takes the options of one mapping out of it one by one. Any that are left at the end are unknown options.
//
// `Source` says how to read values, and throws for one of the wrong type. It has the types `Value` and `Mapping`, a
// copy of a mapping, and these functions, whose `name` is the value's name in messages:
//
//   Mapping mapping(value, name)              std::optional<Value> take(Mapping&, key): null if it is not there
//   std::optional<std::string> left(Mapping)  a key that is still there, quoted as Python quotes it
//   Index index(value, name)                  double real(value, name)
//   bool truth(value, name)                   std::string text(value, name)
//   bool is_none(value), is_text(value), is_list(value)
//   std::vector<Value> items(value, name, what): of a list; `what` they should be
//   refuse_activation(value, name, expected): throws for a value that is neither a text nor a list
template <class Source>
class OptionReader {
 public:
  using Value = typename Source::Value;

  // `name` is the mapping's name in messages. If it is empty, messages name the option alone.
  OptionReader(const Value& mapping, std::string name)
      : name_(std::move(name)), options_(Source::mapping(mapping, name_.empty() ? "options" : name_)) {}

  std::string label(std::string_view key) const {
    return name_.empty() ? std::string(key) : name_ + "." + std::string(key);
  }

  std::string take_kind(const std::string& kinds) {
    const std::optional<Value> value = Source::take(options_, "kind");
    if (!value) refuse(label("kind"), "one of " + kinds, "none");
    return kind_ = Source::text(*value, label("kind"));
  }

  template <class Option>
  void operator()(const char* key, Option& option) {
    if (const std::optional<Value> value = Source::take(options_, key)) read(*value, label(key), option);
  }

  template <class Option>
  void operator()(const char* key, Option& option, const Option&) {
    (*this)(key, option);
  }

  void finish() const {
    if (const std::optional<std::string> key = Source::left(options_)) {
      throw std::invalid_argument((name_.empty() ? "" : name_ + ": ") + "unknown option " + *key + " for kind \"" +
                                  kind_ + "\"");
    }
  }

 private:
  static void read(const Value& value, const std::string& name, Index& option) { option = Source::index(value, name); }
  static void read(const Value& value, const std::string& name, double& option) { option = Source::real(value, name); }
  static void read(const Value& value, const std::string& name, bool& option) { option = Source::truth(value, name); }

  template <class Enum>
    requires std::is_enum_v<Enum>
  static void read(const Value& value, const std::string& name, Enum& option) {
    option = chosen<Enum>(Source::text(value, name), name);
  }

  template <class Option>
  static void read(const Value& value, const std::string& name, std::optional<Option>& option) {
    option.reset();
    if (!Source::is_none(value)) read(value, name, option.emplace());
  }

  // A name, or (name,), (name, alpha), (name, alpha, beta).
  static void read(const Value& value, const std::string& name, Activation& option) {
    static constexpr const char* expected = "a name or (name, alpha, beta)";
    option = {};
    if (Source::is_text(value)) {
      option.name = Source::text(value, name);
      return;
    }
    if (!Source::is_list(value)) Source::refuse_activation(value, name, expected);
    const std::vector<Value> parts = Source::items(value, name, expected);
    if (parts.empty() || parts.size() > 3) refuse(name, expected, std::to_string(parts.size()) + " items");
    option.name = Source::text(parts[0], name);
    if (parts.size() > 1) option.alpha = Source::real(parts[1], name + ".alpha");
    if (parts.size() > 2) option.beta = Source::real(parts[2], name + ".beta");
  }

  // A gate that is not in the mapping keeps its default.
  static void read(const Value& value, const std::string& name, CellActivations& option) {
    option = {};
    auto gates = Source::mapping(value, name);
    for (const auto& [gate, activation] : gates_of(option)) {
      if (const std::optional<Value> given = Source::take(gates, gate)) read(*given, name + "." + gate, *activation);
    }
    if (const std::optional<std::string> key = Source::left(gates)) {
      refuse(name, "keys among input, forget, candidate, output, cell", *key);
    }
  }

  static void read(const Value& value, const std::string& name, std::vector<double>& option) {
    option.clear();
    for (const Value& item : Source::items(value, name, "float")) option.push_back(Source::real(item, name));
  }

  static void read(const Value& value, const std::string& name, std::vector<Index>& option) {
    option.clear();
    for (const Value& item : Source::items(value, name, "int")) option.push_back(Source::index(item, name));
  }

  static void read(const Value& value, const std::string& name, std::vector<CellActivations>& option) {
    option.clear();
    for (const Value& item : Source::items(value, name, "mappings")) {
      const std::string place = name + "[" + std::to_string(option.size()) + "]";
      read(item, place, option.emplace_back());
    }
  }

  std::string name_;
  typename Source::Mapping options_;
  std::string kind_;
};

// The options of one module, whose mapping says its kind.
template <class Source>
ModuleOptions read_module(const typename Source::Value& mapping, std::string name) {
  OptionReader<Source> reader(mapping, std::move(name));
  const std::string kind = reader.take_kind(all_kinds());
  std::optional<ModuleOptions> module = module_of_kind(kind);
  if (!module) refuse(reader.label("kind"), "one of " + all_kinds(), "\"" + kind + "\"");
  std::visit([&](auto& options) { each_option(options, reader); }, *module);
  reader.finish();
  return *std::move(module);
}

// The options of a list of modules, which may be invalid.
template <class Source>
std::vector<ModuleOptions> read_modules(const typename Source::Value& modules) {
  const auto items = Source::items(modules, "modules", "mappings");
  std::vector<ModuleOptions> options;
  for (const auto& item : items) {
    // Like validate(), messages about a chain of one module name its options alone.
    options.push_back(
        read_module<Source>(item, items.size() == 1 ? "" : "modules[" + std::to_string(options.size()) + "]"));
  }
  return options;
}

}  // namespace latchwork
