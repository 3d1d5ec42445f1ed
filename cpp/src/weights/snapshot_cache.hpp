#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>

#include "latchwork/fork.hpp"
#include "latchwork/parameters.hpp"
#include "weights/snapshot.hpp"

namespace latchwork {

// Keeps the latest snapshot of a network. If nothing else holds that snapshot, the next one is packed into the same
// memory, because otherwise every update would take new memory.
template <class T>
class SnapshotCache {
 public:
  // Returns the latest snapshot. If a write has made it outdated, or if it is not of the kind asked for,
  // pack(parameters, snapshot) fills a new one.
  template <class Pack>
  std::shared_ptr<const Snapshot<T>> latest(const ParameterStore<T>& store, const Kernels<T>& kernels,
                                            bool with_backward, Pack&& pack) {
    const std::lock_guard<ForkSafeMutex> lock(mutex_);
    if (!is_latest(store, kernels, with_backward)) {
      store.read([&](const T* parameters) { pack_latest(store, parameters, kernels, with_backward, pack); });
    }
    return latest_;
  }

  // The same after refresh(parameters) has brought the store up to date and returned whether it wrote anything. No
  // other call's weights come between.
  template <class Refresh, class Pack>
  std::shared_ptr<const Snapshot<T>> refreshed(ParameterStore<T>& store, const Kernels<T>& kernels, bool with_backward,
                                               Refresh&& refresh, Pack&& pack) {
    const std::lock_guard<ForkSafeMutex> lock(mutex_);
    store.refresh(refresh, [&](const T* parameters) {
      if (!is_latest(store, kernels, with_backward)) pack_latest(store, parameters, kernels, with_backward, pack);
    });
    return latest_;
  }

  // Returns a snapshot for one recording, whose weights differ from the store's; pack(snapshot) fills it.
  template <class Pack>
  std::shared_ptr<const Snapshot<T>> of_recording(const ParameterStore<T>& store, const Kernels<T>& kernels,
                                                  Pack&& pack) {
    std::shared_ptr<Snapshot<T>> outdated;
    {
      const std::lock_guard<ForkSafeMutex> lock(mutex_);
      if (latest_ != nullptr && latest_->version != store.version()) outdated = std::exchange(latest_, nullptr);
    }
    const std::shared_ptr<Snapshot<T>> packed = unshared(std::move(outdated));
    packed->version = no_version;
    packed->kernels = &kernels;
    packed->with_backward = true;
    pack(*packed);
    const std::lock_guard<ForkSafeMutex> lock(mutex_);
    if (latest_ == nullptr) latest_ = packed;
    return packed;
  }

 private:
  bool is_latest(const ParameterStore<T>& store, const Kernels<T>& kernels, bool with_backward) const {
    return latest_ != nullptr && latest_->version == store.version() && latest_->kernels == &kernels &&
           (latest_->with_backward || !with_backward);
  }

  // If pack throws, no snapshot is left.
  template <class Pack>
  void pack_latest(const ParameterStore<T>& store, const T* parameters, const Kernels<T>& kernels, bool with_backward,
                   Pack&& pack) {
    std::shared_ptr<Snapshot<T>> packed = unshared(std::exchange(latest_, nullptr));
    packed->version = store.version();
    packed->kernels = &kernels;
    packed->with_backward = with_backward;
    pack(parameters, *packed);
    latest_ = packed;
  }

  static constexpr std::uint64_t no_version = 0;  // a store starts with 1

  // Returns a snapshot that may be written: `last`, which is no longer in the cache, if nothing else holds it,
  // otherwise a new one.
  static std::shared_ptr<Snapshot<T>> unshared(std::shared_ptr<Snapshot<T>> last) {
    if (last == nullptr || last.use_count() > 1) {
      last = nullptr;  // frees its memory before the new one takes some, if the other holder has let go meanwhile
      return std::make_shared<Snapshot<T>>();
    }
    // Other threads had finished reading the snapshot before they let go of it. Reading the count of holders does not
    // make that order hold here, but letting go of one more does: each holder that lets go sees what those before it
    // did.
    std::shared_ptr<Snapshot<T>>(last).reset();
    return last;
  }

  ForkSafeMutex mutex_{LockKind::snapshots};
  std::shared_ptr<Snapshot<T>> latest_;
};

}  // namespace latchwork
