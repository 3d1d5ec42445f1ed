// Lets one call at a time into an object. A second call waits, or is refused.
#pragma once

#include <pybind11/pybind11.h>

#include <atomic>
#include <mutex>
#include <stdexcept>

namespace latchwork::python {

// Calls `work` while no other thread is in a call under the same mutex. The GIL is released before waiting for the
// mutex and taken again after releasing it, so that no thread waits for one of them while it holds the other.
template <class Work>
auto exclusively(std::mutex& mutex, Work&& work) {
  const pybind11::gil_scoped_release release;
  const std::lock_guard<std::mutex> lock(mutex);
  return work();
}

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
