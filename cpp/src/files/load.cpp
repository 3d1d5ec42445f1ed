#include <algorithm>
#include <iterator>
#include <limits>
#include <set>
#include <stdexcept>
#include <utility>

#include "files/json.hpp"
#include "files/safetensors.hpp"
#include "latchwork/files.hpp"
#include "latchwork/parameters.hpp"
#include "weights/module_sizes.hpp"
#include "weights/option_reader.hpp"
#include "weights/refusal.hpp"

namespace latchwork {
namespace {

using files::Json;
using files::JsonSource;
using files::SafetensorsFile;
using files::TensorEntry;

constexpr const char* format_version = "2";
constexpr const char* language_model = "language_model";
constexpr const char* cell_kind = "lstm_cell";

// The kinds whose model is a chain of any length.
constexpr const char* chain_kinds[] = {"classifier", language_model, "network", "regressor"};

bool is_chain(const std::string& kind) {
  return std::find(std::begin(chain_kinds), std::end(chain_kinds), kind) != std::end(chain_kinds);
}

void check_kind(const std::string& kind) {
  std::set<std::string> kinds(std::begin(chain_kinds), std::end(chain_kinds));
  for (const std::string& layer : layer_kinds()) kinds.insert(layer);
  kinds.insert(cell_kind);
  if (kinds.contains(kind)) return;
  std::string names;
  for (const std::string& name : kinds) names.append(names.empty() ? "" : ", ").append(name);
  throw std::invalid_argument("expected a model of kind " + names + ", got '" + kind + "'");
}

void check_version(const std::string& version) {
  if (version == format_version) return;
  throw std::invalid_argument(std::string("expected format_version ") + format_version + ", got " + version +
                              (version == "1" ? ", which was never released; save the model again with this version "
                                                "of Latchwork"
                                              : "; a newer Latchwork may read it"));
}

std::string metadata_of(const SafetensorsFile& file, const std::string& name) {
  const auto found = file.metadata().find(name);
  if (found != file.metadata().end()) return found->second;
  throw std::invalid_argument("expected a file that Latchwork wrote, got one whose metadata lack " + name);
}

std::string kind_of_module(const ModuleOptions& module) {
  const auto* const lstm = std::get_if<LstmOptions>(&module);
  if (lstm != nullptr && lstm->cell) return cell_kind;
  return std::visit([](const auto& options) { return std::string(kind_of(options)); }, module);
}

Dtype dtype_of(const Json& value) {
  if (value == "float32") return Dtype::float32;
  if (value == "float64") return Dtype::float64;
  refuse("dtype", "\"float32\" or \"float64\"",
         value.is_string() ? "'" + value.get<std::string>() + "'"
         : value.is_null() ? "None"
                           : files::type_name(value));
}

const char* name_of(Dtype dtype) { return dtype == Dtype::float32 ? "float32" : "float64"; }

std::vector<char32_t> vocabulary_of(const Json& list) {
  std::vector<char32_t> vocabulary;
  for (const auto* item : JsonSource::items(&list, "vocabulary", "int")) {
    const Index point = JsonSource::index(item, "vocabulary");
    if (point < 0 || point > 0x10FFFF) refuse("vocabulary", "code points", text(point));
    if (!vocabulary.empty() && static_cast<char32_t>(point) <= vocabulary.back()) {
      throw std::invalid_argument("vocabulary: expected different characters in order");
    }
    vocabulary.push_back(static_cast<char32_t>(point));
  }
  return vocabulary;
}

// The modules of a chain, or the one of a layer.
void check_modules(const ModelInfo& info) {
  if (!is_chain(info.kind)) {
    validate(info.modules.front());
    const std::string kind = kind_of_module(info.modules.front());
    if (kind != info.kind) refuse("kind", info.kind, kind);
    return;
  }
  validate(info.modules);
  for (std::size_t at = 0; at < info.modules.size(); ++at) {
    if (kind_of_module(info.modules[at]) != cell_kind) continue;
    refuse("modules[" + std::to_string(at) + "].kind", "one of " + all_kinds(), cell_kind);
  }
}

void check_vocabulary(const ModelInfo& info) {
  Index size = chain_input_size(info.modules);
  for (const ModuleOptions& module : info.modules) size = module_output_size(module, size);
  const auto* const table = std::get_if<EmbeddingOptions>(&info.modules.front());
  const auto count = static_cast<Index>(info.vocabulary.size()) + 1;  // the last one stands for all other characters
  if (table != nullptr && table->num_embeddings == count && size == count) return;
  throw std::invalid_argument("network: expected one that reads and predicts " + text(count) + " tokens");
}

ModelInfo info_of(const SafetensorsFile& file) {
  const auto& metadata = file.metadata();
  if (!metadata.contains("format_version") || !metadata.contains("kind")) {
    throw std::invalid_argument("expected a model that Latchwork wrote, got a safetensors file from elsewhere: " +
                                std::to_string(file.tensors().size()) + " tensors");
  }
  check_version(metadata_of(file, "format_version"));
  ModelInfo info;
  info.kind = metadata_of(file, "kind");
  check_kind(info.kind);
  info.config = metadata_of(file, "config");
  info.python = metadata_of(file, "python");

  const Json config = files::parsed(info.config, "config");
  if (!config.is_object()) refuse("config", "an object", files::type_name(config));
  std::vector<std::string> names = {"modules", "dtype", "members"};
  if (info.kind == language_model) names.emplace_back(config.contains("tokenizer") ? "tokenizer" : "vocabulary");
  files::check_keys("config", config, names);

  const Json& modules = config["modules"];
  if (!is_chain(info.kind) && (!modules.is_array() || modules.size() != 1)) {
    refuse("modules", "a list of one module",
           modules.is_array() ? text(static_cast<Index>(modules.size())) : files::type_name(modules));
  }
  info.modules = read_modules<JsonSource>(&modules);
  check_modules(info);
  info.dtype = dtype_of(config["dtype"]);
  info.members = JsonSource::index(&config["members"], "members");
  if (info.members < 1) refuse("members", "at least 1", text(info.members));
  if (config.contains("vocabulary")) {
    info.vocabulary = vocabulary_of(config["vocabulary"]);
    check_vocabulary(info);
  }
  return info;
}

std::string shape_text(const std::vector<Index>& shape) {
  std::string extents;
  for (const Index extent : shape) extents.append(extents.empty() ? "" : ", ").append(text(extent));
  return "(" + extents + (shape.size() == 1 ? ",)" : ")");
}

std::vector<Index> with_members(Index members, std::vector<Index> shape) {
  if (members > 1) shape.insert(shape.begin(), members);
  return shape;
}

// Checked before any memory is taken for parameters, so that a file that claims sizes it does not fill costs none.
void check_count(const ModelInfo& info, const SafetensorsFile& file) {
  const Index size = parameter_count(info.modules);
  const bool fits = size == 0 || info.members <= std::numeric_limits<Index>::max() / size;
  Index count = 0;
  for (const TensorEntry& tensor : file.tensors()) count += tensor.size();
  if (fits && count == info.members * size) return;
  refuse("tensors",
         (fits ? text(info.members * size) + " numbers" : std::string("more numbers than a file holds")) +
             " for this configuration",
         text(count));
}

void check_dtypes(const ModelInfo& info, const SafetensorsFile& file) {
  const std::string own = info.dtype == Dtype::float32 ? "F32" : "F64";
  for (const TensorEntry& tensor : file.tensors()) {
    if (tensor.dtype == own || tensor.dtype == "F16" || tensor.dtype == "BF16") continue;
    refuse(tensor.name, std::string("dtype ") + name_of(info.dtype), files::numpy_name(tensor.dtype));
  }
}

// A parameter, and the tensor of the file that holds it for all members.
struct Place {
  ParameterSpec spec;
  const TensorEntry* tensor;
};

std::vector<Place> places_of(const ModelInfo& info, const SafetensorsFile& file, TensorNames names) {
  check_count(info, file);
  check_dtypes(info, file);
  std::map<std::string, const TensorEntry*> unused;
  for (const TensorEntry& tensor : file.tensors()) unused.emplace(tensor.name, &tensor);
  std::string faults;
  std::vector<Place> places;
  for (ParameterSpec& spec : parameter_layout(info.modules, names)) {
    const auto found = unused.find(spec.name);
    if (found == unused.end()) {
      faults.append(faults.empty() ? "missing " : ", ").append(spec.name);
      continue;
    }
    places.push_back({std::move(spec), found->second});
    unused.erase(found);
  }
  bool first = true;
  for (const auto& [name, tensor] : unused) {
    faults.append(first ? (faults.empty() ? "unexpected " : "; unexpected ") : ", ").append(name);
    first = false;
  }
  if (!faults.empty()) refuse("state_dict", "exactly the names of the parameters", faults);
  for (const Place& place : places) {
    const std::vector<Index> shape = with_members(info.members, place.spec.shape);
    if (place.tensor->shape != shape) refuse(place.spec.name, shape_text(shape), shape_text(place.tensor->shape));
  }
  return places;
}

template <class T>
Network<T> network_of(const ModelInfo& info, SafetensorsFile& file) {
  const TensorNames names = is_chain(info.kind) ? TensorNames::of_chain : TensorNames::of_layer;
  const std::vector<Place> places = places_of(info, file, names);
  return Network<T>::with_parameters(info.modules, names, info.members, [&](T* parameters, Index size) {
    for (const Place& place : places) {
      const Index count = place.spec.size();
      for (Index member = 0; member < info.members; ++member) {
        file.read(*place.tensor, member * count, count, parameters + member * size + place.spec.offset);
      }
    }
  });
}

// What `read` makes of the file. What is wrong with it names the file.
template <class Read>
auto from_file(const std::filesystem::path& path, Read&& read) {
  try {
    SafetensorsFile file(path);
    return read(info_of(file), file);
  } catch (const std::invalid_argument& error) {
    throw std::invalid_argument(path.string() + ": " + error.what());
  }
}

}  // namespace

ModelInfo model_info(const std::filesystem::path& file) {
  return from_file(file, [](ModelInfo info, const SafetensorsFile& content) {
    places_of(info, content, is_chain(info.kind) ? TensorNames::of_chain : TensorNames::of_layer);
    return info;
  });
}

AnyNetwork load(const std::filesystem::path& file) {
  return from_file(file, [](const ModelInfo& info, SafetensorsFile& content) {
    return info.dtype == Dtype::float32 ? AnyNetwork(network_of<float>(info, content))
                                        : AnyNetwork(network_of<double>(info, content));
  });
}

template <class T>
Network<T> load(const std::filesystem::path& file) {
  return from_file(file, [](const ModelInfo& info, SafetensorsFile& content) {
    constexpr Dtype own = sizeof(T) == 4 ? Dtype::float32 : Dtype::float64;
    if (info.dtype != own) refuse("dtype", name_of(own), name_of(info.dtype));
    return network_of<T>(info, content);
  });
}

template Network<float> load(const std::filesystem::path&);
template Network<double> load(const std::filesystem::path&);

}  // namespace latchwork
