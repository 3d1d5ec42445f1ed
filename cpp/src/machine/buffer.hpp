#pragma once

#include <cstdint>
#include <new>
#include <utility>

#include "latchwork/types.hpp"
#include "machine/memory.hpp"

namespace latchwork {

// Memory for numbers, aligned to the cache line and not initialised.
template <class T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(Index size) : size_(size) {
    if (size > PTRDIFF_MAX / static_cast<Index>(2 * sizeof(T))) throw std::bad_alloc();
    if (size > 0) data_ = static_cast<T*>(take_memory(bytes()));
  }
  ~Buffer() {
    if (data_ != nullptr) give_back_memory(data_, bytes());
  }
  Buffer(Buffer&& other) noexcept : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }

  // Keeps the memory if the size stays the same; otherwise frees it before it takes new memory. The numbers are
  // undefined after a change of size.
  void resize(Index size) {
    if (size == size_) return;
    *this = Buffer();
    *this = Buffer(size);
  }

  T* data() { return data_; }
  const T* data() const { return data_; }
  Index size() const { return size_; }

 private:
  std::size_t bytes() const { return static_cast<std::size_t>(size_) * sizeof(T); }

  T* data_ = nullptr;
  Index size_ = 0;
};

}  // namespace latchwork
