// The whole training step.
#include <doctest/doctest.h>

#include <stdexcept>

#include "latchwork/training.hpp"
#include "support/support.hpp"
#include "training/moments.hpp"

namespace latchwork::test {
namespace {

LstmOptions lstm(Index input_size, Index hidden_size, Index num_layers, double dropout) {
  LstmOptions options;
  options.input_size = input_size;
  options.hidden_size = hidden_size;
  options.num_layers = num_layers;
  options.dropout = dropout;
  return options;
}

LinearOptions linear(Index in_features, Index out_features) {
  LinearOptions options;
  options.in_features = in_features;
  options.out_features = out_features;
  return options;
}

// A language model on a cycle of tokens: the next token follows from the last one.
template <class T>
struct CycleTask {
  static constexpr Index vocabulary = 7;
  static constexpr Index steps = 9;
  static constexpr Index rows = 11;
  static constexpr Index hidden = 13;

  explicit CycleTask(double dropout = 0.0)
      : network({EmbeddingOptions{vocabulary, 5}, lstm(5, hidden, 2, dropout), linear(hidden, vocabulary)},
                TensorNames::of_chain, 3) {
    for (Index step = 0; step < steps; ++step) {
      for (Index row = 0; row < rows; ++row) {
        tokens.push_back((step + row) % vocabulary);
        labels.push_back((step + row + 1) % vocabulary);
      }
    }
  }

  Input<T> input() const {
    Input<T> result;
    result.tokens = {tokens.data(), rows, 1};
    return result;
  }
  Target<T> target() const {
    Target<T> result;
    result.labels = {labels.data(), rows, 1};
    return result;
  }
  Batch batch() const {
    Batch result;
    result.steps = steps;
    result.rows = rows;
    return result;
  }
  std::vector<T> parameters() const {
    std::vector<T> values;
    network.store()->read([&](const T* data) { values.assign(data, data + network.store()->size()); });
    return values;
  }

