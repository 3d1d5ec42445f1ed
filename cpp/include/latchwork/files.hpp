#pragma once

#include <filesystem>
#include <string>
#include <variant>
#include <vector>

#include "latchwork/export.hpp"
#include "latchwork/network.hpp"
#include "latchwork/options.hpp"
#include "latchwork/types.hpp"

// Reads model files: safetensors of format version 2, which the Python package writes; see docs/files.md. Nothing in a
// file is executed, and no memory is taken for sizes that a file only claims.
namespace latchwork {

enum class Dtype { float32, float64 };

// What a file says of its model.
struct ModelInfo {
  std::string kind;  // "network", the kind of a layer, "regressor", "classifier" or "language_model"
  Dtype dtype = Dtype::float32;
  std::vector<ModuleOptions> modules;
  Index members = 1;
  // Of a language model of characters: the code point of each token but the last, which stands for all other
  // characters. Empty for all other models.
  std::vector<char32_t> vocabulary;
  std::string config;  // the whole of what every reader must know, as JSON
  std::string python;  // what only the Python package knows, such as the names of classes, as JSON
};

// A network whose numbers are of the model's dtype.
using AnyNetwork = std::variant<Network<float>, Network<double>>;

// All of these throw std::filesystem::filesystem_error if the file cannot be read, and std::invalid_argument, which
// names the file, if it is damaged or no model of format version 2. So is a file with more than some 15,000 tensors, or
// more than 16 MB before their numbers: reading it could take more than 100 MB.

// Reads what a file says, and checks all of it but the numbers.
LATCHWORK_API ModelInfo model_info(const std::filesystem::path& file);

// Reads a model: a layer, a network, or an estimator's network with its scaling. A layer's tensors keep their names
// without a module's number. float16 and bfloat16 become the model's dtype. The mask seeds of training start from 0. A
// layer that takes any number of features, such as Last or Dropout, is no network alone and is refused.
LATCHWORK_API AnyNetwork load(const std::filesystem::path& file);

// The same for a model of this dtype. Throws std::invalid_argument for one of the other.
template <class T>
LATCHWORK_API Network<T> load(const std::filesystem::path& file);

}  // namespace latchwork
