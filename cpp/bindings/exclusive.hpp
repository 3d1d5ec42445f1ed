// Lets one call at a time into an object. A second call waits, or is refused.
#pragma once

#include <atomic>
#include <mutex>
#include <stdexcept>
#include <thread>

#include "gil.hpp"

namespace latchwork::python {

// Lets one call after another into an optimizer or a trainer; the others wait.
class OneAtATime {
 public:
  // The GIL is released before the wait and taken again after the mutex is let go, so that no thread ever waits for one
  // of the two while it holds the other.
  template <class Work>
  auto operator()(Work&& work) {
    const GilRelease release;
    // Only this thread can have written its own id here. It would wait for itself for ever.
    if (holder_.load(std::memory_order_relaxed) == std::this_thread::get_id()) {
      throw std::runtime_error("ready() cannot call the trainer that called it; wait until gradient() has returned");
    }
    const std::lock_guard<std::mutex> lock(mutex_);
    const Holder holder(holder_);
    return work();
  }

 private:
  struct Holder {
    explicit Holder(std::atomic<std::thread::id>& id_to_write) : id(id_to_write) {
      id.store(std::this_thread::get_id(), std::memory_order_relaxed);
    }
    ~Holder() { id.store(std::thread::id(), std::memory_order_relaxed); }
    Holder(const Holder&) = delete;
    Holder& operator=(const Holder&) = delete;
    std::atomic<std::thread::id>& id;
  };

  std::mutex mutex_;
  std::atomic<std::thread::id> holder_{};
};

// Lets one thread into a stream; a second one gets an error at once.
class StreamEntry {
 public:
  explicit StreamEntry(std::atomic_flag& busy) : busy_(busy) {
    if (busy_.test_and_set(std::memory_order_acquire)) {
      throw std::runtime_error("this stream is in use by another thread; give each thread a stream of its own");
    }
  }
  ~StreamEntry() { busy_.clear(std::memory_order_release); }
  StreamEntry(const StreamEntry&) = delete;
  StreamEntry& operator=(const StreamEntry&) = delete;

 private:
  std::atomic_flag& busy_;
};

}  // namespace latchwork::python
