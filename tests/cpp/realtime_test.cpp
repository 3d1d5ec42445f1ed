// A stream's real-time contract: after construction no system call, no allocation, no lock, no exception.
#include <doctest/doctest.h>

#include <atomic>
#include <cstdlib>
#include <memory>
#include <utility>

#include "latchwork/network.hpp"
#include "latchwork/stream.hpp"
#include "machine/parallel.hpp"
#include "support/prepared_inputs.hpp"
#include "support/random_variants.hpp"
#include "support/support.hpp"

// Sanitizers bring their own allocator, and make system calls and take locks that the program does not ask for.
#if defined(__has_feature)
#define LATCHWORK_HAS_FEATURE(name) __has_feature(name)
#else
#define LATCHWORK_HAS_FEATURE(name) 0
#endif
#if defined(__linux__) && defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && \
    !LATCHWORK_HAS_FEATURE(address_sanitizer) && !LATCHWORK_HAS_FEATURE(thread_sanitizer)
#define LATCHWORK_WATCHES_CALLS 1
#else
#define LATCHWORK_WATCHES_CALLS 0
#endif

#if LATCHWORK_WATCHES_CALLS

#include <dlfcn.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <mutex>
#include <new>
#include <shared_mutex>
#include <thread>

// The calls that this program makes, those of operator new, delete and std::mutex included. Freeing memory counts as
// an allocation too.
static std::atomic<long> allocation_count{0};
static std::atomic<long> lock_count{0};

// The C library's function of this name.
template <class Function>
static Function* next_definition(std::atomic<Function*>& known, const char* name) {
  Function* found = known.load();
  if (found == nullptr) {
    found = reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
    if (found == nullptr) std::abort();
    known.store(found);
  }
  return found;
}

extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);
void __libc_free(void*);

void* malloc(std::size_t size) noexcept {
  ++allocation_count;
  return __libc_malloc(size);
}
void* calloc(std::size_t count, std::size_t size) noexcept {
  ++allocation_count;
  return __libc_calloc(count, size);
}
void* realloc(void* block, std::size_t size) noexcept {
  ++allocation_count;
  return __libc_realloc(block, size);
}
void* aligned_alloc(std::size_t alignment, std::size_t size) noexcept {
  ++allocation_count;
  return __libc_memalign(alignment, size);
}
int posix_memalign(void** block, std::size_t alignment, std::size_t size) noexcept {
  ++allocation_count;
  *block = __libc_memalign(alignment, size);
  return *block == nullptr ? ENOMEM : 0;
}
void free(void* block) noexcept {
  ++allocation_count;
  __libc_free(block);
}

#define LATCHWORK_COUNT_LOCKS(name, Lock)                             \
  int name(Lock* lock) noexcept {                                     \
    static constinit std::atomic<int (*)(Lock*)> definition{nullptr}; \
    ++lock_count;                                                     \
    return next_definition(definition, #name)(lock);                  \
  }
LATCHWORK_COUNT_LOCKS(pthread_mutex_lock, pthread_mutex_t)
LATCHWORK_COUNT_LOCKS(pthread_mutex_trylock, pthread_mutex_t)
LATCHWORK_COUNT_LOCKS(pthread_rwlock_rdlock, pthread_rwlock_t)
LATCHWORK_COUNT_LOCKS(pthread_rwlock_wrlock, pthread_rwlock_t)
#undef LATCHWORK_COUNT_LOCKS
}

#endif

namespace latchwork::test {
namespace {

template <class T>
constexpr bool throws_nothing =
    noexcept(std::declval<Stream<T>&>().step(std::declval<const T*>(), std::declval<T*>(),
                                             std::declval<const std::uint8_t*>(), StepStrides{}, StepSkip{})) &&
    noexcept(std::declval<Stream<T>&>().step(std::declval<const std::int64_t*>(), std::declval<T*>(),
                                             std::declval<const std::uint8_t*>(), StepStrides{}, StepSkip{})) &&
    noexcept(std::declval<const Stream<T>&>().get_state(std::declval<const States<T>&>())) &&
    noexcept(std::declval<Stream<T>&>().set_state(std::declval<const States<const T>&>())) &&
    noexcept(std::declval<Stream<T>&>().reset());
static_assert(throws_nothing<float> && throws_nothing<double>);

struct Player {
  explicit Player(std::string what) : name(std::move(what)) {}
  virtual ~Player() = default;
  virtual void play() noexcept = 0;
  std::string name;
};

// A stream with everything that its calls need, so that play() does nothing but call it.
template <class T>
class StreamPlayer : public Player {
 public:
  StreamPlayer(std::string what, const std::vector<ModuleOptions>& modules, Index rows)
      : Player(std::move(what) + (sizeof(T) == 4 ? ", float, rows: " : ", double, rows: ") + std::to_string(rows)),
        network_(modules, TensorNames::of_chain, 1),
        stream_(network_.stream(rows)),
        steps_(std::clamp<Index>(30'000'000 / (network_.parameter_count() * rows), 40, 2000)),
        tokens_(static_cast<std::size_t>(rows)),
        reset_(static_cast<std::size_t>(rows)),
        skip_(static_cast<std::size_t>(rows)),
        x_(converted<T>(Random(61).numbers(rows * network_.input_size()))),
        y_(static_cast<std::size_t>(rows * network_.output_size())) {
    for (const StateSize& size : network_.state_sizes()) {
      hidden_.emplace_back(static_cast<std::size_t>(size.count * rows * size.hidden));
      cell_.emplace_back(static_cast<std::size_t>(size.count * rows * size.cell));
    }
    Random random(63);
    if (network_.takes_missing()) prepare(random, 0.4, x_);
    if (rows > 1) stream_->refresh();  // its steps keep the contract too
    for (std::size_t at = 0; at < hidden_.size(); ++at) {
      state_.push_back({hidden_[at].data(), cell_[at].data()});
      start_.push_back({hidden_[at].data(), cell_[at].data()});
    }
  }

