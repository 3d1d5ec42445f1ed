// Lets one call at a time into an object. A second call waits, or is refused.
#pragma once

#include <atomic>
#include <chrono>
#include <mutex>
#include <new>
#include <span>
#include <stdexcept>
#include <thread>
#include <utility>

#include "gil.hpp"
#include "latchwork/fork.hpp"
#include "latchwork/interrupt.hpp"

namespace latchwork::python {

// Lets one call after another into an optimizer or a trainer; the others wait. A fork does not wait for the call. In
// the child nobody is in, and the object is as it was before or after the update of the call that another thread was
// in.
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
    for (OneAtATime* object : objects) object->forget_parent();
    const GilRelease release;
    const Holder holder(objects);
    return work();
  }

 private:
  struct Holder {
    explicit Holder(std::span<OneAtATime* const> to_hold) {
      for (const OneAtATime* object : to_hold) {
        // Only this thread can have written its own id here. It would wait for itself for ever.
        if (object->holder_.load(std::memory_order_relaxed) != std::this_thread::get_id()) continue;
        throw std::runtime_error(
            "ready() and a loss cannot call the trainer that called them, nor its optimizer; wait until it has "
            "returned");
      }
      try {
        for (OneAtATime* object : to_hold) {
          object->enter();
          held = to_hold.first(held.size() + 1);
        }
      } catch (...) {
        leave();
        throw;
      }
    }
    ~Holder() { leave(); }
    Holder(const Holder&) = delete;
    Holder& operator=(const Holder&) = delete;

    void leave() {
      for (OneAtATime* object : held) {
        object->holder_.store(std::thread::id(), std::memory_order_relaxed);
        object->mutex_.unlock();
      }
    }
    std::span<OneAtATime* const> held;
  };

  void enter() {
    std::unique_lock<std::timed_mutex> lock(mutex_, std::try_to_lock);
    while (!lock.owns_lock() && !lock.try_lock_for(std::chrono::milliseconds(50))) ask_for_interrupt();
    lock.release();
    holder_.store(std::this_thread::get_id(), std::memory_order_relaxed);
  }

  // In a forked child the mutex may be held by a thread that is no more. Under the GIL, so one thread at a time does
  // this.
  void forget_parent() {
    if (generation_ == process_generation() || holder_.load() == std::this_thread::get_id()) return;
    new (&mutex_) std::timed_mutex;
    holder_.store(std::thread::id());
    generation_ = process_generation();
  }

  std::timed_mutex mutex_;
  std::atomic<std::thread::id> holder_{};
  unsigned generation_ = process_generation();
};

// Lets one thread into a stream; a second one gets an error at once.
class StreamEntry {
 public:
  // `inside` is 0 while no thread is in. A number of a parent process means that in this one nobody is.
  explicit StreamEntry(std::atomic<unsigned>& inside) : inside_(inside) {
    const unsigned present = process_generation() + 1;
    if (inside_.exchange(present, std::memory_order_acquire) == present) {
      throw std::runtime_error("this stream is in use by another thread; give each thread a stream of its own");
    }
  }
  ~StreamEntry() { inside_.store(0, std::memory_order_release); }
  StreamEntry(const StreamEntry&) = delete;
  StreamEntry& operator=(const StreamEntry&) = delete;

 private:
  std::atomic<unsigned>& inside_;
};

}  // namespace latchwork::python
