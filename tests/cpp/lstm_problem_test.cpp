#include "support/lstm_problem.hpp"

#include <doctest/doctest.h>

#include "support/support.hpp"

namespace latchwork::test {

using reference::Vector;

TEST_CASE("problem: the masks of a training run") {
  Random random(1);
  LstmOptions options;
  options.input_size = 2;
  options.hidden_size = 5;
  options.proj_size = 4;
  options.num_layers = 2;
  options.direction = Direction::both;
  options.dropout = 0.25;
  options.recurrent_dropout = 0.25;
  options.weight_dropout = 0.25;
  options.zoneout_hidden = options.zoneout_cell = 0.25;
  Problem problem = random_problem(random, options, 30, 20, false, false, false);
  draw_training_masks(problem, 3);
  const auto check = [](const Vector& mask, std::size_t size, double dropped, double remaining) {
    REQUIRE(mask.size() == size);
    const auto count = [&](double factor) { return static_cast<double>(std::count(mask.begin(), mask.end(), factor)); };
    const auto all = static_cast<double>(size);
    CHECK(std::abs(count(dropped) / all - 0.25) < 4.0 * std::sqrt(0.25 * 0.75 / all));
    CHECK(count(dropped) + count(remaining) == all);
  };
  const reference::LstmInput& input = problem.input;
  check(input.masks, 30 * 20 * 8, 0.0, 4.0 / 3.0);
  for (const auto* masks : {&input.recurrent_masks, &input.hidden_zoneout, &input.cell_zoneout, &input.weight_masks}) {
    REQUIRE(masks->size() == 4);
    CHECK((*masks)[0] != (*masks)[1]);
  }
  check(input.recurrent_masks[3], 20 * 4, 0.0, 4.0 / 3.0);
  check(input.hidden_zoneout[3], 30 * 20 * 4, 1.0, 0.0);
  check(input.cell_zoneout[3], 30 * 20 * 5, 1.0, 0.0);
  check(input.weight_masks[3], 20 * 4, 0.0, 4.0 / 3.0);
  CHECK(input.candidate_masks.empty());

  problem.options.recurrent_dropout_on = RecurrentDropoutOn::candidate;
  problem.options.weight_dropout = 1.0;
  draw_training_masks(problem, 3);
  check(input.candidate_masks[3], 30 * 20 * 5, 0.0, 4.0 / 3.0);
  CHECK(input.recurrent_masks.empty());
  CHECK(input.weight_masks[0] == Vector(20 * 4));
}

}  // namespace latchwork::test
