// Losses and their gradients against plain doubles and finite differences.
#include <doctest/doctest.h>

#include <stdexcept>

#include "latchwork/training.hpp"
#include "support/support.hpp"

namespace latchwork::test {
namespace {

// A loss of given outputs and targets. The outputs are laid out (rows, steps, features) with a gap after each step, so
// that every stride matters.
struct Problem {
  Index steps = 0;
  Index rows = 0;
  Index features = 0;
  Loss loss;
  std::vector<Index> lengths;
  std::vector<double> output;
  std::vector<double> values;
  std::vector<std::int64_t> labels;
  std::vector<double> weights;  // empty, or laid out as the target
  Index weight_features = 1;

  Index target_features() const { return features / outputs_per_target(loss); }
  Index place(Index step, Index row) const { return (row * steps + step) * (features + 1); }
  Index label_place(Index step, Index row) const { return step * rows + row; }
  Index value_place(Index step, Index row) const { return label_place(step, row) * target_features(); }

  template <class T>
  SequenceView<T> view(T* data) const {
    return {data, features + 1, steps * (features + 1)};
  }
  Batch batch() const {
    Batch result;
    result.steps = steps;
    result.rows = rows;
    result.lengths = lengths.empty() ? nullptr : lengths.data();
    return result;
  }
};

Problem make_problem(LossKind kind, Index steps, Index rows, Index features, bool ragged, std::uint64_t seed) {
  Random random(seed);
  Problem problem;
  problem.steps = steps;
  problem.rows = rows;
  problem.features = features;
  problem.loss.kind = kind;
  if (kind == LossKind::quantile) problem.loss.quantiles = {0.1, 0.5, 0.9};
  for (Index row = 0; ragged && row < rows; ++row) problem.lengths.push_back(random.between(0, steps));
  problem.output = random.numbers(rows * steps * (features + 1));
  for (double& value : problem.output) value *= 3.0;
  problem.values = random.numbers(rows * steps * problem.target_features());
  for (double& value : problem.values) {
    if (kind == LossKind::negative_binomial) value = std::abs(std::round(8.0 * value));
  }
  for (Index i = 0; i < rows * steps; ++i) problem.labels.push_back(random.between(0, features - 1));
  return problem;
}

double softplus(double x) { return std::log1p(std::exp(-std::abs(x))) + std::max(x, 0.0); }

// The loss of one target, given all outputs for it.
double plain_likelihood(const Loss& loss, const double* y, double target) {
  if (loss.kind == LossKind::negative_binomial) {
    const double mean = softplus(y[0]) + 1e-6, alpha = softplus(y[1]) + 1e-6;
    return std::lgamma(1.0 / alpha) + std::lgamma(target + 1.0) - std::lgamma(target + 1.0 / alpha) +
           (1.0 / alpha + target) * std::log1p(alpha * mean) - target * std::log(alpha * mean);
  }
  const double pi = 3.14159265358979323846, scale = softplus(y[1]) + 1e-6, z = (target - y[0]) / scale;
  if (loss.kind == LossKind::gaussian) return 0.5 * z * z + std::log(scale) + 0.5 * std::log(2.0 * pi);
  const double nu = 2.0 + softplus(y[2]);
  return std::lgamma(0.5 * nu) - std::lgamma(0.5 * nu + 0.5) + 0.5 * std::log(nu * pi) + std::log(scale) +
         0.5 * (nu + 1.0) * std::log1p(z * z / nu);
}

double plain_element(const Loss& loss, double output, double target, Index feature) {
  const double error = target - output;
  if (loss.kind == LossKind::huber) {
    const double size = std::abs(error);
    return size <= loss.delta ? 0.5 * size * size : loss.delta * (size - 0.5 * loss.delta);
  }
  if (loss.kind == LossKind::squared_error) return error * error;
  if (loss.kind == LossKind::absolute_error) return std::abs(error);
  const std::size_t level = static_cast<std::size_t>(feature) % loss.quantiles.size();
  const double quantile = loss.quantiles[level];
  double total = 0.0;
  for (const double weight : loss.quantile_weights) total += weight;
  const double weight = loss.quantile_weights.empty() ? 1.0 / static_cast<double>(loss.quantiles.size())
                                                      : loss.quantile_weights[level] / total;
  return weight * std::max(quantile * error, (quantile - 1.0) * error);
}

double plain_loss(const Problem& problem, const std::vector<double>& output) {
  long double sum = 0.0;  // so that the oracle's own rounding does not matter
  double count = 0.0;
  const Index repeats = outputs_per_target(problem.loss);
  const auto weight = [&](Index step, Index row, Index k) {
    const Index place =
        problem.label_place(step, row) * problem.weight_features + (problem.weight_features > 1 ? k : 0);
    return problem.weights.empty() ? 1.0 : problem.weights[static_cast<std::size_t>(place)];
  };
  for (Index row = 0; row < problem.rows; ++row) {
    const Index length = problem.lengths.empty() ? problem.steps : problem.lengths[static_cast<std::size_t>(row)];
    for (Index step = 0; step < length; ++step) {
      const double* y = output.data() + problem.place(step, row);
      if (problem.loss.kind == LossKind::cross_entropy) {
        const std::int64_t label = problem.labels[static_cast<std::size_t>(problem.label_place(step, row))];
        if (label == problem.loss.ignore_index) continue;
        double total = 0.0, mean = 0.0;
        for (Index k = 0; k < problem.features; ++k) total += std::exp(y[k]);
        for (Index k = 0; k < problem.features; ++k) mean += y[k] / static_cast<double>(problem.features);
        const double share = problem.loss.label_smoothing, factor = weight(step, row, 0);
        sum += factor * (std::log(total) - (1.0 - share) * y[label] - share * mean);
        count += factor;
        continue;
      }
      const double* t = problem.values.data() + problem.value_place(step, row);
      for (Index k = 0; k < problem.features; ++k) {
        const double factor = weight(step, row, k / repeats);
        const bool whole = problem.loss.kind >= LossKind::gaussian;
        if (whole && k % repeats == 0) sum += factor * plain_likelihood(problem.loss, y + k, t[k / repeats]);
        if (!whole) sum += factor * plain_element(problem.loss, y[k], t[k / repeats], k);
        if (k % repeats == 0) count += factor;
      }
    }
  }
  return count > 0.0 ? static_cast<double>(sum / static_cast<long double>(count)) : 0.0;
}

template <class T>
struct Answer {
  double loss = 0.0;
  double weights = 0.0;
  std::vector<T> gradient;
};

template <class T>
Answer<T> solve(const Problem& problem, bool in_place = false) {
  std::vector<T> output = converted<T>(problem.output);
  const std::vector<T> values = converted<T>(problem.values);
  Answer<T> answer;
  answer.gradient.assign(output.size(), T(77));
  Target<T> target;
  target.values = {values.data(), problem.rows * problem.target_features(), problem.target_features()};
  target.labels = {problem.labels.data(), problem.rows, 1};
  const std::vector<T> weights = converted<T>(problem.weights);
  target.weight_features = problem.weight_features;
  if (!weights.empty()) {
    target.weights = {weights.data(), problem.rows * problem.weight_features, problem.weight_features};
  }
  T* const d_output = in_place ? output.data() : answer.gradient.data();
  check_target(problem.loss, problem.features, problem.batch(), target);
  const MeanLoss loss = loss_and_gradient<T>(problem.loss, problem.view<const T>(output.data()), problem.features,
                                             problem.batch(), target, problem.view<T>(d_output));
  answer.loss = loss.mean;
  answer.weights = loss.weights;
  if (in_place) answer.gradient = output;
  return answer;
}

constexpr LossKind all_kinds[] = {LossKind::cross_entropy, LossKind::squared_error,    LossKind::absolute_error,
                                  LossKind::huber,         LossKind::quantile,         LossKind::gaussian,
                                  LossKind::student_t,     LossKind::negative_binomial};

}  // namespace

TEST_CASE_TEMPLATE("losses equal plain loops in double", T, float, double) {
  const double tolerance = sizeof(T) == 4 ? 5e-6 : 1e-12;
  for (LossKind kind : all_kinds) {
    for (bool ragged : {false, true}) {
      // 3000 features take more than one block of the sum.
      for (Index features : {6, 24, 3000}) {
        const Problem problem = make_problem(kind, 7, 5, features, ragged, 3);
        CAPTURE(static_cast<int>(kind));
        CAPTURE(features);
        Problem rounded = problem;
        rounded.values = converted<double>(converted<T>(problem.values));
        const double expected = plain_loss(rounded, converted<double>(converted<T>(problem.output)));
        CHECK(std::abs(solve<T>(problem).loss - expected) <= tolerance * std::max(1.0, expected));
      }
    }
  }
}

TEST_CASE("gradients equal finite differences, and are zero in padding") {
  for (LossKind kind : all_kinds) {
    CAPTURE(static_cast<int>(kind));
    const Problem problem = make_problem(kind, 4, 3, 6, true, 11);
    const auto answer = solve<double>(problem);
    for (Index row = 0; row < problem.rows; ++row) {
      for (Index step = 0; step < problem.steps; ++step) {
        const bool valid = step < problem.lengths[static_cast<std::size_t>(row)];
        for (Index k = 0; k < problem.features; ++k) {
          const auto at = static_cast<std::size_t>(problem.place(step, row) + k);
          if (!valid) {
            CHECK(answer.gradient[at] == 0.0);
            continue;
          }
          auto moved = problem.output;
          moved[at] += 1e-5;
          const double above = plain_loss(problem, moved);
          moved[at] -= 2e-5;
          CHECK(std::abs(answer.gradient[at] - (above - plain_loss(problem, moved)) / 2e-5) <
                (kind >= LossKind::gaussian ? 1e-6 : 1e-9));
        }
        CHECK(answer.gradient[static_cast<std::size_t>(problem.place(step, row) + problem.features)] == 77.0);
      }
    }
  }
}

TEST_CASE("weights and options of losses: loss and gradient equal plain loops and finite differences") {
  for (LossKind kind : all_kinds) {
    CAPTURE(static_cast<int>(kind));
    for (bool elements : {false, true}) {
      if (elements && kind == LossKind::cross_entropy) continue;
      Problem problem = make_problem(kind, 70, 3, 6, true, 13);
      problem.loss.label_smoothing = kind == LossKind::cross_entropy ? 0.25 : 0.0;
      problem.loss.delta = 0.5;
      if (kind == LossKind::quantile) problem.loss.quantile_weights = {1.0, 0.0, 2.5};
      problem.weight_features = elements ? problem.target_features() : 1;
      Random random(4);
      for (Index i = 0; i < 70 * 3 * problem.weight_features; ++i) {
        problem.weights.push_back(random.chance(0.25) ? 0.0 : std::abs(random.number()));
      }
      const auto answer = solve<double>(problem);
      CHECK(answer.loss == doctest::Approx(plain_loss(problem, problem.output)).epsilon(1e-12));
      for (Index step : {0, 1, 2, 3, 40, 69}) {
        for (Index k = 0; k < problem.features; ++k) {
          const auto at = static_cast<std::size_t>(problem.place(step, 1) + k);
          auto moved = problem.output;
          moved[at] += 1e-5;
          const double above = plain_loss(problem, moved);
          moved[at] -= 2e-5;
          CHECK(std::abs(answer.gradient[at] - (above - plain_loss(problem, moved)) / 2e-5) <
                (kind >= LossKind::gaussian ? 1e-6 : 1e-9));
        }
      }
    }
  }
}

TEST_CASE("a target with weight 0 may be anything, and nothing is written but a gradient of 0") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (LossKind kind : all_kinds) {
    CAPTURE(static_cast<int>(kind));
    Problem problem = make_problem(kind, 3, 2, 6, false, 17);
    problem.weights.assign(6, 0.5);
    problem.weights[3] = 0.0;  // step 1, row 1
    const auto expected = solve<double>(problem);
    for (Index k = 0; k < 6; ++k) problem.output[static_cast<std::size_t>(problem.place(1, 1) + k)] = nan;
    for (Index k = 0; k < problem.target_features(); ++k) {
      problem.values[static_cast<std::size_t>(problem.value_place(1, 1) + k)] = nan;
    }
    problem.labels[3] = 99;
    const auto answer = solve<double>(problem);
    CHECK(answer.loss == expected.loss);
    CHECK(same_bits(answer.gradient, expected.gradient));
    for (Index k = 0; k < 6; ++k) CHECK(answer.gradient[static_cast<std::size_t>(problem.place(1, 1) + k)] == 0.0);
    problem.weights.assign(6, 0.0);
    CHECK(solve<double>(problem).loss == 0.0);
    CHECK(solve<double>(problem).weights == 0.0);
    problem.weights[3] = 1.0;
    CHECK_THROWS_AS(solve<double>(problem), std::invalid_argument);
    Problem other = make_problem(kind, 3, 2, 6, false, 17);  // in which all is well but for a weight
    for (double bad : {-1.0, nan, std::numeric_limits<double>::infinity()}) {
      other.weights.assign(6, 0.5);
      other.weights[3] = bad;
      CHECK_THROWS_AS(solve<double>(other), std::invalid_argument);
    }
  }
}

