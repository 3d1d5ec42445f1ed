#include "machine/pool.hpp"

#include <algorithm>
#include <chrono>
#include <exception>
#include <new>
#include <optional>
#include <utility>

#if defined(__unix__) || defined(__APPLE__)
#define LATCHWORK_POSIX
#include <pthread.h>
#include <signal.h>
#endif

#include "machine/cpu_count.hpp"
#include "machine/float_state.hpp"

namespace latchwork {

constinit thread_local bool inside_task = false;
constinit thread_local Pool* own_pool = nullptr;

namespace {

// How long a thread spins before it sleeps. This is long enough to bridge the serial work between two parallel parts
// and the time that an idle virtual CPU takes to wake, about 0.1 ms. With less, both sides fall asleep at every call
// and never find each other awake again (measured with 50 us: a training step of 1.3 ms took 3.2 ms on two threads). It
// is short enough not to disturb other programs.
constexpr std::chrono::microseconds spin_time{1000};

// Whether done() became true while spinning. At first it does not pause between two looks: what comes within two
// microseconds, as between two time steps, is to be noticed at once.
template <class Condition>
bool spin_until(Condition&& done) {
  for (int i = 0; i < 2000; ++i) {
    if (done()) return true;
  }
  const auto deadline = std::chrono::steady_clock::now() + spin_time;
  do {
    for (int i = 0; i < 32; ++i) {
      if (done()) return true;
      pause_briefly();
    }
  } while (std::chrono::steady_clock::now() < deadline);
  return false;
}

constinit thread_local std::atomic<std::uint32_t>* finished_by_this_thread = nullptr;

}  // namespace

void wake_caller() noexcept {
  if (finished_by_this_thread == nullptr) return;
  finished_by_this_thread->fetch_xor(1);
  finished_by_this_thread->notify_one();
}

Pool::Pool(Index threads) : for_guests_(true) {
  while (available(threads) < threads) add_worker();
  count_cpus(threads);
}

Pool::~Pool() {
  if (!stopping_) stop();
  for (const auto& worker : workers_) {
    if (worker->thread.joinable()) worker->thread.join();
  }
}

void Pool::stop() {
  stopping_ = true;
  for (const auto& worker : workers_) call(*worker, {}, Threads::all);
}

Index Pool::start(Index threads) {
  while (!for_guests_ && static_cast<Index>(workers_.size()) < threads - 1) {
    cpus_ = usable_cpus();
    if (!start_worker()) break;
  }
  return available(threads);
}

Index Pool::available(Index threads) const { return std::min(threads, static_cast<Index>(workers_.size()) + 1); }

void Pool::wake(Index threads) {
  // Now and then this also counts the CPUs if no thread sleeps, because the process may have been pinned to fewer of
  // them meanwhile.
  constexpr Index calls_between_looks = 64;
  bool looked = false;
  const auto look = [&] {
    if (!std::exchange(looked, true)) count_cpus(threads);
  };
  if (++calls_since_look_ > calls_between_looks) look();
  set_spinning(threads);
  for (Index thread = 1; thread < threads; ++thread) {
    if (!sleeps(worker(thread))) continue;
    look();
    if (!spin_.load(std::memory_order_relaxed)) return;
    wake(worker(thread));
  }
}

void Pool::run(const Work& work, Threads which) {
  set_spinning(work.threads);
  for (Index thread = 1; thread < work.threads; ++thread) {
    Worker& other = worker(thread);
    const bool asleep = sleeps(other);
    other.takes_part = which == Threads::all || !asleep;
    if (!other.takes_part) continue;
    // Counting the CPUs costs little compared with waking a thread.
    if (asleep) count_cpus(work.threads);
    call(other, work, which);
  }
  work.run(0);
  for (Index thread = 1; thread < work.threads; ++thread) {
    Worker& other = worker(thread);
    if (other.takes_part && !(is_late(other) && claim(other, other.number))) continue;
    other.takes_part = false;
    work.run(thread);
  }
  for (Index thread = 1; thread < work.threads; ++thread) {
    if (worker(thread).takes_part) wait_for(worker(thread), work.threads, which);
  }
}

void Pool::call(Worker& worker, const Work& work, Threads which) {
  worker.work = work;
  ++worker.number;
  if (which != Threads::all) {
    // A worker that falls asleep at this moment misses the call; the caller then runs its parts.
    worker.called.store(worker.number, std::memory_order_release);
    return;
  }
  // Sequentially consistent, as are the lines in which the worker falls asleep: at least one of the two threads sees
  // what the other wrote.
  worker.called.store(worker.number);
  if (worker.asleep.load() != 0) wake(worker);
}

void Pool::wake(Worker& worker) {
  std::optional<OffThisCpu> placement;
  if (worker.thread.joinable()) placement.emplace(worker.thread);  // a guest runs where its owner lets it run
  worker.asleep.store(0);
  worker.asleep.notify_one();
}

bool Pool::claim(Worker& worker, Number number) {
  Number expected = number - 1;
  // The caller may have taken this call over and made others since.
  if (worker.claimed.load(std::memory_order_relaxed) != expected) return false;
  return worker.claimed.compare_exchange_strong(expected, number);
}

// A worker that was asleep may start some milliseconds late if the system puts it on a busy CPU. The caller does not
// wait for such a worker but runs its parts itself.
bool Pool::is_late(const Worker& worker) {
  for (int i = 0; i < 300; ++i) {
    if (worker.claimed.load(std::memory_order_relaxed) == worker.number) return false;
  }
  return true;
}

void Pool::wait_for(Worker& worker, Index threads, Threads which) {
  const auto finished = [&] { return has_finished(worker); };
  if (which == Threads::awake_spun) {
    while (!finished()) pause_briefly();
    return;
  }
  if (abandoned_) return;
  if (spin_.load(std::memory_order_relaxed) && spin_until(finished)) return;
  while (!abandoned_) {
    const Number before = worker.finished.load();
    if (is_finished(worker, before)) break;
    worker.finished.wait(before);
    if (interrupts.call != nullptr) interrupts.call->look();
  }
  count_cpus(threads);
}

void Pool::count_cpus(Index threads) {
  calls_since_look_ = 0;
  cpus_ = usable_cpus();
  set_spinning(threads);
}

void Pool::set_spinning(Index threads) {
  const bool spin = threads <= cpus_;
  if (spin_.load(std::memory_order_relaxed) != spin) spin_.store(spin, std::memory_order_relaxed);
}

bool Pool::start_worker() {
  try {
    add_worker();
  } catch (const std::bad_alloc&) {
    return false;
  }
  Worker& worker = *workers_.back();
  const auto thread = static_cast<Index>(workers_.size());
  bool started = true;
#if defined(LATCHWORK_POSIX)
  // Signals are to be handled by the threads of the program.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
#endif
  try {
    worker.thread = std::thread([this, &worker, thread] { serve(worker, thread); });
  } catch (const std::exception&) {  // the system allows no more threads, or there is no memory for one
    workers_.pop_back();
    started = false;
  }
#if defined(LATCHWORK_POSIX)
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
#endif
  return started;
}

void Pool::serve_as_guest(Index thread) {
  if (available(thread + 1) <= thread) return;
  serve(worker(thread), thread);
  inside_task = false;
  finished_by_this_thread = nullptr;
}

void Pool::serve(Worker& worker, Index thread) {
  inside_task = true;
  finished_by_this_thread = &worker.finished;
  const FlushToZero flush_to_zero;
  Number seen = 0;
  for (;;) {
    const auto is_called = [&] { return worker.called.load(std::memory_order_acquire) != seen; };
    if (!spin_.load(std::memory_order_relaxed) || !spin_until(is_called)) {
      worker.asleep.store(1);
      if (worker.called.load() == seen) worker.asleep.wait(1);
      worker.asleep.store(0);
    }
    const Number number = worker.called.load(std::memory_order_acquire);
    if (number == seen) continue;  // it was woken without a call
    seen = number;
    if (!claim(worker, number)) continue;  // the caller took this call over
    if (stopping_) return;
    interrupts = {worker.work.call, 0};
    worker.work.run(thread);
    interrupts = {};
    // Sequentially consistent, because notify_one makes no system call if it sees no waiter, and must not look for one
    // before the store.
    worker.finished.store(2 * number);
    worker.finished.notify_one();
  }
}

}  // namespace latchwork
