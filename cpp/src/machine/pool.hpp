#pragma once

#if defined(__SSE__) || defined(__x86_64__)
#include <immintrin.h>
#endif

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "latchwork/types.hpp"
#include "machine/interrupt.hpp"
#include "machine/parallel.hpp"

namespace latchwork {

// True on the workers, and on a caller while it runs its parts. Without `constinit` every access would first check
// whether the variable has been initialised.
extern constinit thread_local bool inside_task;

inline void pause_briefly() {
#if defined(__SSE__) || defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// On a worker: wakes the caller if that is asleep until this worker has finished, so that it can see to other things.
// Elsewhere this does nothing.
void wake_caller() noexcept;

using Task = void (*)(void* context, Index part) noexcept;

// The work of one call: of its `threads` threads, thread number n runs the parts n, n + threads, n + 2 threads, ...
struct Work {
  Task task = nullptr;
  void* context = nullptr;
  Index parts = 0;
  Index threads = 1;
  LongCall* call = nullptr;  // which the workers work for

  void run(Index thread) const {
    for (Index part = thread; part < parts; part += threads) task(context, part);
  }
};

// The threads beside the caller, called workers. Only the caller that uses the pool at the moment (see PoolUse in
// parallel.cpp) calls these functions.
//
// A message between two cores takes about as long as a time step of a small network, so a call sends only two for each
// worker, one there and one back: what the caller writes and what the worker writes lie in separate cache lines, and
// each waits by reading the line of the other. Calls are numbered. Either the worker or, if the worker is late, the
// caller claims the worker's share of a call, and runs it.
//
// The workers are threads of the pool, or guests: threads of somebody else (see team.hpp), which serve for a while.
class Pool {
 public:
  Pool() = default;
  // Starts no workers, but has room for guests: `threads` threads with the caller.
  explicit Pool(Index threads);
  ~Pool();

  // Starts the workers that are still missing for `threads` threads. Returns how many threads there are then: fewer
  // than asked for if the system does not allow more, or if there is room for fewer guests.
  Index start(Index threads);

  Index available(Index threads) const;

  // Wakes the sleeping ones among the first `threads` threads, unless they would have to share CPUs.
  void wake(Index threads);

  void run(const Work& work, Threads which);

  // Makes this thread, which is a guest, thread number `thread` until it is dismissed. Without room for it, this
  // returns at once.
  void serve_as_guest(Index thread);

  // To be called once, after the last call. Guests that come later find out at once.
  void dismiss_guests() { stop(); }

  // In a forked child: there are no workers any more. A call that is running waits for none.
  void abandon() { abandoned_ = true; }

 private:
  using Number = std::uint32_t;

  struct Worker {
    // Written by the caller: the number of the latest call, and its work.
    alignas(64) std::atomic<Number> called{0};
    Work work;
    // Written by the worker.
    alignas(64) std::atomic<Number> claimed{0};
    std::atomic<Number> finished{0};  // twice the number of the last call that it ran; one more: the caller is to wake
    std::atomic<std::uint32_t> asleep{0};
    // Read and written by the caller alone.
    alignas(64) Number number = 0;
    bool takes_part = false;
    std::thread thread;  // none if the worker is a guest
  };

  Worker& worker(Index thread) const { return *workers_[static_cast<std::size_t>(thread - 1)]; }

  static bool sleeps(const Worker& worker) { return worker.asleep.load(std::memory_order_relaxed) != 0; }

  static void call(Worker& worker, const Work& work, Threads which);

  static void wake(Worker& worker);

  static bool claim(Worker& worker, Number number);

  static bool is_finished(const Worker& worker, Number finished) { return (finished & ~1u) == 2 * worker.number; }

  static bool has_finished(const Worker& worker) {
    return is_finished(worker, worker.finished.load(std::memory_order_acquire));
  }

  // Whether a worker has not started although it had enough time to.
  static bool is_late(const Worker& worker);

  void wait_for(Worker& worker, Index threads, Threads which);

  void count_cpus(Index threads);

  // Threads spin only if each can have a CPU of its own: a thread that spins on a shared CPU delays the thread that it
  // waits for.
  void set_spinning(Index threads);

  void add_worker() { workers_.push_back(std::make_unique<Worker>()); }

  bool start_worker();

  void stop();

  void serve(Worker& worker, Index thread);

  const bool for_guests_ = false;
  std::vector<std::unique_ptr<Worker>> workers_;
  Index cpus_ = 1;
  Index calls_since_look_ = 0;
  bool stopping_ = false;
  bool abandoned_ = false;
  alignas(64) std::atomic<bool> spin_{false};
};

// The pool of this thread's calls alone, or null: they use the pool of the process.
extern constinit thread_local Pool* own_pool;

}  // namespace latchwork
