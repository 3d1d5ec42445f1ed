#pragma once

#include <atomic>
#include <mutex>

#include "latchwork/export.hpp"
#include "latchwork/types.hpp"

// What makes fork() safe at any moment, from any thread. A child has only the thread that forked. It must not find a
// lock held by a thread that is no more, nor data that such a thread was in the middle of writing.
namespace latchwork {

// What a lock guards. A thread that holds a lock may wait only for locks of later kinds and, of its own kind, for those
// that all threads take in the same order, so that threads never wait for one another in a circle. That a thread forks
// while it holds one is not provided for.
enum class LockKind { stream, snapshots, parameters, piece_workspaces, workspaces, other };

// A mutex that no other thread holds at the moment of a fork: before it, the forking thread takes all of them, which
// waits until what they guard is whole. Afterwards parent and child let go of them. So a ForkSafeMutex is to be held
// only for as long as a fork may wait, and never while waiting for a lock of another library, such as Python's GIL.
class LATCHWORK_API ForkSafeMutex {
 public:
  explicit ForkSafeMutex(LockKind kind);
  ~ForkSafeMutex();
  ForkSafeMutex(const ForkSafeMutex&) = delete;
  ForkSafeMutex& operator=(const ForkSafeMutex&) = delete;

  void lock() { mutex_.lock(); }
  void unlock() { mutex_.unlock(); }

 private:
  friend class ForkLocks;

  std::mutex mutex_;
  LockKind kind_;
  bool held_for_fork_ = false;
  // The neighbours in the list of all locks of this kind.
  ForkSafeMutex* previous_ = nullptr;
  ForkSafeMutex* next_ = nullptr;
};

// While an object of this class exists, no other thread forks. For short changes that a child must not find half made.
class LATCHWORK_API NoFork {
 public:
  NoFork();
  ~NoFork();
  NoFork(const NoFork&) = delete;
  NoFork& operator=(const NoFork&) = delete;
};

namespace detail {
LATCHWORK_API extern std::atomic<unsigned> process_generation;
}

// How many forks lie between the process that loaded the library and this one. Whoever holds something for so long that
// no fork can wait for it, such as a trainer for a step, writes this number down: if it has changed, the holder is
// gone.
inline unsigned process_generation() { return detail::process_generation.load(std::memory_order_relaxed); }

}  // namespace latchwork
