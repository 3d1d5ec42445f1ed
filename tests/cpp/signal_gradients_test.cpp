// The gradients with respect to gates, cell and h of every step. variants_test.cpp has them for every variant.
#include <doctest/doctest.h>

#include <stdexcept>

#include "support/lstm_problem.hpp"
#include "support/random_variants.hpp"
#include "support/support.hpp"

namespace latchwork::test {
namespace {

template <class T>
constexpr double tolerance = sizeof(T) == 4 ? 1e-5 : 1e-12;

template <class T>
bool same_signals(const AllGradients<T>& one, const AllGradients<T>& other) {
  bool same = same_gradients(one.others, other.others) && one.signals.size() == other.signals.size();
  for (std::size_t state = 0; same && state < one.signals.size(); ++state) {
    for (std::size_t signal = 0; signal < 6; ++signal) {
      same = same && same_bits(one.signals[state][signal], other.signals[state][signal]);
    }
  }
  return same;
}

template <class T>
AllGradients<T> signals_of(const Problem& problem, const RecordOptions& options = {false}) {
  Results<T> results(problem);
  return run_backward_with_signals(*run_record(network_of<T>(problem), problem, results, options), problem);
}

}  // namespace

TEST_CASE_TEMPLATE("signal gradients: plain layers of any size equal the reference", T, float, double) {
  Random random(91);
  for (int round = 0; round < 60; ++round) {
    const LstmOptions options = random_sizes(random);
    // Every fourth problem is large enough for several threads and several chunks of a gradient.
    const Index steps = round % 4 == 0 ? random.between(20, 40) : random.between(0, 9);
    const Index rows = round % 4 == 0 ? random.between(6, 14) : random.between(1, 9);
    Problem problem =
        random_problem(random, options, steps, rows, random.chance(0.5), random.chance(0.5), random.chance(0.3));
    if (steps > 0 && round % 3 == 0) add_random_skips(random, problem);
    const reference::LstmRecord record = reference::lstm_forward(options, problem.parameters, problem.input);
    const std::vector<std::vector<reference::Vector>> expected =
        reference::lstm_backward(options, problem.parameters, problem.input, record, problem.d_result).signals;
    spoil_unused(problem);
    const ThreadCount threads(round % 3 + 1);
    const std::string description = described(problem);
    CAPTURE(description);
    for_each_isa([&] {
      const AllGradients<T> actual = signals_of<T>(problem);
      REQUIRE(actual.signals.size() == expected.size());
      for (std::size_t state = 0; state < expected.size(); ++state) {
        for (std::size_t signal = 0; signal < 6; ++signal) {
          CAPTURE(signal);
          CHECK(difference(converted<double>(actual.signals[state][signal]), expected[state][signal]) < tolerance<T>);
        }
      }
    });
  }
}

TEST_CASE_TEMPLATE("signal gradients: threads, checkpoints, blocks of rows and fused instruction sets change no bit", T,
                   float, double) {
  Random random(92);
  for (int round = 0; round < 10; ++round) {
    LstmOptions options = random_sizes(random);
    if (round > 2) add_random_variants(random, options);
    Problem problem = random_problem(random, options, 25, 67, random.chance(0.5), round % 2 == 1, random.chance(0.5));
    spoil_unused(problem);
    const std::string description = described(problem);
    CAPTURE(description);
    RecordOptions record{false, 0};
    record.training = round > 5;
    std::vector<AllGradients<T>> results;
    for_each_isa([&] {
      if (std::string(current_isa()) == "baseline") return;
      for (const Index checkpoint : {0, 4}) {
        for (const Index count : {1, 2, 3}) {
          const ThreadCount threads(count);
          record.checkpoint = checkpoint;
          results.push_back(signals_of<T>(problem, record));
        }
      }
    });
    for (std::size_t at = 1; at < results.size(); ++at) CHECK(same_signals(results[at], results[0]));
  }
}

TEST_CASE("signal gradients: wide layers, whose units threads split") {
  Random random(93);
  LstmOptions options;
  options.input_size = 40;
  options.hidden_size = 260;
  const Problem problem = random_problem(random, options, 13, 2, true, false, false);
  const reference::LstmRecord record = reference::lstm_forward(options, problem.parameters, problem.input);
  const reference::LstmGradients expected =
      reference::lstm_backward(options, problem.parameters, problem.input, record, problem.d_result);
  std::vector<AllGradients<float>> results;
  for (const Index count : {1, 2, 3}) {
    const ThreadCount threads(count);
    results.push_back(signals_of<float>(problem));
    CHECK(same_signals(results.back(), results.front()));
  }
  for (std::size_t signal = 0; signal < 6; ++signal) {
    CAPTURE(signal);
    CHECK(difference(converted<double>(results[0].signals[0][signal]), expected.signals[0][signal]) < 1e-5);
  }
}

// With the identity as activation and as W, a change of x is a change of the gates.
TEST_CASE("signal gradients: the reference's equal the gradient with respect to what is added to the gates") {
  Random random(94);
  for (const ForgetGate forget : {ForgetGate::own, ForgetGate::none, ForgetGate::coupled}) {
    LstmOptions options;
    options.hidden_size = 5;
    options.forget_gate = forget;
    options.peephole = true;
    options.zoneout_cell = 0.2;
    options.input_size = options.gates() * options.hidden_size;
    CellActivations& activations = options.activations[0];
    for (Activation* each : {&activations.input, &activations.candidate, &activations.output}) *each = {"affine"};
    if (forget == ForgetGate::own) activations.forget = {"affine"};
    Problem problem = random_problem(random, options, 7, 3, true, true, true);
    const Index size = options.input_size;
    for (Index row = 0; row < size; ++row) {
      for (Index column = 0; column < size; ++column) {
        problem.parameters[static_cast<std::size_t>(row * size + column)] = row == column ? 1.0 : 0.0;
      }
    }
    const reference::LstmRecord record = reference::lstm_forward(options, problem.parameters, problem.input);
    const reference::LstmGradients gradients =
        reference::lstm_backward(options, problem.parameters, problem.input, record, problem.d_result);
    const std::vector<std::size_t> signals =
        forget == ForgetGate::own ? std::vector<std::size_t>{0, 1, 2, 3} : std::vector<std::size_t>{0, 2, 3};
    reference::Vector expected;
    for (Index place = 0; place < 7 * 3; ++place) {
      for (const std::size_t signal : signals) {
        const reference::Vector& values = gradients.signals[0][signal];
        expected.insert(expected.end(), values.begin() + place * 5, values.begin() + place * 5 + 5);
      }
    }
    CHECK(difference(gradients.x, expected) == 0.0);
  }
}

TEST_CASE("signal gradients: arrays that are missing are refused before anything is written") {
  Random random(95);
  LstmOptions options;
  options.input_size = 3;
  options.hidden_size = 4;
  options.num_layers = 2;
  const Problem problem = random_problem(random, options, 5, 2, true, false, false);
  Results<float> results(problem);
  const std::shared_ptr<Tape<float>> tape = run_record(network_of<float>(problem), problem, results);
  const Arrays<float> arrays(problem);
  Gradients<float> gradients(problem);
  std::vector<float> values(6 * 5 * 2 * 4);
  SignalArrays<float> all;
  for (std::size_t signal = 0; signal < 6; ++signal) all[signal] = values.data() + signal * 5 * 2 * 4;
  SignalArrays<float> one_missing = all;
  one_missing[4] = nullptr;
  for (const ChainSignals<float>& wrong :
       {ChainSignals<float>{{all}}, ChainSignals<float>{{all, all}, {all}}, ChainSignals<float>{{all, one_missing}}}) {
    CHECK_THROWS_AS(
        tape->backward(arrays.d_output_view(), arrays.d_end(), gradients.parameters.data(), false, {}, {}, {}, wrong),
        std::invalid_argument);
  }
  CHECK(std::isnan(gradients.parameters[0]));
}

}  // namespace latchwork::test
