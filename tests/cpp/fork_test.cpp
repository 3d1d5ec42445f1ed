// A forked child finds no lock held, and what locks guard whole.
#include "latchwork/fork.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "latchwork/parameters.hpp"
#include "support/child.hpp"

namespace latchwork::test {
namespace {

// Threads that run `work` again and again until the object is destroyed.
class Repeated {
 public:
  template <class Work>
  Repeated(int threads, Work work) {
    for (int thread = 0; thread < threads; ++thread) {
      threads_.emplace_back([this, work] {
        while (!stop_) work();
      });
    }
  }
  ~Repeated() {
    stop_ = true;
    for (std::thread& thread : threads_) thread.join();
  }

 private:
  std::atomic<bool> stop_{false};
  std::vector<std::thread> threads_;
};

}  // namespace

TEST_CASE("fork: a child sees each write of parameters whole, and can write itself" * doctest::skip(thread_sanitizer)) {
  constexpr Index size = 20'000;
  ParameterStore<float> store(size);
  const auto add_one = [&] {
    store.write([](float* values) {
      for (Index at = 0; at < size; ++at) values[at] += 1.0f;
    });
  };
  const Repeated writers(2, add_one);
  for (int run = 0; run < 100; ++run) {
    REQUIRE(succeeds_in_child([&] {
      add_one();
      bool whole = true;
      store.read([&](const float* values) {
        for (Index at = 0; at < size; ++at) whole = whole && values[at] == values[0];
      });
      return whole;
    }));
  }
}

TEST_CASE("fork: locks of several kinds held at once, made and destroyed meanwhile" * doctest::skip(thread_sanitizer)) {
  ForkSafeMutex first(LockKind::snapshots), second(LockKind::parameters), third(LockKind::workspaces);
  using Guard = std::lock_guard<ForkSafeMutex>;
  const auto use = [&] {
    const Guard one(first);
    auto made = std::make_unique<ForkSafeMutex>(LockKind::piece_workspaces);
    const Guard two(second);
    made.reset();
    const Guard three(third);
    const NoFork no_fork;
  };
  const Repeated users(3, use);
  for (int run = 0; run < 100; ++run) {
    REQUIRE(succeeds_in_child([&] {
      use();
      return succeeds_in_child([&] {
        use();
        return true;
      });
    }));
  }
}

TEST_CASE("fork: the child's generation is another one") {
  const unsigned before = process_generation();
  CHECK(succeeds_in_child([&] { return process_generation() != before; }));
  CHECK(process_generation() == before);
}

}  // namespace latchwork::test
