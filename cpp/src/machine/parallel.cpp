// Which caller uses the pool of threads, and how long the pool lives: one caller at a time uses it, and a forked child
// starts with a new one.
#include "machine/parallel.hpp"

#include <algorithm>
#include <atomic>
#include <thread>

#include "latchwork/threads.hpp"
#include "machine/pool.hpp"

namespace latchwork {
namespace {

// Of several callers one uses the pool; the others run their work inline instead of waiting for it. A caller that has
// threads of a team (see team.hpp) is one of them, because its threads would run on the same cores.
std::atomic<bool> pool_taken{false};
Pool* pool = nullptr;

class PoolUse {
 public:
  // A long call should not lose its threads to a call of a few microseconds, so it tries for a while.
  explicit PoolUse(bool patient) {
    for (int tries = patient ? 200 : 1; tries > 0 && !granted_; --tries) {
      granted_ = !pool_taken.exchange(true, std::memory_order_acquire);
      if (!granted_ && tries > 1) pause_briefly();
    }
  }
  ~PoolUse() {
    if (granted_) pool_taken.store(false, std::memory_order_release);
  }
  PoolUse(const PoolUse&) = delete;
  PoolUse& operator=(const PoolUse&) = delete;

  bool granted() const { return granted_; }

 private:
  bool granted_ = false;
};

// The pool that a call of this thread uses. If there is none yet, it is made or null.
Pool* pool_of_call(bool make) {
  if (own_pool != nullptr) return own_pool;
  if (make && pool == nullptr) pool = new Pool;
  return pool;
}

struct PoolLifetime {
  // Joins the workers when the program ends or the library is unloaded. Later calls run inline. If another thread is
  // using the pool at that moment, the process is ending under that thread, and waiting for it could take for ever.
  ~PoolLifetime() {
    if (pool_taken.exchange(true, std::memory_order_acquire)) return;
    delete pool;
    pool = nullptr;
  }
};
[[maybe_unused]] const PoolLifetime pool_lifetime;

}  // namespace

void abandon_pool() {
  Pool* const used = pool_of_call(false);
  if (inside_task && used != nullptr) {
    // This thread forked in a question that it asked in the middle of a call. What the workers had yet to do of that
    // call is never done here, so it comes to its end without it.
    used->abandon();
    if (interrupts.call != nullptr) interrupts.call->stop();
  }
  pool = nullptr;
  own_pool = nullptr;
  pool_taken.store(false, std::memory_order_release);
}

Index free_threads() { return inside_task ? 1 : num_threads(); }

void wait_a_moment(Index waits) {
  constexpr Index waits_between_yields = 1000;
  if (waits % waits_between_yields == 0) {
    std::this_thread::yield();
  } else {
    pause_briefly();
  }
}

void wake_threads() {
  const Index threads = free_threads();
  if (threads == 1) return;
  const PoolUse use(false);
  if (!use.granted()) return;
  Pool* const used = pool_of_call(true);
  used->wake(used->start(threads));
}

void run_parallel(Index parts, void (*task)(void* context, Index part) noexcept, void* context, Threads which) {
  Work work{task, context, parts};
  const Index threads = std::min(parts, free_threads());
  if (threads <= 1) return work.run(0);
  const bool all = which == Threads::all;
  const PoolUse use(all);
  if (!use.granted()) return work.run(0);
  Pool* const used = pool_of_call(all);
  if (used == nullptr) return work.run(0);
  work.call = interrupts.call;
  work.threads = all ? used->start(threads) : used->available(threads);
  inside_task = true;
  used->run(work, which);
  inside_task = false;
}

}  // namespace latchwork
