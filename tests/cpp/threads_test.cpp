#include "latchwork/threads.hpp"

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <limits>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "machine/cpu_count.hpp"
#include "machine/float_state.hpp"
#include "machine/parallel.hpp"
#include "support/child.hpp"
#include "support/run_self.hpp"
#include "support/support.hpp"

namespace latchwork::test {
namespace {

// Runs `parts` parts, and returns whether each ran once.
bool each_ran_once(Index parts) {
  std::vector<std::atomic<int>> runs(static_cast<std::size_t>(parts));
  parallel(parts, [&](Index part) { runs[static_cast<std::size_t>(part)].fetch_add(1); });
  for (const auto& count : runs) {
    if (count != 1) return false;
  }
  return true;
}

// The thread that ran each part. Part 0 waits until the first part of every other thread has started, so that no thread
// comes too late.
std::vector<std::thread::id> threads_of_parts(Index parts, Index threads) {
  std::vector<std::thread::id> ids(static_cast<std::size_t>(parts));
  std::atomic<Index> begun{0};
  parallel(parts, [&](Index part) {
    ids[static_cast<std::size_t>(part)] = std::this_thread::get_id();
    if (part > 0 && part < threads) begun.fetch_add(1);
    while (part == 0 && begun.load() < threads - 1) std::this_thread::yield();
  });
  return ids;
}

void write_file(const std::filesystem::path& path, const std::string& text) {
  std::filesystem::create_directories(path.parent_path());
  std::ofstream(path) << text;
}

}  // namespace

TEST_CASE("every part runs once, whatever the numbers of parts and threads") {
  for (Index threads : {1, 2, 3, 8, 2}) {
    const ThreadCount setting(threads);
    for (Index parts = 0; parts <= 20; ++parts) {
      CAPTURE(threads);
      CAPTURE(parts);
      CHECK(each_ran_once(parts));
    }
  }
}

TEST_CASE("part p runs on thread p modulo threads, and part 0 on the caller's") {
  const ThreadCount setting(3);
  const auto ids = threads_of_parts(8, 3);
  CHECK(ids[0] == std::this_thread::get_id());
  CHECK(ids[1] != ids[0]);
  CHECK(ids[2] != ids[0]);
  CHECK(ids[2] != ids[1]);
  for (std::size_t part = 3; part < ids.size(); ++part) CHECK(ids[part] == ids[part - 3]);
  CHECK(threads_of_parts(8, 3) == ids);
}

TEST_CASE("a limit holds for the calls of its thread alone, and ends with its object") {
  const ThreadCount setting(3);
  const auto caller = std::this_thread::get_id();
  {
    const ThreadLimit two(2);
    CHECK(num_threads() == 2);
    {
      const ThreadLimit one(1), more(8);
      CHECK(num_threads() == 1);
      for (int run = 0; run < 100; ++run) {
        parallel(4, [&](Index) { CHECK(std::this_thread::get_id() == caller); });
      }
    }
    CHECK(num_threads() == 2);
    Index elsewhere = 0;
    std::thread([&] { elsewhere = num_threads(); }).join();
    CHECK(elsewhere == 3);
  }
  CHECK(num_threads() == 3);
  CHECK_THROWS_AS(ThreadLimit(0), std::invalid_argument);
  CHECK(num_threads() == 3);
}

TEST_CASE("the caller runs the parts of a thread that has not started, and each part still runs once") {
  const ThreadCount setting(4);
  std::atomic<int> on_caller{0}, on_others{0};
  const auto caller = std::this_thread::get_id();
  for (int call = 0; call < 20'000; ++call) {
    if (call % 200 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(3));  // the workers fall asleep
    std::atomic<int> runs[7] = {};
    parallel(7, [&](Index part) {
      runs[part].fetch_add(1);
      if (part % 4 != 0) (std::this_thread::get_id() == caller ? on_caller : on_others).fetch_add(1);
    });
    bool once = true;
    for (const auto& count : runs) once = once && count == 1;
    if (!once) REQUIRE(once);
  }
  CHECK(on_caller > 0);
  CHECK(on_caller + on_others == 20'000 * 5);
}

// Uses the two ways of running on threads that are awake in turn.
template <class Task>
void parallel_awake(Index parts, Task&& task) {
  static bool spun = false;
  spun = !spun;
  parallel(parts, task, spun ? Threads::awake_spun : Threads::awake);
}

// Runs `parts` parts on threads that are awake, again and again until enough(ids of the threads that ran them).
template <class Enough>
bool runs_awake_until(Index parts, Enough&& enough) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (std::chrono::steady_clock::now() < deadline) {
    wake_threads();
    std::vector<std::thread::id> ids(static_cast<std::size_t>(parts));
    std::vector<std::atomic<int>> runs(static_cast<std::size_t>(parts));
    parallel_awake(parts, [&](Index part) {
      ids[static_cast<std::size_t>(part)] = std::this_thread::get_id();
      runs[static_cast<std::size_t>(part)].fetch_add(1);
    });
    for (const auto& count : runs) {
      if (count != 1) return false;
    }
    if (enough(ids)) return true;
  }
  return false;
}

TEST_CASE("threads that are awake take part without being woken, those asleep are left out") {
  if (usable_cpus() < 2) {
    MESSAGE("skipped: threads that share one CPU are not kept awake");
    return;
  }
  const ThreadCount setting(2);
  CHECK(runs_awake_until(2, [](const auto& ids) { return ids[1] != ids[0]; }));
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  for (int run = 0; run < 100; ++run) {
    parallel_awake(2, [caller = std::this_thread::get_id()](Index) { CHECK(std::this_thread::get_id() == caller); });
  }
}

TEST_CASE("short calls in quick succession, with sleep between bursts") {
  for (const Index threads : {2, 3}) {
    const ThreadCount setting(threads);
    for (int burst = 0; burst < 20; ++burst) {
      wake_threads();
      std::vector<Index> sums(5, 0);
      for (Index call = 0; call < 2000; ++call) {
        parallel_awake(5, [&](Index part) { sums[static_cast<std::size_t>(part)] += call; });
      }
      for (const Index sum : sums) CHECK(sum == 2000 * 1999 / 2);
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
  }
}

TEST_CASE("without a pool, and from inside a task, waking does nothing and parts run on the caller's thread") {
  CHECK(succeeds_in_child([] {  // the child has no pool yet
    set_num_threads(2);
    bool inline_all = true;
    const auto caller = std::this_thread::get_id();
    parallel_awake(3, [&](Index) { inline_all = inline_all && std::this_thread::get_id() == caller; });
    set_num_threads(1);
    wake_threads();
    return inline_all;
  }));
  const ThreadCount setting(2);
  std::atomic<Index> free{0};
  parallel(2, [&](Index) {
    wake_threads();
    free.fetch_add(free_threads());
  });
  CHECK(free == 2);
  CHECK(free_threads() == 2);
}

TEST_CASE("one thread runs inline") {
  const ThreadCount setting(1);
  for (const auto& id : threads_of_parts(5, 1)) CHECK(id == std::this_thread::get_id());
}

TEST_CASE("a call from inside a task runs inline, in order") {
  const ThreadCount setting(2);
  std::atomic<int> wrong{0};
  parallel(4, [&](Index) {
    const auto outer = std::this_thread::get_id();
    Index next = 0;
    parallel(5, [&](Index part) {
      if (std::this_thread::get_id() != outer || part != next++) ++wrong;
    });
    if (next != 5) ++wrong;
  });
  CHECK(wrong == 0);
  CHECK(threads_of_parts(2, 2)[1] != std::this_thread::get_id());  // afterwards the pool is used again
}

TEST_CASE("many callers at once, while the number of threads changes") {
  const ThreadCount setting(3);
  std::atomic<int> wrong{0};
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 8; ++caller) {
    callers.emplace_back([&] {
      for (Index run = 0; run < 300; ++run) {
        if (!each_ran_once(run % 7)) ++wrong;
      }
    });
  }
  for (Index run = 0; run < 200; ++run) {
    set_num_threads(1 + run % 4);
    std::this_thread::yield();
  }
  for (auto& caller : callers) caller.join();
  CHECK(wrong == 0);
}

TEST_CASE("results written by the parts are seen by the caller, after spinning and after sleeping") {
  const ThreadCount setting(3);
  for (int run = 0; run < 30; ++run) {
    std::vector<Index> values(64, -1);
    parallel(64, [&](Index part) {
      if (run % 10 == 0 && part == 1) std::this_thread::sleep_for(std::chrono::milliseconds(2));
      values[static_cast<std::size_t>(part)] = part;
    });
    for (Index part = 0; part < 64; ++part) CHECK(values[static_cast<std::size_t>(part)] == part);
    if (run % 10 == 5) std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
}

TEST_CASE("workers flush subnormals to zero, and the caller's floating-point state stays its own") {
  const ThreadCount setting(2);
  std::vector<double> halves(2, -1.0);
  const auto halve = [&](Index part) {
    volatile double smallest = std::numeric_limits<double>::min();
    halves[static_cast<std::size_t>(part)] = smallest * 0.5;
  };
  {
    const FlushToZero flush_to_zero;
    std::atomic<bool> worker_begun{false};
    parallel(2, [&](Index part) {
      if (part == 1) worker_begun = true;
      while (!worker_begun) std::this_thread::yield();
      halve(part);
    });
  }
  CHECK(halves[0] == 0.0);
  CHECK(halves[1] == 0.0);
  parallel(1, halve);
  CHECK(halves[0] > 0.0);
}

TEST_CASE("a child forked while the pool is idle starts workers of its own" * doctest::skip(thread_sanitizer)) {
  const ThreadCount setting(3);
  REQUIRE(each_ran_once(6));
  CHECK(succeeds_in_child([] {
    const auto ids = threads_of_parts(3, 3);
    return ids[1] != ids[0] && ids[2] != ids[1] && each_ran_once(10);
  }));
  CHECK(each_ran_once(6));
}

TEST_CASE("a child forked while another thread uses the pool does not hang" * doctest::skip(thread_sanitizer)) {
  const ThreadCount setting(2);
  std::atomic<bool> stop{false};
  std::thread user([&] {
    while (!stop) each_ran_once(4);
  });
  for (int run = 0; run < 20; ++run) CHECK(succeeds_in_child([] { return each_ran_once(4) && each_ran_once(9); }));
  stop = true;
  user.join();
}

TEST_CASE("a child of a child" * doctest::skip(thread_sanitizer)) {
  const ThreadCount setting(2);
  REQUIRE(each_ran_once(4));
  CHECK(succeeds_in_child([] { return each_ran_once(4) && succeeds_in_child([] { return each_ran_once(4); }); }));
}

TEST_CASE("set_num_threads refuses what is out of range") {
  const Index before = num_threads();
  CHECK_THROWS_WITH_AS(set_num_threads(0), "count: expected an integer from 1 to 1024, got 0", std::invalid_argument);
  CHECK_THROWS_AS(set_num_threads(-1), std::invalid_argument);
  CHECK_THROWS_AS(set_num_threads(1025), std::invalid_argument);
  CHECK(num_threads() == before);
}

TEST_CASE("report the number of threads" * doctest::skip()) {
  try {
    const Index threads = num_threads();
    std::cout << "threads=" << threads << std::endl;
  } catch (const std::invalid_argument& error) {
    std::cout << error.what() << std::endl;
  }
}

TEST_CASE("the number of threads at the first use") {
  const std::string usable = "threads=" + std::to_string(usable_cpus()) + "\n";
  const auto report = [](const std::string& environment) {
    int status = -1;
    return run_self(environment, "report the number of threads", status);
  };
  CHECK(report("LATCHWORK_NUM_THREADS=3 OMP_NUM_THREADS=5") == "threads=3\n");
  CHECK(report("OMP_NUM_THREADS=5") == "threads=5\n");
  CHECK(report("OMP_NUM_THREADS=7,2") == "threads=7\n");
  CHECK(report("'OMP_NUM_THREADS= 6 , 2'") == "threads=6\n");
  CHECK(report("LATCHWORK_NUM_THREADS= OMP_NUM_THREADS=") == usable);
  CHECK(report("OMP_NUM_THREADS=many") == usable);
  CHECK(report("OMP_NUM_THREADS=0") == usable);
  CHECK(report("") == usable);
  for (const std::string value : {"0", "-1", "two", "3x", "1025", "99999999999999999999"}) {
    CHECK(report("LATCHWORK_NUM_THREADS=" + value) ==
          "LATCHWORK_NUM_THREADS: expected an integer from 1 to 1024, got '" + value + "'\n");
  }
}

TEST_CASE("exit while another thread uses the pool" * doctest::skip()) {
  alarm(20);
  set_num_threads(3);
  std::thread([] {
    for (;;) each_ran_once(4);
  }).detach();
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  std::exit(7);
}

TEST_CASE("a process can end while its pool is running" * doctest::skip(thread_sanitizer)) {
  int status = -1;
  run_self("", "exit while another thread uses the pool", status);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 7);
}

TEST_CASE("the container's limit is the least quota on the way up, rounded up") {
  namespace fs = std::filesystem;
  std::string pattern = (fs::temp_directory_path() / "latchwork_XXXXXX").string();
  REQUIRE(mkdtemp(pattern.data()) != nullptr);
  const fs::path root = pattern;
  const std::string membership = (root / "membership").string();
  const auto limit = [&] { return control_group_cpus(membership, root.string()); };

  CHECK(limit() == no_cpu_limit);  // the file is missing

  SUBCASE("version 2") {
    write_file(membership, "0::/outer/inner\n");
    write_file(root / "outer/inner/cpu.max", "max 100000\n");
    CHECK(limit() == no_cpu_limit);
    write_file(root / "outer/inner/cpu.max", "250000 100000\n");
    CHECK(limit() == 3);
    write_file(root / "outer/cpu.max", "200000 100000\n");
    CHECK(limit() == 2);
    write_file(root / "outer/cpu.max", "50000 100000\n");
    CHECK(limit() == 1);
  }
  SUBCASE("version 2, the root of a container") {
    write_file(membership, "0::/\n");
    write_file(root / "cpu.max", "150000 100000\n");
    CHECK(limit() == 2);
  }
  SUBCASE("version 1, the named group not visible from inside") {
    write_file(membership, "5:cpuset:/\n4:cpu,cpuacct:/docker/abc\n0::/\nnonsense\n");
    write_file(root / "cpu,cpuacct/cpu.cfs_quota_us", "400000\n");
    write_file(root / "cpu,cpuacct/cpu.cfs_period_us", "100000\n");
    CHECK(limit() == 4);
    write_file(root / "cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
    CHECK(limit() == no_cpu_limit);
  }
  SUBCASE("a file that makes no sense sets no limit") {
    write_file(membership, "0::/\n");
    for (const char* text : {"", "abc", "0 100000", "100000 0", "100000"}) {
      write_file(root / "cpu.max", text);
      CHECK(limit() == no_cpu_limit);
    }
  }
  fs::remove_all(root);
}

}  // namespace latchwork::test
