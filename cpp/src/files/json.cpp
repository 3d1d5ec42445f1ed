#include "files/json.hpp"

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <utility>

#include "weights/refusal.hpp"

namespace latchwork::files {
namespace {

constexpr std::size_t deepest = 64;
// The memory of one text's values, in units of 16 bytes, which is what a number in a list takes. It holds a vocabulary
// of all characters that any language has.
constexpr std::size_t most_memory = 1'000'000;
constexpr std::size_t memory_of_a_number = 1;
constexpr std::size_t memory_of_a_text = 4;
constexpr std::size_t memory_of_a_container = 8;
constexpr std::size_t memory_of_a_key = 8;

// Makes the value that the parser reads, and gives up as soon as it is too large.
class Builder : public nlohmann::json_sax<Json> {
 public:
  explicit Builder(const std::string& name) : name_(name) {}

  Json take() { return std::move(root_); }

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(number_integer_t value) override { return add(value); }
  bool number_unsigned(number_unsigned_t value) override { return add(value); }
  bool number_float(number_float_t value, const string_t&) override { return add(value); }
  bool string(string_t& value) override {
    count(memory_of_a_text);
    return add(std::move(value));
  }
  bool binary(binary_t&) override { return false; }  // JSON has none
  bool start_object(std::size_t) override { return open(Json::object()); }
  bool end_object() override { return close(); }
  bool start_array(std::size_t) override { return open(Json::array()); }
  bool end_array() override { return close(); }

  bool key(string_t& value) override {
    count(memory_of_a_key);
    if (containers_.back()->contains(value)) refuse(name_, "each key once", "\"" + value + "\" again");
    key_ = std::move(value);
    return true;
  }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception&) override {
    refuse(name_, "JSON", "a mistake at byte " + std::to_string(position));
  }

 private:
  void count(std::size_t memory) {
    memory_ += memory;
    if (memory_ > most_memory) refuse(name_, "values that take less than 16 MB", "more");
  }

  template <class Value>
  bool add(Value&& value) {
    place(std::forward<Value>(value));
    return true;
  }

  Json* place(Json value) {
    count(memory_of_a_number);
    if (containers_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    Json& container = *containers_.back();
    if (container.is_object()) return &(container[std::move(key_)] = std::move(value));
    container.push_back(std::move(value));
    return &container.back();
  }

  bool open(Json container) {
    count(memory_of_a_container);
    if (containers_.size() == deepest) refuse(name_, "at most " + std::to_string(deepest) + " levels", "more");
    containers_.push_back(place(std::move(container)));
    return true;
  }

  bool close() {
    containers_.pop_back();
    return true;
  }

  const std::string& name_;
  Json root_;
  std::vector<Json*> containers_;  // those that are open; none grows while one in it is open
  std::string key_;
  std::size_t memory_ = 0;
};

}  // namespace

Json parsed(const std::string& text, const std::string& name) {
  Builder builder(name);
  Json::sax_parse(text, &builder);
  return builder.take();
}

const char* type_name(const Json& value) {
  switch (value.type()) {
    case Json::value_t::null:
      return "NoneType";
    case Json::value_t::boolean:
      return "bool";
    case Json::value_t::number_integer:
    case Json::value_t::number_unsigned:
      return "int";
    case Json::value_t::number_float:
      return "float";
    case Json::value_t::string:
      return "str";
    case Json::value_t::array:
      return "list";
    default:
      return "dict";
  }
}

void check_keys(const std::string& name, const Json& object, const std::vector<std::string>& expected) {
  const auto joined = [](const auto& keys) {
    std::string text;
    for (const auto& key : keys) text.append(text.empty() ? "" : ", ").append(key);
    return text.empty() ? "nothing" : text;
  };
  std::vector<std::string> found;
  for (const auto& item : object.items()) found.push_back(item.key());
  if (std::is_permutation(found.begin(), found.end(), expected.begin(), expected.end())) return;
  if (found.size() > 2 * expected.size()) found.resize(2 * expected.size());
  refuse(name, joined(expected), joined(found));
}

JsonSource::Mapping JsonSource::mapping(Value value, const std::string& name) {
  if (!value->is_object()) refuse(name, "a mapping", type_name(*value));
  return {value, {}};
}

std::optional<JsonSource::Value> JsonSource::take(Mapping& mapping, const char* key) {
  const auto found = mapping.object->find(key);
  if (found == mapping.object->end()) return {};
  mapping.taken.emplace_back(key);
  return &*found;
}

std::optional<std::string> JsonSource::left(const Mapping& mapping) {
  for (const auto& item : mapping.object->items()) {
    if (std::find(mapping.taken.begin(), mapping.taken.end(), item.key()) == mapping.taken.end()) {
      return "'" + item.key() + "'";
    }
  }
  return {};
}

Index JsonSource::index(Value value, const std::string& name) {
  if (!value->is_number_integer()) refuse(name, "int", type_name(*value));
  constexpr auto largest = std::numeric_limits<Index>::max();
  if (value->is_number_unsigned() && value->get<std::uint64_t>() > static_cast<std::uint64_t>(largest)) {
    refuse(name, "at most " + std::to_string(largest), std::to_string(value->get<std::uint64_t>()));
  }
  return value->get<Index>();
}

double JsonSource::real(Value value, const std::string& name) {
  if (!value->is_number()) refuse(name, "float", type_name(*value));
  return value->get<double>();
}

bool JsonSource::truth(Value value, const std::string& name) {
  if (!value->is_boolean()) refuse(name, "bool", type_name(*value));
  return value->get<bool>();
}

std::string JsonSource::text(Value value, const std::string& name) {
  if (!value->is_string()) refuse(name, "str", type_name(*value));
  return value->get<std::string>();
}

std::vector<JsonSource::Value> JsonSource::items(Value value, const std::string& name, const char* what) {
  if (!value->is_array()) refuse(name, std::string("a sequence of ") + what, type_name(*value));
  std::vector<Value> items;
  for (const Json& item : *value) items.push_back(&item);
  return items;
}

void JsonSource::refuse_activation(Value value, const std::string& name, const char* expected) {
  refuse(name, expected, type_name(*value));
}

}  // namespace latchwork::files
