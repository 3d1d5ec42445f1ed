#include "files/safetensors.hpp"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <system_error>
#include <type_traits>

#include "files/json.hpp"

namespace latchwork::files {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors are little-endian");

constexpr std::uint64_t largest_header = 16'000'000;

struct Format {
  const char* name;
  const char* numpy;
  std::uint64_t bytes;
};
constexpr Format formats[] = {
    {"F32", "float32", 4},         {"F64", "float64", 8},
    {"F16", "float16", 2},         {"BF16", "bfloat16", 2},
    {"BOOL", "bool", 1},           {"I8", "int8", 1},
    {"I16", "int16", 2},           {"I32", "int32", 4},
    {"I64", "int64", 8},           {"U8", "uint8", 1},
    {"U16", "uint16", 2},          {"U32", "uint32", 4},
    {"U64", "uint64", 8},          {"F8_E4M3", "float8_e4m3fn", 1},
    {"F8_E5M2", "float8_e5m2", 1},
};

const Format* format_of(const std::string& dtype) {
  const auto* const found =
      std::find_if(std::begin(formats), std::end(formats), [&](const Format& format) { return dtype == format.name; });
  return found == std::end(formats) ? nullptr : found;
}

[[noreturn]] void refuse_file(const std::string& what) {
  throw std::invalid_argument("expected a model that Latchwork wrote, got " + what);
}

[[noreturn]] void refuse_header(const std::string& why) { refuse_file("a damaged safetensors file: " + why); }

std::string bytes_text(std::uint64_t count) { return std::to_string(count) + " bytes"; }

[[noreturn]] void refuse_unreadable(const std::filesystem::path& path) {
  const int error = errno == 0 ? EIO : errno;
  throw std::filesystem::filesystem_error("latchwork::load", path, std::error_code(error, std::generic_category()));
}

std::uint64_t number_of(const Json& value, const std::string& name) {
  if (!value.is_number_unsigned()) refuse_header(name + ": expected an int of at least 0");
  const auto number = value.get<std::uint64_t>();
  if (number > static_cast<std::uint64_t>(std::numeric_limits<Index>::max())) refuse_header(name + ": too large");
  return number;
}

// The number of bytes of a tensor's numbers, or of as many as an Index counts at most.
std::uint64_t byte_count(const TensorEntry& tensor, std::uint64_t bytes) {
  constexpr auto largest = static_cast<std::uint64_t>(std::numeric_limits<Index>::max());
  const auto is_zero = [](Index extent) { return extent == 0; };
  if (std::any_of(tensor.shape.begin(), tensor.shape.end(), is_zero)) return 0;
  std::uint64_t count = bytes;
  for (const Index extent : tensor.shape) {
    if (static_cast<std::uint64_t>(extent) > largest / count) refuse_header(tensor.name + ": its shape overflows");
    count *= static_cast<std::uint64_t>(extent);
  }
  return count;
}

TensorEntry entry_of(const std::string& name, const Json& item) {
  if (!item.is_object()) refuse_header(name + ": expected an object");
  const auto dtype = item.find("dtype");
  const auto shape = item.find("shape");
  const auto offsets = item.find("data_offsets");
  if (item.size() != 3 || dtype == item.end() || shape == item.end() || offsets == item.end()) {
    refuse_header(name + ": expected dtype, shape and data_offsets");
  }
  if (!dtype->is_string() || !shape->is_array() || !offsets->is_array() || offsets->size() != 2) {
    refuse_header(name + ": expected a dtype, a shape and two data_offsets");
  }
  TensorEntry entry{
      name, dtype->get<std::string>(), {}, number_of((*offsets)[0], name), number_of((*offsets)[1], name)};
  for (const Json& extent : *shape) entry.shape.push_back(static_cast<Index>(number_of(extent, name)));
  const Format* const format = format_of(entry.dtype);
  if (format == nullptr) refuse_header(name + ": the dtype " + entry.dtype + " is unknown here");
  if (entry.begin > entry.end || entry.end - entry.begin != byte_count(entry, format->bytes)) {
    refuse_header(name + ": its shape does not need the bytes that its data_offsets give it");
  }
  return entry;
}

float half_number(std::uint16_t bits) {
  const int exponent = (bits >> 10) & 31;
  const int fraction = bits & 1023;
  const float magnitude = exponent == 31  ? (fraction == 0 ? std::numeric_limits<float>::infinity()
                                                           : std::numeric_limits<float>::quiet_NaN())
                          : exponent == 0 ? std::ldexp(static_cast<float>(fraction), -24)
                                          : std::ldexp(static_cast<float>(fraction + 1024), exponent - 25);
  return (bits & 0x8000) != 0 ? -magnitude : magnitude;
}

float bfloat16_number(std::uint16_t bits) { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }

}  // namespace