TEST_CASE("labels to be ignored do not count") {
  Problem problem = make_problem(LossKind::cross_entropy, 3, 2, 6, false, 17);
  problem.labels[2] = problem.labels[5] = -100;
  const auto answer = solve<double>(problem);
  CHECK(answer.weights == 4.0);
  CHECK(answer.loss == doctest::Approx(plain_loss(problem, problem.output)).epsilon(1e-13));
  problem.loss.ignore_index = 3;
  CHECK_THROWS_AS(solve<double>(problem), std::invalid_argument);
  problem.labels = {0, 3, 1, 3, 2, 5};
  CHECK(solve<double>(problem).weights == 4.0);
}

TEST_CASE("gradients in float are close to those in double") {
  for (LossKind kind : all_kinds) {
    const Problem problem = make_problem(kind, 6, 5, 12, true, 5);
    CHECK(difference(solve<float>(problem).gradient, solve<double>(problem).gradient) < 1e-5);
  }
}

TEST_CASE("the gradient may take the place of the output") {
  for (LossKind kind : all_kinds) {
    CAPTURE(static_cast<int>(kind));
    const Problem problem = make_problem(kind, 6, 5, 12, true, 5);
    auto apart = solve<float>(problem);
    auto in_place = solve<float>(problem, true);
    CHECK(in_place.loss == apart.loss);
    for (Index row = 0; row < problem.rows; ++row) {
      for (Index step = 0; step < problem.steps; ++step) {
        // The gap is not written: it holds 77 in one array and an output in the other.
        const auto gap = static_cast<std::size_t>(problem.place(step, row) + problem.features);
        in_place.gradient[gap] = apart.gradient[gap];
      }
    }
    CHECK(same_bits(in_place.gradient, apart.gradient));
  }
}

