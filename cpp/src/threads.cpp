#include "latchwork/threads.hpp"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
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

// Whether `done` came true while spinning.
template <class Condition>
bool spin_until(Condition&& done) {
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

// The workers beside the caller. Only the one who holds the turn (below) calls its functions.
// The atomics that threads sleep on are used with sequential consistency: std::atomic's notify skips its system call
// where it sees no waiter, and that look must not move before the store.
class Pool {
 public:
  ~Pool() {
    stopping_ = true;
    for (const auto& worker : workers_) {
      wake(*worker);
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
    return std::min(threads, static_cast<Index>(workers_.size()) + 1);
  }

  void run(Index threads, Index parts, Task task, void* context) {
    task_ = task;
    context_ = context;
    parts_ = parts;
    threads_ = threads;
    // Where threads must share a CPU, one that spins keeps it from the one it waits for.
    spin_.store(threads <= cpus_, std::memory_order_relaxed);
    running_.store(static_cast<std::uint32_t>(threads - 1));
    for (Index index = 0; index < threads - 1; ++index) wake(*workers_[static_cast<std::size_t>(index)]);
    run_parts(0);
    take_over(threads);
    const auto finished = [this] { return running_.load(std::memory_order_acquire) == 0; };
    if (spin_.load(std::memory_order_relaxed) && spin_until(finished)) return;
    for (std::uint32_t running = running_.load(); running != 0; running = running_.load()) running_.wait(running);
    // The process may have been pinned since. Looking here costs little beside having slept.
    cpus_ = usable_cpus();
  }

 private:
  // A call makes an idle worker `called`; it becomes idle again when it has run its parts, or when the caller has.
  enum State : std::uint32_t { idle, called, begun };

  struct alignas(64) Worker {
    std::atomic<std::uint32_t> state{idle};
    std::thread thread;
  };

  // A worker that was asleep may start some milliseconds late, where the system puts it on a CPU that is busy. The
  // caller does not wait for those who have not begun, but runs their parts itself.
  void take_over(Index threads) {
    for (Index thread = 1; thread < threads; ++thread) {
      std::uint32_t expected = called;
      if (!workers_[static_cast<std::size_t>(thread - 1)]->state.compare_exchange_strong(expected, idle)) continue;
      run_parts(thread);
      running_.fetch_sub(1);
    }
  }

  bool start_worker() {
    workers_.push_back(std::make_unique<Worker>());
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
      worker.thread = std::thread([this, &worker, thread] { work(worker, thread); });
    } catch (const std::exception&) {  // no more threads, or no memory for one
      workers_.pop_back();
      started = false;
    }
#if defined(LATCHWORK_POSIX)
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
#endif
    return started;
  }

  static void wake(Worker& worker) {
    worker.state.store(called);
    worker.state.notify_one();
  }

  void work(Worker& worker, Index thread) {
    inside_task = true;
    const FlushToZero flush_to_zero;
    for (;;) {
      const auto is_called = [&] { return worker.state.load(std::memory_order_acquire) == called; };
      if (!spin_.load(std::memory_order_relaxed) || !spin_until(is_called)) worker.state.wait(idle);
      std::uint32_t expected = called;
      if (!worker.state.compare_exchange_strong(expected, begun)) continue;  // taken over
      if (stopping_) return;
      run_parts(thread);
      worker.state.store(idle);
      if (running_.fetch_sub(1) == 1) running_.notify_one();
    }
  }

  void run_parts(Index thread) {
    for (Index part = thread; part < parts_; part += threads_) task_(context_, part);
  }

  std::vector<std::unique_ptr<Worker>> workers_;
  Task task_ = nullptr;
  void* context_ = nullptr;
  Index parts_ = 0;
  Index threads_ = 1;
  Index cpus_ = 1;
  bool stopping_ = false;
  std::atomic<bool> spin_{false};
  alignas(64) std::atomic<std::uint32_t> running_{0};
};

// Of several callers one has the pool; the others do not wait for it.
std::atomic<bool> pool_taken{false};
Pool* pool = nullptr;

class Turn {
 public:
  Turn() : mine_(!pool_taken.exchange(true, std::memory_order_acquire)) {}
  ~Turn() {
    if (mine_) pool_taken.store(false, std::memory_order_release);
  }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;

  bool mine() const { return mine_; }

 private:
  bool mine_;
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

void run_inline(Index parts, Task task, void* context) {
  for (Index part = 0; part < parts; ++part) task(context, part);
}

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

void run_parallel(Index parts, Task task, void* context) {
  if (parts <= 1 || inside_task) return run_inline(parts, task, context);
  const Index threads = std::min(parts, num_threads());
  if (threads == 1) return run_inline(parts, task, context);
  const Turn turn;
  if (!turn.mine()) return run_inline(parts, task, context);
  if (pool == nullptr) pool = new Pool;
  const Index started = pool->start(threads);
  inside_task = true;
  pool->run(started, parts, task, context);
  inside_task = false;
}

}  // namespace latchwork
