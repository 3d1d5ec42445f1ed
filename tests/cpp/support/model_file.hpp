// Model files that a test makes, sound or not.
#pragma once

#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "latchwork/types.hpp"

namespace latchwork::test {

inline std::string bytes_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// A file that is there as long as the object.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& bytes) {
    static int count = 0;
    path_ = std::filesystem::temp_directory_path() /
            ("latchwork-test-" + std::to_string(getpid()) + "-" + std::to_string(count++) + ".safetensors");
    std::ofstream(path_, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  }
  ~TemporaryFile() { std::filesystem::remove(path_); }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// At first a Linear of 3 features to 1, of zeros.
struct ModelFile {
  struct Tensor {
    std::string dtype;
    std::vector<Index> shape;
    std::vector<std::uint16_t> words;  // the bytes, in pairs
  };

  std::map<std::string, std::string> metadata = {
      {"format_version", "2"},
      {"kind", "linear"},
      {"config", R"({"modules":[{"kind":"linear","in_features":3,"out_features":1}],"dtype":"float32","members":1})"},
      {"python", "{}"}};
  std::map<std::string, Tensor> tensors = {{"weight", {"F32", {1, 3}, {0, 0, 0, 0, 0, 0}}},
                                           {"bias", {"F32", {1}, {0, 0}}}};

  void set_tensor(const std::string& name, std::string dtype, std::vector<Index> shape,
                  std::vector<std::uint16_t> words) {
    tensors[name] = {std::move(dtype), std::move(shape), std::move(words)};
  }

  std::string bytes() const {
    std::string header = R"({"__metadata__":{)", data, separator;
    for (const auto& [key, value] : metadata) {
      header += separator + "\"" + key + "\":\"";
      for (const char letter : value)
        header += letter == '"' || letter == '\\' ? std::string{'\\', letter} : std::string{letter};
      header += '"';
      separator = ",";
    }
    header += '}';
    for (const auto& [name, tensor] : tensors) {
      header += ",\"" + name + R"(":{"dtype":")" + tensor.dtype + R"(","shape":[)";
      for (std::size_t axis = 0; axis < tensor.shape.size(); ++axis) {
        header.append(axis == 0 ? "" : ",").append(std::to_string(tensor.shape[axis]));
      }
      header += R"(],"data_offsets":[)" + std::to_string(data.size()) + ",";
      data.append(reinterpret_cast<const char*>(tensor.words.data()), 2 * tensor.words.size());
      header += std::to_string(data.size()) + "]}";
    }
    return container(header + "}", data);
  }

  static std::string container(const std::string& header, const std::string& data) {
    const std::uint64_t size = header.size();
    std::string bytes(sizeof size, '\0');
    std::memcpy(bytes.data(), &size, sizeof size);
    return bytes + header + data;
  }
};

}  // namespace latchwork::test