TEST_CASE("the same bits for any number of threads and each instruction set") {
  for_each_isa([] {
    for (LossKind kind : all_kinds) {
      const Problem problem = make_problem(kind, 50, 33, 66, true, 9);
      const auto expected = [&] {
        const ThreadCount threads(1);
        return solve<float>(problem);
      }();
      for (Index count : {2, 3}) {
        const ThreadCount threads(count);
        const auto answer = solve<float>(problem);
        CHECK(answer.loss == expected.loss);
        CHECK(same_bits(answer.gradient, expected.gradient));
      }
    }
  });
}

TEST_CASE("an output equal to its target has no gradient under the absolute and the quantile error") {
  for (LossKind kind : {LossKind::absolute_error, LossKind::quantile}) {
    Loss loss;
    loss.kind = kind;
    if (kind == LossKind::quantile) loss.quantiles = {0.3};
    const double output[] = {1.0, 2.0};
    const double wanted[] = {1.0, 2.0};
    double gradient[] = {7.0, 7.0};
    Batch batch;
    batch.steps = 1;
    batch.rows = 2;
    Target<double> target;
    target.values = {wanted, 2, 1};
    CHECK(loss_and_gradient<double>(loss, {output, 2, 1}, 1, batch, target, {gradient, 2, 1}).mean == 0.0);
    CHECK(gradient[0] == 0.0);
    CHECK(gradient[1] == 0.0);
  }
}

