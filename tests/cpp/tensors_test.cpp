// Calls with parameters that lie outside the network: these decide, and what was packed stays until a byte changes.
#include <doctest/doctest.h>

#include <limits>
#include <stdexcept>
#include <thread>
#include <vector>

#include "network/network_parts.hpp"
#include "support/lstm_problem.hpp"
#include "support/support.hpp"

namespace latchwork::test {
namespace {

Problem random_problem(std::uint64_t seed) {
  Random random(seed);
  LstmOptions options;
  options.input_size = 5;
  options.hidden_size = 17;
  options.num_layers = 2;
  options.direction = Direction::both;
  return random_problem(random, options, 7, 3, true, true, false);
}

// Each tensor of a network with the values of a problem, in memory of its own.
struct Outside {
  explicit Outside(const Problem& problem) {
    const std::vector<float> values = converted<float>(problem.parameters);
    for (const ParameterSpec& spec : parameter_layout({problem.options}, TensorNames::of_layer)) {
      const auto begin = values.begin() + spec.offset;
      tensors.emplace_back(begin, begin + spec.size());
    }
  }
  Tensors<float> places() const {
    Tensors<float> found;
    for (const std::vector<float>& tensor : tensors) found.push_back(tensor.data());
    return found;
  }
  std::vector<std::vector<float>> tensors;
};

std::vector<float> output_with(const Network<float>& network, const Problem& problem, const Tensors<float>& tensors) {
  const Arrays<float> arrays(problem);
  Results<float> results(problem);
  network.forward(arrays.input(), arrays.batch(), arrays.start(),
                  {results.output.data(), arrays.rows * arrays.output_size, arrays.output_size},
                  {{results.h_n.data(), results.c_n.data()}}, tensors);
  return results.output;
}

std::uint64_t packed_version(const Network<float>& network, const Tensors<float>& tensors) {
  return detail::snapshot_of(*detail::parts_of(network), true, tensors)->version;
}

}  // namespace

TEST_CASE("tensors: a call and a recording compute with the parameters that they are given") {
  const Problem problem = random_problem(3), other = random_problem(4);
  const Network<float> network = network_of<float>(other), expected = network_of<float>(problem);
  const Outside outside(problem);
  CHECK(same_bits(output_with(network, problem, outside.places()), run_forward(expected, problem).output));

  const Network<float> recorded = network_of<float>(other);
  const Arrays<float> arrays(problem);
  Results<float> results(problem), own(problem);
  const auto tape = recorded.record(arrays.input(), arrays.batch(), arrays.start(),
                                    {results.output.data(), arrays.rows * arrays.output_size, arrays.output_size},
                                    {{results.h_n.data(), results.c_n.data()}}, {false}, outside.places());
  const auto own_tape = run_record(expected, problem, own);
  CHECK(same_bits(results.output, own.output));
  CHECK(same_bits(run_backward(*tape, problem).parameters, run_backward(*own_tape, problem).parameters));
}

TEST_CASE("tensors: a write to any byte is seen, whoever else has written, and nothing is packed without one") {
  const Problem problem = random_problem(5);
  const Network<float> network = network_of<float>(random_problem(6));
  Outside outside(problem);
  const std::uint64_t version = packed_version(network, outside.places());
  CHECK(packed_version(network, outside.places()) == version);
  for (std::size_t at = 0; at < outside.tensors.size(); ++at) {
    float& last = outside.tensors[at].back();
    // 0 and -0 are equal numbers of different bytes; a NaN differs from itself, but not its bytes.
    for (const float value : {0.0f, -0.0f, std::numeric_limits<float>::quiet_NaN()}) {
      const std::uint64_t before = packed_version(network, outside.places());
      last = value;
      const std::uint64_t after = packed_version(network, outside.places());
      CHECK(after != before);
      CHECK(packed_version(network, outside.places()) == after);
    }
    last = 0.25f;
  }
  const std::vector<float> with_outside = output_with(network, problem, outside.places());
  network.store()->write([&](float* values) { values[0] += 1.0f; });
  CHECK(!same_bits(run_forward(network, problem).output, with_outside));
  CHECK(same_bits(output_with(network, problem, outside.places()), with_outside));
}

TEST_CASE("tensors: each of several threads computes with its own") {
  const std::vector<Problem> problems{random_problem(7), random_problem(8)};
  const Network<float> network = network_of<float>(problems[0]);
  std::vector<int> wrong(2, 0);
  std::vector<std::thread> threads;
  for (std::size_t at = 0; at < 2; ++at) {
    threads.emplace_back([&, at] {
      const Network<float> alone = network_of<float>(problems[at]);
      const Outside outside(problems[at]);
      const std::vector<float> expected = run_forward(alone, problems[at]).output;
      for (int call = 0; call < 200; ++call) {
        if (!same_bits(output_with(network, problems[at], outside.places()), expected)) ++wrong[at];
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == std::vector<int>{0, 0});
}

TEST_CASE("tensors: too few are refused before any work") {
  const Problem problem = random_problem(9);
  const Network<float> network = network_of<float>(problem);
  const std::vector<float> before = run_forward(network, problem).output;
  Tensors<float> places = Outside(random_problem(10)).places();
  places.pop_back();
  CHECK_THROWS_AS(output_with(network, problem, places), std::invalid_argument);
  CHECK(same_bits(run_forward(network, problem).output, before));
}

}  // namespace latchwork::test
