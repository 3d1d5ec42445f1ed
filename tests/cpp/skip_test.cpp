// Steps that are left out: a row with a skip mask gives, bit for bit, what the row without those steps gives.
#include <doctest/doctest.h>

#include "latchwork/stream.hpp"
#include "latchwork/threads.hpp"
#include "latchwork/training.hpp"
#include "support/row_problems.hpp"

namespace latchwork::test {
namespace {

// One row of a problem, from which the steps that its mask leaves out are removed. A reset of such a step moves to the
// next one that stays. `kept` gets the places of those that stay.
Problem without_skipped(const Problem& problem, Index row, std::vector<Index>& kept) {
  Problem shorter = with_rows(problem, {row});
  const reference::LstmInput whole = shorter.input;
  const Index inputs = problem.options.input_size;
  const Index length = whole.lengths.empty() ? whole.steps : whole.lengths[0];
  reference::LstmInput& input = shorter.input;
  input.x.clear();
  input.reset.clear();
  input.skip.clear();
  input.lengths.clear();
  kept.clear();
  bool due = false;
  for (Index step = 0; step < length; ++step) {
    const auto at = static_cast<std::size_t>(step);
    due = due || (!whole.reset.empty() && whole.reset[at] != 0);
    if (problem.input.skip[static_cast<std::size_t>(step * problem.input.rows + row)] != 0) continue;
    input.x.insert(input.x.end(), whole.x.begin() + step * inputs, whole.x.begin() + (step + 1) * inputs);
    if (!whole.reset.empty()) input.reset.push_back(due ? 1 : 0);
    due = false;
    kept.push_back(step);
  }
  input.steps = static_cast<Index>(kept.size());
  return shorter;
}

// Whether a reset of a row comes after its last step that stays.
bool ends_with_reset(const Problem& problem, Index row, const std::vector<Index>& kept) {
  const reference::LstmInput& input = problem.input;
  if (input.reset.empty()) return false;
  const Index length = input.lengths.empty() ? input.steps : input.lengths[static_cast<std::size_t>(row)];
  for (Index step = kept.empty() ? 0 : kept.back() + 1; step < length; ++step) {
    if (input.reset[static_cast<std::size_t>(step * input.rows + row)] != 0) return true;
  }
  return false;
}

template <class T>
std::vector<T> steps_of_row(const std::vector<T>& array, Index rows, Index row, const std::vector<Index>& steps,
                            Index features) {
  std::vector<T> result;
  for (const Index step : steps) {
    const auto begin = array.begin() + (step * rows + row) * features;
    result.insert(result.end(), begin, begin + features);
  }
  return result;
}

}  // namespace

TEST_CASE_TEMPLATE("skip: a row is the row without the steps that are left out", T, float, double) {
  Random random(81);
  for (const LstmOptions& options : shapes()) {
    for (const bool with_reset : {false, true}) {
      CAPTURE(options.hidden_size);
      CAPTURE(with_reset);
      const Index rows = 5, outputs = options.output_size(), states = options.states();
      Problem problem = random_problem(random, options, 19, rows, true, true, with_reset);
      add_random_skips(random, problem);
      problem.input.repeats_skipped = false;  // then no d_output is a sum
      spoil_unused(problem);
      const Network<T> network = network_of<T>(problem);
      const ThreadCount threads(static_cast<int>(random.between(1, 3)));
      const Results<T> called = run_forward(network, problem);
      Results<T> recorded(problem);
      const Gradients<T> gradients = run_backward(*run_record(network, problem, recorded), problem);
      CHECK(same_bits(called.output, recorded.output));
      CHECK(same_bits(called.h_n, recorded.h_n));
      CHECK(same_bits(called.c_n, recorded.c_n));
      for (Index row = 0; row < rows; ++row) {
        CAPTURE(row);
        std::vector<Index> kept;
        Problem shorter = without_skipped(problem, row, kept);
        const bool restarted = ends_with_reset(problem, row, kept);
        // Then forward directions end in the layer's own start state, so that the gradient with respect to the end
        // state reaches no step. Reverse directions start from it, which the comparison with the reference covers.
        if (restarted && options.direction != Direction::forward) continue;
        if (restarted) {
          std::fill(shorter.d_result.h_n.begin(), shorter.d_result.h_n.end(), 0.0);
          std::fill(shorter.d_result.c_n.begin(), shorter.d_result.c_n.end(), 0.0);
        }
        shorter.d_result.output = steps_of_row(problem.d_result.output, rows, row, kept, outputs);
        Results<T> expected(shorter);
        const Gradients<T> expected_gradients = run_backward(*run_record(network, shorter, expected), shorter);
        CHECK(same_bits(steps_of_row(called.output, rows, row, kept, outputs), expected.output));
        CHECK(same_bits(steps_of_row(gradients.x, rows, row, kept, options.input_size), expected_gradients.x));
        CHECK(same_bits(taken(gradients.h_0, states, rows, {row}), expected_gradients.h_0));
        CHECK(same_bits(taken(gradients.c_0, states, rows, {row}), expected_gradients.c_0));
        if (restarted) continue;
        CHECK(same_bits(taken(called.h_n, states, rows, {row}), expected.h_n));
        CHECK(same_bits(taken(called.c_n, states, rows, {row}), expected.c_n));
      }
      // Whatever is left out has no gradient, and no output.
      double rest = 0.0;
      for (Index step = 0; step < problem.input.steps; ++step) {
        for (Index row = 0; row < rows; ++row) {
          const Index place = step * rows + row;
          const bool computed = step < problem.input.lengths[static_cast<std::size_t>(row)] &&
                                problem.input.skip[static_cast<std::size_t>(place)] == 0;
          for (Index k = 0; k < options.input_size && !computed; ++k) {
            rest +=
                std::abs(static_cast<double>(gradients.x[static_cast<std::size_t>(place * options.input_size + k)]));
          }
          for (Index k = 0; k < outputs && !computed; ++k) {
            rest += std::abs(static_cast<double>(called.output[static_cast<std::size_t>(place * outputs + k)]));
          }
        }
      }
      CHECK(rest == 0.0);
    }
  }
}

TEST_CASE_TEMPLATE("skip: a stream's steps are the whole sequence, for repeated outputs and zeros", T, float, double) {
  Random random(82);
  for (LstmOptions options : shapes()) {
    if (options.direction == Direction::reverse) continue;
    options.direction = Direction::forward;
    for (const bool repeats : {false, true}) {
      CAPTURE(options.hidden_size);
      CAPTURE(repeats);
      const Index steps = 17, rows = 5, inputs = options.input_size, outputs = options.output_size();
      Problem problem = random_problem(random, options, steps, rows, true, false, true);
      add_random_skips(random, problem);
      problem.input.repeats_skipped = repeats;
      spoil_unused(problem);
      const Network<T> network = network_of<T>(problem);
      const Arrays<T> arrays(problem);
      const Results<T> whole = run_forward(network, problem);
      Results<T> streamed(problem);
      const std::unique_ptr<Stream<T>> stream = network.stream(rows);
      stream->set_state(arrays.start());
      for (Index step = 0; step < steps; ++step) {
        stream->step(arrays.x.data() + step * rows * inputs, streamed.output.data() + step * rows * outputs,
                     arrays.reset.data() + step * rows, {},
                     {arrays.skip.data() + step * rows, 0, arrays.skipped_output});
      }
      stream->get_state({{streamed.h_n.data(), streamed.c_n.data()}});
      CHECK(same_bits(streamed.output, whole.output));
      CHECK(same_bits(streamed.h_n, whole.h_n));
      CHECK(same_bits(streamed.c_n, whole.c_n));
    }
  }
}

TEST_CASE("skip: a recording that was asked for no output keeps it") {
  Random random(83);
  const LstmOptions options = shapes()[2];
  Problem problem = random_problem(random, options, 9, 3, true, true, true);
  add_random_skips(random, problem);
  const Network<double> network = network_of<double>(problem);
  const Arrays<double> arrays(problem);
  Results<double> asked(problem);
  const auto with_output = run_record(network, problem, asked);
  const auto tape = network.record(arrays.input(), arrays.batch(), arrays.start(), {}, {}, {});
  const SequenceView<const double> kept = tape->output();
  for (Index step = 0; step < 9; ++step) {
    for (Index row = 0; row < 3; ++row) {
      const double* expected = asked.output.data() + (step * 3 + row) * options.output_size();
      CHECK(same_bits(kept.at(step, row), expected, options.output_size()));
    }
  }
  CHECK_THROWS_WITH_AS(with_output->output(),
                       "output: expected a recording with a skip mask to keep its output, which was written where the "
                       "caller asked for it",
                       std::invalid_argument);
}

TEST_CASE("skip: the loss of steps that are left out does not count") {
  Random random(85);
  const Index steps = 4, rows = 3, features = 2;
  const std::vector<double> output = random.numbers(steps * rows * features);
  std::vector<double> target = random.numbers(steps * rows * features);
  std::vector<std::int64_t> labels(static_cast<std::size_t>(steps * rows), 1);
  const std::vector<Index> lengths{4, 3, 0};
  std::vector<std::uint8_t> skip(static_cast<std::size_t>(steps * rows), 0);
  skip[0] = skip[4] = skip[10] = 1;  // the last one lies in padding
  target[0] = target[9] = std::nan("");
  labels[0] = labels[4] = 7;
  Batch batch{steps, rows, lengths.data()};
  batch.skip = {skip.data(), rows, 1};
  const SequenceView<const double> output_view{output.data(), rows * features, features};
  for (const LossKind kind : {LossKind::squared_error, LossKind::cross_entropy}) {
    std::vector<double> d_output(output.size(), std::nan(""));
    Target<double> targets;
    targets.values = {target.data(), rows * features, features};
    targets.labels = {labels.data(), rows, 1};
    Loss chosen;
    chosen.kind = kind;
    check_target(chosen, features, batch, targets);
    const double loss =
        loss_and_gradient<double>(chosen, output_view, features, batch, targets, {d_output.data(), 6, 2}).mean;
    double expected = 0.0;
    for (std::size_t place = 0; place < skip.size(); ++place) {
      const auto step = static_cast<Index>(place) / rows;
      const bool counts = step < lengths[place % 3] && skip[place] == 0;
      const double *y = output.data() + place * 2, *wanted = target.data() + place * 2;
      CHECK((d_output[place * 2] != 0.0) == counts);
      if (!counts) continue;
      expected += kind == LossKind::cross_entropy
                      ? std::log(1.0 + std::exp(y[0] - y[1])) / 5.0
                      : ((y[0] - wanted[0]) * (y[0] - wanted[0]) + (y[1] - wanted[1]) * (y[1] - wanted[1])) / 10.0;
    }
    CHECK(std::abs(loss - expected) < 1e-14);
  }
}

TEST_CASE("skip: a reset after the last step is the start state, and its gradient that of the start state") {
  LstmOptions options;
  options.input_size = 2;
  options.hidden_size = 3;
  options.learn_start_state = true;
  Random random(84);
  Problem problem = random_problem(random, options, 4, 2, true, false, false);
  const Network<double> network = network_of<double>(problem);
  const Arrays<double> arrays(problem);
  const std::uint8_t end_reset[] = {0, 1};
  Batch batch = arrays.batch();
  batch.end_reset = end_reset;
  Results<double> plain(problem), results(problem);
  run_record(network, problem, plain);
  const auto tape = network.record(arrays.input(), batch, arrays.start(), {results.output.data(), 6, 3},
                                   {{results.h_n.data(), results.c_n.data()}}, {});
  CHECK(same_bits(results.output, plain.output));
  const std::vector<ParameterSpec>& layout = network.layout();
  const auto offset = [&](const std::string& name) {
    return std::find_if(layout.begin(), layout.end(), [&](const ParameterSpec& spec) { return spec.name == name; })
        ->offset;
  };
  const Index h_0 = offset("h_0_l0"), c_0 = offset("c_0_l0");
  for (Index k = 0; k < 3; ++k) {
    const auto at = static_cast<std::size_t>(k);
    CHECK(results.h_n[at] == plain.h_n[at]);
    CHECK(results.h_n[at + 3] == problem.parameters[static_cast<std::size_t>(h_0 + k)]);
    CHECK(results.c_n[at + 3] == problem.parameters[static_cast<std::size_t>(c_0 + k)]);
  }
  const Gradients<double> gradients = run_backward(*tape, problem);
  for (Index k = 0; k < 3; ++k) {
    const auto at = static_cast<std::size_t>(k);
    CHECK(gradients.parameters[static_cast<std::size_t>(h_0 + k)] == problem.d_result.h_n[at + 3]);
    CHECK(gradients.parameters[static_cast<std::size_t>(c_0 + k)] == problem.d_result.c_n[at + 3]);
  }
}

}  // namespace latchwork::test