TEST_CASE("padding may hold anything") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (LossKind kind : all_kinds) {
    Problem problem = make_problem(kind, 4, 3, 6, false, 21);
    problem.lengths = {4, 0, 2};
    const auto expected = solve<double>(problem);
    for (Index row = 0; row < problem.rows; ++row) {
      for (Index step = problem.lengths[static_cast<std::size_t>(row)]; step < problem.steps; ++step) {
        for (Index k = 0; k < problem.features; ++k) {
          problem.output[static_cast<std::size_t>(problem.place(step, row) + k)] = nan;
        }
        for (Index k = 0; k < problem.target_features(); ++k) {
          problem.values[static_cast<std::size_t>(problem.value_place(step, row) + k)] = nan;
        }
        problem.labels[static_cast<std::size_t>(problem.label_place(step, row))] = -100;
      }
    }
    const auto answer = solve<double>(problem);
    CHECK(answer.loss == expected.loss);
    CHECK(same_bits(answer.gradient, expected.gradient));
  }
}

TEST_CASE("a NaN or infinity in the output makes the loss not finite") {
  for (LossKind kind : all_kinds) {
    for (double bad : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
      CAPTURE(static_cast<int>(kind));
      CAPTURE(bad);
      Problem problem = make_problem(kind, 3, 2, 6, false, 2);
      problem.output[static_cast<std::size_t>(problem.place(1, 1) + 2)] = bad;
      CHECK(!std::isfinite(solve<double>(problem).loss));
      CHECK(!std::isfinite(solve<float>(problem).loss));
    }
  }
}