  Network<T> network;
  std::vector<std::int64_t> tokens;
  std::vector<std::int64_t> labels;
};

Loss cross_entropy() {
  Loss loss;
  loss.kind = LossKind::cross_entropy;
  return loss;
}

OptimizerOptions adam(double lr) {
  OptimizerOptions options;
  options.lr = lr;
  return options;
}

// The states of every LSTM of a network, with memory for them.
template <class T>
struct OwnStates {
  OwnStates(const Network<T>& network, Index rows, T value) {
    for (Index index = 0; index < network.lstm_count(); ++index) {
      const LstmOptions& options = network.lstm(index);
      hidden.emplace_back(static_cast<std::size_t>(options.states() * rows * options.hidden_output_size()), value);
      cell.emplace_back(static_cast<std::size_t>(options.states() * rows * options.hidden_size), value);
    }
  }
  States<T> mutable_view() {
    States<T> states;
    for (std::size_t i = 0; i < hidden.size(); ++i) states.push_back({hidden[i].data(), cell[i].data()});
    return states;
  }
  States<const T> view() const {
    States<const T> states;
    for (std::size_t i = 0; i < hidden.size(); ++i) states.push_back({hidden[i].data(), cell[i].data()});
    return states;
  }
  std::vector<std::vector<T>> hidden;
  std::vector<std::vector<T>> cell;
};

}  // namespace

TEST_CASE_TEMPLATE("the loss falls on a toy task", T, float, double) {
  const CycleTask<T> task;
  Trainer<T> trainer(task.network, cross_entropy(), adam(0.02), 1.0, 5);
  const double first = trainer.step(task.input(), task.batch(), {}, task.target(), {}).front();
  CHECK(first == doctest::Approx(std::log(7.0)).epsilon(0.1));
  double last = first;
  for (int step = 0; step < 150; ++step) last = trainer.step(task.input(), task.batch(), {}, task.target(), {}).front();
  CHECK(last < 0.05);
  CHECK(trainer.evaluate(task.input(), task.batch(), {}, task.target(), {}).front() < 0.05);
  CHECK(trainer.optimizers()[0]->steps().front() == 151);
}

TEST_CASE("the loss falls on a regression from the last step") {
  const Index steps = 6;
  const Index rows = 40;
  const auto x = Random(6).numbers(steps * rows);
  std::vector<double> sums(static_cast<std::size_t>(rows));
  const std::vector<Index> lengths = [] {
    std::vector<Index> values;
    for (Index row = 0; row < 40; ++row) values.push_back(row % 7);
    return values;
  }();
  for (Index row = 0; row < rows; ++row) {
    for (Index step = 0; step < lengths[static_cast<std::size_t>(row)]; ++step) {
      sums[static_cast<std::size_t>(row)] += 0.3 * x[static_cast<std::size_t>(step * rows + row)];
    }
  }
  Input<double> input;
  input.values = {x.data(), rows, 1};
  Target<double> target;
  target.values = {sums.data(), rows, 1};
  Batch batch;
  batch.steps = steps;
  batch.rows = rows;
  batch.lengths = lengths.data();
  for (LossKind kind : {LossKind::squared_error, LossKind::absolute_error}) {
    Loss loss;
    loss.kind = kind;
    const Network<double> network({lstm(1, 8, 1, 0.0), LastOptions{}, linear(8, 1)}, TensorNames::of_chain, 4);
    Trainer<double> trainer(network, loss, adam(0.02), 0.0, 5);
    const double before = trainer.evaluate(input, batch, {}, target, {}).front();
    CHECK(trainer.step(input, batch, {}, target, {}).front() == doctest::Approx(before).epsilon(1e-12));
    for (int step = 0; step < 150; ++step) trainer.step(input, batch, {}, target, {});
    CHECK(trainer.evaluate(input, batch, {}, target, {}).front() < 0.3 * before);
  }
}

TEST_CASE("checkpoints change no bit of a step") {
  const auto weights_with = [](Index checkpoint) {
    const CycleTask<float> task;
    Trainer<float> trainer(task.network, cross_entropy(), adam(0.02), 1.0, 5);
    trainer.set_checkpoint(checkpoint);
    CHECK(trainer.checkpoint() == checkpoint);
    CHECK_THROWS_AS(trainer.set_checkpoint(-1), std::invalid_argument);
    CHECK(trainer.checkpoint() == checkpoint);
    for (int step = 0; step < 5; ++step) trainer.step(task.input(), task.batch(), {}, task.target(), {});
    return task.parameters();
  };
  const auto expected = weights_with(0);
  for (const Index checkpoint : {1, 3, 1000}) CHECK(same_bits(weights_with(checkpoint), expected));
}

TEST_CASE("a step equals record, loss, backward, clipping and optimiser called one by one") {
  const CycleTask<double> task;
  const auto start = task.parameters();
  const Index count = task.network.parameter_count();

  std::vector<double> output(static_cast<std::size_t>(task.steps * task.rows * task.vocabulary));
  std::vector<double> d_output(output.size());
  std::vector<double> gradient(static_cast<std::size_t>(count));
  const Index features = task.vocabulary;
  const auto tape =
      task.network.record(task.input(), task.batch(), {}, {output.data(), task.rows * features, features}, {}, {});
  const double loss =
      loss_and_gradient<double>(cross_entropy(), {output.data(), task.rows * features, features}, features,
                                task.batch(), task.target(), {d_output.data(), task.rows * features, features})
          .mean;
  tape->backward({d_output.data(), task.rows * features, features}, {}, gradient.data(), false, {}, {});
  const double norm = gradient_norm(gradient.data(), count);
  const double clip_norm = norm / 2.0;
  auto expected = start;
  Moments<double> moments(adam(0.02), count);
  moments.begin({clip_scale(norm, clip_norm)});
  moments.update({{expected.data(), gradient.data(), 0, count, 0}});

  Trainer<double> trainer(task.network, cross_entropy(), adam(0.02), clip_norm, 5);
  CHECK(trainer.step(task.input(), task.batch(), {}, task.target(), {}).front() == loss);
  CHECK(same_bits(task.parameters(), expected));
}

TEST_CASE("the same bits for 1, 2 and 3 threads and each instruction set, dropout included") {
  for_each_isa([] {
    std::vector<std::vector<float>> parameters;
    std::vector<std::vector<double>> losses;
    for (Index count : {1, 2, 3}) {
      const ThreadCount threads(count);
      const CycleTask<float> task(0.3);
      Trainer<float> trainer(task.network, cross_entropy(), adam(0.01), 0.5, 5);
      losses.emplace_back();
      for (int step = 0; step < 4; ++step) {
        losses.back().push_back(trainer.step(task.input(), task.batch(), {}, task.target(), {}).front());
      }
      parameters.push_back(task.parameters());
    }
    CHECK(losses[1] == losses[0]);
    CHECK(losses[2] == losses[0]);
    CHECK(same_bits(parameters[1], parameters[0]));
    CHECK(same_bits(parameters[2], parameters[0]));
  });
}

TEST_CASE("dropout masks depend on the seed and on the number of the step") {
  const auto losses = [](std::uint64_t seed, double dropout) {
    const CycleTask<float> task(dropout);
    Trainer<float> trainer(task.network, cross_entropy(), adam(0.0), 0.0,
                           seed);  // with lr 0 the weights stay as they are
    std::vector<double> values;
    for (int step = 0; step < 2; ++step) {
      values.push_back(trainer.step(task.input(), task.batch(), {}, task.target(), {}).front());
    }
    return values;
  };
  const auto values = losses(1, 0.4);
  CHECK(values == losses(1, 0.4));
  CHECK(values[0] != values[1]);
  CHECK(values[0] != losses(2, 0.4)[0]);
  CHECK(losses(1, 0.0)[0] == losses(2, 0.0)[1]);
}

TEST_CASE("a loss that is not finite changes nothing") {
  const Network<float> network({lstm(2, 4, 1, 0.0), linear(4, 1)}, TensorNames::of_chain, 4);
  std::vector<float> x = converted<float>(Random(2).numbers(3 * 2 * 2));
  std::vector<float> y = converted<float>(Random(3).numbers(3 * 2));
  Batch batch;
  batch.steps = 3;
  batch.rows = 2;
  Input<float> input;
  input.values = {x.data(), 4, 2};
  Target<float> target;
  target.values = {y.data(), 2, 1};
  Trainer<float> trainer(network, Loss{}, adam(0.1), 1.0, 0);
  trainer.step(input, batch, {}, target, {});

  const auto parameters = [&] {
    const float* data = network.store()->data();
    return std::vector<float>(data, data + network.store()->size());
  };
  const auto before = parameters();
  const auto buffers = trainer.optimizers()[0]->buffers();
  const auto version = network.store()->version();
  OwnStates<float> end(network, 2, 77.0f);
  std::string expected;
  SUBCASE("loss") {
    y[1] = std::numeric_limits<float>::quiet_NaN();
    expected = "target: ";
  }
  SUBCASE("input") {
    x[2] = std::numeric_limits<float>::quiet_NaN();
    expected = "loss: ";
  }
  SUBCASE("gradient") {  // the loss, a double, is finite, but the gradient of the head's bias overflows a float
    std::fill(y.begin(), y.end(), 3e38f);
    expected = "norm of the gradient: ";
  }
  std::string complaint;
  try {
    trainer.step(input, batch, {}, target, end.mutable_view());
  } catch (const std::exception& error) {
    complaint = error.what();
  }
  CHECK(complaint.substr(0, expected.size()) == expected);
  CHECK(same_bits(parameters(), before));
  CHECK(trainer.optimizers()[0]->buffers() == buffers);
  CHECK(trainer.optimizers()[0]->steps().front() == 1);
  CHECK(network.store()->version() == version);
  CHECK(end.hidden[0][0] == 77.0f);
  CHECK(end.cell[0][0] == 77.0f);
}

TEST_CASE("the end state may take the place of the start state") {
  const CycleTask<double> task;
  Trainer<double> trainer(task.network, cross_entropy(), adam(0.0), 0.0, 0);
  const OwnStates<double> start(task.network, task.rows, 0.25);
  OwnStates<double> end(task.network, task.rows, 77.0);
  OwnStates<double> both(task.network, task.rows, 0.25);
  const double loss = trainer.step(task.input(), task.batch(), start.view(), task.target(), end.mutable_view()).front();
  CHECK(trainer.step(task.input(), task.batch(), both.view(), task.target(), both.mutable_view()).front() == loss);
  CHECK(same_bits(both.hidden[0], end.hidden[0]));
  CHECK(same_bits(both.cell[0], end.cell[0]));
  CHECK(!same_bits(both.cell[0], start.cell[0]));
  OwnStates<double> evaluated(task.network, task.rows, 0.25);
  CHECK(
      trainer.evaluate(task.input(), task.batch(), evaluated.view(), task.target(), evaluated.mutable_view()).front() ==
      doctest::Approx(loss).epsilon(1e-14));
  CHECK(same_bits(evaluated.hidden[0], end.hidden[0]));
}

TEST_CASE("a bad label or token changes nothing") {
  CycleTask<float> task;
  Trainer<float> trainer(task.network, cross_entropy(), adam(0.1), 1.0, 0);
  const auto before = task.parameters();
  task.labels[4] = task.vocabulary;
  CHECK_THROWS_AS(trainer.step(task.input(), task.batch(), {}, task.target(), {}), std::invalid_argument);
  task.labels[4] = 0;
  task.tokens[4] = -1;
  CHECK_THROWS_AS(trainer.step(task.input(), task.batch(), {}, task.target(), {}), std::invalid_argument);
  CHECK(same_bits(task.parameters(), before));
  CHECK(trainer.optimizers()[0]->steps().front() == 0);
}

TEST_CASE("an empty batch is a step without a gradient") {
  const CycleTask<float> task;
  Trainer<float> trainer(task.network, cross_entropy(), adam(0.1), 1.0, 0);
  const auto before = task.parameters();
  Batch none;
  CHECK(trainer.step(task.input(), none, {}, task.target(), {}).front() == 0.0);
  CHECK(same_bits(task.parameters(), before));
}

TEST_CASE("arguments that a trainer cannot use are refused at once") {
  const CycleTask<float> task;
  CHECK_THROWS_AS(Trainer<float>(task.network, cross_entropy(), adam(-1.0), 1.0, 0), std::invalid_argument);
  CHECK_THROWS_AS(Trainer<float>(task.network, cross_entropy(), adam(0.1), -1.0, 0), std::invalid_argument);
  Loss quantile;
  quantile.kind = LossKind::quantile;
  quantile.quantiles = {0.1, 0.9};  // 2 quantiles, but 7 outputs
  CHECK_THROWS_AS(Trainer<float>(task.network, quantile, adam(0.1), 1.0, 0), std::invalid_argument);
}

TEST_CASE("a head alone is trained, and the rest keeps its weights") {
  const CycleTask<double> task;
  const auto before = task.parameters();
  auto head = std::make_shared<Optimizer<double>>(adam(0.02), std::vector<Network<double>>{task.network.module(2)});
  Trainer<double> trainer(task.network, cross_entropy(), {head}, 1.0, 5);
  const double first = trainer.step(task.input(), task.batch(), {}, task.target(), {}).front();
  for (int step = 0; step < 50; ++step) trainer.step(task.input(), task.batch(), {}, task.target(), {});
  CHECK(trainer.evaluate(task.input(), task.batch(), {}, task.target(), {}).front() < first);
  const auto after = task.parameters();
  const auto begin = static_cast<std::size_t>(task.network.module(2).parameters_begin());
  for (std::size_t i = 0; i < begin; ++i) CHECK(after[i] == before[i]);
  CHECK(after.back() != before.back());
  CHECK(head->steps().front() == 51);
}

TEST_CASE("two optimisers of one kind and rate on the parts of a network do what one does on all of it") {
  const CycleTask<double> one, other;
  const OptimizerOptions options = adam(0.02);
  const auto optimizer = [&](std::vector<Network<double>> targets) {
    return std::make_shared<Optimizer<double>>(options, std::move(targets));
  };
  Trainer<double> whole(one.network, cross_entropy(), options, 0.0, 5);
  const Network<double>& n = other.network;
  Trainer<double> parts(n, cross_entropy(), {optimizer({n.module(2), n.module(0)}), optimizer({n.module(1)})}, 0.0, 5);
  for (int step = 0; step < 5; ++step) {
    CHECK(whole.step(one.input(), one.batch(), {}, one.target(), {}) ==
          parts.step(other.input(), other.batch(), {}, other.target(), {}));
  }
  CHECK(same_bits(one.parameters(), other.parameters()));
  CHECK_THROWS_AS(Trainer<double>(n, cross_entropy(), {optimizer({n}), optimizer({n.module(1)})}, 0.0, 5),
                  std::invalid_argument);
  CHECK_THROWS_AS(optimizer({n, n.module(1)}), std::invalid_argument);
  CHECK_THROWS_AS(optimizer({}), std::invalid_argument);
  CHECK_THROWS_AS(Trainer<double>(n, cross_entropy(), {optimizer({one.network})}, 0.0, 5), std::invalid_argument);
}

TEST_CASE_TEMPLATE("a step that would leave infinite weights is refused and changes nothing", T, float, double) {
  const double huge = static_cast<double>(std::numeric_limits<T>::max()) / 64.0;
  std::vector<OptimizerOptions> all(4, adam(huge));
  all[0].kind = OptimizerKind::sgd;
  all[1].kind = OptimizerKind::adam;
  all[2].kind = OptimizerKind::adamw;
  all[3].kind = OptimizerKind::rmsprop;
  all[3].momentum = 0.5;
  for (const OptimizerOptions& options : all) {
    CAPTURE(static_cast<int>(options.kind));
    const CycleTask<T> task;
    Optimizer<T> optimizer(options, {task.network});
    const std::vector<T> gradient(static_cast<std::size_t>(task.network.parameter_count()), T(0.75));
    auto parameters = task.parameters();
    auto buffers = optimizer.buffers();
    std::int64_t steps = 0;
    const auto step = [&] { optimizer.step({{gradient.data(), task.network.parameter_count()}}); };
    // Weights stay finite for some steps.
    for (bool refused = false; !refused && steps < 200;) {
      const std::uint64_t version = task.network.store()->version();
      try {
        step();
        parameters = task.parameters();
        buffers = optimizer.buffers();
        ++steps;
      } catch (const std::runtime_error& error) {
        refused = true;
        CHECK(std::string(error.what()) ==
              "parameters: expected finite numbers after the step, got others; nothing was changed");
        CHECK(task.network.store()->version() == version);
      }
      CHECK(is_finite(task.parameters()));
    }
    CHECK(steps > 0);
    CHECK(steps < 200);
    CHECK(same_bits(task.parameters(), parameters));
    CHECK(optimizer.buffers() == buffers);
    CHECK(optimizer.steps().front() == steps);
    CHECK_THROWS_AS(step(), std::runtime_error);
    optimizer.set_lr(0.0);  // it goes on
    step();
    CHECK(same_bits(task.parameters(), parameters));
    CHECK(optimizer.steps().front() == steps + 1);
    optimizer.set_lr(huge);
    for (int more = 0; more < 200 && is_finite(task.parameters()); ++more) {
      optimizer.step({{gradient.data(), task.network.parameter_count()}}, false);
    }
    CHECK(!is_finite(task.parameters()));
  }
}

TEST_CASE("a trainer refuses a step that would leave infinite weights, and changes nothing") {
  const CycleTask<float> task;
  OptimizerOptions sgd;
  sgd.kind = OptimizerKind::sgd;
  sgd.momentum = 0.9;
  sgd.lr = 1e-3;
  Trainer<float> trainer(task.network, cross_entropy(), sgd, 0.0, 5);
  trainer.step(task.input(), task.batch(), {}, task.target(), {});
  const auto before = task.parameters();
  const auto buffers = trainer.optimizers()[0]->buffers();
  trainer.optimizers()[0]->set_lr(1e38);
  trainer.gradient(task.input(), task.batch(), {}, task.target(), {});
  trainer.gradients()[0] = 100.0f;
  CHECK_THROWS_AS(trainer.apply(), std::runtime_error);
  CHECK(same_bits(task.parameters(), before));
  CHECK(trainer.optimizers()[0]->buffers() == buffers);
  CHECK(trainer.optimizers()[0]->steps().front() == 1);
  CHECK(trainer.steps().front() == 1);
  trainer.optimizers()[0]->set_lr(1e-3);
  trainer.apply();
  CHECK(trainer.steps().front() == 2);
}

TEST_CASE("an optimiser refuses gradients that are not finite, and changes nothing") {
  const CycleTask<double> task;
  Optimizer<double> optimizer(adam(0.02), {task.network});
  std::vector<double> gradient(static_cast<std::size_t>(task.network.parameter_count()), 1.0);
  const auto before = task.parameters();
  for (double bad : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    gradient[3] = bad;
    CHECK_THROWS_AS(optimizer.step({{gradient.data(), 0}}), std::runtime_error);
    CHECK(same_bits(task.parameters(), before));
    CHECK(optimizer.steps().front() == 0);
  }
  optimizer.step({{gradient.data(), 0}}, false);
  CHECK(!is_finite(task.parameters()));
}

TEST_CASE("targets without weight leave parameters, moments and steps as they are") {
  CycleTask<double> task;
  Trainer<double> trainer(task.network, cross_entropy(), adam(0.02), 1.0, 5);
  trainer.step(task.input(), task.batch(), {}, task.target(), {});
  const auto before = task.parameters();
  const auto buffers = trainer.optimizers()[0]->buffers();
  const std::vector<double> weights(task.labels.size());
  Target<double> target = task.target();
  target.weights = {weights.data(), task.rows, 1};
  CHECK(trainer.step(task.input(), task.batch(), {}, target, {}).front() == 0.0);
  CHECK(same_bits(task.parameters(), before));
  CHECK(trainer.optimizers()[0]->buffers() == buffers);
  CHECK(trainer.optimizers()[0]->steps().front() == 1);
  CHECK(trainer.steps().front() == 1);
}

}  // namespace latchwork::test
