// Reverse, InputSkip and Mask: random chains against plain loops, gradients against finite differences, and what a
// network gives that does the same with its caller's masks.
#include <doctest/doctest.h>

#include <stdexcept>

#include "latchwork/network.hpp"
#include "latchwork/stream.hpp"
#include "reference/modules.hpp"
#include "support/lstm_problem.hpp"
#include "support/support.hpp"
#include "weights/module_sizes.hpp"

namespace latchwork::test {
namespace {

using reference::Sequence;
using reference::Vector;

constexpr double masked_value = 0.375;

LinearOptions linear(Index inputs, Index outputs) { return {inputs, outputs, true, {"tanh"}}; }

LstmOptions lstm_options(Index inputs, Index units, Direction direction = Direction::forward) {
  LstmOptions options;
  options.input_size = inputs;
  options.hidden_size = units;
  options.direction = direction;
  options.learn_start_state = true;
  return options;
}

// A chain of modules that compute each step by itself or move whole steps, and a batch for it.
struct StepProblem {
  std::vector<ModuleOptions> modules;
  Index inputs = 0, outputs = 0, steps = 0, rows = 0;
  bool backwards = false;  // whether the output is in the other order
  SkippedOutput skipped = SkippedOutput::repeat;
  std::vector<Index> lengths;
  std::vector<std::uint8_t> skip;  // empty: none
  std::vector<double> x, parameters, d_output;

  bool masks() const { return std::holds_alternative<MaskOptions>(modules.front()); }
  Batch batch() const {
    Batch batch{steps, rows, lengths.data()};
    if (!skip.empty()) batch.skip = {skip.data(), rows, 1};
    batch.skipped_output = skipped;
    return batch;
  }
  Index length(Index row) const { return lengths[static_cast<std::size_t>(row)]; }
  Vector x_at(Index step, Index row) const {
    const auto begin = x.begin() + (step * rows + row) * inputs;
    return {begin, begin + inputs};
  }
  bool is_called(Index step, Index row) const {
    return !skip.empty() && skip[static_cast<std::size_t>(step * rows + row)] != 0;
  }
  bool is_masked(Index step, Index row) const {
    const Vector values = x_at(step, row);
    return masks() && !is_called(step, row) &&
           std::all_of(values.begin(), values.end(), [](double value) { return value == masked_value; });
  }
};

StepProblem random_problem(Random& random) {
  StepProblem problem;
  problem.inputs = random.between(1, 5);
  problem.steps = random.between(0, 9);
  problem.rows = random.between(0, 6);
  if (random.chance(0.5)) {
    const SkippedOutput output = random.chance(0.5) ? SkippedOutput::repeat : SkippedOutput::zero;
    problem.modules.emplace_back(MaskOptions{masked_value, output});
  }
  Index size = random.between(1, 20);
  problem.modules.emplace_back(linear(problem.inputs, size));
  for (Index count = random.between(0, 6); count > 0; --count) {
    if (random.chance(0.4)) {
      problem.modules.emplace_back(ReverseOptions{});
      problem.backwards = !problem.backwards;
    } else if (random.chance(0.5)) {
      const Index next = random.between(1, 20);
      problem.modules.emplace_back(linear(size, next));
      size = next;
    } else if (!problem.backwards) {
      problem.modules.emplace_back(
          InputSkipOptions{random.between(1, std::min(size, problem.inputs)), random.number()});
    }
  }
  problem.outputs = size;
  problem.skipped = random.chance(0.5) ? SkippedOutput::repeat : SkippedOutput::zero;
  for (Index row = 0; row < problem.rows; ++row) problem.lengths.push_back(random.between(0, problem.steps));
  for (Index at = problem.steps * problem.rows; random.chance(0.5) && at > 0; --at) {
    problem.skip.resize(static_cast<std::size_t>(problem.steps * problem.rows));
    problem.skip[static_cast<std::size_t>(at - 1)] = random.chance(0.3) ? 1 : 0;
  }
  problem.x = random.numbers(problem.steps * problem.rows * problem.inputs);
  problem.parameters = random.numbers(latchwork::parameter_count(problem.modules));
  problem.d_output = random.numbers(problem.steps * problem.rows * size);
  for (Index step = 0; step < problem.steps; ++step) {
    for (Index row = 0; row < problem.rows; ++row) {
      const auto begin = problem.x.begin() + (step * problem.rows + row) * problem.inputs;
      if (random.chance(0.3)) std::fill_n(begin, problem.inputs, masked_value);
      if (step >= problem.length(row) || problem.is_called(step, row)) std::fill_n(begin, problem.inputs, std::nan(""));
    }
  }
  return problem;
}

template <class T>
struct StepResults {
  std::vector<T> output, d_x, d_parameters;
};

// One row through the chain, in plain loops.
struct ReferenceRow {
  ReferenceRow(const StepProblem& problem, Index row) : problem_(problem) {
    for (Index step = 0; step < problem.length(row); ++step) {
      const bool computed = !problem.is_called(step, row) && !problem.is_masked(step, row);
      if (computed) raw_.push_back(problem.x_at(step, row));
      zero_.push_back(
          !computed &&
          (problem.is_called(step, row) ? problem.skipped : std::get<MaskOptions>(problem.modules.front()).output) ==
              SkippedOutput::zero);
      computed_.push_back(computed);
    }
    if (problem.backwards) {
      std::reverse(zero_.begin(), zero_.end());
      std::reverse(computed_.begin(), computed_.end());
    }
    inputs_.push_back(raw_);
    Index begin = 0;
    for (const ModuleOptions& module : problem.modules) {
      Sequence steps = inputs_.back();
      const Index size = latchwork::parameter_count(std::vector<ModuleOptions>{module});
      begins_.push_back(begin);
      if (std::holds_alternative<ReverseOptions>(module)) std::reverse(steps.begin(), steps.end());
      for (std::size_t at = 0; at < steps.size(); ++at) {
        if (const auto* one = std::get_if<LinearOptions>(&module)) {
          steps[at] = reference::linear(*one, parameters(begin, size), steps[at]);
        } else if (const auto* skip = std::get_if<InputSkipOptions>(&module)) {
          for (std::size_t k = 0; k < static_cast<std::size_t>(skip->features); ++k) {
            steps[at][k] += skip->factor * raw_[at][k];
          }
        }
      }
      begin += size;
      inputs_.push_back(steps);
    }
    // Which computed step each step of the output is or repeats. What a Reverse turned repeats the step after it, if no
    // module comes after the Reverse.
    const bool turned = std::holds_alternative<ReverseOptions>(problem.modules.back()) && trailing_reverses() % 2 == 1;
    const std::size_t count = computed_.size();
    repeated_.assign(count, -1);
    Index number = turned ? static_cast<Index>(raw_.size()) : -1;
    for (std::size_t k = 0; k < count; ++k) {
      const std::size_t at = turned ? count - 1 - k : k;
      if (computed_[at]) number += turned ? -1 : 1;
      const bool any = number >= 0 && number < static_cast<Index>(raw_.size());
      repeated_[at] = any && !zero_[at] ? number : -1;
    }
  }

