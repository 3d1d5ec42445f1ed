// Packed weights: an update packs them in the same memory again, unless somebody still holds them.
#include "weights/snapshot.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <stdexcept>
#include <thread>
#include <vector>

#include "network/network_parts.hpp"
#include "support/lstm_problem.hpp"
#include "support/support.hpp"
#include "weights/snapshot_cache.hpp"

namespace latchwork::test {
namespace {

Problem random_problem(double weight_dropout) {
  Random random(31);
  LstmOptions options;
  options.input_size = 5;
  options.hidden_size = 20;
  options.num_layers = 2;
  options.proj_size = 9;
  options.layer_norm = true;
  options.learn_start_state = true;
  options.weight_dropout = weight_dropout;
  return random_problem(random, options, 7, 3, false, false, false);
}

void shrink_parameters(const Network<float>& network) {
  network.store()->write([&](float* values) {
    for (Index at = 0; at < network.parameter_count(); ++at) values[at] *= 0.5f;
  });
}

// The last layer of the packed weights with which a network's calls compute now.
const PackedLayer<float>& packed_layer(const Network<float>& network, bool with_backward) {
  return detail::snapshot_of(*detail::parts_of(network), with_backward)->members.front().front().layers.back();
}

// The address of these packed weights.
const float* packed_address(const Network<float>& network, bool with_backward) {
  return packed_layer(network, with_backward).h_weights.data();
}

// Checks that the network computes bit for bit what a new network with the same parameters computes.
void check_packed_as_new(const Network<float>& network, const Problem& problem) {
  Problem same = problem;
  network.store()->read(
      [&](const float* values) { same.parameters.assign(values, values + network.parameter_count()); });
  const Network<float> fresh = network_of<float>(same);
  CHECK(same_bits(run_forward(network, problem).output, run_forward(fresh, problem).output));
  Results<float> results(problem), expected(problem);
  const auto tape = run_record(network, problem, results);
  const auto fresh_tape = run_record(fresh, problem, expected);
  CHECK(same_bits(results.output, expected.output));
  CHECK(same_bits(run_backward(*tape, problem).parameters, run_backward(*fresh_tape, problem).parameters));
}

}  // namespace

TEST_CASE("snapshot: an update packs again in the same memory") {
  const Problem problem = random_problem(0.0);
  const Network<float> network = network_of<float>(problem);
  const float* const address = packed_address(network, true);
  for (Index round = 0; round < 3; ++round) {
    shrink_parameters(network);
    CHECK(packed_address(network, true) == address);
    check_packed_as_new(network, problem);
  }
  // A snapshot for forward alone uses the same memory too, and keeps no weights for backward.
  shrink_parameters(network);
  CHECK(packed_address(network, false) == address);
  CHECK(packed_layer(network, false).h_gradient.bytes() == 0);
  check_packed_as_new(network, problem);
}

TEST_CASE("snapshot: another instruction set packs anew") {
  const Problem problem = random_problem(0.0);
  const Network<float> network = network_of<float>(problem);
  for_each_isa([&] { check_packed_as_new(network, problem); });
}

TEST_CASE("snapshot: a tape keeps the snapshot it holds through updates") {
  const Problem problem = random_problem(0.0);
  const Network<float> network = network_of<float>(problem);
  Results<float> results(problem);
  auto tape = run_record(network, problem, results);
  const float* const held = packed_address(network, true);
  const std::vector<float> before = run_backward(*tape, problem).parameters;
  shrink_parameters(network);
  CHECK(packed_address(network, true) != held);
  check_packed_as_new(network, problem);
  CHECK(same_bits(run_backward(*tape, problem).parameters, before));
  // The next snapshot has memory of its own, which is used again when the tape is gone.
  const float* const next = packed_address(network, true);
  tape.reset();
  shrink_parameters(network);
  CHECK(packed_address(network, true) == next);
}

TEST_CASE("snapshot: weights with dropout serve their recording alone") {
  const Problem problem = random_problem(0.25);
  const Network<float> network = network_of<float>(problem);
  const std::vector<float> whole = run_forward(network, problem).output;
  std::vector<std::shared_ptr<Tape<float>>> tapes;
  std::vector<std::vector<float>> gradients;
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    Results<float> results(problem);
    const Network<float> fresh = network_of<float>(problem);
    gradients.push_back(run_backward(*run_record(fresh, problem, results, {true, seed}), problem).parameters);
    if (seed == 3)
      shrink_parameters(network);  // so that the third recording may take the memory of the outdated snapshot
    tapes.push_back(run_record(network, problem, results, {true, seed}));
    CHECK(results.output != whole);
  }
  for (std::size_t at = 0; at < 2; ++at) {
    CHECK(same_bits(run_backward(*tapes[at], problem).parameters, gradients[at]));
  }
  const std::vector<float> third = run_backward(*tapes[2], problem).parameters;
  CHECK(third != gradients[2]);
  check_packed_as_new(network, problem);
  CHECK(same_bits(run_backward(*tapes[2], problem).parameters, third));
}

TEST_CASE("snapshot: a snapshot whose packing fails is not kept") {
  ParameterStore<float> store(1);
  const Kernels<float>& kernels = kernels_of<float>(current_kernels());
  SnapshotCache<float> cache;
  const auto pack = [&](const float* parameters, Snapshot<float>& packed) {
    packed.members.resize(static_cast<std::size_t>(*parameters));
    if (*parameters == 2.0f) throw std::runtime_error("no memory");
  };
  const auto latest = [&] { return cache.latest(store, kernels, false, pack)->members.size(); };
  const auto write = [&](float value) { store.write([&](float* values) { *values = value; }); };
  write(1.0f);
  CHECK(latest() == 1);
  write(2.0f);
  CHECK_THROWS_AS(latest(), std::runtime_error);
  CHECK_THROWS_AS(latest(), std::runtime_error);
  write(3.0f);
  CHECK(latest() == 3);
}

TEST_CASE("snapshot: each call uses the weights of one moment, even while another thread writes") {
  const Problem problem = random_problem(0.0);
  const Network<float> network = network_of<float>(problem);
  std::vector<std::vector<float>> parameters(2);
  std::vector<std::vector<float>> outputs;
  for (std::vector<float>& one : parameters) {
    network.store()->read([&](const float* values) { one.assign(values, values + network.parameter_count()); });
    outputs.push_back(run_forward(network, problem).output);
    shrink_parameters(network);
  }
  std::atomic<bool> done{false};
  std::atomic<Index> mixed{0};
  const auto call = [&] {
    do {
      const std::vector<float> output = run_forward(network, problem).output;
      if (output != outputs[0] && output != outputs[1]) ++mixed;
    } while (!done);
  };
  network.store()->write([&](float* values) { std::copy(parameters[0].begin(), parameters[0].end(), values); });
  std::vector<std::thread> callers;
  for (Index caller = 0; caller < 3; ++caller) callers.emplace_back(call);
  for (std::size_t round = 1; round <= 2000; ++round) {
    const std::vector<float>& next = parameters[round % 2];
    network.store()->write([&](float* values) { std::copy(next.begin(), next.end(), values); });
    const std::vector<float> output = run_forward(network, problem).output;
    if (output != outputs[round % 2]) ++mixed;
  }
  done = true;
  for (std::thread& caller : callers) caller.join();
  CHECK(mixed == 0);
}

}  // namespace latchwork::test
