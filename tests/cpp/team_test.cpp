// Calls that run on threads of somebody else.
#include "machine/team.hpp"

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include "latchwork/threads.hpp"
#include "machine/interrupt.hpp"
#include "machine/parallel.hpp"
#include "machine/pool.hpp"
#include "support/child.hpp"
#include "support/lstm_problem.hpp"
#include "support/support.hpp"

namespace latchwork::test {
namespace {

// What the team function of these tests does, and what it was asked for.
struct {
  Index most = 1024;                  // threads that it gives at most
  std::chrono::microseconds late{0};  // how long after the caller the others begin
  std::atomic<int> entered{0};
  std::atomic<unsigned> asked{0};
  std::atomic<int> guests_as_before{0};  // threads that came back as they went
} team;

constinit thread_local bool in_team = false;

// As GOMP_parallel: within a team there is none but the caller. In a forked child it does not come to its end: the
// threads that it would join are not there.
void with_threads(void (*function)(void*), void* context, unsigned threads, unsigned) {
  ++team.entered;
  team.asked = threads;
  const Index given = in_team ? 1 : std::min(static_cast<Index>(threads), team.most);
  std::vector<std::thread> others;
  for (Index thread = 1; thread < given; ++thread) {
    others.emplace_back([=] {
      std::this_thread::sleep_for(team.late);
      in_team = true;
      function(context);
      if (!inside_task && interrupts.call == nullptr && free_threads() == num_threads()) ++team.guests_as_before;
    });
  }
  const bool outer = std::exchange(in_team, true);
  function(context);
  in_team = outer;
  for (std::thread& other : others) other.join();
}

// While an object of this class exists, calls have such teams.
struct Teams {
  explicit Teams(Index most = 1024, std::chrono::microseconds late = std::chrono::microseconds(0)) {
    team.most = most;
    team.late = late;
    team.entered = 0;
    team.guests_as_before = 0;
    set_team_function(with_threads);
  }
  ~Teams() { set_team_function(nullptr); }
};

// Runs `parts` parts, of which the first waits until each other thread has begun one. Returns their threads.
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

std::vector<std::thread::id> threads_in_team(Index parts, Index threads) {
  std::vector<std::thread::id> ids;
  run_in_team(threads, [&] { ids = threads_of_parts(parts, threads); });
  return ids;
}

bool is_in(const std::vector<std::thread::id>& ids, std::thread::id id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

// Runs parts in each of the ways that there are, many times. Returns whether each part ran once each time.
bool parts_run_once() {
  for (int call = 0; call < 300; ++call) {
    if (call % 10 == 0) wake_threads();
    std::atomic<int> runs[5] = {};
    parallel(5, [&](Index part) { runs[part].fetch_add(1); }, static_cast<Threads>(call % 3));
    for (const auto& count : runs) {
      if (count != 1) return false;
    }
  }
  return true;
}

Problem problem_of(Index rows) {
  Random random(11);
  LstmOptions options;
  options.input_size = 24;
  options.hidden_size = 48;
  options.num_layers = 2;
  return random_problem(random, options, 40, rows, false, false, false);
}

}  // namespace

TEST_CASE("team: the parts of a call run on its threads and on none of the pool") {
  const ThreadCount setting(3);
  const auto of_pool = threads_of_parts(3, 3);
  const Teams teams;
  for (int call = 0; call < 20; ++call) {
    const auto ids = threads_in_team(8, 3);
    CHECK(ids[0] == std::this_thread::get_id());
    CHECK(ids[1] != ids[2]);
    for (std::size_t part = 1; part < 3; ++part) CHECK(!is_in(of_pool, ids[part]));
    for (std::size_t part = 3; part < ids.size(); ++part) CHECK(ids[part] == ids[part - 3]);
  }
  CHECK(team.entered == 20);
  CHECK(team.guests_as_before == 40);
  CHECK(threads_of_parts(3, 3) == of_pool);  // and after it on the pool again
  CHECK(!inside_task);
}

TEST_CASE("team: each part runs once, whether all threads come, come late, or fewer of them or none") {
  const ThreadCount setting(3);
  for (const Index most : {1, 2, 3}) {
    for (const int late : {0, 300, 5000}) {
      const Teams teams(most, std::chrono::microseconds(late));
      for (int call = 0; call < 5; ++call) {
        bool once = false;
        run_in_team(3, [&] { once = parts_run_once(); });
        CHECK(once);
      }
      CHECK(team.entered == 5);
    }
  }
}

TEST_CASE("team: it has as many threads as its owner's, of which no more are used than are set") {
  const Teams teams;
  for (const Index used : {2, 3}) {
    const ThreadCount setting(used);
    const auto of_pool = threads_of_parts(used, used);
    std::vector<std::thread::id> ids;
    run_in_team(4, [&] { ids = threads_of_parts(12, used); });
    CHECK(team.asked == 4);
    std::sort(ids.begin(), ids.end());
    CHECK(std::unique(ids.begin(), ids.end()) - ids.begin() == used);
    CHECK(is_in(ids, of_pool[0]));
    CHECK(!is_in(ids, of_pool[1]));
  }
  const ThreadCount many(8);
  std::vector<std::thread::id> ids;
  run_in_team(2, [&] { ids = threads_of_parts(4, 2); });
  CHECK(ids[2] == ids[0]);
  CHECK(ids[3] == ids[1]);
  run_in_team(2, [&] { CHECK(parts_run_once()); });
  CHECK(team.asked == 2);
}

TEST_CASE("team: there is none for one thread, and without a function") {
  const Teams teams;
  const auto run = [](Index threads) {
    bool once = false;
    run_in_team(threads, [&] { once = parts_run_once(); });
    return once;
  };
  {
    const ThreadCount setting(1);
    CHECK(run(3));
  }
  const ThreadCount setting(3);
  CHECK(run(1));
  const ThreadLimit limit(1);
  CHECK(run(3));
  CHECK(team.entered == 0);
  set_team_function(nullptr);
  const ThreadCount more(3);
  CHECK(run(3));
  CHECK(team.entered == 0);
}

TEST_CASE("team: results have the same bits as on the pool") {
  const Problem problem = problem_of(9);
  const Network<float> network = network_of<float>(problem);
  const ThreadCount one(1);
  Results<float> expected(problem);
  const auto gradients = run_backward(*run_record(network, problem, expected), problem);
  for (const Index threads : {2, 3}) {
    const ThreadCount setting(threads);
    for (const Index most : {1, 2, 3}) {
      const Teams teams(most);
      for (int call = 0; call < 5; ++call) {
        Results<float> found(problem);
        std::shared_ptr<Tape<float>> tape;
        run_in_team(threads, [&] { tape = run_record(network, problem, found); });
        CHECK(same_bits(found.output, expected.output));
        run_in_team(threads, [&] { CHECK(same_bits(run_backward(*tape, problem).parameters, gradients.parameters)); });
      }
      CHECK(team.entered == 10);
    }
  }
}

TEST_CASE("team: an exception comes out of the call, and the next call has a team again") {
  const ThreadCount setting(3);
  const auto of_pool = threads_of_parts(3, 3);
  const Teams teams;
  const auto fail = [](Index part) {
    if (part == 2) throw std::runtime_error("part 2");
  };
  for (int call = 0; call < 5; ++call) {
    CHECK_THROWS_WITH_AS(run_in_team(3, [&] { parallel_or_throw(6, fail); }), "part 2", std::runtime_error);
    CHECK(!is_in(of_pool, threads_in_team(3, 3)[1]));
  }
  CHECK(threads_of_parts(3, 3) == of_pool);
  CHECK(team.guests_as_before == 20);
}

TEST_CASE("team: a call that is interrupted stops on all its threads") {
  const ThreadCount setting(3);
  const Teams teams;
  static std::atomic<int> questions;
  questions = 0;
  set_interrupt_check([] { return ++questions == 2; });
  std::atomic<int> stopped{0};
  const auto loop = [&](Index) {
    for (RoundsOfWork rounds(0); !rounds.stop();) continue;
    ++stopped;
  };
  CHECK_THROWS_AS(run_in_team(3,
                              [&] {
                                const LongCall call;
                                parallel(3, loop);
                                throw_if_stopped(0);
                              }),
                  Interrupted);
  set_interrupt_check(nullptr);
  CHECK(stopped == 3);
  CHECK(questions == 2);
  CHECK(team.guests_as_before == 2);
}

TEST_CASE("team: a call from within one runs on the threads of the outer one, or on its own inside a part") {
  const ThreadCount setting(3);
  const auto of_pool = threads_of_parts(3, 3);
  const Teams teams;
  run_in_team(3, [&] {
    const auto outer = threads_of_parts(3, 3);
    CHECK(threads_in_team(3, 3) == outer);
    CHECK(!is_in(of_pool, outer[1]));
    std::atomic<int> inside{0};
    parallel(3, [&](Index) {
      run_in_team(3, [&] {
        const auto caller = std::this_thread::get_id();
        parallel(3, [&](Index) { inside += std::this_thread::get_id() == caller; });
      });
    });
    CHECK(inside == 9);
    CHECK(threads_of_parts(3, 3) == outer);
  });
  CHECK(team.entered == 1);
}

TEST_CASE("team: of several callers at once one has a team, and all finish") {
  const ThreadCount setting(2);
  const Teams teams;
  std::atomic<int> wrong{0}, inside{0}, most{0};
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 4; ++caller) {
    callers.emplace_back([&] {
      for (int call = 0; call < 30; ++call) {
        run_in_team(2, [&] {
          if (own_pool != nullptr) most = std::max(most.load(), ++inside);
          if (!parts_run_once()) ++wrong;
          if (own_pool != nullptr) --inside;
        });
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  CHECK(wrong == 0);
  CHECK(most == 1);
  CHECK(team.entered >= 1);
}

TEST_CASE("team: a forked child has none and uses a pool of its own" * doctest::skip(thread_sanitizer)) {
  const ThreadCount setting(2);
  const Teams teams;
  CHECK(threads_in_team(2, 2)[0] == std::this_thread::get_id());
  REQUIRE(team.entered == 1);
  const auto has_none = [] {
    bool once = false;
    run_in_team(2, [&] { once = parts_run_once(); });
    return once && team.entered == 1 && threads_in_team(2, 2)[1] != std::this_thread::get_id();
  };
  CHECK(succeeds_in_child([&] { return has_none() && succeeds_in_child(has_none); }));
  bool has_one = false;
  run_in_team(2, [&] {  // a child that is given a function itself, although the parent's only team was in use
    std::thread([&] {
      has_one = succeeds_in_child([&] {
        set_team_function(with_threads);
        threads_in_team(2, 2);
        return team.entered == 3;
      });
    }).join();
  });
  CHECK(has_one);
}

// The child has to leave the team function, whose threads are not there, and to end the call.
TEST_CASE("team: a child that is forked in the middle of a call goes on alone" * doctest::skip(thread_sanitizer)) {
  const ThreadCount setting(2);
  for (const bool in_part : {false, true}) {
    CAPTURE(in_part);
    const Teams teams;
    pid_t child = -1;
    bool stopped = false, once = false;
    try {
      run_in_team(2, [&] {
        const auto fork_here = [&] {
          child = fork();
          if (child == 0) alarm(20);
        };
        if (in_part) {
          set_interrupt_check([] { return false; });
          const LongCall call;
          std::atomic<bool> begun{false}, forked{false};
          parallel(2, [&](Index part) {
            if (part == 1) {  // in the child it never ends
              begun = true;
              while (!forked) std::this_thread::yield();
            } else {
              while (!begun) std::this_thread::yield();
              fork_here();
              forked = true;
            }
          });
          stopped = call.stopped();
        } else {
          parallel(2, [](Index) {});
          fork_here();
          if (child == 0) threads_of_parts(2, 2);  // does not end with one thread
        }
        once = parts_run_once();
        if (stopped) throw Interrupted();
      });
    } catch (const Interrupted&) {
      once = once && stopped;
    }
    set_interrupt_check(nullptr);
    if (child == 0) {
      bool after = false;
      run_in_team(2, [&] { after = parts_run_once() && threads_of_parts(2, 2)[1] != std::this_thread::get_id(); });
      _exit(once && after && stopped == in_part && team.entered == 1 ? 0 : 1);
    }
    REQUIRE(child > 0);
    CHECK(once);
    CHECK(!stopped);
    int status = -1;
    waitpid(child, &status, 0);
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 0);
    CHECK(team.entered == 1);
  }
}

}  // namespace latchwork::test