  Vector output(Index step) const {
    const Index number = repeated_[static_cast<std::size_t>(step)];
    return number < 0 ? Vector(static_cast<std::size_t>(problem_.outputs), 0.0)
                      : inputs_.back()[static_cast<std::size_t>(number)];
  }

  // Adds to d_parameters, and returns the gradient of each computed step of x.
  Sequence backward(Index row, Vector& d_parameters) const {
    Sequence d_steps(raw_.size(), Vector(static_cast<std::size_t>(problem_.outputs), 0.0));
    Sequence d_raw(raw_.size(), Vector(static_cast<std::size_t>(problem_.inputs), 0.0));
    for (std::size_t step = 0; step < repeated_.size(); ++step) {
      if (repeated_[step] < 0) continue;
      const auto from = problem_.d_output.begin() + (static_cast<Index>(step) * problem_.rows + row) * problem_.outputs;
      for (Index at = 0; at < problem_.outputs; ++at) {
        d_steps[static_cast<std::size_t>(repeated_[step])][static_cast<std::size_t>(at)] += from[at];
      }
    }
    for (std::size_t module = problem_.modules.size(); module-- > 0;) {
      const ModuleOptions& options = problem_.modules[module];
      const Index begin = begins_[module], size = latchwork::parameter_count(std::vector<ModuleOptions>{options});
      for (std::size_t at = 0; at < d_steps.size(); ++at) {
        if (const auto* one = std::get_if<LinearOptions>(&options)) {
          Vector own(static_cast<std::size_t>(size), 0.0);
          d_steps[at] =
              reference::linear_backward(*one, parameters(begin, size), inputs_[module][at], d_steps[at], own);
          for (Index k = 0; k < size; ++k) {
            d_parameters[static_cast<std::size_t>(begin + k)] += own[static_cast<std::size_t>(k)];
          }
        } else if (const auto* skip = std::get_if<InputSkipOptions>(&options)) {
          for (std::size_t k = 0; k < static_cast<std::size_t>(skip->features); ++k) {
            d_raw[at][k] += skip->factor * d_steps[at][k];
          }
        }
      }
      if (std::holds_alternative<ReverseOptions>(options)) std::reverse(d_steps.begin(), d_steps.end());
    }
    for (std::size_t at = 0; at < d_raw.size(); ++at) {
      for (std::size_t k = 0; k < d_raw[at].size(); ++k) d_raw[at][k] += d_steps[at][k];
    }
    return d_raw;
  }

