// The parts of a training step: gradient, exchange and apply; gradients module by module; rows of a larger batch.
#include <doctest/doctest.h>

#include <stdexcept>
#include <tuple>

#include "latchwork/training.hpp"
#include "support/support.hpp"

namespace latchwork::test {
namespace {

constexpr Index steps = 5;
constexpr Index rows = 6;
constexpr Index vocabulary = 4;

std::vector<ModuleOptions> modules() {
  LstmOptions lstm;
  lstm.input_size = 16;
  lstm.hidden_size = 7;
  lstm.num_layers = 2;
  lstm.dropout = 0.5;
  lstm.recurrent_dropout = 0.25;
  lstm.zoneout_hidden = lstm.zoneout_cell = 0.25;
  lstm.weight_dropout = 0.25;
  return {EmbeddingOptions{vocabulary, 16}, lstm, LastOptions{}, LinearOptions{7, 3}};
}

template <class T>
struct Task {
  explicit Task(Index members) : network(modules(), TensorNames::of_chain, 1, members) {
    Random random(7);
    for (Index at = 0; at < steps * rows; ++at) tokens.push_back(random.between(0, vocabulary - 1));
    for (const double value : random.numbers(rows * 3)) y.push_back(static_cast<T>(value));
  }
  Trainer<T> trainer() const {
    OptimizerOptions adam;
    adam.lr = 0.01;
    return {network, Loss{}, adam, 0.5, 11};
  }
  Input<T> input(Index first_row = 0) const { return {{}, {tokens.data() + first_row, rows, 1}}; }
  Batch batch(Index count = rows) const { return {steps, count, nullptr, {}, 0}; }
  Target<T> target(Index first_row = 0) const {
    Target<T> result;
    result.values = {y.data() + first_row * 3, 0, 3};
    return result;
  }
  std::vector<T> parameters() const {
    const T* const data = network.store()->data();
    return {data, data + network.store()->size()};
  }

  Network<T> network;
  std::vector<std::int64_t> tokens;
  std::vector<T> y;
};

}  // namespace

TEST_CASE_TEMPLATE("gradient() and apply() together are step()", T, float, double) {
  for (const Index members : {1, 3}) {
    const Task<T> one(members), other(members);
    Trainer<T> whole = one.trainer(), parts = other.trainer();
    for (int step = 0; step < 3; ++step) {
      const auto losses = whole.step(one.input(), one.batch(), {}, one.target(), {});
      const std::vector<T> before = other.parameters();
      CHECK(parts.gradient(other.input(), other.batch(), {}, other.target(), {}) == losses);
      CHECK(same_bits(other.parameters(), before));
      CHECK(parts.optimizers()[0]->steps().front() == step);
      parts.apply();
      CHECK(same_bits(one.parameters(), other.parameters()));
    }
  }
}

TEST_CASE("apply() uses gradients that were changed after gradient()") {
  const Task<double> one(1), other(1);
  Trainer<double> doubled = one.trainer(), halved = other.trainer();
  for (Trainer<double>* trainer : {&doubled, &halved}) {
    const Task<double>& task = trainer == &doubled ? one : other;
    trainer->gradient(task.input(), task.batch(), {}, task.target(), {});
    const double factor = trainer == &doubled ? 2.0 : 0.5;
    for (Index at = 0; at < task.network.parameter_count(); ++at) trainer->gradients()[at] *= factor;
    trainer->apply();
  }
  CHECK(!same_bits(one.parameters(), other.parameters()));
  const std::vector<double> before = one.parameters();
  doubled.gradient(one.input(), one.batch(), {}, one.target(), {});
  doubled.gradients()[3] = std::numeric_limits<double>::quiet_NaN();
  CHECK_THROWS_WITH_AS(doubled.apply(), "norm of the gradient: expected a finite number, got nan; nothing was changed",
                       std::runtime_error);
  CHECK(same_bits(one.parameters(), before));
  CHECK(doubled.steps().front() == 1);
}

TEST_CASE("apply() needs a gradient() that succeeded, and each is applied once") {
  Task<double> task(1);
  Trainer<double> trainer = task.trainer();
  const std::vector<double> before = task.parameters();
  CHECK_THROWS_AS(trainer.apply(), std::logic_error);
  task.y[0] = std::numeric_limits<double>::infinity();
  CHECK_THROWS_AS(trainer.gradient(task.input(), task.batch(), {}, task.target(), {}), std::invalid_argument);
  CHECK_THROWS_AS(trainer.apply(), std::logic_error);
  task.y[0] = 0.0;
  const ModuleReady<double> fails = [](Index, Index, double*, Index) { throw std::range_error("no line"); };
  CHECK_THROWS_AS(trainer.gradient(task.input(), task.batch(), {}, task.target(), {}, 0, fails), std::range_error);
  CHECK_THROWS_AS(trainer.apply(), std::logic_error);
  CHECK(same_bits(task.parameters(), before));
  trainer.gradient(task.input(), task.batch(), {}, task.target(), {});
  trainer.apply();
  CHECK(!same_bits(task.parameters(), before));
  const std::vector<double> after = task.parameters();
  CHECK_THROWS_AS(trainer.apply(), std::logic_error);
  CHECK(same_bits(task.parameters(), after));
  CHECK(trainer.optimizers()[0]->steps().front() == 1);
}

TEST_CASE_TEMPLATE("complete gradients are handed out module by module, from the last module to the first", T, float,
                   double) {
  for (const Index members : {1, 3}) {
    const Task<T> task(members);
    Trainer<T> trainer = task.trainer();
    std::vector<std::tuple<Index, Index>> told;
    std::vector<T> handed(static_cast<std::size_t>(task.network.parameter_count()));
    trainer.gradient(task.input(), task.batch(), {}, task.target(), {}, 0,
                     [&](Index module, Index member, T* gradient, Index count) {
                       told.emplace_back(module, member);
                       std::copy_n(gradient, count, handed.begin() + (gradient - trainer.gradients()));
                     });
    std::vector<std::tuple<Index, Index>> expected;
    for (const Index module : {3, 1, 0}) {
      for (Index member = 0; member < members; ++member) expected.emplace_back(module, member);
    }
    CHECK(told == expected);
    CHECK(same_bits(handed, std::vector<T>(trainer.gradients(), trainer.gradients() + handed.size())));
  }
}

TEST_CASE("rows that know their number in a larger batch get the masks of that batch") {
  const Task<double> task(1);
  const Index output = 3;
  const auto record = [&](Index first_row, Index count, double* to) {
    return task.network.record(task.input(first_row), task.batch(count), {}, {to, 0, output}, {},
                               {true, 5, 0, first_row});
  };
  std::vector<double> whole(static_cast<std::size_t>(rows * output)), parts(whole.size());
  record(0, rows, whole.data());
  record(0, 2, parts.data());
  record(2, rows - 2, parts.data() + 2 * output);
  CHECK(same_bits(whole, parts));
  task.network.record(task.input(2), task.batch(rows - 2), {}, {parts.data(), 0, output}, {}, {true, 5, 0, 0});
  CHECK(!same_bits(std::vector<double>(whole.begin() + 2 * output, whole.end()),
                   std::vector<double>(parts.begin(), parts.end() - 2 * output)));
}

}  // namespace latchwork::test
