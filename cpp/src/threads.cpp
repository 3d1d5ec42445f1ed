#include "latchwork/threads.hpp"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#if defined(__unix__) || defined(__APPLE__)
#define LATCHWORK_POSIX
#include <pthread.h>
#include <signal.h>
#endif

#include "cpu_count.hpp"
#include "float_state.hpp"
#include "parallel.hpp"

namespace latchwork {
namespace {

constexpr Index max_threads = 1024;

std::optional<Index> parse_thread_count(std::string_view text) {
  constexpr std::string_view blanks = " \t\r\n";
  const std::size_t begin = text.find_first_not_of(blanks);
  if (begin == std::string_view::npos) return std::nullopt;
  text = text.substr(begin, text.find_last_not_of(blanks) - begin + 1);
  Index count = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), count);
  if (error != std::errc() || end != text.data() + text.size() || count < 1 || count > max_threads) return std::nullopt;
  return count;
}

Index default_threads() {
  if (const char* own = std::getenv("LATCHWORK_NUM_THREADS"); own != nullptr && *own != '\0') {
    if (const auto count = parse_thread_count(own)) return *count;
    throw std::invalid_argument("LATCHWORK_NUM_THREADS: expected an integer from 1 to " + std::to_string(max_threads) +
                                ", got '" + own + "'");
  }
  if (const char* openmp = std::getenv("OMP_NUM_THREADS")) {
    // One count for each level of nesting, of which only the outermost is meant.
    const std::string_view list(openmp);
    if (const auto count = parse_thread_count(list.substr(0, list.find(',')))) return *count;
  }
  return std::min(usable_cpus(), max_threads);
}

// 0 until the first use.
std::atomic<Index> wanted_threads{0};

// True on the workers, and on a caller while it runs its parts.
thread_local bool inside_task = false;

