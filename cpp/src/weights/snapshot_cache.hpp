#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>

#include "latchwork/parameters.hpp"

namespace latchwork {

// The latest snapshot of a network or an ensemble: Packed is Snapshot<T> or EnsembleSnapshot<T>. One that nobody else
// holds is packed again in its own memory: beside it another one would be new memory at every update.
template <class T, class Packed>
class SnapshotCache {
 public:
  // The latest, or where a write has outdated it, or it is not what is asked for, what pack(parameters, Packed&) makes.
  template <class Kernels, class Pack>
  std::shared_ptr<const Packed> latest(const ParameterStore<T>& store, const Kernels& kernels, bool with_backward,
                                       Pack&& pack) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (latest_ != nullptr && latest_->version == store.version() && latest_->kernels == &kernels &&
        (latest_->with_backward || !with_backward)) {
      return latest_;
    }
    // Where pack throws, none is left.
    std::shared_ptr<Packed> packed = unshared(std::exchange(latest_, nullptr));
    store.read([&](const T* parameters) {
      packed->version = store.version();
      pack(parameters, *packed);
    });
    latest_ = packed;
    return packed;
  }

  // What pack(Packed&) makes of other weights than the store's, for one recording.
  template <class Pack>
  std::shared_ptr<const Packed> of_recording(const ParameterStore<T>& store, Pack&& pack) {
    std::shared_ptr<Packed> outdated;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (latest_ != nullptr && latest_->version != store.version()) outdated = std::exchange(latest_, nullptr);
    }
    const std::shared_ptr<Packed> packed = unshared(std::move(outdated));
    packed->version = no_version;
    pack(*packed);
    const std::lock_guard<std::mutex> lock(mutex_);
    if (latest_ == nullptr) latest_ = packed;
    return packed;
  }

 private:
  static constexpr std::uint64_t no_version = 0;  // a store begins with 1

  // A snapshot that may be written: `last`, which is no longer in the cache, where it has no other holder.
  static std::shared_ptr<Packed> unshared(std::shared_ptr<Packed> last) {
    if (last == nullptr || last.use_count() > 1) {
      last = nullptr;  // before the new one takes memory, should the other holder have let go meanwhile
      return std::make_shared<Packed>();
    }
    // What another thread read from it, it read before it let go.
    std::atomic_thread_fence(std::memory_order_acquire);
    return last;
  }

  std::mutex mutex_;
  std::shared_ptr<Packed> latest_;
};

}  // namespace latchwork
