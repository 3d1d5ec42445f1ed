// The reference's gradients against finite differences, for random choices of every option.
#include <doctest/doctest.h>

#include "support/finite_differences.hpp"
#include "support/random_variants.hpp"
#include "support/reference_problem.hpp"

namespace latchwork::test {
namespace {

// Compares every gradient with its finite difference, except near kinks.
struct Comparison {
  Index all = 0;
  Index smooth = 0;

  // `values` is a part of `problem`, and `gradient` the gradient of the loss with respect to it.
  void add(const Problem& problem, Vector& values, const Vector& gradient) {
    const Vector slopes = finite_differences(problem, values);
    REQUIRE(gradient.size() == slopes.size());
    for (std::size_t k = 0; k < slopes.size(); ++k) {
      ++all;
      if (std::isnan(slopes[k])) continue;
      ++smooth;
      CHECK(std::abs(gradient[k] - slopes[k]) < 1e-7 * std::max(1.0, std::abs(slopes[k])));
    }
  }
};

}  // namespace

TEST_CASE("reference: gradients of random variants equal finite differences away from kinks") {
  Random random(9);
  Comparison comparison;
  for (int round = 0; round < 150; ++round) {
    LstmOptions options;
    options.input_size = random.between(1, 2);
    options.hidden_size = random.between(1, 3);
    options.num_layers = random.between(1, 2);
    options.bias = random.chance(0.8);
    options.direction = static_cast<Direction>(random.between(0, 2));
    if (options.hidden_size > 1 && random.chance(0.3)) options.proj_size = random.between(1, options.hidden_size - 1);
    if (random.chance(0.5)) options.dropout = 0.5;
    add_random_variants(random, options);
    Problem problem = random_problem(random, options, 4, 2, random.chance(0.5), random.chance(0.5), random.chance(0.5));
    Random skips(static_cast<std::uint64_t>(1000 + round));
    if (round % 2 == 1) add_random_skips(skips, problem);
    if (random.chance(0.7)) draw_training_masks(problem, static_cast<std::uint64_t>(round));
    if (std::abs(loss(problem)) > 1000.0) continue;  // so large a loss leaves no digits to its differences
    CAPTURE(round);
    const reference::LstmGradients gradients = run_backward(problem);
    comparison.add(problem, problem.parameters, gradients.parameters);
    comparison.add(problem, problem.input.x, gradients.x);
    if (!problem.input.h_0.empty()) {
      comparison.add(problem, problem.input.h_0, gradients.h_0);
      comparison.add(problem, problem.input.c_0, gradients.c_0);
    }
  }
  CHECK(static_cast<double>(comparison.smooth) > 0.98 * static_cast<double>(comparison.all));
}

}  // namespace latchwork::test
