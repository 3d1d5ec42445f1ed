// Optimisers, norm and clipping against PyTorch's definitions, computed in plain double.
#include <doctest/doctest.h>

#include <limits>
#include <stdexcept>
#include <utility>

#include "support/support.hpp"
#include "training/moments.hpp"

namespace latchwork::test {
namespace {

// One parameter that is updated by PyTorch's rules.
struct PlainParameter {
  double value = 0.0;
  double velocity = 0.0;
  double first = 0.0;
  double second = 0.0;

  void step(const OptimizerOptions& options, double gradient, int t) {
    if (options.kind == OptimizerKind::adamw) value *= 1.0 - options.lr * options.weight_decay;
    if (options.kind != OptimizerKind::adamw) gradient += options.weight_decay * value;
    if (options.kind == OptimizerKind::sgd) {
      if (options.momentum != 0.0) {
        velocity = t == 1 ? gradient : options.momentum * velocity + (1.0 - options.dampening) * gradient;
        gradient = options.nesterov ? gradient + options.momentum * velocity : velocity;
      }
      value -= options.lr * gradient;
      return;
    }
    if (options.kind == OptimizerKind::rmsprop) {
      second = options.alpha * second + (1.0 - options.alpha) * gradient * gradient;
      first = options.alpha * first + (1.0 - options.alpha) * gradient;
      const double variance = options.centered ? second - first * first : second;
      velocity = options.momentum * velocity + gradient / (std::sqrt(variance) + options.eps);
      value -= options.lr * velocity;
      return;
    }
    first += (1.0 - options.beta1) * (gradient - first);
    second = options.beta2 * second + (1.0 - options.beta2) * gradient * gradient;
    const double corrected = std::sqrt(second / (1.0 - std::pow(options.beta2, t)));
    value -= options.lr * (first / (1.0 - std::pow(options.beta1, t))) / (corrected + options.eps);
  }
};

OptimizerOptions sgd(double momentum, double dampening, bool nesterov) {
  OptimizerOptions options;
  options.kind = OptimizerKind::sgd;
  options.lr = 0.1;
  options.momentum = momentum;
  options.dampening = dampening;
  options.nesterov = nesterov;
  return options;
}

OptimizerOptions adaptive(OptimizerKind kind, double beta1) {
  OptimizerOptions options;
  options.kind = kind;
  options.lr = 0.01;
  options.beta1 = beta1;
  return options;
}

OptimizerOptions rmsprop(double momentum, bool centered) {
  OptimizerOptions options;
  options.kind = OptimizerKind::rmsprop;
  options.lr = 0.01;
  options.alpha = 0.9;
  options.momentum = momentum;
  options.centered = centered;
  return options;
}

std::vector<OptimizerOptions> all_options() {
  std::vector<OptimizerOptions> all = {
      sgd(0.0, 0.0, false),
      sgd(0.9, 0.0, false),
      sgd(0.8, 0.3, false),
      sgd(0.9, 0.0, true),
      adaptive(OptimizerKind::adam, 0.9),
      adaptive(OptimizerKind::adam, 0.0),
      adaptive(OptimizerKind::adamw, 0.9),
      rmsprop(0.0, false),
      rmsprop(0.9, false),
      rmsprop(0.0, true),
      rmsprop(0.5, true),
  };
  for (std::size_t i = 0, count = all.size(); i < count; ++i) {
    all.push_back(all[i]);
    all.back().weight_decay = 0.1;
  }
  return all;
}

// More than one block, and not a multiple of a block.
constexpr Index size = 40'003;

template <class T>
std::vector<T> gradient_of_step(int t) {
  return converted<T>(Random(static_cast<std::uint64_t>(100 + t)).numbers(size));
}

// One step of all parameters.
template <class T>
void step(Moments<T>& optimizer, std::vector<T>& parameters, const std::vector<T>& gradient, double scale = 1.0) {
  optimizer.begin({scale});
  optimizer.update({{parameters.data(), gradient.data(), 0, static_cast<Index>(parameters.size()), 0}});
}

template <class T>
std::vector<T> train(Moments<T>& optimizer, std::vector<T> parameters, int first_step, int steps, double scale) {
  for (int t = first_step; t < first_step + steps; ++t) {
    step(optimizer, parameters, gradient_of_step<T>(t), scale);
  }
  return parameters;
}

template <class T>
std::vector<T> start_values() {
  return converted<T>(Random(1).numbers(size));
}

}  // namespace

TEST_CASE_TEMPLATE("optimisers follow PyTorch's definitions", T, float, double) {
  constexpr int steps = 5;
  constexpr double scale = 0.375;
  for (const OptimizerOptions& options : all_options()) {
    CAPTURE(static_cast<int>(options.kind));
    CAPTURE(options.momentum);
    CAPTURE(options.weight_decay);
    Moments<T> optimizer(options, size);
    const auto parameters = train(optimizer, start_values<T>(), 1, steps, scale);
    CHECK(optimizer.steps().front() == steps);

    std::vector<PlainParameter> plain(static_cast<std::size_t>(size));
    const auto start = start_values<double>();
    for (std::size_t i = 0; i < plain.size(); ++i) plain[i].value = start[i];
    for (int t = 1; t <= steps; ++t) {
      const auto gradient = gradient_of_step<double>(t);
      for (std::size_t i = 0; i < plain.size(); ++i) plain[i].step(options, gradient[i] * scale, t);
    }
    std::vector<double> expected;
    for (const PlainParameter& parameter : plain) expected.push_back(parameter.value);
    CHECK(difference(parameters, expected) < (sizeof(T) == 4 ? 1e-5 : 1e-14));
  }
}

TEST_CASE("the same bits for any number of threads and each instruction set") {
  for_each_isa([] {
    for (const OptimizerOptions& options : all_options()) {
      std::vector<std::vector<float>> results;
      std::vector<double> norms;
      for (Index count : {1, 2, 3}) {
        const ThreadCount threads(count);
        Moments<float> optimizer(options, size);
        results.push_back(train(optimizer, start_values<float>(), 1, 3, 1.0));
        norms.push_back(gradient_norm(results.back().data(), size));
      }
      CHECK(same_bits(results[1], results[0]));
      CHECK(same_bits(results[2], results[0]));
      CHECK(norms[1] == norms[0]);
      CHECK(norms[2] == norms[0]);
    }
  });
}

TEST_CASE("a restored optimiser continues with the same bits") {
  for (const OptimizerOptions& options : all_options()) {
    Moments<double> whole(options, size);
    const auto expected = train(whole, start_values<double>(), 1, 6, 1.0);

    Moments<double> before(options, size);
    const auto half = train(before, start_values<double>(), 1, 3, 1.0);
    Moments<double> after(options, size);
    after.restore(before.options(), before.steps(), before.buffers());
    CHECK(after.steps().front() == 3);
    CHECK(same_bits(train(after, half, 4, 3, 1.0), expected));
  }
}

TEST_CASE("restore refuses arguments that do not fit, and then changes nothing") {
  Moments<float> optimizer(adaptive(OptimizerKind::adam, 0.9), 3);
  REQUIRE(optimizer.buffers().size() == 2);
  CHECK(Moments<float>(sgd(0.0, 0.0, false), 3).buffers().empty());
  CHECK(Moments<float>(sgd(0.9, 0.0, false), 3).buffers().size() == 1);
  const std::vector<float> right(3, 5.0f);
  const std::vector<float> wrong(2, 5.0f);
  CHECK_THROWS_WITH_AS(optimizer.restore(optimizer.options(), {1}, {right}), "buffers: expected 2, got 1",
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(optimizer.restore(optimizer.options(), {1}, {right, wrong}),
                       "buffers: expected 3 elements in each, got 2", std::invalid_argument);
  CHECK_THROWS_AS(optimizer.restore(optimizer.options(), {-1}, {right, right}), std::invalid_argument);
  CHECK(optimizer.steps().front() == 0);
  CHECK(optimizer.buffers()[0] == std::vector<float>(3, 0.0f));
}

TEST_CASE("set_lr acts at the next step") {
  Moments<double> optimizer(sgd(0.0, 0.0, false), 1);
  std::vector<double> parameter = {1.0};
  const std::vector<double> gradient = {2.0};
  step(optimizer, parameter, gradient);
  CHECK(parameter[0] == doctest::Approx(0.8));
  optimizer.set_lr(0.25);
  CHECK(optimizer.options().lr == 0.25);
  step(optimizer, parameter, gradient);
  CHECK(parameter[0] == doctest::Approx(0.3));
  for (double bad : {-1.0, std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()}) {
    CHECK_THROWS_AS(optimizer.set_lr(bad), std::invalid_argument);
  }
  CHECK(optimizer.options().lr == 0.25);
}

TEST_CASE("an optimiser of no parameters") {
  Moments<float> optimizer(adaptive(OptimizerKind::adam, 0.9), 0);
  std::vector<float> none;
  step(optimizer, none, none);
  CHECK(gradient_norm<float>(nullptr, 0) == 0.0);
}

TEST_CASE("options that the tests use are valid") {
  for (const OptimizerOptions& options : all_options()) CHECK_NOTHROW(validate(options));
}

TEST_CASE_TEMPLATE("the norm is the Euclidean norm", T, float, double) {
  const auto values = start_values<T>();
  long double sum = 0.0;
  for (const T value : values) sum += static_cast<long double>(value) * static_cast<long double>(value);
  const auto expected = static_cast<double>(std::sqrt(sum));
  CHECK(std::abs(gradient_norm(values.data(), size) / expected - 1.0) < 1e-13);
  auto bad = values;
  bad.back() = std::numeric_limits<T>::quiet_NaN();
  CHECK(std::isnan(gradient_norm(bad.data(), size)));
  bad.back() = std::numeric_limits<T>::infinity();
  CHECK(std::isinf(gradient_norm(bad.data(), size)));
  const std::vector<T> large(4, T(1e30));  // their squares overflow a float
  CHECK(gradient_norm(large.data(), 4) == doctest::Approx(2e30));
}

TEST_CASE("clipping follows PyTorch's definition") {
  CHECK(clip_scale(0.5, 1.0) == 1.0);
  CHECK(clip_scale(4.0, 1.0) == 1.0 / (4.0 + 1e-6));
  CHECK(clip_scale(1.0, 1.0) == 1.0 / (1.0 + 1e-6));
  CHECK(clip_scale(0.0, 1.0) == 1.0);
  CHECK(std::isnan(clip_scale(std::numeric_limits<double>::quiet_NaN(), 1.0)));
}

TEST_CASE_TEMPLATE("all_finite: finds NaN and infinity at any place, and large numbers are finite", T, float, double) {
  using Limits = std::numeric_limits<T>;
  for (const Index count : {1, 15, 16, 17, 31, 100, 50'001}) {
    std::vector<T> values(static_cast<std::size_t>(count), Limits::max());
    CAPTURE(count);
    for (const Index threads : {1, 3}) {
      const ThreadCount thread_count(threads);
      CHECK(all_finite(values.data(), count));
      for (const Index at : {Index(0), count / 2, count - 1}) {
        for (const T spoiled : {Limits::quiet_NaN(), Limits::infinity(), -Limits::infinity()}) {
          const T before = std::exchange(values[static_cast<std::size_t>(at)], spoiled);
          CHECK_FALSE(all_finite(values.data(), count));
          values[static_cast<std::size_t>(at)] = before;
        }
      }
    }
  }
  CHECK(all_finite<T>(nullptr, 0));
}

}  // namespace latchwork::test
