#include <doctest/doctest.h>

#include "reference/lstm.hpp"
#include "support/finite_differences.hpp"
#include "support/lstm_problem.hpp"
#include "support/support.hpp"

namespace latchwork::test {
namespace {

using reference::Vector;

}  // namespace

TEST_CASE("reference: one unit, worked out by hand") {
  LstmOptions options;
  options.input_size = 1;
  options.hidden_size = 1;
  // i, f, g, o: sigmoid(ln 3) = 3/4, sigmoid(0) = 1/2, tanh(ln 2) = 3/5, sigmoid(-ln 4) = 1/5.
  const Vector weight_ih{std::log(3.0), 0.0, std::log(2.0), 0.0};
  const Vector weight_hh{0.0, 0.0, 0.0, 0.0};
  const Vector bias_ih{0.0, 0.0, 0.0, -std::log(2.0)};
  const Vector bias_hh{0.0, 0.0, 0.0, -std::log(2.0)};
  Vector parameters;
  for (const Vector* array : {&weight_ih, &weight_hh, &bias_ih, &bias_hh}) {
    parameters.insert(parameters.end(), array->begin(), array->end());
  }
  reference::LstmInput input;
  input.steps = 2;
  input.rows = 1;
  input.x = {1.0, 1.0};
  input.h_0 = {0.0};
  input.c_0 = {0.1};

  const reference::LstmRecord record = reference::lstm_forward(options, parameters, input);
  const reference::CellStep& first = record.directions[0][0].steps[0];
  CHECK(first.i[0] == doctest::Approx(0.75).epsilon(1e-15));
  CHECK(first.f[0] == doctest::Approx(0.5).epsilon(1e-15));
  CHECK(first.g[0] == doctest::Approx(0.6).epsilon(1e-15));
  CHECK(first.o[0] == doctest::Approx(0.2).epsilon(1e-15));
  CHECK(first.c[0] == doctest::Approx(0.5).epsilon(1e-15));            // 0.5 * 0.1 + 0.75 * 0.6
  CHECK(record.result.c_n[0] == doctest::Approx(0.7).epsilon(1e-15));  // 0.5 * 0.5 + 0.75 * 0.6
  CHECK(record.result.output[0] == doctest::Approx(0.2 * std::tanh(0.5)).epsilon(1e-15));
  CHECK(record.result.output[1] == doctest::Approx(0.2 * std::tanh(0.7)).epsilon(1e-15));
  CHECK(record.result.h_n[0] == record.result.output[1]);

  // The gradient of c_2 alone. With respect to c_0 it is f f. With respect to the forget gate's bias it is
  // (c_0 f + c_1) f (1 - f): the first term comes from the first step by way of the second.
  const reference::LstmOutput d_result{{0.0, 0.0}, {0.0}, {1.0}};
  const reference::LstmGradients gradients = reference::lstm_backward(options, parameters, input, record, d_result);
  CHECK(gradients.c_0[0] == doctest::Approx(0.25).epsilon(1e-15));
  CHECK(gradients.parameters[9] == doctest::Approx((0.1 * 0.5 + 0.5) * 0.25).epsilon(1e-15));
}

TEST_CASE("reference: segments of a reset run as sequences of their own") {
  Random random(2);
  for (const Direction direction : {Direction::forward, Direction::reverse}) {
    LstmOptions options;
    options.input_size = 2;
    options.hidden_size = 3;
    options.direction = direction;
    Problem whole = random_problem(random, options, 5, 1, true, false, false);
    whole.input.reset = {0, 0, 1, 0, 0};
    const reference::LstmOutput result = reference::lstm_forward(options, whole.parameters, whole.input).result;

    Problem head = whole;
    head.input.steps = 2;
    head.input.x.resize(4);
    head.input.reset.clear();
    Problem tail = whole;
    tail.input.steps = 3;
    tail.input.x.erase(tail.input.x.begin(), tail.input.x.begin() + 4);
    tail.input.reset.clear();
    // The start state enters the segment with which the direction starts; the other one starts from zeros.
    Problem& fresh = direction == Direction::forward ? tail : head;
    fresh.input.h_0.clear();
    fresh.input.c_0.clear();
    const reference::LstmOutput first = reference::lstm_forward(options, head.parameters, head.input).result;
    const reference::LstmOutput second = reference::lstm_forward(options, tail.parameters, tail.input).result;

    Vector joined = first.output;
    joined.insert(joined.end(), second.output.begin(), second.output.end());
    CHECK(result.output == joined);
    CHECK(result.h_n == (direction == Direction::forward ? second : first).h_n);
    CHECK(result.c_n == (direction == Direction::forward ? second : first).c_n);
  }
}

TEST_CASE("reference: padding holds zeros, never matters, and a row of length 0 passes its state through") {
  Random random(3);
  LstmOptions options;
  options.input_size = 2;
  options.hidden_size = 3;
  options.num_layers = 2;
  options.direction = Direction::both;
  Problem problem = random_problem(random, options, 4, 2, true, false, false);
  problem.input.lengths = {3, 0};
  for (std::size_t k = 0; k < problem.input.x.size(); ++k) {
    const std::size_t step = k / 4, row = k / 2 % 2;
    if (row == 1 || step == 3) problem.input.x[k] = std::nan("");
  }
  const reference::LstmOutput result = reference::lstm_forward(options, problem.parameters, problem.input).result;
  for (std::size_t step = 0; step < 4; ++step) {
    for (std::size_t row = 0; row < 2; ++row) {
      for (std::size_t j = 0; j < 6; ++j) {
        const double value = result.output[(step * 2 + row) * 6 + j];
        CHECK((value == 0.0) == (row == 1 || step == 3));
        CHECK(std::isfinite(value));
      }
    }
  }
  for (std::size_t state = 0; state < 4; ++state) {
    for (std::size_t u = 0; u < 3; ++u) {
      CHECK(result.h_n[(state * 2 + 1) * 3 + u] == problem.input.h_0[(state * 2 + 1) * 3 + u]);
      CHECK(result.c_n[(state * 2 + 1) * 3 + u] == problem.input.c_0[(state * 2 + 1) * 3 + u]);
    }
  }
}

TEST_CASE("reference: gradients equal finite differences") {
  Random random(1);
  for (int round = 0; round < 24; ++round) {
    LstmOptions options;
    options.input_size = random.between(1, 3);
    options.hidden_size = random.between(2, 4);
    options.num_layers = random.between(1, 3);
    options.bias = round % 4 != 1;
    options.direction = static_cast<Direction>(round % 3);
    options.proj_size = round % 4 == 2 ? random.between(1, options.hidden_size - 1) : 0;
    const bool with_start = true, ragged = round % 2 == 0, with_reset = round % 3 != 1;
    Problem problem = random_problem(random, options, 4, 2, with_start, ragged, with_reset);
    if (round % 2 == 1) {
      problem.input.masks = random.numbers((options.num_layers - 1) * 4 * 2 * options.output_size());
    }
    CAPTURE(round);

    const reference::LstmRecord record = reference::lstm_forward(options, problem.parameters, problem.input);
    const reference::LstmGradients gradients =
        reference::lstm_backward(options, problem.parameters, problem.input, record, problem.d_result);
    CHECK(difference(gradients.parameters, finite_differences(problem, problem.parameters)) < 1e-8);
    CHECK(difference(gradients.x, finite_differences(problem, problem.input.x)) < 1e-8);
    CHECK(difference(gradients.h_0, finite_differences(problem, problem.input.h_0)) < 1e-8);
    CHECK(difference(gradients.c_0, finite_differences(problem, problem.input.c_0)) < 1e-8);
  }
}

}  // namespace latchwork::test
