#pragma once

#include <algorithm>
#include <memory>
#include <mutex>
#include <vector>

#include "buffer.hpp"
#include "latchwork/types.hpp"

namespace latchwork {

// Memory of finished calls, kept for the next ones of the same network: touching fresh memory for the first time costs
// as much as some of the arithmetic. Holds at most twice what the largest call needed.
template <class T>
class WorkspaceCache {
 public:
  Buffer<T> take(Index size) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      for (Buffer<T>& buffer : free_) {
        if (buffer.size() < size || buffer.size() > 2 * size) continue;
        held_ -= buffer.size();
        std::swap(buffer, free_.back());
        Buffer<T> taken = std::move(free_.back());
        free_.pop_back();
        return taken;
      }
    }
    return Buffer<T>(size);
  }

  void give_back(std::vector<Buffer<T>>& buffers) noexcept {
    Index total = 0;
    for (const Buffer<T>& buffer : buffers) total += buffer.size();
    std::vector<Buffer<T>> outgrown;  // freed after the lock
    const std::lock_guard<std::mutex> lock(mutex_);
    largest_ = std::max(largest_, total);
    free_.swap(outgrown);
    held_ = 0;
    for (std::vector<Buffer<T>>* source : {&buffers, &outgrown}) {
      for (Buffer<T>& buffer : *source) {
        if (buffer.size() == 0 || held_ + buffer.size() > 2 * largest_) continue;
        held_ += buffer.size();
        free_.push_back(std::move(buffer));
      }
    }
  }

 private:
  std::mutex mutex_;
  std::vector<Buffer<T>> free_;
  Index held_ = 0;
  Index largest_ = 0;
};

// The memory of one call or tape; goes back to the cache at the end.
template <class T>
class Workspace {
 public:
  explicit Workspace(std::shared_ptr<WorkspaceCache<T>> cache) : cache_(std::move(cache)) {}
  ~Workspace() { cache_->give_back(buffers_); }
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  // Not initialised, aligned to the cache line.
  T* take(Index size) {
    buffers_.push_back(cache_->take(size));
    return buffers_.back().data();
  }
  T* take_zeros(Index size) {
    T* values = take(size);
    std::fill(values, values + size, T(0));
    return values;
  }

 private:
  std::shared_ptr<WorkspaceCache<T>> cache_;
  std::vector<Buffer<T>> buffers_;
};

}  // namespace latchwork
