// The reference's stacks of layers: start states, residual connections, directions.
#include <doctest/doctest.h>

#include "support/reference_problem.hpp"

namespace latchwork::test {

TEST_CASE("reference: sequences, resets and rows of length 0 start from the learned start state") {
  Random random(4);
  for (const Direction direction : {Direction::forward, Direction::reverse, Direction::both}) {
    LstmOptions options;
    options.input_size = 2;
    options.hidden_size = 3;
    options.proj_size = 2;
    options.num_layers = 2;
    options.direction = direction;
    options.learn_start_state = true;
    Problem learned = random_problem(random, options, 5, 3, false, false, false);
    learned.input.lengths = {5, 0, 4};

    // A learned start state gives what the same start state gives when it is passed in.
    Problem passed = learned;
    for (Index layer = 0; layer < 2; ++layer) {
      for (Index way = 0; way < options.directions(); ++way) {
        const bool reverse = way == 1 || direction == Direction::reverse;
        const std::string suffix = "_l" + std::to_string(layer) + (reverse ? "_reverse" : "");
        const double* h = parameter(learned, "h_0" + suffix);
        const double* c = parameter(learned, "c_0" + suffix);
        for (Index row = 0; row < 3; ++row) {
          passed.input.h_0.insert(passed.input.h_0.end(), h, h + 2);
          passed.input.c_0.insert(passed.input.c_0.end(), c, c + 3);
        }
      }
    }
    CHECK(run(learned).result.output == run(passed).result.output);
    CHECK(run(learned).result.h_n == run(passed).result.h_n);
    CHECK(run(learned).result.c_n == run(passed).result.c_n);
    CHECK(run_backward(learned).x == run_backward(passed).x);
    const reference::LstmGradients by_learned = run_backward(learned), by_passed = run_backward(passed);
    CHECK(by_learned.h_0 == by_passed.h_0);
    CHECK(by_learned.c_0 == by_passed.c_0);

    // Its gradient is the sum over the rows, and zero if another start state was passed in.
    const std::string suffix = direction == Direction::reverse ? "_l0_reverse" : "_l0";
    const auto at = static_cast<std::size_t>(parameter(learned, "c_0" + suffix) - learned.parameters.data());
    CHECK(by_learned.parameters[at] == exactly(by_learned.c_0[0] + by_learned.c_0[3] + by_learned.c_0[6]));
    CHECK(by_passed.parameters[at] == 0.0);
    CHECK(by_passed.c_0[3] == passed.d_result.c_n[3]);  // the row of length 0

    // At a reset it is used, whatever was passed in.
    passed.input.reset = learned.input.reset = {1, 1, 1, 0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0};
    for (double& value : passed.input.h_0) value = 7.0;
    for (double& value : passed.input.c_0) value = 7.0;
    if (direction == Direction::forward) {
      CHECK(run(learned).result.output == run(passed).result.output);
      CHECK(run_backward(passed).c_0[0] == 0.0);
      CHECK(run_backward(passed).parameters[at] ==
            exactly(run_backward(learned).parameters[at] - passed.d_result.c_n[3]));
    } else {
      CHECK(run(learned).result.output != run(passed).result.output);
      CHECK(run_backward(passed).parameters[at] != 0.0);
    }
  }
}

TEST_CASE("reference: with residual every layer but the first adds its input, as it was before dropout") {
  Random random(5);
  LstmOptions options;
  options.input_size = 2;
  options.hidden_size = 3;
  options.num_layers = 3;
  options.direction = Direction::both;
  options.residual = true;
  Problem stack = random_problem(random, options, 4, 2, false, false, true);
  stack.input.masks = random.numbers(2 * 4 * 2 * 6);

  Vector below = stack.input.x, sum(4 * 2 * 6), h_n;
  auto weights = stack.parameters.begin();
  for (Index layer = 0; layer < 3; ++layer) {
    Problem alone = stack;
    alone.options.num_layers = 1;
    alone.options.residual = false;
    alone.options.input_size = layer == 0 ? 2 : 6;
    alone.input.masks.clear();
    alone.input.x = below;
    const Index count = parameter_count(alone.options);
    alone.parameters = Vector(weights, weights + count);
    weights += count;
    const reference::LstmOutput result = run(alone).result;
    h_n.insert(h_n.end(), result.h_n.begin(), result.h_n.end());
    for (std::size_t k = 0; k < sum.size(); ++k) sum[k] += result.output[k];
    below = sum;
    if (layer < 2) {
      for (std::size_t k = 0; k < sum.size(); ++k) {
        below[k] *= stack.input.masks[static_cast<std::size_t>(layer) * sum.size() + k];
      }
    }
  }
  const reference::LstmOutput result = run(stack).result;
  CHECK(difference(result.output, sum) < 1e-15);
  CHECK(difference(result.h_n, h_n) < 1e-15);
}

TEST_CASE("reference: each direction has activations of its own") {
  Random random(8);
  LstmOptions options;
  options.input_size = 2;
  options.hidden_size = 3;
  options.direction = Direction::both;
  options.activations[0].candidate = {"softsign"};
  options.activations.resize(2);
  options.activations[1].output = {"hard_sigmoid"};
  const Problem both = random_problem(random, options, 4, 1, false, false, false);
  const Vector output = run(both).result.output;
  for (std::size_t way = 0; way < 2; ++way) {
    Problem alone = both;
    alone.options.direction = way == 0 ? Direction::forward : Direction::reverse;
    alone.options.activations = {options.activations[way]};
    const auto count = static_cast<std::size_t>(parameter_count(alone.options));
    const auto begin = both.parameters.begin() + static_cast<Index>(way * count);
    alone.parameters = Vector(begin, begin + static_cast<Index>(count));
    const Vector half = run(alone).result.output;
    for (std::size_t k = 0; k < half.size(); ++k) CHECK(half[k] == output[k / 3 * 6 + way * 3 + k % 3]);

    // The same holds backward, when the other half of the output has no gradient.
    Problem seen = both;
    Vector d_half;
    for (std::size_t k = 0; k < output.size(); ++k) {
      if (k / 3 % 2 == way) {
        d_half.push_back(seen.d_result.output[k]);
      } else {
        seen.d_result.output[k] = 0.0;
      }
    }
    seen.d_result.h_n = seen.d_result.c_n = Vector(6);
    alone.d_result = {d_half, Vector(3), Vector(3)};
    CHECK(run_backward(seen).x == run_backward(alone).x);
  }
}

}  // namespace latchwork::test
