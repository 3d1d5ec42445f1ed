// Scale, Impute, EmbedColumns and Sort: against the plain reference, and the same bits however they are computed.
#include <doctest/doctest.h>

#include <cmath>
#include <stdexcept>

#include "latchwork/network.hpp"
#include "latchwork/training.hpp"
#include "machine/mathematics.hpp"
#include "reference/modules.hpp"
#include "support/lstm_problem.hpp"
#include "support/prepared_inputs.hpp"
#include "support/support.hpp"

namespace latchwork::test {
namespace {

using reference::Sequence;
using reference::Vector;

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

// A chain of all four, with a Linear between them, and a batch for it.
struct InputProblem {
  ScaleOptions scale, units;
  ImputeOptions impute;
  EmbedColumnsOptions embed;
  LinearOptions linear;
  SortOptions sort;
  Index steps = 0, rows = 0;
  std::vector<Index> lengths;
  std::vector<std::uint8_t> reset;
  std::vector<double> x, value, age, parameters, d_output, d_value;

  std::vector<ModuleOptions> modules() const { return {scale, impute, embed, linear, sort, units}; }
  bool carries() const { return impute.method == Imputation::forward; }
  Index features() const { return impute.features; }
  Index outputs() const { return linear.out_features; }
  Index length(Index row) const { return lengths.empty() ? steps : lengths[static_cast<std::size_t>(row)]; }
  Batch batch() const {
    Batch batch;
    batch.steps = steps;
    batch.rows = rows;
    batch.lengths = lengths.empty() ? nullptr : lengths.data();
    if (!reset.empty()) batch.reset = {reset.data(), rows, 1};
    return batch;
  }
};

std::vector<double> numbers_of(Random& random, std::size_t count) { return random.numbers(static_cast<Index>(count)); }

InputProblem random_problem(Random& random) {
  InputProblem problem;
  const auto features = static_cast<std::size_t>(random.between(1, 6));
  problem.scale = {numbers_of(random, features), numbers_of(random, features)};
  problem.impute = {static_cast<Index>(features),
                    random.chance(0.7) ? Imputation::forward : Imputation::constant,
                    numbers_of(random, features),
                    {}};
  for (Index k = 0; k < problem.features(); ++k) {
    if (random.chance(0.5)) problem.impute.indicators.insert(problem.impute.indicators.begin(), k);
  }
  for (Index k = 0; problem.carries() && random.chance(0.8) && k < problem.features(); ++k) {
    problem.impute.persistence.resize(features, 1.0);
    problem.impute.persistence[static_cast<std::size_t>(k)] = random.chance(0.2) ? 0.0 : std::abs(random.number());
  }
  problem.embed.features = problem.impute.output_size();
  const Index first = random.between(0, problem.features() - 1);
  for (Index k = first; k >= 0 && k > first - 2; --k) {
    problem.embed.columns.push_back(k);
    problem.embed.num_embeddings.push_back(random.between(1, 5));
    problem.embed.embedding_dim.push_back(random.between(1, 4));
  }
  const Index group = random.between(1, 4);
  problem.sort = {group};
  problem.linear = {problem.embed.output_size(), group * random.between(1, 3), true, {"softsign"}};
  const auto outputs = static_cast<std::size_t>(problem.outputs());
  problem.units = {numbers_of(random, outputs), numbers_of(random, outputs)};
  problem.steps = random.between(0, 12);
  problem.rows = random.between(0, 9);
  const Index slots = problem.steps * problem.rows;
  for (Index row = 0; random.chance(0.5) && row < problem.rows; ++row) {
    problem.lengths.resize(static_cast<std::size_t>(problem.rows));
    problem.lengths[static_cast<std::size_t>(row)] = random.between(0, problem.steps);
  }
  for (Index k = slots; random.chance(0.5) && k > 0; --k) {
    problem.reset.resize(static_cast<std::size_t>(slots));
    problem.reset[static_cast<std::size_t>(k - 1)] = random.chance(0.3) ? 1 : 0;
  }
  problem.x = random.numbers(slots * problem.features());
  problem.value = random.numbers(problem.rows * problem.features());
  for (Index k = 0; k < problem.rows * problem.features(); ++k) {
    problem.age.push_back(static_cast<double>(random.between(0, 5)));
  }
  // Codes, which are neither shifted nor scaled.
  for (std::size_t table = 0; table < problem.embed.columns.size(); ++table) {
    const auto column = static_cast<std::size_t>(problem.embed.columns[table]);
    const auto code = [&] { return static_cast<double>(random.between(0, problem.embed.num_embeddings[table] - 1)); };
    problem.scale.shift[column] = 0.0;
    problem.scale.factor[column] = 1.0;
    problem.impute.fill[column] = code();
    if (!problem.impute.persistence.empty()) problem.impute.persistence[column] = 1.0;
    for (std::size_t at = column; at < problem.x.size(); at += features) problem.x[at] = code();
    for (std::size_t at = column; at < problem.value.size(); at += features) problem.value[at] = code();
  }
  const double missing = random.chance(0.2) ? 1.0 : 0.4;
  for (double& value : problem.x) value = random.chance(missing) ? nan : value;
  problem.parameters = random.numbers(latchwork::parameter_count(problem.modules()));
  problem.d_output = random.numbers(slots * problem.outputs());
  problem.d_value = random.numbers(problem.rows * problem.features());
  // What lies in padding never matters, not even as a code.
  for (Index row = 0; row < problem.rows; ++row) {
    for (Index step = problem.length(row); step < problem.steps; ++step) {
      std::fill_n(problem.x.begin() + (step * problem.rows + row) * problem.features(), problem.features(), 1e30);
      std::fill_n(problem.d_output.begin() + (step * problem.rows + row) * problem.outputs(), problem.outputs(), nan);
    }
  }
  return problem;
}

template <class T>
struct InputResults {
  explicit InputResults(const InputProblem& problem)
      : output(problem.d_output.size(), unwritten<T>),
        value(problem.value.size(), unwritten<T>),
        age(value),
        d_x(problem.x.size(), unwritten<T>),
        d_value(value),
        d_age(value),
        d_parameters(problem.parameters.size(), unwritten<T>) {}
  std::vector<T> output, value, age, d_x, d_value, d_age, d_parameters;
};

template <class T>
Network<T> network_of(const InputProblem& problem, Index members = 1) {
  const Network<T> network(problem.modules(), TensorNames::of_chain, 1, members);
  const std::vector<T> values = converted<T>(problem.parameters);
  network.store()->write([&](T* parameters) {
    for (Index member = 0; member < members; ++member) parameters = std::copy(values.begin(), values.end(), parameters);
  });
  return network;
}

template <class T>
InputResults<T> results_of(const InputProblem& problem) {
  const Network<T> network = network_of<T>(problem);
  InputResults<T> results(problem);
  const Index inputs = problem.features(), outputs = problem.outputs();
  const std::vector<T> x = converted<T>(problem.x), d_output = converted<T>(problem.d_output);
  const std::vector<T> value = converted<T>(problem.value), age = converted<T>(problem.age);
  const std::vector<T> d_end_value = converted<T>(problem.d_value), d_end_age(d_end_value.size(), T(1));
  States<const T> start, d_end;
  States<T> end, d_start;
  if (problem.carries()) {
    start = {{value.data(), age.data()}};
    end = {{results.value.data(), results.age.data()}};
    d_end = {{d_end_value.data(), d_end_age.data()}};
    d_start = {{results.d_value.data(), results.d_age.data()}};
  }
  const auto tape = network.record({{x.data(), problem.rows * inputs, inputs}, {}}, problem.batch(), start,
                                   {results.output.data(), problem.rows * outputs, outputs}, end, {});
  tape->backward({d_output.data(), problem.rows * outputs, outputs}, d_end, results.d_parameters.data(), false,
                 {results.d_x.data(), problem.rows * inputs, inputs}, d_start);
  InputResults<T> called(problem);
  if (problem.carries()) end = {{called.value.data(), called.age.data()}};
  network.forward({{x.data(), problem.rows * inputs, inputs}, {}}, problem.batch(), start,
                  {called.output.data(), problem.rows * outputs, outputs}, end);
  CHECK(same_bits(called.output, results.output));
  CHECK(same_bits(called.value, results.value));
  CHECK(same_bits(called.age, results.age));
  // Without the gradient with respect to x, the others are the same.
  InputResults<T> less(problem);
  if (problem.carries()) d_start = {{less.d_value.data(), less.d_age.data()}};
  tape->backward({d_output.data(), problem.rows * outputs, outputs}, d_end, less.d_parameters.data(), false, {},
                 d_start);
  CHECK(same_bits(less.d_parameters, results.d_parameters));
  CHECK(same_bits(less.d_value, results.d_value));
  CHECK(same_bits(less.d_age, results.d_age));
  return results;
}

InputResults<double> expected_of(const InputProblem& problem) {
  InputResults<double> results(problem);
  std::fill(results.output.begin(), results.output.end(), 0.0);
  std::fill(results.d_x.begin(), results.d_x.end(), 0.0);
  std::fill(results.d_parameters.begin(), results.d_parameters.end(), 0.0);
  if (problem.carries()) std::fill(results.d_age.begin(), results.d_age.end(), 0.0);
  const auto tables = latchwork::parameter_count(std::vector<ModuleOptions>{problem.embed});
  const Vector table(problem.parameters.begin(), problem.parameters.begin() + tables);
  const Vector weights(problem.parameters.begin() + tables, problem.parameters.end());
  Vector d_table(table.size(), 0.0), d_weights(weights.size(), 0.0);
  for (Index row = 0; row < problem.rows; ++row) {
    const auto part = [&](const Vector& values, Index index, Index size) {
      return Vector(values.begin() + index * size, values.begin() + (index + 1) * size);
    };
    const auto slot = [&](Index step) { return step * problem.rows + row; };
    Sequence scaled;
    std::vector<bool> restarts;
    for (Index step = 0; step < problem.length(row); ++step) {
      scaled.push_back(reference::scale(problem.scale, part(problem.x, slot(step), problem.features())));
      restarts.push_back(!problem.reset.empty() && problem.reset[static_cast<std::size_t>(slot(step))] != 0);
    }
    const auto imputed =
        reference::impute(problem.impute, scaled, restarts, part(problem.value, row, problem.features()),
                          part(problem.age, row, problem.features()));
    if (problem.carries()) {
      std::copy(imputed.value.begin(), imputed.value.end(), results.value.begin() + row * problem.features());
      std::copy(imputed.age.begin(), imputed.age.end(), results.age.begin() + row * problem.features());
    }
    Sequence d_imputed;
    for (Index step = 0; step < problem.length(row); ++step) {
      const Vector& filled = imputed.output[static_cast<std::size_t>(step)];
      const Vector embedded = reference::embed_columns(problem.embed, table, filled);
      const Vector hidden = reference::linear(problem.linear, weights, embedded);
      const Vector output = reference::scale(problem.units, reference::sort(problem.sort, hidden));
      std::copy(output.begin(), output.end(), results.output.begin() + slot(step) * problem.outputs());
      const Vector d_sorted =
          reference::scale_backward(problem.units, part(problem.d_output, slot(step), problem.outputs()));
      const Vector d_hidden = reference::sort_backward(problem.sort, hidden, d_sorted);
      const Vector d_embedded = reference::linear_backward(problem.linear, weights, embedded, d_hidden, d_weights);
      d_imputed.push_back(reference::embed_columns_backward(problem.embed, filled, d_embedded, d_table));
    }
    const auto gradient = reference::impute_backward(problem.impute, scaled, restarts, d_imputed,
                                                     part(problem.d_value, row, problem.features()));
    for (Index step = 0; step < problem.length(row); ++step) {
      const Vector d_x = reference::scale_backward(problem.scale, gradient.d_steps[static_cast<std::size_t>(step)]);
      std::copy(d_x.begin(), d_x.end(), results.d_x.begin() + slot(step) * problem.features());
    }
    if (problem.carries()) {
      std::copy(gradient.d_value.begin(), gradient.d_value.end(), results.d_value.begin() + row * problem.features());
    }
  }
  std::copy(d_table.begin(), d_table.end(), results.d_parameters.begin());
  std::copy(d_weights.begin(), d_weights.end(), results.d_parameters.begin() + tables);
  return results;
}

template <class T>
void check_same(const InputResults<T>& actual, const InputResults<T>& expected) {
  CHECK(same_bits(actual.output, expected.output));
  CHECK(same_bits(actual.value, expected.value));
  CHECK(same_bits(actual.age, expected.age));
  CHECK(same_bits(actual.d_x, expected.d_x));
  CHECK(same_bits(actual.d_value, expected.d_value));
  CHECK(same_bits(actual.d_parameters, expected.d_parameters));
}

}  // namespace

TEST_CASE("input modules: random chains equal the reference") {
  for_each_isa([] {
    Random random(101);
    for (int round = 0; round < 300; ++round) {
      CAPTURE(round);
      const InputProblem problem = random_problem(random);
      const InputResults<double> expected = expected_of(problem), actual = results_of<double>(problem);
      CHECK(difference(actual.output, expected.output) < 1e-12);
      CHECK(difference(actual.d_x, expected.d_x) < 1e-11);
      CHECK(difference(actual.d_parameters, expected.d_parameters) < 1e-11);
      CHECK(same_bits(actual.age, expected.age));
      CHECK(same_bits(actual.value, expected.value));
      if (problem.carries()) {
        CHECK(difference(actual.d_value, expected.d_value) < 1e-11);
        CHECK(same_bits(actual.d_age, expected.d_age));
      }
      // float may sort equal numbers otherwise, so only what comes out is compared.
      CHECK(difference(results_of<float>(problem).output, expected.output) < 1e-4);
    }
  });
}

TEST_CASE_TEMPLATE("input modules: neither threads nor the rest of the batch change a bit", T, float, double) {
  Random random(102);
  InputProblem problem = random_problem(random);
  while (problem.steps < 9 || problem.rows < 5 || !problem.carries() || problem.lengths.empty()) {
    problem = random_problem(random);
  }
  // The same rows several times, so that threads share them.
  const auto spread = [&](auto& array, Index leading) {
    using Values = std::remove_reference_t<decltype(array)>;
    const Index width = static_cast<Index>(array.size()) / leading;
    Values wide;
    for (Index k = 0; k < leading; ++k) {
      for (int copy = 0; copy < 150; ++copy) {
        wide.insert(wide.end(), array.begin() + k * width, array.begin() + (k + 1) * width);
      }
    }
    array = wide;
  };
  InputProblem large = problem;
  for (auto* array : {&large.x, &large.d_output}) spread(*array, problem.steps);
  if (!large.reset.empty()) spread(large.reset, problem.steps);
  for (auto* array : {&large.value, &large.age, &large.d_value}) spread(*array, 1);
  spread(large.lengths, 1);
  large.rows *= 150;
  const InputResults<T> small = results_of<T>(problem);
  const ThreadCount one(1);
  const InputResults<T> expected = results_of<T>(large);
  const Index width = problem.rows * problem.features();
  CHECK(same_bits(small.value.data(), expected.value.data() + 77 * width, width));
  for (Index step = 0; step < problem.steps; ++step) {
    CHECK(same_bits(small.d_x.data() + step * width, expected.d_x.data() + (step * 150 + 77) * width, width));
  }
  for (const Index count : {2, 3}) {
    const ThreadCount threads(count);
    check_same(results_of<T>(large), expected);
  }
}

TEST_CASE_TEMPLATE("input modules: a stream gives at each step what a call gives", T, float, double) {
  for_each_isa([] {
    Random random(103);
    for (int round = 0; round < 40; ++round) {
      InputProblem problem = random_problem(random);
      problem.lengths.clear();
      for (double& value : problem.x) value = value == 1e30 ? nan : value;  // no padding any more
      CAPTURE(round);
      const Network<T> network = network_of<T>(problem, 2);
      const Index inputs = problem.features(), outputs = problem.outputs(), rows = problem.rows;
      const std::vector<T> x = converted<T>(problem.x), value = converted<T>(problem.value);
      const std::vector<T> age = converted<T>(problem.age);
      std::vector<std::uint8_t> skip;
      for (Index k = 0; k < problem.steps * rows; ++k) skip.push_back(random.chance(0.3) ? 1 : 0);
      States<const T> start;
      if (problem.carries()) start = {{value.data(), age.data()}};
      Batch batch = problem.batch();
      batch.skip = {skip.data(), rows, 1};
      std::vector<T> whole(static_cast<std::size_t>(2 * problem.steps * rows * outputs), unwritten<T>);
      std::vector<T> end_value(static_cast<std::size_t>(2 * rows * inputs), unwritten<T>), end_age = end_value;
      States<T> end;
      if (problem.carries()) end = {{end_value.data(), end_age.data(), rows * inputs, rows * inputs}};
      network.forward({{x.data(), rows * inputs, inputs}, {}}, batch, start,
                      {whole.data(), rows * outputs, outputs, problem.steps * rows * outputs}, end);
      const auto stream = network.stream(rows);
      stream->check_state(start);
      stream->set_state(start);
      std::vector<T> actual(static_cast<std::size_t>(2 * rows * outputs));
      for (Index step = 0; step < problem.steps; ++step) {
        const std::uint8_t* reset = problem.reset.empty() ? nullptr : problem.reset.data() + step * rows;
        stream->check_step(x.data() + step * rows * inputs, {}, {skip.data() + step * rows});
        stream->step(x.data() + step * rows * inputs, actual.data(), reset, {}, {skip.data() + step * rows});
        if (step == 4) stream->refresh();
        for (Index member = 0; member < 2; ++member) {
          CHECK(same_bits(actual.data() + member * rows * outputs,
                          whole.data() + (member * problem.steps + step) * rows * outputs, rows * outputs));
        }
      }
      std::vector<T> stream_value(end_value.size(), unwritten<T>), stream_age = stream_value;
      if (!problem.carries()) continue;
      stream->get_state({{stream_value.data(), stream_age.data(), rows * inputs, rows * inputs}});
      CHECK(same_bits(stream_value, end_value));
      CHECK(same_bits(stream_age, end_age));
    }
  });
}

TEST_CASE_TEMPLATE("input modules: the last step is that of the whole output", T, float, double) {
  Random random(104);
  for (int round = 0; round < 40; ++round) {
    const InputProblem problem = random_problem(random);
    if (problem.steps == 0) continue;
    CAPTURE(round);
    const Network<T> network = network_of<T>(problem);
    const Index inputs = problem.features(), outputs = problem.outputs(), rows = problem.rows;
    const std::vector<T> x = converted<T>(problem.x);
    std::vector<T> whole(static_cast<std::size_t>(problem.steps * rows * outputs), unwritten<T>);
    std::vector<T> actual(static_cast<std::size_t>(rows * outputs), unwritten<T>), expected(actual.size(), T(0));
    const Input<T> input{{x.data(), rows * inputs, inputs}, {}};
    network.forward(input, problem.batch(), {}, {whole.data(), rows * outputs, outputs}, {});
    network.forward_last_step(input, problem.batch(), {}, {actual.data(), rows * outputs, outputs}, {});
    for (Index row = 0; row < rows; ++row) {
      if (problem.length(row) == 0) continue;
      std::copy_n(whole.begin() + ((problem.length(row) - 1) * rows + row) * outputs, outputs,
                  expected.begin() + row * outputs);
    }
    CHECK(same_bits(actual, expected));
  }
}

TEST_CASE_TEMPLATE("input modules: ages are the core's own logarithm, and windows carry them on", T, float, double) {
  const Network<T> network({ImputeOptions{1, Imputation::forward, {}, {0}}}, TensorNames::of_chain, 1);
  const std::vector<T> x(500, std::numeric_limits<T>::quiet_NaN());
  std::vector<T> output(1500), value(1), age(1), first(300), second(1200);
  const auto run = [&](Index begin, Index steps, std::vector<T>& to, bool carried) {
    const States<const T> start{{carried ? value.data() : nullptr, carried ? age.data() : nullptr}};
    std::vector<T> end_value(1), end_age(1);
    network.forward({{x.data() + begin, 1, 1}, {}}, {steps, 1, nullptr, {}, 0}, start, {to.data(), 3, 3},
                    {{end_value.data(), end_age.data()}});
    value = end_value;
    age = end_age;
  };
  run(0, 500, output, false);
  for (std::size_t step = 0; step < 500; ++step) {
    CHECK(same_bits(output[3 * step + 2], static_cast<T>(mathematics::log(static_cast<double>(step) + 2.0))));
  }
  run(0, 100, first, false);
  run(100, 400, second, true);
  first.insert(first.end(), second.begin(), second.end());
  CHECK(same_bits(first, output));
  CHECK(age.front() == T(500));
}

TEST_CASE_TEMPLATE("input modules: sorting keeps the order of equal values and puts NaN last", T, float, double) {
  const T none = std::numeric_limits<T>::quiet_NaN(), large = std::numeric_limits<T>::infinity();
  const Network<T> sorting({ScaleOptions{std::vector<double>(6, 0.0), std::vector<double>(6, 1.0)}, SortOptions{6}},
                           TensorNames::of_chain, 1);
  const std::vector<T> x{none, T(2), -large, T(2), none, T(-1)}, d_output{1, 2, 3, 4, 5, 6};
  std::vector<T> output(6), d_x(6);
  const auto tape = sorting.record({{x.data(), 6, 6}, {}}, {1, 1, nullptr, {}, 0}, {}, {output.data(), 6, 6}, {}, {});
  tape->backward({d_output.data(), 6, 6}, {}, nullptr, false, {d_x.data(), 6, 6}, {});
  CHECK(same_bits(output, {-large, T(-1), T(2), T(2), none, none}));
  CHECK(same_bits(d_x, {T(5), T(3), T(1), T(4), T(6), T(2)}));
}

TEST_CASE("input modules: gradients through an LSTM are finite differences, and end states count") {
  Random random(105);
  const Index steps = 6, rows = 3;
  LstmOptions lstm;
  lstm.input_size = prepared_size;
  lstm.hidden_size = 4;
  lstm.direction = Direction::both;
  const std::vector<Index> lengths{6, 0, 4};
  const std::vector<std::uint8_t> reset{0, 0, 1, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0};
  const Network<double> network(prepared({lstm, MeanOptions{}, LinearOptions{8, 4}, SortOptions{2}}),
                                TensorNames::of_chain, 5);
  std::vector<double> x = random.numbers(steps * rows * prepared_features);
  prepare(random, 0.4, x);
  std::vector<double> value = random.numbers(rows * prepared_features), age(value.size(), 2.0);
  prepare(random, 0.0, value);
  const std::vector<double> d_output = random.numbers(rows * 4), d_value = random.numbers(rows * prepared_features);
  const Batch batch{steps, rows, lengths.data(), {reset.data(), rows, 1}, 0};
  std::shared_ptr<Tape<double>> tape;
  const auto loss = [&] {
    std::vector<double> output(d_output.size()), end(value.size());
    tape =
        network.record({{x.data(), rows * prepared_features, prepared_features}, {}}, batch,
                       {{value.data(), age.data()}, {}}, {output.data(), rows * 4, 4}, {{end.data(), nullptr}, {}}, {});
    double sum = 0.0;
    for (std::size_t k = 0; k < output.size(); ++k) sum += output[k] * d_output[k];
    for (std::size_t k = 0; k < end.size(); ++k) sum += end[k] * d_value[k];
    return sum;
  };
  loss();
  std::vector<double> d_parameters(static_cast<std::size_t>(network.parameter_count())), d_x(x.size());
  std::vector<double> d_start(value.size());
  tape->backward({d_output.data(), rows * 4, 4}, {{d_value.data(), nullptr}, {}}, d_parameters.data(), false,
                 {d_x.data(), rows * prepared_features, prepared_features}, {{d_start.data(), nullptr}, {}});
  const auto slope = [&](double& number) {
    const double middle = number;
    number = middle + 1e-6;
    const double above = loss();
    number = middle - 1e-6;
    const double below = loss();
    number = middle;
    return (above - below) / 2e-6;
  };
  for (std::size_t k = 0; k < x.size(); ++k) {
    if (k % prepared_features == 1) continue;
    CHECK(d_x[k] == doctest::Approx(std::isnan(x[k]) ? 0.0 : slope(x[k])).epsilon(1e-6));
  }
  for (std::size_t k = 0; k < value.size(); ++k) {
    if (k % prepared_features == 1) continue;
    CHECK(d_start[k] == doctest::Approx(slope(value[k])).epsilon(1e-6));
  }
  for (std::size_t k = 0; k < d_parameters.size(); ++k) {
    double expected = 0.0;
    const auto at = [&](double change) {
      network.store()->write([&](double* parameters) { parameters[k] += change; });
      return loss();
    };
    expected = at(1e-6);
    expected = (expected - at(-2e-6)) / 2e-6;
    at(1e-6);
    CHECK(d_parameters[k] == doctest::Approx(expected).epsilon(1e-5));
  }
}

TEST_CASE("input modules: codes are checked before any work, wherever they come from") {
  const Network<float> network(prepared({LinearOptions{prepared_size, 2}}), TensorNames::of_chain, 1, 2);
  std::vector<float> x(2 * 3 * 2 * 3, 1.0f), output(2 * 3 * 2 * 2, unwritten<float>);
  const auto run = [&](const std::vector<float>& values, const States<const float>& start, Index stride = 18) {
    network.forward({{values.data(), 6, 3, stride}, {}}, {3, 2, nullptr, {}, 0}, start, {output.data(), 4, 2, 12}, {});
  };
  run(x, {});
  output.assign(output.size(), unwritten<float>);
  for (const float code : {4.0f, -1.0f, 1.5f, std::numeric_limits<float>::infinity()}) {
    std::vector<float> wrong = x;
    wrong[18 + 2 * 6 + 3 + 1] = code;
    CHECK_THROWS_AS(run(wrong, {}), std::invalid_argument);
    run(wrong, {}, 0);  // nobody reads the second member's input
  }
  std::vector<float> wrong = x;
  wrong[18 + 2 * 6 + 3 + 1] = 4.0f;
  output.assign(output.size(), unwritten<float>);
  CHECK_THROWS_WITH_AS(run(wrong, {}),
                       "x: expected a code, an integer from 0 to 3, in column 1, got 4 at step 2, row 1, member 1",
                       std::invalid_argument);
  std::vector<float> value(6, 2.0f);
  value[4] = -3.0f;
  CHECK_THROWS_WITH_AS(run(x, {{value.data(), nullptr}}),
                       "start: expected a code, an integer from 0 to 3, in column 1, got -3 among the carried values "
                       "of row 1, member 0",
                       std::invalid_argument);
  CHECK(same_bits(output, std::vector<float>(output.size(), unwritten<float>)));
  const auto stream = network.stream(2);
  CHECK_THROWS_WITH_AS(stream->check_state({{value.data(), nullptr}}),
                       "start: expected a code, an integer from 0 to 3, in column 1, got -3 among the carried values "
                       "of row 1, member 0",
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(stream->check_step(wrong.data() + 18 + 12, {}, {}),
                       "x: expected a code, an integer from 0 to 3, in column 1, got 4 in row 1",
                       std::invalid_argument);
  const std::vector<std::uint8_t> skip{0, 1};
  stream->check_step(wrong.data() + 18 + 12, {}, {skip.data()});
  std::vector<float> y(8);
  stream->step(wrong.data() + 18 + 12, y.data());  // reads some code within range

  Trainer<float> trainer(network, Loss{}, OptimizerOptions{}, 0.0, 1);
  const std::vector<float> target(24, 0.0f);
  CHECK_THROWS_AS(
      trainer.step({{wrong.data(), 6, 3, 18}, {}}, {3, 2, nullptr, {}, 0}, {}, {{target.data(), 4, 2, 12}, {}, {}}, {}),
      std::invalid_argument);
  CHECK(trainer.steps() == std::vector<std::int64_t>{0, 0});
  CHECK(trainer.gradient_norms().empty());
  trainer.step({{x.data(), 6, 3, 18}, {}}, {3, 2, nullptr, {}, 0}, {}, {{target.data(), 4, 2, 12}, {}, {}}, {});
  REQUIRE(trainer.gradient_norms().size() == 2);
  const Index size = network.member_parameter_count();
  CHECK(trainer.gradient_norms()[1] == gradient_norm(trainer.gradients() + size, size));

  const auto build = [](double fill) {
    return Network<double>({ScaleOptions{{1.0}, {2.0}}, ImputeOptions{1, Imputation::constant, {fill}, {}},
                            ScaleOptions{{0.5}, {2.0}}, EmbedColumnsOptions{1, {0}, {3}, {2}}},
                           TensorNames::of_chain, 1);
  };
  build(1.5);
  CHECK_THROWS_WITH_AS(build(2.0), "modules[1].fill[0]: expected a code, an integer from 0 to 2, in column 0, got 2",
                       std::invalid_argument);
}

TEST_CASE("input modules: constants must fit the type") {
  const std::vector<ModuleOptions> modules{ScaleOptions{{0.0}, {1e39}}, LinearOptions{1, 1}};
  Network<double>(modules, TensorNames::of_chain, 1);
  CHECK_THROWS_AS(Network<float>(modules, TensorNames::of_chain, 1), std::invalid_argument);
  CHECK_THROWS_AS(Network<float>({ImputeOptions{1, Imputation::forward, {-1e39}, {}}}, TensorNames::of_chain, 1),
                  std::invalid_argument);
}

TEST_CASE("input modules: a network says what states it has and whether it takes missing values") {
  const auto of = [](const std::vector<ModuleOptions>& modules) {
    return Network<float>(modules, TensorNames::of_chain, 1);
  };
  const ImputeOptions impute{3, Imputation::forward, {}, {}}, constant{3, Imputation::constant, {}, {}};
  const ScaleOptions scale{{0, 0, 0}, {1, 1, 1}};
  LstmOptions lstm;
  lstm.input_size = 3;
  lstm.hidden_size = 5;
  lstm.proj_size = 2;
  lstm.num_layers = 2;
  CHECK(of({impute, constant, impute, lstm}).state_sizes() == std::vector<StateSize>{{1, 3, 3}, {1, 3, 3}, {2, 2, 5}});
  CHECK(of({constant, lstm}).takes_missing());
  CHECK(of({scale, impute}).takes_missing());
  CHECK(of({EmbedColumnsOptions{3, {0}, {2}, {1}}, impute, lstm}).takes_missing());
  CHECK_FALSE(of({scale, lstm}).takes_missing());
  CHECK_FALSE(of({LinearOptions{3, 3}, impute, lstm}).takes_missing());
  CHECK_FALSE(of({scale}).takes_missing());
}

TEST_CASE("input modules: Last looks through Scale at the directions of the LSTM") {
  Random random(106);
  const std::vector<double> x = random.numbers(6 * 2 * 3);
  LstmOptions both;
  both.input_size = 3;
  both.hidden_size = 5;
  both.direction = Direction::both;
  const auto output = [&](const std::vector<ModuleOptions>& modules) {
    std::vector<double> values(2 * 10);
    Network<double>(modules, TensorNames::of_chain, 1)
        .forward({{x.data(), 6, 3}, {}}, {6, 2, nullptr, {}, 0}, {}, {values.data(), 20, 10}, {});
    return values;
  };
  const ScaleOptions same{std::vector<double>(10, 0.0), std::vector<double>(10, 1.0)};
  CHECK(same_bits(output({both, same, LastOptions{}}), output({both, LastOptions{}})));
}

}  // namespace latchwork::test