TEST_CASE("the loss of no valid element is zero") {
  for (LossKind kind : all_kinds) {
    Problem none = make_problem(kind, 3, 2, 6, false, 2);
    none.lengths = {0, 0};
    const auto answer = solve<double>(none);
    CHECK(answer.loss == 0.0);
    CHECK(answer.gradient[0] == 0.0);
    CHECK(solve<double>(make_problem(kind, 0, 2, 6, false, 2)).loss == 0.0);
    CHECK(solve<double>(make_problem(kind, 3, 0, 6, false, 2)).loss == 0.0);
  }
}

TEST_CASE("bad targets are refused") {
  for (std::int64_t label : {std::int64_t{-1}, std::int64_t{6}, std::numeric_limits<std::int64_t>::min()}) {
    Problem problem = make_problem(LossKind::cross_entropy, 3, 2, 6, false, 2);
    problem.labels.back() = label;
    const std::string message =
        "target: expected labels from 0 to 5, got " + std::to_string(label) + " at step 2, row 1";
    CHECK_THROWS_WITH_AS(solve<double>(problem), message.c_str(), std::invalid_argument);
  }
  Problem ragged = make_problem(LossKind::squared_error, 3, 2, 6, true, 2);
  ragged.lengths[1] = 4;
  CHECK_THROWS_WITH_AS(solve<double>(ragged), "lengths: expected integers from 0 to 3, got 4", std::invalid_argument);
  ragged.lengths[1] = -1;
  CHECK_THROWS_AS(solve<double>(ragged), std::invalid_argument);
}

TEST_CASE("quantiles must be probabilities, and their number must divide the output size") {
  const auto complain = [](std::vector<double> quantiles) {
    Loss loss;
    loss.kind = LossKind::quantile;
    loss.quantiles = std::move(quantiles);
    return loss_and_gradient<double>(loss, {}, 6, Batch{}, {}, {}).mean;
  };
  CHECK(complain({0.1, 0.5, 0.9}) == 0.0);
  CHECK_THROWS_WITH_AS(complain({}), "quantiles: expected at least one for the quantile loss, got none",
                       std::invalid_argument);
  CHECK_THROWS_AS(complain({0.1, 0.2, 0.3, 0.4}), std::invalid_argument);
  CHECK_THROWS_AS(complain({0.0}), std::invalid_argument);
  CHECK_THROWS_AS(complain({1.0}), std::invalid_argument);
  CHECK_THROWS_AS(complain({std::numeric_limits<double>::quiet_NaN()}), std::invalid_argument);
}

}  // namespace latchwork::test
