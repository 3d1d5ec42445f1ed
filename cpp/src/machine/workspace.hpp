#pragma once

#include <algorithm>
#include <iterator>
#include <list>
#include <memory>
#include <mutex>

#include "latchwork/fork.hpp"
#include "latchwork/types.hpp"
#include "machine/buffer.hpp"

namespace latchwork {

// Keeps the memory of finished calls for the next calls of the same network, because touching fresh memory for the
// first time costs as much as some of the arithmetic.
//
// The memory that the cache holds, lent out or free, stays within a limit: the largest total that calls have ever asked
// for at the same time, plus a tenth of it, plus 4 MB. The margin allows the cache to lend buffers that are larger than
// asked for. Free buffers are freed if new memory would exceed the limit. The cache uses lists, because moving a node
// from one list to another can neither fail nor move the memory.
template <class T>
class WorkspaceCache {
 public:
  // Appends a buffer of at least `size` numbers to `taken`.
  void take(Index size, std::list<Buffer<T>>& taken) {
    std::list<Buffer<T>> outgrown;
    {
      const std::lock_guard<ForkSafeMutex> lock(mutex_);
      const Index most = std::max(most_, lent_ + size);
      const auto found = best_fit(size, size + tenth(most) + negligible - (held_ - free_size_ - lent_));
      if (found != free_.end()) {
        free_size_ -= found->size();
        lend(size);
        taken.splice(taken.end(), free_, found);
        return;
      }
      while (!free_.empty() && held_ + size > most + tenth(most)) {
        held_ -= free_.back().size();
        free_size_ -= free_.back().size();
        outgrown.splice(outgrown.end(), free_, std::prev(free_.end()));
      }
      held_ += size;
    }
    outgrown.clear();
    try {
      taken.emplace_back(size);
    } catch (...) {
      const std::lock_guard<ForkSafeMutex> lock(mutex_);
      held_ -= size;
      throw;
    }
    const std::lock_guard<ForkSafeMutex> lock(mutex_);
    lend(size);
  }

  // `asked`: the sum of the sizes that the buffers were taken for.
  void give_back(std::list<Buffer<T>>& buffers, Index asked) noexcept {
    const std::lock_guard<ForkSafeMutex> lock(mutex_);
    for (const Buffer<T>& buffer : buffers) free_size_ += buffer.size();
    lent_ -= asked;
    free_.splice(free_.begin(), buffers);
  }

  // For how many numbers there is memory, lent out or free.
  Index held() const {
    const std::lock_guard<ForkSafeMutex> lock(mutex_);
    return held_;
  }

 private:
  static constexpr Index negligible = (Index{4} << 20) / static_cast<Index>(sizeof(T));
  static Index tenth(Index size) { return size / 10; }

  // The smallest free buffer that has from `size` to `largest` numbers; among equal ones the one that was used last.
  typename std::list<Buffer<T>>::iterator best_fit(Index size, Index largest) {
    auto best = free_.end();
    for (auto at = free_.begin(); at != free_.end(); ++at) {
      if (at->size() < size || at->size() > largest) continue;
      best = at;
      if (at->size() == size) break;
      largest = at->size() - 1;
    }
    return best;
  }

  void lend(Index size) {
    lent_ += size;
    most_ = std::max(most_, lent_);
  }

  mutable ForkSafeMutex mutex_{LockKind::workspaces};
  std::list<Buffer<T>> free_;  // the one used last comes first
  Index free_size_ = 0;
  Index lent_ = 0;  // the sum of the sizes that were asked for
  Index held_ = 0;  // the sum of the sizes of all buffers, lent out or free
  Index most_ = 0;  // the largest value that lent_ has had
};

// The memory of one call or tape. At the end of its life it goes back to the cache.
template <class T>
class Workspace {
 public:
  explicit Workspace(std::shared_ptr<WorkspaceCache<T>> cache) : cache_(std::move(cache)) {}
  ~Workspace() { cache_->give_back(buffers_, asked_); }
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  const std::shared_ptr<WorkspaceCache<T>>& cache() const { return cache_; }

  // Not initialised, aligned to the cache line.
  T* take(Index size) {
    cache_->take(size, buffers_);
    asked_ += size;
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
  Index asked_ = 0;
};

}  // namespace latchwork
