// The container: a length, a header in JSON, and the numbers of all tensors one after another.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "latchwork/types.hpp"

namespace latchwork::files {

struct TensorEntry {
  std::string name;
  std::string dtype;  // as the format names it: "F32"
  std::vector<Index> shape;
  std::uint64_t begin = 0, end = 0;  // in bytes, from the first tensor's first byte

  Index size() const;  // checked not to overflow
};

// A file whose header has been read and checked: each tensor has as many bytes as its shape needs, and together they
// fill the file without gaps. Throws std::filesystem::filesystem_error or std::invalid_argument.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::filesystem::path& path);

  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const std::vector<TensorEntry>& tensors() const { return tensors_; }  // by name

  // Reads `count` numbers of a tensor, from its number `first` on, and converts them. It must hold float16, bfloat16 or
  // numbers of type T.
  template <class T>
  void read(const TensorEntry& tensor, Index first, Index count, T* values);

 private:
  void read_bytes(void* to, std::uint64_t size);
  void read_header(const std::string& text, std::uint64_t data_size);

  std::filesystem::path path_;
  std::ifstream file_;
  std::uint64_t data_begin_ = 0;
  std::map<std::string, std::string> metadata_;
  std::vector<TensorEntry> tensors_;
};

// What NumPy calls a dtype.
std::string numpy_name(const std::string& dtype);

}  // namespace latchwork::files