  void play() noexcept override {
    for (Index step = 0; step < steps_; ++step) {
      for (std::size_t row = 0; row < reset_.size(); ++row) {
        tokens_[row] = (step + static_cast<Index>(row)) % 11;
        reset_[row] = (static_cast<std::size_t>(step) + row) % 5 == 0;
        skip_[row] = (static_cast<std::size_t>(step) + row) % 7 < 3;
      }
      const std::uint8_t* mask = step % 3 == 0 ? reset_.data() : nullptr;
      const StepSkip skip{step % 4 == 1 ? skip_.data() : nullptr, 0,
                          step % 8 == 1 ? SkippedOutput::zero : SkippedOutput::repeat};
      if (stream_->takes_tokens()) {
        stream_->step(tokens_.data(), y_.data(), mask, {}, skip);
      } else {
        stream_->step(x_.data(), y_.data(), mask, {}, skip);
      }
      if (step % 16 == 3) stream_->get_state(state_);
      if (step % 16 == 7) stream_->set_state(start_);
      if (step % 16 == 15) stream_->reset();
    }
  }

 private:
  Network<T> network_;
  std::unique_ptr<Stream<T>> stream_;
  Index steps_;
  std::vector<std::int64_t> tokens_;
  std::vector<std::uint8_t> reset_, skip_;
  std::vector<T> x_, y_;
  std::vector<std::vector<T>> hidden_, cell_;
  States<T> state_;
  States<const T> start_;
};

using Players = std::vector<std::unique_ptr<Player>>;

LstmOptions lstm_options(Index input_size, Index hidden_size, Index layers = 1, Index projection = 0) {
  LstmOptions options;
  options.input_size = input_size;
  options.hidden_size = hidden_size;
  options.num_layers = layers;
  options.proj_size = projection;
  return options;
}

void add(Players& players, const std::string& name, const std::vector<ModuleOptions>& modules) {
  for (const Index rows : {1, 8}) {
    players.push_back(std::make_unique<StreamPlayer<float>>(name, modules, rows));
    players.push_back(std::make_unique<StreamPlayer<double>>(name, modules, rows));
  }
}

// Streams for every kind of step. None has made a step yet.
Players all_players() {
  Players players;
  for (const Index hidden_size : {8, 20, 64, 256, 512}) {
    add(players, "hidden size " + std::to_string(hidden_size), {lstm_options(3, hidden_size)});
  }
  add(players, "projection", {lstm_options(5, 64, 2, 20)});
  add(players, "chain",
      {EmbeddingOptions{11, 20}, lstm_options(20, 64, 2), LastOptions{}, LinearOptions{64, 17, true, {"tanh"}},
       LinearOptions{17, 9, true, {"sigmoid"}}, LinearOptions{9, 3, false, {"relu"}}});
  for (const ModuleOptions& pooling : {ModuleOptions(MeanOptions{}), ModuleOptions(MaxOptions{})}) {
    add(players, "pooling", {DropoutOptions{}, lstm_options(3, 20), DropoutOptions{}, pooling, LinearOptions{20, 4}});
  }
  add(players, "missing values, codes, sorted outputs",
      prepared({lstm_options(prepared_size, 20), LinearOptions{20, 6}, SortOptions{3}, ActivationOptions{{"softmax"}},
                ScaleOptions{std::vector<double>(6, 0.5), std::vector<double>(6, 2.0)}}));
  add(players, "masked steps, the input added",
      {MaskOptions{0.25}, lstm_options(3, 20), LinearOptions{20, 4}, InputSkipOptions{2, 0.5}});
  Random random(62);
  for (int variant = 0; variant < 16; ++variant) {
    const Index hidden_size = random.between(2, 40);
    LstmOptions options = lstm_options(random.between(1, 9), hidden_size, random.between(1, 3),
                                       random.chance(0.3) ? random.between(1, hidden_size - 1) : 0);
    add_random_variants(random, options);
    add(players, "variant " + std::to_string(variant), {options});
  }
  return players;
}

}  // namespace

#if LATCHWORK_WATCHES_CALLS

namespace {

enum class Ending { stopped_by_a_system_call, finished, seccomp_is_missing };

struct Report {
  std::atomic<Ending> ending{Ending::stopped_by_a_system_call};
  std::atomic<std::size_t> position{0};
  std::atomic<long> allocations{0};
  std::atomic<long> locks{0};
};

// A report in memory that a child process shares.
class SharedReport {
 public:
  SharedReport()
      : memory_(mmap(nullptr, sizeof(Report), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)),
        report_(new (memory_) Report) {}
  ~SharedReport() { munmap(memory_, sizeof(Report)); }
  SharedReport(const SharedReport&) = delete;
  SharedReport& operator=(const SharedReport&) = delete;
  Report* operator->() const { return report_; }
  Report& operator*() const { return *report_; }

