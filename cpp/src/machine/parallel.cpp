// Who has the pool, and how long it lives: callers take turns, and a child of a fork starts anew.
#include "machine/parallel.hpp"

#include <algorithm>
#include <atomic>
#include <thread>

#include "latchwork/threads.hpp"
#include "machine/pool.hpp"

#if defined(__unix__) || defined(__APPLE__)
#define LATCHWORK_POSIX
#include <pthread.h>
#endif

namespace latchwork {
namespace {

// Of several callers one has the pool; the others do not wait for it.
std::atomic<bool> pool_taken{false};
Pool* pool = nullptr;

class PoolTurn {
 public:
  // A long call is not to lose its threads to another's few microseconds.
  explicit PoolTurn(bool patient) {
    for (int tries = patient ? 200 : 1; tries > 0 && !mine_; --tries) {
      mine_ = !pool_taken.exchange(true, std::memory_order_acquire);
      if (!mine_ && tries > 1) pause_briefly();
    }
  }
  ~PoolTurn() {
    if (mine_) pool_taken.store(false, std::memory_order_release);
  }
  PoolTurn(const PoolTurn&) = delete;
  PoolTurn& operator=(const PoolTurn&) = delete;

  bool mine() const { return mine_; }

 private:
  bool mine_ = false;
};

// A child has none of the workers, and the pool may have been in any state: it is abandoned, and the next call starts
// another.
[[maybe_unused]] void abandon_pool_in_child() {
  pool = nullptr;
  pool_taken.store(false, std::memory_order_release);
}

struct PoolLifetime {
  PoolLifetime() {
#if defined(LATCHWORK_POSIX)
    pthread_atfork(nullptr, nullptr, abandon_pool_in_child);
#endif
  }
  // Joins the workers when the program ends or the library is unloaded. Whoever calls later runs inline. Where another
  // thread is using the pool at that moment the process is ending under it, and waiting for it could take for ever.
  ~PoolLifetime() {
    if (pool_taken.exchange(true, std::memory_order_acquire)) return;
    delete pool;
    pool = nullptr;
  }
};
const PoolLifetime pool_lifetime;

}  // namespace

Index free_threads() { return inside_task ? 1 : num_threads(); }

void rest(Index idle) {
  constexpr Index turns_between_yields = 1000;
  if (idle % turns_between_yields == 0) {
    std::this_thread::yield();
  } else {
    pause_briefly();
  }
}

void wake_threads() {
  const Index threads = free_threads();
  if (threads == 1) return;
  const PoolTurn turn(false);
  if (!turn.mine()) return;
  if (pool == nullptr) pool = new Pool;
  pool->wake(pool->start(threads));
}

void run_parallel(Index parts, void (*task)(void* context, Index part) noexcept, void* context, Threads which) {
  Work work{task, context, parts, 1};
  const Index threads = std::min(parts, free_threads());
  if (threads <= 1) return work.run(0);
  const bool all = which == Threads::all;
  const PoolTurn turn(all);
  if (!turn.mine()) return work.run(0);
  if (all && pool == nullptr) pool = new Pool;
  if (pool == nullptr) return work.run(0);
  work.threads = all ? pool->start(threads) : pool->available(threads);
  inside_task = true;
  pool->run(work, which);
  inside_task = false;
}

}  // namespace latchwork
