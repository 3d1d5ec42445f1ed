// JSON in files that may be hostile: its depth and the memory that it takes are limited, and no key may come twice.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "latchwork/types.hpp"

namespace latchwork::files {

using Json = nlohmann::json;

// Throws std::invalid_argument; `name` is what the message calls the text.
Json parsed(const std::string& text, const std::string& name);

// What Python calls the type of a value.
const char* type_name(const Json& value);

// Throws std::invalid_argument unless the object has exactly these keys.
void check_keys(const std::string& name, const Json& object, const std::vector<std::string>& expected);

// Reads JSON for OptionReader.
struct JsonSource {
  using Value = const Json*;
  struct Mapping {
    const Json* object;
    std::vector<std::string> taken;
  };

  static Mapping mapping(Value value, const std::string& name);
  static std::optional<Value> take(Mapping& mapping, const char* key);
  static std::optional<std::string> left(const Mapping& mapping);

  static Index index(Value value, const std::string& name);
  static double real(Value value, const std::string& name);
  static bool truth(Value value, const std::string& name);
  static std::string text(Value value, const std::string& name);
  static bool is_none(Value value) { return value->is_null(); }
  static bool is_text(Value value) { return value->is_string(); }
  static bool is_list(Value value) { return value->is_array(); }
  static std::vector<Value> items(Value value, const std::string& name, const char* what);
  [[noreturn]] static void refuse_activation(Value value, const std::string& name, const char* expected);
};

}  // namespace latchwork::files
