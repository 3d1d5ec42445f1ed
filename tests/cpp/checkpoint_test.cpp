// A recording with checkpoints gives bit for bit what a recording that keeps everything gives.
#include <doctest/doctest.h>

#include <stdexcept>
#include <thread>

#include "layer/strategy.hpp"
#include "support/lstm_problem.hpp"
#include "support/random_variants.hpp"
#include "support/support.hpp"

namespace latchwork::test {
namespace {

LstmOptions random_options(Random& random) {
  LstmOptions options = random_sizes(random);
  if (options.num_layers > 1 && random.chance(0.3)) options.dropout = 0.25;
  if (random.chance(0.7)) add_random_variants(random, options);
  return options;
}

// The gradients of a recording to which only h_0 or only c_0 was passed.
template <class T>
Gradients<T> gradients_from_half_a_state(const Network<T>& network, const Problem& problem, bool hidden,
                                         const RecordOptions& options) {
  const Arrays<T> arrays(problem);
  const State<const T> start =
      hidden ? State<const T>{arrays.h_0.data(), nullptr} : State<const T>{nullptr, arrays.c_0.data()};
  return run_backward(*network.record(arrays.input(), arrays.batch(), {start}, {}, {}, options), problem);
}

}  // namespace

TEST_CASE_TEMPLATE("checkpoints change no bit, for any variant, checkpoint length and number of threads", T, float,
                   double) {
  Random random(83);
  for (int round = 0; round < 200; ++round) {
    const LstmOptions options = random_options(random);
    // Every eighth problem is large enough for several threads and several chunks of a gradient.
    const Index steps = round % 8 == 0 ? random.between(30, 50) : random.between(1, 17);
    const Index rows = round % 8 == 0 ? random.between(6, 14) : random.between(1, 5);
    Problem problem =
        random_problem(random, options, steps, rows, random.chance(0.5), random.chance(0.5), random.chance(0.5));
    spoil_unused(problem);
    RecordOptions record{false, 0};
    record.training = random.chance(0.6);
    record.mask_seed = static_cast<std::uint64_t>(round);
    const std::string description = described(problem);
    CAPTURE(round);
    CAPTURE(description);
    for_each_isa([&] {
      const Network<T> network = network_of<T>(problem);
      Results<T> whole(problem);
      record.checkpoint = 0;
      const Gradients<T> expected = run_backward(*run_record(network, problem, whole, record), problem);
      for (const Index checkpoint : {Index(1), Index(2), Index(7), steps, steps + 3}) {
        CAPTURE(checkpoint);
        record.checkpoint = checkpoint;
        const ThreadCount threads((round + checkpoint) % 3 + 1);
        Results<T> results(problem);
        const std::shared_ptr<Tape<T>> tape = run_record(network, problem, results, record);
        CHECK(same_bits(results.output, whole.output));
        CHECK(same_bits(results.h_n, whole.h_n));
        CHECK(same_bits(results.c_n, whole.c_n));
        // The tape must not read the caller's arrays.
        std::fill(results.output.begin(), results.output.end(), T(0));
        CHECK(same_gradients(run_backward(*tape, problem), expected));
        CHECK(same_gradients(run_backward(*tape, problem), expected));
      }
    });
  }
}

TEST_CASE_TEMPLATE(
    "checkpoints: several blocks of rows, taken one by one without checkpoints and all at once with them", T, float,
    double) {
  Random random(84);
  for (int round = 0; round < 8; ++round) {
    LstmOptions options = random_sizes(random);
    if (round > 1) add_random_variants(random, options);
    Problem problem = random_problem(random, options, 25, 67, random.chance(0.5), round % 2 == 1, random.chance(0.5));
    spoil_unused(problem);
    const std::string description = described(problem);
    CAPTURE(description);
    REQUIRE(row_blocks_of(problem).count() >= 2);
    RecordOptions record{false, 0};
    record.training = round > 3;
    const Network<T> network = network_of<T>(problem);
    Results<T> results(problem);
    const Gradients<T> expected = run_backward(*run_record(network, problem, results, record), problem);
    for (const Index checkpoint : {4, 25}) {
      for (const Index count : {1, 2, 3}) {
        CAPTURE(checkpoint);
        CAPTURE(count);
        const ThreadCount threads(count);
        record.checkpoint = checkpoint;
        CHECK(same_gradients(run_backward(*run_record(network, problem, results, record), problem), expected));
      }
    }
  }
}

TEST_CASE_TEMPLATE("checkpoints: a recording too large for the caches, which is written bypassing them", T, float,
                   double) {
  Random random(85);
  LstmOptions options;
  options.input_size = 3;
  options.hidden_size = 61;
  const Problem problem = random_problem(random, options, 330, 64, true, false, false);
  REQUIRE(exceeds_caches<T>(330 * 64 * 4 * 61));
  const Network<T> network = network_of<T>(problem);
  Results<T> results(problem);
  RecordOptions record{false, 0};
  record.checkpoint = 40;
  const Gradients<T> expected = run_backward(*run_record(network, problem, results, record), problem);
  record.checkpoint = 0;
  for (const Index count : {1, 2, 3}) {
    const ThreadCount threads(count);
    CHECK(same_gradients(run_backward(*run_record(network, problem, results, record), problem), expected));
  }
}

TEST_CASE("checkpoints: wide layers, whose units threads split, and both directions at once") {
  Random random(5);
  for (const Direction direction : {Direction::forward, Direction::reverse, Direction::both}) {
    LstmOptions options;
    options.input_size = 40;
    options.hidden_size = 260;
    options.direction = direction;
    Problem problem = random_problem(random, options, 13, 2, true, false, true);
    const Network<float> network = network_of<float>(problem);
    Results<float> whole(problem);
    const Gradients<float> expected = run_backward(*run_record(network, problem, whole), problem);
    for (const Index threads : {1, 2, 3}) {
      CAPTURE(threads);
      const ThreadCount count(threads);
      for (const Index checkpoint : {Index(1), Index(4), Index(20)}) {
        RecordOptions record{false, 0};
        record.checkpoint = checkpoint;
        Results<float> results(problem);
        const auto tape = run_record(network, problem, results, record);
        CHECK(same_bits(results.output, whole.output));
        CHECK(same_gradients(run_backward(*tape, problem), expected));
      }
    }
  }
}

TEST_CASE("checkpoints: a trained start state when only half of a state is passed and no output is wanted") {
  Random random(6);
  LstmOptions options;
  options.input_size = 3;
  options.hidden_size = 5;
  options.num_layers = 2;
  options.direction = Direction::both;
  options.learn_start_state = true;
  options.residual = true;
  const Problem problem = random_problem(random, options, 11, 4, true, true, true);
  const Network<double> network = network_of<double>(problem);
  for (const bool hidden : {false, true}) {
    const Gradients<double> expected = gradients_from_half_a_state(network, problem, hidden, {});
    for (const Index checkpoint : {Index(1), Index(3)}) {
      RecordOptions record{false, 0};
      record.checkpoint = checkpoint;
      CHECK(same_gradients(gradients_from_half_a_state(network, problem, hidden, record), expected));
    }
  }
}

TEST_CASE("checkpoints: several threads run backward() of one tape") {
  Random random(7);
  LstmOptions options;
  options.input_size = 4;
  options.hidden_size = 9;
  options.recurrent_dropout = 0.5;
  options.zoneout_cell = 0.25;
  const Problem problem = random_problem(random, options, 40, 3, true, true, true);
  const Network<float> network = network_of<float>(problem);
  RecordOptions record{false, 0};
  record.training = true;
  Results<float> results(problem);
  const Gradients<float> expected = run_backward(*run_record(network, problem, results, record), problem);
  record.checkpoint = 6;
  const std::shared_ptr<Tape<float>> tape = run_record(network, problem, results, record);
  std::vector<Gradients<float>> all(4, Gradients<float>(problem));
  std::vector<std::thread> callers;
  for (Gradients<float>& gradients : all) callers.emplace_back([&] { gradients = run_backward(*tape, problem); });
  for (std::thread& caller : callers) caller.join();
  for (const Gradients<float>& gradients : all) CHECK(same_gradients(gradients, expected));
}

TEST_CASE("checkpoints: no steps, no rows, and arguments that are refused") {
  Random random(8);
  LstmOptions options;
  options.input_size = 2;
  options.hidden_size = 3;
  options.learn_start_state = true;
  RecordOptions record{false, 0};
  record.checkpoint = 2;
  for (const auto& [steps, rows] : {std::pair<Index, Index>{0, 3}, {4, 0}, {0, 0}}) {
    const Problem problem = random_problem(random, options, steps, rows, false, false, false);
    const Network<float> network = network_of<float>(problem);
    Results<float> whole(problem), results(problem);
    const Gradients<float> expected = run_backward(*run_record(network, problem, whole), problem);
    const auto tape = run_record(network, problem, results, record);
    CHECK(same_bits(results.h_n, whole.h_n));
    CHECK(same_gradients(run_backward(*tape, problem), expected));
  }
  const Problem problem = random_problem(random, options, 3, 1, false, false, false);
  const Network<float> network = network_of<float>(problem);
  Results<float> results(problem);
  std::vector<float> values(9);
  CHECK_THROWS_AS(run_record(network, problem, results, record)->signal(0, 0, Signal::cell, values.data()),
                  std::invalid_argument);
  record.checkpoint = -1;
  CHECK_THROWS_AS(run_record(network, problem, results, record), std::invalid_argument);
}

}  // namespace latchwork::test
