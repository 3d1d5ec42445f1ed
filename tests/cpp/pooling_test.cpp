// Mean, Max, Dropout and Linear's activations: against the plain reference, and the same bits however they are
// computed.
#include <doctest/doctest.h>

#include <stdexcept>

#include "latchwork/network.hpp"
#include "machine/float_state.hpp"
#include "reference/modules.hpp"
#include "support/lstm_problem.hpp"
#include "support/random_variants.hpp"
#include "support/support.hpp"

namespace latchwork::test {
namespace {

using reference::Sequence;
using reference::Vector;

// Two linear layers with dropout and pooling between them, and a batch for them.
struct PoolingProblem {
  LinearOptions front, head;
  double dropout = 0.0;
  bool mean = true;
  Index steps = 0, rows = 0;
  std::vector<Index> lengths;
  std::vector<std::uint8_t> reset;
  std::vector<double> x, parameters, d_output;

  std::vector<ModuleOptions> modules() const {
    const ModuleOptions pooling = mean ? ModuleOptions(MeanOptions{}) : ModuleOptions(MaxOptions{});
    return {front, DropoutOptions{dropout}, pooling, DropoutOptions{dropout}, head};
  }
  Batch batch() const {
    Batch batch;
    batch.steps = steps;
    batch.rows = rows;
    batch.lengths = lengths.empty() ? nullptr : lengths.data();
    if (!reset.empty()) batch.reset = {reset.data(), rows, 1};
    return batch;
  }
  Index length(Index row) const { return lengths.empty() ? steps : lengths[static_cast<std::size_t>(row)]; }
};

PoolingProblem random_problem(Random& random) {
  PoolingProblem problem;
  const Index features = random.between(1, 20);
  problem.front = {random.between(1, 9), features, random.chance(0.8), random_activation(random)};
  problem.head = {features, random.between(1, 5), random.chance(0.8), random_activation(random)};
  if (random.chance(0.3)) problem.head.activation = {random.chance(0.5) ? "softmax" : "log_softmax"};
  problem.dropout = random.chance(0.5) ? 0.3 : 0.0;
  problem.mean = random.chance(0.5);
  problem.steps = random.between(0, 12);
  problem.rows = random.between(0, 9);
  for (Index row = 0; random.chance(0.5) && row < problem.rows; ++row) {
    problem.lengths.resize(static_cast<std::size_t>(problem.rows));
    problem.lengths[static_cast<std::size_t>(row)] = random.between(0, problem.steps);
  }
  for (Index k = problem.steps * problem.rows; random.chance(0.5) && k > 0; --k) {
    problem.reset.resize(static_cast<std::size_t>(problem.steps * problem.rows));
    problem.reset[static_cast<std::size_t>(k - 1)] = random.chance(0.3) ? 1 : 0;
  }
  problem.x = random.numbers(problem.steps * problem.rows * problem.front.in_features);
  problem.parameters = random.numbers(latchwork::parameter_count(problem.modules()));
  problem.d_output = random.numbers(problem.rows * problem.head.out_features);
  for (Index row = 0; row < problem.rows; ++row) {
    for (Index step = problem.length(row); step < problem.steps; ++step) {
      std::fill_n(problem.x.begin() + (step * problem.rows + row) * problem.front.in_features,
                  problem.front.in_features, std::nan(""));
    }
  }
  return problem;
}

template <class T>
struct PoolingResults {
  explicit PoolingResults(const PoolingProblem& problem)
      : output(problem.d_output.size(), unwritten<T>),
        d_x(problem.x.size(), unwritten<T>),
        d_parameters(problem.parameters.size(), unwritten<T>) {}
  std::vector<T> output, d_x, d_parameters;
};

constexpr std::uint64_t seed = 77;

template <class T>
Network<T> network_of(const PoolingProblem& problem) {
  const Network<T> network(problem.modules(), TensorNames::of_chain, 1);
  const std::vector<T> values = converted<T>(problem.parameters);
  network.store()->write([&](T* parameters) { std::copy(values.begin(), values.end(), parameters); });
  return network;
}

template <class T>
PoolingResults<T> results_of(const PoolingProblem& problem) {
  const Network<T> network = network_of<T>(problem);
  PoolingResults<T> results(problem);
  const Index inputs = problem.front.in_features, outputs = problem.head.out_features;
  const std::vector<T> x = converted<T>(problem.x), d_output = converted<T>(problem.d_output);
  const auto tape = network.record({{x.data(), problem.rows * inputs, inputs}, {}}, problem.batch(), {},
                                   {results.output.data(), problem.rows * outputs, outputs}, {}, {true, seed});
  tape->backward({d_output.data(), problem.rows * outputs, outputs}, {}, results.d_parameters.data(), false,
                 {results.d_x.data(), problem.rows * inputs, inputs}, {});
  return results;
}

PoolingResults<double> expected_of(const PoolingProblem& problem) {
  PoolingResults<double> results(problem);
  std::fill(results.d_x.begin(), results.d_x.end(), 0.0);
  const auto features = static_cast<std::size_t>(problem.front.out_features);
  const Index inputs = problem.front.in_features, outputs = problem.head.out_features;
  const auto front_size = latchwork::parameter_count(std::vector<ModuleOptions>{problem.front});
  const Vector front(problem.parameters.begin(), problem.parameters.begin() + front_size);
  const Vector head(problem.parameters.begin() + front_size, problem.parameters.end());
  Vector d_front(front.size(), 0.0), d_head(head.size(), 0.0);
  const auto masked = [&](Vector values, Index module, Index step, Index row) {
    for (std::size_t unit = 0; unit < values.size(); ++unit) {
      const MaskKey key{seed, MaskOn::layer_output, module, 0};
      const bool dropped = mask_number(key, step, row, static_cast<Index>(unit)) < problem.dropout;
      values[unit] *= dropped ? 0.0 : 1.0 / (1.0 - problem.dropout);
    }
    return values;
  };
  for (Index row = 0; row < problem.rows; ++row) {
    const auto x = [&](Index step) {
      const auto begin = problem.x.begin() + (step * problem.rows + row) * inputs;
      return Vector(begin, begin + inputs);
    };
    Sequence steps;
    std::size_t begin = 0;
    for (Index step = 0; step < problem.length(row); ++step) {
      steps.push_back(masked(reference::linear(problem.front, front, x(step)), 1, step, row));
      if (!problem.reset.empty() && problem.reset[static_cast<std::size_t>(step * problem.rows + row)] != 0) {
        begin = static_cast<std::size_t>(step);
      }
    }
    const Vector pooled =
        problem.mean ? reference::mean(steps, begin, features) : reference::max(steps, begin, features);
    const Vector kept = masked(pooled, 3, 0, row), output = reference::linear(problem.head, head, kept);
    std::copy(output.begin(), output.end(), results.output.begin() + row * outputs);
    const auto d_begin = problem.d_output.begin() + row * outputs;
    const Vector d_output(d_begin, d_begin + outputs);
    const Vector d_pooled = masked(reference::linear_backward(problem.head, head, kept, d_output, d_head), 3, 0, row);
    const Sequence d_steps = problem.mean ? reference::mean_backward(steps, begin, d_pooled)
                                          : reference::max_backward(steps, begin, d_pooled);
    for (Index step = 0; step < problem.length(row); ++step) {
      const Vector d_masked = masked(d_steps[static_cast<std::size_t>(step)], 1, step, row);
      const Vector d_x = reference::linear_backward(problem.front, front, x(step), d_masked, d_front);
      std::copy(d_x.begin(), d_x.end(), results.d_x.begin() + (step * problem.rows + row) * inputs);
    }
  }
  std::copy(d_front.begin(), d_front.end(), results.d_parameters.begin());
  std::copy(d_head.begin(), d_head.end(), results.d_parameters.begin() + front_size);
  return results;
}

template <class T>
void check_same(const PoolingResults<T>& actual, const PoolingResults<T>& expected) {
  CHECK(same_bits(actual.output, expected.output));
  CHECK(same_bits(actual.d_x, expected.d_x));
  CHECK(same_bits(actual.d_parameters, expected.d_parameters));
}

LstmOptions lstm_options(Index inputs, Index units, Direction direction = Direction::forward) {
  LstmOptions options;
  options.input_size = inputs;
  options.hidden_size = units;
  options.direction = direction;
  return options;
}

const std::vector<ModuleOptions> both_poolings{MeanOptions{}, MaxOptions{}};

}  // namespace

TEST_CASE("pooling: random chains of Linear, Dropout, Mean and Max equal the reference") {
  for_each_isa([] {
    Random random(91);
    for (int round = 0; round < 300; ++round) {
      CAPTURE(round);
      const PoolingProblem problem = random_problem(random);
      const PoolingResults<double> expected = expected_of(problem), actual = results_of<double>(problem);
      CHECK(difference(actual.output, expected.output) < 1e-12);
      CHECK(difference(actual.d_x, expected.d_x) < 1e-11);
      CHECK(difference(actual.d_parameters, expected.d_parameters) < 1e-11);
      CHECK(difference(results_of<float>(problem).output, expected.output) < 1e-4);
    }
  });
}

TEST_CASE_TEMPLATE("pooling: threads do not change a bit", T, float, double) {
  Random random(92);
  PoolingProblem problem = random_problem(random);
  problem.steps = 40;
  problem.rows = 50;
  problem.lengths.clear();
  problem.reset.clear();
  problem.dropout = 0.3;
  problem.x = random.numbers(40 * 50 * problem.front.in_features);
  problem.d_output = random.numbers(50 * problem.head.out_features);
  for (const bool mean : {true, false}) {
    problem.mean = mean;
    const ThreadCount one(1);
    const PoolingResults<T> expected = results_of<T>(problem);
    for (const Index count : {2, 3}) {
      const ThreadCount threads(count);
      check_same(results_of<T>(problem), expected);
    }
  }
}

TEST_CASE_TEMPLATE("pooling: a row has the same bits in any batch, and padding does not matter", T, float, double) {
  Random random(93);
  const Index steps = 9, rows = 6;
  const std::vector<T> x = converted<T>(random.numbers(steps * rows * 3));
  for (const ModuleOptions& pooling : both_poolings) {
    const Network<T> network({lstm_options(3, 5, Direction::both), pooling, LinearOptions{10, 2}},
                             TensorNames::of_chain, 1);
    for (const Index length : {0, 1, 4, 9}) {
      const std::vector<Index> lengths{9, length, 3, 0, 5, 7};
      std::vector<T> padded = x, whole(rows * 2, unwritten<T>), alone(2, unwritten<T>);
      for (Index step = length; step < steps; ++step) {
        std::fill_n(padded.begin() + (step * rows + 1) * 3, 3, std::numeric_limits<T>::quiet_NaN());
      }
      Batch batch{steps, rows, lengths.data(), {}, 0};
      network.forward({{padded.data(), rows * 3, 3}, {}}, batch, {}, {whole.data(), rows * 2, 2}, {});
      network.forward({{x.data() + 3, rows * 3, 3}, {}}, {length, 1, nullptr, {}, 0}, {}, {alone.data(), 2, 2}, {});
      CHECK(same_bits(alone.data(), whole.data() + 2, 2));
    }
  }
}

TEST_CASE_TEMPLATE("pooling: the mean is one chain in the order of the steps, NaN and signed zeros come through", T,
                   float, double) {
  const T nan = std::numeric_limits<T>::quiet_NaN(), large = std::numeric_limits<T>::max() / 4;
  const std::vector<T> x{large,  nan,  T(-0.0), T(3), T(1),  // step 0: five rows of one feature
                         T(1),   T(1), T(0),    T(3), nan,   //
                         -large, T(2), T(-0.0), T(1), T(2)};
  const auto pooled = [&](const ModuleOptions& pooling) {
    std::vector<T> result(5, unwritten<T>);
    pool<T>(pooling, {x.data(), 5, 1}, {3, 5, nullptr, {}, 0}, 1, {result.data(), 5, 1});
    return result;
  };
  CHECK(same_bits(pooled(MaxOptions{}), {large, nan, T(-0.0), T(3), nan}));
  const T sum = (large + T(1)) + -large;
  CHECK(same_bits(pooled(MeanOptions{}), {sum / T(3), nan, T(0), T(7) / T(3), nan}));
  const std::vector<Index> wrong{3, 3, 4, 3, 3};
  std::vector<T> result(5);
  CHECK_THROWS_WITH_AS(pool<T>(MeanOptions{}, {x.data(), 5, 1}, {3, 5, wrong.data(), {}, 0}, 1, {result.data(), 5, 1}),
                       "lengths: expected 0 to 3, got 4 for row 2", std::invalid_argument);
  CHECK_THROWS_AS(pool<T>(LastOptions{}, {x.data(), 5, 1}, {3, 5, nullptr, {}, 0}, 1, {result.data(), 5, 1}),
                  std::invalid_argument);
}

TEST_CASE_TEMPLATE("pooling: a stream gives at each step what a call gives for the steps since the last reset", T,
                   float, double) {
  for_each_isa([] {
    Random random(94);
    const Index steps = 14, rows = 3;
    const std::vector<T> x = converted<T>(random.numbers(steps * rows * 4));
    std::vector<std::uint8_t> reset;
    for (Index k = 0; k < steps * rows; ++k) reset.push_back(random.chance(0.15) ? 1 : 0);
    for (const ModuleOptions& pooling :
         {ModuleOptions(MeanOptions{}), ModuleOptions(MaxOptions{}), ModuleOptions(LastOptions{})}) {
      const Network<T> network({DropoutOptions{0.4}, lstm_options(4, 9), DropoutOptions{0.4}, pooling,
                                LinearOptions{9, 3, true, {"elu"}}, DropoutOptions{0.4}},
                               TensorNames::of_chain, 1, 2);
      const auto stream = network.stream(rows);
      std::vector<T> actual(2 * rows * 3), expected(2 * rows * 3);
      for (int pass = 0; pass < 2; ++pass) {
        for (Index step = 0; step < steps; ++step) {
          stream->step(x.data() + step * rows * 4, actual.data(), reset.data() + step * rows);
          Batch batch{step + 1, rows, nullptr, {reset.data(), rows, 1}, 0};
          network.forward({{x.data(), rows * 4, 4}, {}}, batch, {}, {expected.data(), rows * 3, 3, rows * 3}, {});
          CHECK(same_bits(actual, expected));
        }
        stream->reset();  // the second pass starts anew
      }
    }
  });
}

TEST_CASE("pooling: Last looks through Dropout at the directions of the LSTM") {
  Random random(95);
  const std::vector<double> x = random.numbers(6 * 2 * 3);
  const auto output = [&](const std::vector<ModuleOptions>& modules) {
    std::vector<double> values(2 * 10);
    Network<double>(modules, TensorNames::of_chain, 1)
        .forward({{x.data(), 6, 3}, {}}, {6, 2, nullptr, {}, 0}, {}, {values.data(), 20, 10}, {});
    return values;
  };
  const LstmOptions both = lstm_options(3, 5, Direction::both);
  CHECK(same_bits(output({both, DropoutOptions{}, DropoutOptions{0.1}, LastOptions{}}), output({both, LastOptions{}})));
}

TEST_CASE("pooling: gradients of tokens come through Dropout, whether it acts or not, as through finite differences") {
  Random random(96);
  const Index steps = 6, rows = 5, vocabulary = 4;
  std::vector<std::int64_t> tokens;
  for (Index k = 0; k < steps * rows; ++k) tokens.push_back(random.between(0, vocabulary - 1));
  const std::vector<Index> lengths{6, 2, 0, 1, 5};
  const Batch batch{steps, rows, lengths.data(), {}, 0};
  const Input<double> input{{}, {tokens.data(), rows, 1}};
  for (const ModuleOptions& pooling : both_poolings) {
    for (const bool training : {false, true}) {
      const Network<double> network(
          {EmbeddingOptions{vocabulary, 20}, DropoutOptions{0.3}, lstm_options(20, 3, Direction::both),
           DropoutOptions{0.3}, pooling, LinearOptions{6, 2, true, {"softsign"}}, DropoutOptions{0.3}},
          TensorNames::of_chain, 2);
      const std::vector<double> d_output = random.numbers(rows * 2);
      const auto record = [&](double& loss) {
        std::vector<double> output(d_output.size());
        auto tape = network.record(input, batch, {}, {output.data(), rows * 2, 2}, {}, {training, seed});
        loss = 0.0;
        for (std::size_t k = 0; k < output.size(); ++k) loss += output[k] * d_output[k];
        return tape;
      };
      std::vector<double> gradient(static_cast<std::size_t>(network.parameter_count()), unwritten<double>), slopes;
      double loss = 0.0;
      record(loss)->backward({d_output.data(), rows * 2, 2}, {}, gradient.data(), false, {}, {});
      for (Index k = 0; k < network.parameter_count(); ++k) {
        const double middle = network.store()->data()[k];
        const auto loss_at = [&](double value) {
          network.store()->write([&](double* values) { values[k] = value; });
          record(loss);
          return loss;
        };
        slopes.push_back((loss_at(middle + 1e-5) - loss_at(middle - 1e-5)) / 2e-5);
        loss_at(middle);
      }
      CAPTURE(training);
      CHECK(difference(gradient, slopes) < 1e-7);
    }
  }
}

TEST_CASE_TEMPLATE("pooling: the first module may drop, and its gradient with respect to x has zeros in padding", T,
                   float, double) {
  Random random(97);
  const std::vector<T> x = converted<T>(random.numbers(4 * 3 * 8)), ones(4 * 3 * 8, T(1));
  const Network<T> network({DropoutOptions{0.5}, LinearOptions{8, 8, false}, DropoutOptions{1.0}},
                           TensorNames::of_chain, 1);
  const std::vector<Index> lengths{4, 2, 0};
  const Batch batch{4, 3, lengths.data(), {}, 0};
  std::vector<T> output(96, unwritten<T>), d_x(96, unwritten<T>), d_parameters(64);
  for (const bool training : {true, false}) {
    const auto tape = network.record({{x.data(), 24, 8}, {}}, batch, {}, {output.data(), 24, 8}, {}, {training, seed});
    tape->backward({ones.data(), 24, 8}, {}, d_parameters.data(), false, {d_x.data(), 24, 8}, {});
    for (Index step = 0; step < 4; ++step) {
      for (Index row = 0; row < 3; ++row) {
        const bool valid = step < lengths[static_cast<std::size_t>(row)];
        for (Index k = 0; k < 8; ++k) {
          const auto at = static_cast<std::size_t>((step * 3 + row) * 8 + k);
          if (training || !valid) {
            CHECK(output[at] == T(0));  // all is dropped at the end
            CHECK(d_x[at] == T(0));
          } else {
            CHECK(output[at] != T(0));
            CHECK(d_x[at] != T(0));
          }
        }
      }
    }
    tape->backward({}, {}, d_parameters.data(), false, {d_x.data(), 24, 8}, {});
    CHECK(std::count(d_x.begin(), d_x.end(), T(0)) == 96);
  }
}

TEST_CASE_TEMPLATE("last step: it is that of the whole output, for every kind of chain", T, float, double) {
  for_each_isa([] {
    Random random(98);
    const Index steps = 7, rows = 4, vocabulary = 5;
    const LinearOptions head{5, 3, true, {"softplus"}};
    const LstmOptions lstm = lstm_options(6, 5), both = lstm_options(6, 5, Direction::both);
    const EmbeddingOptions embedding{vocabulary, 6};
    const std::vector<std::vector<ModuleOptions>> chains{
        {lstm},
        {lstm, head},
        {LinearOptions{6, 6}, lstm, DropoutOptions{}, head, LinearOptions{3, 2}, DropoutOptions{}},
        {both},
        {both, LinearOptions{10, 2}},
        {embedding},
        {embedding, LinearOptions{6, 2}},
        {embedding, DropoutOptions{}, lstm, head},
        {LinearOptions{6, 2}}};
    std::vector<std::int64_t> tokens;
    for (Index k = 0; k < steps * rows; ++k) tokens.push_back(random.between(0, vocabulary - 1));
    const std::vector<T> x = converted<T>(random.numbers(steps * rows * 6));
    for (const auto& chain : chains) {
      CAPTURE(chain.size());
      const Network<T> network(chain, TensorNames::of_chain, 3, 2);
      const Index features = network.output_size();
      const Input<T> input{{x.data(), rows * 6, 6}, {tokens.data(), rows, 1}};
      for (const std::vector<Index>& lengths : {std::vector<Index>{7, 0, 3, 1}, std::vector<Index>{}}) {
        for (const Index count : {steps, Index(0)}) {
          if (count == 0 && !lengths.empty()) continue;
          const Batch batch{count, rows, lengths.empty() ? nullptr : lengths.data(), {}, 0};
          const Index size = rows * features;
          std::vector<T> whole(static_cast<std::size_t>(2 * count * size), unwritten<T>);
          std::vector<T> actual(static_cast<std::size_t>(2 * size), unwritten<T>), expected(actual.size(), T(0));
          network.forward(input, batch, {}, {whole.data(), size, features, count * size}, {});
          network.forward_last_step(input, batch, {}, {actual.data(), size, features, size}, {});
          for (Index member = 0; member < 2; ++member) {
            for (Index row = 0; row < rows; ++row) {
              const Index length = lengths.empty() ? count : lengths[static_cast<std::size_t>(row)];
              if (length == 0) continue;
              std::copy_n(whole.begin() + (member * count + length - 1) * size + row * features, features,
                          expected.begin() + member * size + row * features);
            }
          }
          CHECK(same_bits(actual, expected));
        }
      }
    }
    const Network<T> pooled({lstm, LastOptions{}}, TensorNames::of_chain, 3);
    CHECK_THROWS_WITH_AS(pooled.forward_last_step({}, {}, {}, {}, {}),
                         "last_step: expected a network whose output has steps, got one that pools them",
                         std::invalid_argument);
  });
}

}  // namespace latchwork::test
