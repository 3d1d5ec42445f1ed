#include "latchwork/fork.hpp"

#include <chrono>
#include <iterator>
#include <thread>

#include "machine/parallel.hpp"

#if defined(__unix__) || defined(__APPLE__)
#define LATCHWORK_POSIX
#include <pthread.h>
#endif

namespace latchwork {

constinit std::atomic<unsigned> detail::process_generation{0};

// All locks of the process.
class ForkLocks {
 public:
  void add(ForkSafeMutex& lock) {
    const std::lock_guard<std::mutex> guard(list_mutex_);
    ForkSafeMutex*& first = first_of(lock.kind_);
    lock.next_ = first;
    if (first != nullptr) first->previous_ = &lock;
    first = &lock;
  }

  void remove(ForkSafeMutex& lock) {
    // If a fork is taking the locks one by one and has this one, it must not lose sight of it.
    const std::lock_guard<std::mutex> held(lock.mutex_);
    const std::lock_guard<std::mutex> guard(list_mutex_);
    (lock.previous_ == nullptr ? first_of(lock.kind_) : lock.previous_->next_) = lock.next_;
    if (lock.next_ != nullptr) lock.next_->previous_ = lock.previous_;
  }

  // Takes all locks, and keeps the list as it is. A thread that holds a lock may be about to make or destroy another,
  // or to wait for one of the same or a later kind. So this thread does not wait while it keeps the list, and it lets
  // go of the locks of these kinds when it finds one that is held.
  void take_all() {
    forking_.lock();
    for (list_mutex_.lock(); !try_all(); list_mutex_.lock()) {
      list_mutex_.unlock();
      std::this_thread::sleep_for(std::chrono::microseconds(20));
    }
  }

  void release_all() {
    for (ForkSafeMutex*& first : first_) release(first);
    list_mutex_.unlock();
    forking_.unlock();
  }

 private:
  ForkSafeMutex*& first_of(LockKind kind) { return first_[static_cast<std::size_t>(kind)]; }

  bool try_all() {
    for (std::size_t kind = 0; kind < std::size(first_); ++kind) {
      for (ForkSafeMutex* lock = first_[kind]; lock != nullptr; lock = lock->next_) {
        if (lock->held_for_fork_) continue;
        lock->held_for_fork_ = lock->mutex_.try_lock();
        if (lock->held_for_fork_) continue;
        for (std::size_t given = kind; given < std::size(first_); ++given) release(first_[given]);
        return false;
      }
    }
    return true;
  }

  static void release(ForkSafeMutex* first) {
    for (ForkSafeMutex* lock = first; lock != nullptr; lock = lock->next_) {
      if (!lock->held_for_fork_) continue;
      lock->held_for_fork_ = false;
      lock->mutex_.unlock();
    }
  }

  std::mutex forking_;     // of several threads that fork at once, one after another does
  std::mutex list_mutex_;  // guards the lists
  ForkSafeMutex* first_[static_cast<std::size_t>(LockKind::other) + 1] = {};
};

namespace {

// Neither of the two is ever destroyed, because threads may be in a call when the process ends.
ForkLocks& locks() {
  static ForkLocks* const all = new ForkLocks;
  return *all;
}

ForkSafeMutex& short_changes() {
  static ForkSafeMutex* const mutex = new ForkSafeMutex(LockKind::other);
  return *mutex;
}

[[maybe_unused]] void after_fork_in_child() {
  detail::process_generation.fetch_add(1, std::memory_order_relaxed);
  abandon_pool();
  locks().release_all();
}

struct ForkHandlers {
  ForkHandlers() {
    short_changes();  // made now, because a child would wait for ever for an object that was being made at the fork
#if defined(LATCHWORK_POSIX)
    pthread_atfork([] { locks().take_all(); }, [] { locks().release_all(); }, after_fork_in_child);
#endif
  }
};
const ForkHandlers fork_handlers;

}  // namespace

ForkSafeMutex::ForkSafeMutex(LockKind kind) : kind_(kind) { locks().add(*this); }
ForkSafeMutex::~ForkSafeMutex() { locks().remove(*this); }

NoFork::NoFork() { short_changes().lock(); }
NoFork::~NoFork() { short_changes().unlock(); }

}  // namespace latchwork