 private:
  void* memory_;
  Report* report_;
};

// Runs `work` in a child process, on a thread that the kernel allows no system call except the one that ends it: any
// other kills the thread. The pool's second thread has been started, and sleeps or spins.
template <class Work>
void run_without_system_calls(Report& report, Work&& work) {
  const pid_t child = fork();
  if (child == 0) {
    alarm(300);
    parallel(2, [](Index) {});
    std::thread([&] {
      if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) != 0) {
        report.ending = Ending::seccomp_is_missing;
        return;
      }
      const long allocations = allocation_count;
      const long locks = lock_count;
      work();
      report.allocations = allocation_count - allocations;
      report.locks = lock_count - locks;
      report.ending = Ending::finished;
      syscall(SYS_exit, 0);
    }).join();
    _exit(0);
  }
  int status = -1;
  waitpid(child, &status, 0);
}

}  // namespace

// This test case must be the first in the file, so that its first step is also the first use of whatever a program
// binds or fills in only when it is needed.
TEST_CASE("real time: every kind of step, without a system call, an allocation or a lock") {
  const ThreadCount setting(2);
  for_each_isa([] {
    const Players players = all_players();
    const SharedReport report;
    run_without_system_calls(*report, [&] {
      for (const auto& player : players) {
        player->play();
        ++report->position;
      }
    });
    if (report->ending == Ending::seccomp_is_missing) {
      MESSAGE("system calls are not checked: this system has no seccomp");
      const long allocations = allocation_count;
      const long locks = lock_count;
      for (const auto& player : players) player->play();
      report->allocations = allocation_count - allocations;
      report->locks = lock_count - locks;
    } else {
      const std::string playing = report->position < players.size() ? players[report->position]->name : "none";
      CAPTURE(playing);
      CHECK(report->ending == Ending::finished);
    }
    CHECK(report->allocations == 0);
    CHECK(report->locks == 0);
  });
}

TEST_CASE("real time: a system call, an allocation and a lock are noticed") {
  const ThreadCount setting(2);
  const SharedReport report;
  run_without_system_calls(*report, [] { syscall(SYS_getppid); });
  CHECK(report->ending != Ending::finished);

  long before = allocation_count;
  int* volatile one = new int(1);  // volatile, so that the compiler cannot remove new and delete
  CHECK(allocation_count - before == 1);
  delete one;
  CHECK(allocation_count - before == 2);
  before = allocation_count;
  void* volatile block = std::aligned_alloc(64, 64);
  CHECK(allocation_count - before == 1);
  std::free(block);
  CHECK(allocation_count - before == 2);

  before = lock_count;
  std::mutex mutex;
  std::shared_mutex shared;
  {
    const std::lock_guard<std::mutex> lock(mutex);
  }
  {
    const std::shared_lock<std::shared_mutex> lock(shared);
  }
  {
    const std::lock_guard<std::shared_mutex> lock(shared);
  }
  CHECK(lock_count - before == 3);
}

TEST_CASE("real time: a million steps allocate nothing") {
  const Network<float> network({lstm_options(3, 8)}, TensorNames::of_layer, 1);
  const std::unique_ptr<Stream<float>> stream = network.stream(1);
  const std::vector<float> x = converted<float>(Random(63).numbers(3));
  std::vector<float> y(8);
  const long before = allocation_count;
  for (int step = 0; step < 1'000'000; ++step) stream->step(x.data(), y.data());
  CHECK(allocation_count - before == 0);
  CHECK(std::isfinite(y[0]));
}

#else

TEST_CASE("real time: every kind of step") {
  MESSAGE("calls are not watched: this needs Linux, glibc and a build without sanitizers");
  for (const auto& player : all_players()) player->play();
}

#endif

}  // namespace latchwork::test