void pause_briefly() {
#if defined(__SSE__) || defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Long enough to bridge the serial work between two parallel parts and the time that an idle virtual CPU takes to wake,
// about 0.1 ms: with less, both sides fall asleep at every call and never meet awake again (measured with 50 us: a
// training step of 1.3 ms took 3.2 ms on two threads). Short enough not to matter to others.
constexpr std::chrono::microseconds spin_time{1000};

// Whether `done` came true while spinning. At first without pausing: what comes within two microseconds, as between
// two time steps, is to be met at once.
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

using Task = void (*)(void* context, Index part) noexcept;

// What one call gives its threads: of `threads` threads, number `thread` runs parts thread, thread + threads, ...
struct Work {
  Task task = nullptr;
  void* context = nullptr;
  Index parts = 0;
  Index threads = 1;

  void run(Index thread) const {
    for (Index part = thread; part < parts; part += threads) task(context, part);
  }
};

// The workers beside the caller. Only the one who holds the turn (below) calls its functions.
//
// A message between two cores takes about as long as a time step of a small network, so a call costs two of them, one
// to the worker and one back: what the caller writes and what the worker writes lie in lines of their own, and each
// waits by reading the other's. Calls are numbered; who claims a call, the worker or the caller in its place, runs it.
class Pool {
 public:
  ~Pool() {
    stopping_ = true;
    for (const auto& worker : workers_) {
      call(*worker, {}, Threads::all);
      worker->thread.join();
    }
  }

  // Starts the workers still missing for `threads` threads; returns how many threads there are, where the system allows
  // no more fewer than asked for.
  Index start(Index threads) {
    while (static_cast<Index>(workers_.size()) < threads - 1) {
      cpus_ = usable_cpus();
      if (!start_worker()) break;
    }
    return available(threads);
  }

  Index available(Index threads) const { return std::min(threads, static_cast<Index>(workers_.size()) + 1); }

  // Wakes those of the first `threads` that sleep, unless they would have to share CPUs.
  void wake(Index threads) {
    // Now and then also where none sleeps, for the process may have been pinned meanwhile.
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

  void run(const Work& work, Threads which) {
    set_spinning(work.threads);
    for (Index thread = 1; thread < work.threads; ++thread) {
      Worker& other = worker(thread);
      const bool asleep = sleeps(other);
      other.takes_part = which == Threads::all || !asleep;
      if (!other.takes_part) continue;
      // Looking at the CPUs costs little beside waking.
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

 private:
  using Number = std::uint32_t;

  struct Worker {
    // Written by the caller: the latest call.
    alignas(64) std::atomic<Number> called{0};
    Work work;
    // Written by the worker.
    alignas(64) std::atomic<Number> claimed{0};
    std::atomic<Number> finished{0};
    std::atomic<std::uint32_t> asleep{0};
    // Read and written by the caller alone.
    alignas(64) Number number = 0;
    bool takes_part = false;
    std::thread thread;
  };

  Worker& worker(Index thread) const { return *workers_[static_cast<std::size_t>(thread - 1)]; }

  static bool sleeps(const Worker& worker) { return worker.asleep.load(std::memory_order_relaxed) != 0; }

  static void call(Worker& worker, const Work& work, Threads which) {
    worker.work = work;
    ++worker.number;
    if (which != Threads::all) {
      // One that falls asleep at this moment misses the call; the caller then does its parts.
      worker.called.store(worker.number, std::memory_order_release);
      return;
    }
    // Sequentially consistent, as are the worker's lines on falling asleep: one of the two sees the other.
    worker.called.store(worker.number);
    if (worker.asleep.load() != 0) wake(worker);
  }

  static void wake(Worker& worker) {
    const OffThisCpu placement(worker.thread);
    worker.asleep.store(0);
    worker.asleep.notify_one();
  }

  static bool claim(Worker& worker, Number number) {
    Number expected = number - 1;
    // A call that was taken over may have been followed by others.
    if (worker.claimed.load(std::memory_order_relaxed) != expected) return false;
    return worker.claimed.compare_exchange_strong(expected, number);
  }

  static bool has_finished(const Worker& worker) {
    return worker.finished.load(std::memory_order_acquire) == worker.number;
  }

  // Whether a worker has not begun although it had the time. One that was asleep may start some milliseconds late,
  // where the system puts it on a CPU that is busy; the caller does not wait for it but runs its parts itself.
  static bool is_late(const Worker& worker) {
    for (int i = 0; i < 300; ++i) {
      if (worker.claimed.load(std::memory_order_relaxed) == worker.number) return false;
    }
    return true;
  }

  void wait_for(Worker& worker, Index threads, Threads which) {
    const auto finished = [&] { return has_finished(worker); };
    if (which == Threads::awake_spun) {
      while (!finished()) pause_briefly();
      return;
    }
    if (spin_.load(std::memory_order_relaxed) && spin_until(finished)) return;
    for (Number before = worker.finished.load(); before != worker.number; before = worker.finished.load()) {
      worker.finished.wait(before);
    }
    count_cpus(threads);
  }

  void count_cpus(Index threads) {
    calls_since_look_ = 0;
    cpus_ = usable_cpus();
    set_spinning(threads);
  }

  // Where threads must share a CPU, one that spins keeps it from the one it waits for.
  void set_spinning(Index threads) {
    const bool spin = threads <= cpus_;
    if (spin_.load(std::memory_order_relaxed) != spin) spin_.store(spin, std::memory_order_relaxed);
  }

  bool start_worker() {
    try {
      workers_.push_back(std::make_unique<Worker>());
    } catch (const std::bad_alloc&) {
      return false;
    }
    Worker& worker = *workers_.back();
    const auto thread = static_cast<Index>(workers_.size());
    bool started = true;
#if defined(LATCHWORK_POSIX)
    // Signals are for the threads of the program.
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
#endif
    try {
      worker.thread = std::thread([this, &worker, thread] { serve(worker, thread); });
    } catch (const std::exception&) {  // no more threads, or no memory for one
      workers_.pop_back();
      started = false;
    }
#if defined(LATCHWORK_POSIX)
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
#endif
    return started;
  }

  void serve(Worker& worker, Index thread) {
    inside_task = true;
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
      if (number == seen) continue;  // only woken
      seen = number;
      if (!claim(worker, number)) continue;  // taken over
      if (stopping_) return;
      worker.work.run(thread);
      // Sequentially consistent: notify_one skips its system call where it sees no waiter, and must not look before.
      worker.finished.store(number);
      worker.finished.notify_one();
    }
  }

  std::vector<std::unique_ptr<Worker>> workers_;
  Index cpus_ = 1;
  Index calls_since_look_ = 0;
  bool stopping_ = false;
  alignas(64) std::atomic<bool> spin_{false};
};

// Of several callers one has the pool; the others do not wait for it.
std::atomic<bool> pool_taken{false};
Pool* pool = nullptr;

class Turn {
 public:
  // A long call is not to lose its threads to another's few microseconds.
  explicit Turn(bool patient) {
    for (int tries = patient ? 200 : 1; tries > 0 && !mine_; --tries) {
      mine_ = !pool_taken.exchange(true, std::memory_order_acquire);
      if (!mine_ && tries > 1) pause_briefly();
    }
  }
  ~Turn() {
    if (mine_) pool_taken.store(false, std::memory_order_release);
  }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;

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

Index num_threads() {
  Index threads = wanted_threads.load(std::memory_order_relaxed);
  if (threads == 0) {
    const Index chosen = default_threads();
    if (wanted_threads.compare_exchange_strong(threads, chosen)) threads = chosen;
  }
  return threads;
}

void set_num_threads(Index count) {
  if (count < 1 || count > max_threads) {
    throw std::invalid_argument("count: expected an integer from 1 to " + std::to_string(max_threads) + ", got " +
                                std::to_string(count));
  }
  wanted_threads.store(count, std::memory_order_relaxed);
}

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
  const Turn turn(false);
  if (!turn.mine()) return;
  if (pool == nullptr) pool = new Pool;
  pool->wake(pool->start(threads));
}

void run_parallel(Index parts, void (*task)(void* context, Index part) noexcept, void* context, Threads which) {
  Work work{task, context, parts, 1};
  const Index threads = std::min(parts, free_threads());
  if (threads <= 1) return work.run(0);
  const bool all = which == Threads::all;
  const Turn turn(all);
  if (!turn.mine()) return work.run(0);
  if (all && pool == nullptr) pool = new Pool;
  if (pool == nullptr) return work.run(0);
  work.threads = all ? pool->start(threads) : pool->available(threads);
  inside_task = true;
  pool->run(work, which);
  inside_task = false;
}

}  // namespace latchwork
