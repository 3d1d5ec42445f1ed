#pragma once

#include <algorithm>
#include <iterator>
#include <list>
#include <memory>
#include <mutex>

#include "buffer.hpp"
#include "latchwork/types.hpp"

namespace latchwork {

// Memory of finished calls, kept for the next ones of the same network: touching fresh memory for the first time costs
// as much as some of the arithmetic. Holds at most twice what the largest call needed. Lists, because moving a node
// from one to another can neither fail nor move the memory.
template <class T>
class WorkspaceCache {
 public:
  // Appends a buffer of at least `size` to `taken`.
  void take(Index size, std::list<Buffer<T>>& taken) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      const auto fits = [size](const Buffer<T>& buffer) { return buffer.size() >= size && buffer.size() <= 2 * size; };
      const auto found = std::find_if(free_.begin(), free_.end(), fits);
      if (found != free_.end()) {
        held_ -= found->size();
        taken.splice(taken.end(), free_, found);
        return;
      }
    }
    taken.emplace_back(size);
  }

  void give_back(std::list<Buffer<T>>& buffers) noexcept {
    Index total = 0;
    for (const Buffer<T>& buffer : buffers) total += buffer.size();
    std::list<Buffer<T>> outgrown;  // freed after the lock
    const std::lock_guard<std::mutex> lock(mutex_);
    largest_ = std::max(largest_, total);
    held_ += total;
    free_.splice(free_.begin(), buffers);
    while (held_ > 2 * largest_) {
      held_ -= free_.back().size();
      outgrown.splice(outgrown.end(), free_, std::prev(free_.end()));
    }
  }

 private:
  std::mutex mutex_;
  std::list<Buffer<T>> free_;  // the latest first
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

  const std::shared_ptr<WorkspaceCache<T>>& cache() const { return cache_; }

  // Not initialised, aligned to the cache line.
  T* take(Index size) {
    cache_->take(size, buffers_);
    return buffers_.back().data();
  }
  T* take_zeros(Index size) {
    T* values = take(size);
    std::fill(values, values + size, T(0));
    return values;
  }

 private:
  std::shared_ptr<WorkspaceCache<T>> cache_;
  std::list<Buffer<T>> buffers_;
};

}  // namespace latchwork
