// Lets one call at a time into an object. A second call waits, or is refused.
#pragma once

#include <pybind11/pybind11.h>

#include <atomic>
#include <mutex>
#include <span>
#include <stdexcept>
#include <thread>
#include <utility>

namespace latchwork::python {

// Lets one call after another into an optimizer or a trainer; the others wait.
class OneAtATime {
 public:
  template <class Work>
  auto operator()(Work&& work) {
    OneAtATime* const self = this;
    return together({&self, 1}, std::forward<Work>(work));
  }

  // Lets a call into several objects at once, which are always given in the same order. The GIL is released before the
  // wait and taken again after the mutexes are let go, so that no thread ever waits for one of them while it holds the
  // other.
  template <class Work>
  static auto together(std::span<OneAtATime* const> objects, Work&& work) {
    const pybind11::gil_scoped_release release;
    const Holder holder(objects);
    return work();
  }

 private:
  struct Holder {
    explicit Holder(std::span<OneAtATime* const> to_hold) : objects(to_hold) {
      for (const OneAtATime* object : objects) {
        // Only this thread can have written its own id here. It would wait for itself for ever.
        if (object->holder_.load(std::memory_order_relaxed) != std::this_thread::get_id()) continue;
        throw std::runtime_error(
            "ready() and a loss cannot call the trainer that called them, nor its optimizer; wait until it has "
            "returned");
      }
      for (OneAtATime* object : objects) {
        object->mutex_.lock();
        object->holder_.store(std::this_thread::get_id(), std::memory_order_relaxed);
      }
    }
    ~Holder() {
      for (OneAtATime* object : objects) {
        object->holder_.store(std::thread::id(), std::memory_order_relaxed);
        object->mutex_.unlock();
      }
    }
    Holder(const Holder&) = delete;
    Holder& operator=(const Holder&) = delete;
    std::span<OneAtATime* const> objects;
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