 private:
  Vector parameters(Index begin, Index size) const {
    return {problem_.parameters.begin() + begin, problem_.parameters.begin() + begin + size};
  }
  std::size_t trailing_reverses() const {
    std::size_t count = 0;
    while (count < problem_.modules.size() &&
           std::holds_alternative<ReverseOptions>(problem_.modules[problem_.modules.size() - 1 - count])) {
      ++count;
    }
    return count;
  }

  const StepProblem& problem_;
  Sequence raw_;                  // the computed steps of x
  std::vector<Sequence> inputs_;  // of each module, and the output of the last one
  std::vector<Index> begins_;     // of each module's parameters
  std::vector<bool> zero_, computed_;
  std::vector<Index> repeated_;
};

StepResults<double> expected_of(const StepProblem& problem) {
  StepResults<double> results{Vector(problem.d_output.size(), 0.0), Vector(problem.x.size(), 0.0),
                              Vector(problem.parameters.size(), 0.0)};
  for (Index row = 0; row < problem.rows; ++row) {
    const ReferenceRow reference(problem, row);
    for (Index step = 0; step < problem.length(row); ++step) {
      const Vector output = reference.output(step);
      std::copy(output.begin(), output.end(), results.output.begin() + (step * problem.rows + row) * problem.outputs);
    }
    const Sequence d_x = reference.backward(row, results.d_parameters);
    auto next = d_x.begin();
    for (Index step = 0; step < problem.length(row); ++step) {
      if (problem.is_called(step, row) || problem.is_masked(step, row)) continue;
      std::copy(next->begin(), next->end(), results.d_x.begin() + (step * problem.rows + row) * problem.inputs);
      ++next;
    }
  }
  return results;
}

template <class T>
Network<T> network_of(const std::vector<ModuleOptions>& modules, const std::vector<double>& values) {
  const Network<T> network(modules, TensorNames::of_chain, 1);
  const std::vector<T> own = converted<T>(values);
  network.store()->write([&](T* parameters) { std::copy(own.begin(), own.end(), parameters); });
  return network;
}

template <class T>
SequenceView<T> view(std::vector<T>& values, Index rows, Index features) {
  return {values.data(), rows * features, features};
}

template <class T>
StepResults<T> results_of(const StepProblem& problem) {
  const Network<T> network = network_of<T>(problem.modules, problem.parameters);
  StepResults<T> results{std::vector<T>(problem.d_output.size(), unwritten<T>),
                         std::vector<T>(problem.x.size(), unwritten<T>),
                         std::vector<T>(problem.parameters.size(), unwritten<T>)};
  const std::vector<T> x = converted<T>(problem.x), d_output = converted<T>(problem.d_output);
  const Index rows = problem.rows;
  const Input<T> input{{x.data(), rows * problem.inputs, problem.inputs}, {}};
  std::vector<T> called = results.output, last(static_cast<std::size_t>(rows * problem.outputs), unwritten<T>);
  network.forward(input, problem.batch(), {}, view(called, rows, problem.outputs), {});
  const auto tape =
      network.record(input, problem.batch(), {}, view(results.output, rows, problem.outputs), {}, {true, 3});
  CHECK(same_bits(called, results.output));
  network.forward_last_step(input, problem.batch(), {}, view(last, rows, problem.outputs), {});
  for (Index row = 0; row < rows; ++row) {
    const std::vector<T> zeros(static_cast<std::size_t>(problem.outputs));
    const Index step = problem.length(row) - 1;
    const T* const whole = step < 0 ? zeros.data() : called.data() + (step * rows + row) * problem.outputs;
    CHECK(same_bits(last.data() + row * problem.outputs, whole, problem.outputs));
  }
  tape->backward({d_output.data(), rows * problem.outputs, problem.outputs}, {}, results.d_parameters.data(), false,
                 view(results.d_x, rows, problem.inputs), {});
  return results;
}

// The output of a stream, step by step, each with the skip mask of the batch.
template <class T>
std::vector<T> streamed(const StepProblem& problem) {
  const Network<T> network = network_of<T>(problem.modules, problem.parameters);
  const std::vector<T> x = converted<T>(problem.x);
  std::vector<T> output(problem.d_output.size(), unwritten<T>);
  const auto stream = network.stream(problem.rows);
  for (Index step = 0; step < problem.steps; ++step) {
    const std::uint8_t* const skip = problem.skip.empty() ? nullptr : problem.skip.data() + step * problem.rows;
    stream->step(x.data() + step * problem.rows * problem.inputs, output.data() + step * problem.rows * problem.outputs,
                 nullptr, {}, {skip, 0, problem.skipped});
  }
  return output;
}

}  // namespace

TEST_CASE("step modules: random chains equal plain loops") {
  for_each_isa([] {
    Random random(181);
    for (int round = 0; round < 300; ++round) {
      CAPTURE(round);
      const StepProblem problem = random_problem(random);
      const StepResults<double> expected = expected_of(problem), actual = results_of<double>(problem);
      CHECK(difference(actual.output, expected.output) < 1e-12);
      CHECK(difference(actual.d_x, expected.d_x) < 1e-11);
      CHECK(difference(actual.d_parameters, expected.d_parameters) < 1e-11);
      CHECK(difference(results_of<float>(problem).output, expected.output) < 1e-4);
    }
  });
}

TEST_CASE_TEMPLATE("step modules: threads do not change a bit", T, float, double) {
  Random random(182);
  StepProblem problem;
  problem.modules = {MaskOptions{masked_value}, linear(5, 20),           ReverseOptions{}, linear(20, 9),
                     ReverseOptions{},          InputSkipOptions{4, 0.7}};
  problem.inputs = 5;
  problem.outputs = 9;
  problem.steps = 40;
  problem.rows = 50;
  for (Index row = 0; row < 50; ++row) problem.lengths.push_back(random.between(0, 40));
  problem.x = random.numbers(40 * 50 * 5);
  for (Index at = 0; at < 40 * 50; at += 7) std::fill_n(problem.x.begin() + at * 5, 5, masked_value);
  problem.parameters = random.numbers(latchwork::parameter_count(problem.modules));
  problem.d_output = random.numbers(40 * 50 * 9);
  const auto with = [&](Index count) {
    const ThreadCount threads(count);
    return results_of<T>(problem);
  };
  const StepResults<T> expected = with(1);
  for (const Index count : {2, 3}) {
    const StepResults<T> actual = with(count);
    CHECK(same_bits(actual.output, expected.output));
    CHECK(same_bits(actual.d_x, expected.d_x));
    CHECK(same_bits(actual.d_parameters, expected.d_parameters));
  }
}

TEST_CASE_TEMPLATE("step modules: a stream gives what the whole gives", T, float, double) {
  for_each_isa([] {
    Random random(183);
    int streams = 0;
    for (int round = 0; round < 200; ++round) {
      CAPTURE(round);
      StepProblem problem = random_problem(random);
      if (has_reverse(problem.modules)) {
        const Network<T> network = network_of<T>(problem.modules, problem.parameters);
        CHECK_THROWS_WITH_AS(
            network.stream(1),
            "stream: a Reverse begins with the last step of a sequence, so it cannot be run step by step",
            std::invalid_argument);
        continue;
      }
      ++streams;
      problem.lengths.assign(static_cast<std::size_t>(problem.rows), problem.steps);
      CHECK(same_bits(streamed<T>(problem), results_of<T>(problem).output));
    }
    CHECK(streams > 20);
  });
}

TEST_CASE("step modules: gradients of a network with LSTMs equal finite differences") {
  Random random(184);
  const Index steps = 4, rows = 2;
  const std::vector<ModuleOptions> modules{
      MaskOptions{masked_value}, lstm_options(3, 4),        ReverseOptions{}, lstm_options(4, 3, Direction::both),
      ReverseOptions{},          InputSkipOptions{2, -0.6}, linear(6, 3),     InputSkipOptions{3}};
  std::vector<double> parameters = random.numbers(latchwork::parameter_count(modules)),
                      x = random.numbers(steps * rows * 3);
  std::fill_n(x.begin() + 6, 3, masked_value);
  const std::vector<double> d_output = random.numbers(steps * rows * 3);
  const std::vector<Index> lengths{4, 3};
  const std::vector<std::uint8_t> reset{1, 0, 0, 0, 1, 0, 0, 1};
  const Batch batch{steps, rows, lengths.data(), {reset.data(), rows, 1}};
  std::vector<double> output(d_output.size());
  const auto loss = [&] {
    network_of<double>(modules, parameters)
        .forward({{x.data(), rows * 3, 3}, {}}, batch, {}, view(output, rows, 3), {});
    double sum = 0.0;
    for (std::size_t at = 0; at < output.size(); ++at) sum += output[at] * d_output[at];
    return sum;
  };
  const auto differences = [&](std::vector<double>& values) {
    std::vector<double> slopes;
    for (double& value : values) {
      const double kept = value, step = 1e-5;
      value = kept + step;
      const double above = loss();
      value = kept - step;
      slopes.push_back((above - loss()) / (2.0 * step));
      value = kept;
    }
    return slopes;
  };
  std::vector<double> d_x(x.size()), d_parameters(parameters.size());
  const auto tape = network_of<double>(modules, parameters)
                        .record({{x.data(), rows * 3, 3}, {}}, batch, {}, view(output, rows, 3), {}, {false, {}, 2});
  tape->backward({d_output.data(), rows * 3, 3}, {}, d_parameters.data(), false, view(d_x, rows, 3), {});
  std::vector<double> expected = differences(x);
  std::fill_n(expected.begin() + 6, 3, 0.0);  // the masked step, which a small change unmasks
  CHECK(difference(d_x, expected) < 1e-8);
  CHECK(difference(d_parameters, differences(parameters)) < 1e-8);
}

TEST_CASE_TEMPLATE("step modules: between two Reverse an LSTM has the other direction", T, float, double) {
  Random random(185);
  const Index steps = 9, rows = 7;
  const std::vector<Index> lengths{9, 0, 1, 4, 9, 7, 3};
  std::vector<std::uint8_t> reset, skip;
  for (Index at = 0; at < steps * rows; ++at) {
    reset.push_back(random.chance(0.3) ? 1 : 0);
    skip.push_back(random.chance(0.3) ? 1 : 0);
  }
  const std::vector<T> x = converted<T>(random.numbers(steps * rows * 3));
  const std::vector<T> start = converted<T>(random.numbers(2 * rows * 5));
  for (const bool skips : {false, true}) {
    for (const Direction direction : {Direction::forward, Direction::reverse}) {
      const Direction other = direction == Direction::forward ? Direction::reverse : Direction::forward;
      const LstmOptions turned = lstm_options(3, 5, other);
      const std::vector<double> parameters =
          random.numbers(latchwork::parameter_count(std::vector<ModuleOptions>{turned}));
      Batch batch{steps, rows, lengths.data(), {reset.data(), rows, 1}};
      if (skips) batch.skip = {skip.data(), rows, 1};
      const auto results = [&](const std::vector<ModuleOptions>& modules) {
        std::vector<T> all(static_cast<std::size_t>((steps + 2) * rows * 5), unwritten<T>);
        T* const end = all.data() + steps * rows * 5;
        network_of<T>(modules, parameters)
            .forward({{x.data(), rows * 3, 3}, {}}, batch, {{start.data(), start.data() + rows * 5}},
                     view(all, rows, 5), {{end, end + rows * 5}});
        return all;
      };
      CHECK(same_bits(results({ReverseOptions{}, lstm_options(3, 5, direction), ReverseOptions{}}), results({turned})));
    }
  }
}

}  // namespace latchwork::test
