// A long call stops on all its threads when the check says so, and what can be seen of it afterwards is what was there
// before it.
#include "latchwork/interrupt.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <limits>
#include <thread>
#include <vector>

#include "machine/interrupt.hpp"
#include "machine/parallel.hpp"
#include "network/dropout.hpp"
#include "network/pooling.hpp"
#include "network/sequences.hpp"
#include "network/skipped_call.hpp"
#include "support/kernels.hpp"
#include "support/lstm_problem.hpp"
#include "support/support.hpp"

namespace latchwork::test {
namespace {

using Clock = std::chrono::steady_clock;

std::atomic<Clock::duration::rep> answers_from{0};  // since the epoch of the clock
std::atomic<int> questions{0};

// Lets the check answer true once `seconds` are over.
struct InterruptAfter {
  explicit InterruptAfter(double seconds) {
    const auto wait = std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
    answers_from = (Clock::now() + wait).time_since_epoch().count();
    questions = 0;
    set_interrupt_check([] {
      ++questions;
      return Clock::now().time_since_epoch().count() >= answers_from;
    });
  }
  ~InterruptAfter() { set_interrupt_check(nullptr); }
};

// A part of a call: a loop that ends when the call is to stop. Returns whether it did.
bool loops_until_stopped() {
  volatile Index sum = 0;
  for (RoundsOfWork rounds(0); !rounds.stop();) {
    sum = sum + 1;
    if (sum == std::numeric_limits<Index>::max()) return false;
  }
  return true;
}

Problem long_problem(Index steps) {
  Random random(7);
  LstmOptions options;
  options.input_size = 8;
  options.hidden_size = 24;
  options.num_layers = 2;
  return random_problem(random, options, steps, 8, false, false, false);
}

}  // namespace

TEST_CASE("interrupt: all threads of a call stop, also when the caller has done its own part") {
  for (const Index threads : {1, 2, 3}) {
    const ThreadCount setting(threads);
    for (const Index working : {Index(0), threads - 1}) {
      const InterruptAfter interrupt(0.15);
      const LongCall call;
      std::atomic<Index> stopped{0};
      parallel(threads, [&](Index part) {
        if (part == working && loops_until_stopped()) ++stopped;
      });
      CHECK(stopped == 1);
      CHECK(call.stopped());
      CHECK_THROWS_AS(throw_if_stopped(0), Interrupted);
      CHECK(questions >= 1);
    }
    CHECK_NOTHROW(throw_if_stopped(0));  // the call is over
  }
}

TEST_CASE("interrupt: Dropout, Mean and Max stop, and the copies of a call with a skip mask") {
  // Sequences of which all steps lie in one place, so that they may be long.
  const ThreadCount one(1);
  constexpr Index features = 8;
  float step[features] = {};
  const float ones[features] = {1, 1, 1, 1, 1, 1, 1, 1};
  const Batch batch{1'000'000'000, 1};
  const Schedule schedule{batch, false};
  const RowSource<float> source = rows_of(SequenceView<const float>{ones, 0, 0}, features);
  const SequenceView<float> written{step, 0, 0};
  const auto stops = [&](auto&& work) {
    const InterruptAfter interrupt(0.01);
    const LongCall call;
    work();
    CHECK(call.stopped());
  };
  stops([&] { dropout_module(kernels<float>(), {1, 0, 0, 0, 0.5}, batch, source, written); });
  for (const Pooling pooling : {Pooling::mean, Pooling::max}) {
    stops([&] { pool_forward(pooling, schedule, false, source, written); });
    stops([&] { pool_backward(pooling, schedule, false, source, {ones, 0, 0}, {ones, 0, 0}, written); });
    const ModuleOptions module = pooling == Pooling::mean ? ModuleOptions(MeanOptions{}) : ModuleOptions(MaxOptions{});
    const InterruptAfter interrupt(0.01);
    CHECK_THROWS_AS(pool<float>(module, {ones, 0, 0}, batch, features, written), Interrupted);
  }

  const std::vector<std::uint8_t> skip(2'000'000);
  Batch skipped{static_cast<Index>(skip.size()), 1};
  skipped.skip = {skip.data(), 1, 1};
  const ComputedSteps computed(skipped, 1);
  const InterruptAfter interrupt(0.01);
  const LongCall call;
  std::atomic<Index> count{0};
  const auto copies = [&] {
    detail::for_each_step(computed, 250'000, [&](Index, Index) {
      const auto end = Clock::now() + std::chrono::microseconds(10);
      while (Clock::now() < end) ++count;
    });
  };
  CHECK_THROWS_AS(copies(), Interrupted);
}

TEST_CASE("interrupt: a call that is not interrupted is asked about ten times a second") {
  const InterruptAfter never(1e6);
  const auto end = Clock::now() + std::chrono::milliseconds(550);
  const LongCall call;
  while (Clock::now() < end) CHECK_FALSE(stops_after(work_between_looks));
  CHECK(questions >= 2);
  CHECK(questions <= 5);
}

TEST_CASE("interrupt: a short call asks nobody, and one without a check cannot be interrupted") {
  const Problem problem = long_problem(3);
  const Network<float> network = network_of<float>(problem);
  {
    const InterruptAfter at_once(0.0);
    CHECK(run_forward(network, problem).output.size() > 0);
    CHECK(questions == 0);
  }
  const LongCall call;
  CHECK_FALSE(stops_after(work_between_looks));
  CHECK(interrupts.call == nullptr);
}

TEST_CASE("interrupt: the question may use the library, which has a call of its own then") {
  static const Problem problem = long_problem(3);
  static const Network<float> network = network_of<float>(problem);
  static const std::vector<float> expected = run_forward(network, problem).output;
  static bool same = false;
  const ThreadCount setting(2);
  set_interrupt_check([] {
    same = same_bits(run_forward(network, problem).output, expected);
    return true;
  });
  const LongCall call;
  parallel(2, [](Index) { loops_until_stopped(); });
  set_interrupt_check(nullptr);
  CHECK(same);
  CHECK(call.stopped());
}

}  // namespace latchwork::test