Index TensorEntry::size() const {
  Index product = 1;
  for (const Index extent : shape) product *= extent;
  return product;
}

std::string numpy_name(const std::string& dtype) {
  const Format* const format = format_of(dtype);
  return format == nullptr ? dtype : format->numpy;
}

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path) : path_(path) {
  const std::uint64_t size = std::filesystem::file_size(path);  // throws if it is missing, or no regular file
  errno = 0;
  file_.open(path, std::ios::binary);
  if (!file_) refuse_unreadable(path);
  if (size == 0) refuse_file("an empty file");
  if (size < 8) refuse_file("a truncated or damaged safetensors file of " + bytes_text(size));
  std::uint64_t header_size = 0;
  read_bytes(&header_size, sizeof header_size);
  char first = 0;
  if (header_size > 0 && header_size <= size - 8) read_bytes(&first, 1);
  if (header_size > size - 8) {
    refuse_file("a truncated or damaged safetensors file of " + bytes_text(size) + ", whose header alone should take " +
                std::to_string(header_size));
  }
  if (first != '{') refuse_file("a file that is no safetensors file");
  if (header_size > largest_header) {
    refuse_header("its header takes " + bytes_text(header_size) + ", more than " + std::to_string(largest_header));
  }
  std::string text(static_cast<std::size_t>(header_size), first);
  read_bytes(text.data() + 1, header_size - 1);
  data_begin_ = 8 + header_size;
  read_header(text, size - data_begin_);
}

void SafetensorsFile::read_header(const std::string& text, std::uint64_t data_size) {
  Json header;
  try {
    header = parsed(text, "header");
  } catch (const std::invalid_argument& error) {
    refuse_header(error.what());
  }
  for (const auto& item : header.items()) {
    if (item.key() != "__metadata__") {
      tensors_.push_back(entry_of(item.key(), item.value()));
      continue;
    }
    if (!item.value().is_object()) refuse_header("__metadata__: expected an object");
    for (const auto& [key, value] : item.value().items()) {
      if (!value.is_string()) refuse_header("__metadata__: expected texts");
      metadata_.emplace(key, value.get_ref<const std::string&>());
    }
  }

  std::vector<const TensorEntry*> in_file;
  for (const TensorEntry& tensor : tensors_) in_file.push_back(&tensor);
  std::sort(in_file.begin(), in_file.end(), [](const TensorEntry* one, const TensorEntry* other) {
    return one->begin != other->begin ? one->begin < other->begin : one->end < other->end;
  });
  std::uint64_t end = 0;
  for (const TensorEntry* tensor : in_file) {
    if (tensor->begin != end) refuse_header(tensor->name + ": its bytes overlap another tensor's, or leave a gap");
    end = tensor->end;
  }
  if (end > data_size) {
    refuse_file("a truncated safetensors file: " + std::to_string(data_begin_ + data_size) + " of " +
                bytes_text(data_begin_ + end));
  }
  if (end < data_size) refuse_header(bytes_text(data_size - end) + " too many");
}

void SafetensorsFile::read_bytes(void* to, std::uint64_t size) {
  errno = 0;
  if (!file_.read(static_cast<char*>(to), static_cast<std::streamsize>(size))) refuse_unreadable(path_);
}

template <class T>
void SafetensorsFile::read(const TensorEntry& tensor, Index first, Index count, T* values) {
  const bool narrow = tensor.dtype == "F16" || tensor.dtype == "BF16";
  const std::uint64_t bytes = narrow ? 2 : sizeof(T);
  const std::uint64_t begin = data_begin_ + tensor.begin + static_cast<std::uint64_t>(first) * bytes;
  if (!file_.seekg(static_cast<std::streamoff>(begin))) refuse_unreadable(path_);
  if (!narrow) return read_bytes(values, static_cast<std::uint64_t>(count) * bytes);
  const auto number = tensor.dtype == "F16" ? half_number : bfloat16_number;
  std::uint16_t piece[4096];
  while (count > 0) {
    const Index size = std::min(count, static_cast<Index>(std::size(piece)));
    read_bytes(piece, static_cast<std::uint64_t>(size) * bytes);
    for (Index at = 0; at < size; ++at) *values++ = static_cast<T>(number(piece[at]));
    count -= size;
  }
}

template void SafetensorsFile::read(const TensorEntry&, Index, Index, float*);
template void SafetensorsFile::read(const TensorEntry&, Index, Index, double*);

}  // namespace latchwork::files
