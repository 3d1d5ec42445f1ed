#pragma once

#include "latchwork/network.hpp"
#include "reference.hpp"
#include "support.hpp"

namespace latchwork::test {

// Everything one forward and backward pass of an LSTM needs, in double, for the reference and the library alike.
struct Problem {
  LstmOptions options;
  reference::Vector parameters;
  reference::LstmInput input;
  reference::LstmOutput d_result;
};

inline Index parameter_count(const LstmOptions& options) {
  Index count = 0;
  for (const ParameterSpec& spec : parameter_layout({options}, false)) count += spec.size();
  return count;
}

inline Problem random_problem(Random& random, const LstmOptions& options, Index steps, Index rows, bool with_start,
                              bool ragged, bool with_reset) {
  const Index h_total = options.states() * rows * options.hidden_output_size();
  const Index c_total = options.states() * rows * options.hidden_size;
  Problem problem;
  problem.options = options;
  problem.parameters = random.numbers(parameter_count(options));
  // As large as PyTorch's initial weights: gates neither saturated nor indifferent.
  for (double& value : problem.parameters) value *= 1.5 / std::sqrt(static_cast<double>(options.hidden_size));
  problem.parameters = converted<double>(converted<float>(problem.parameters));
  problem.input.steps = steps;
  problem.input.rows = rows;
  problem.input.x = random.numbers(steps * rows * options.input_size);
  if (with_start) {
    problem.input.h_0 = random.numbers(h_total);
    problem.input.c_0 = random.numbers(c_total);
  }
  for (Index row = 0; ragged && row < rows; ++row) problem.input.lengths.push_back(random.between(0, steps));
  for (Index k = 0; with_reset && k < steps * rows; ++k) problem.input.reset.push_back(random.chance(0.2) ? 1 : 0);
  problem.d_result = {random.numbers(steps * rows * options.output_size()), random.numbers(h_total),
                      random.numbers(c_total)};
  return problem;
}

template <class T>
Network<T> network_of(const Problem& problem) {
  Network<T> network({problem.options}, false, 1);
  REQUIRE(network.parameter_count() == static_cast<Index>(problem.parameters.size()));
  network.store()->write([&](T* values) {
    for (std::size_t k = 0; k < problem.parameters.size(); ++k) values[k] = static_cast<T>(problem.parameters[k]);
  });
  return network;
}

// The arrays of a problem in the library's element type, and the views of them that the library takes.
template <class T>
struct Arrays {
  explicit Arrays(const Problem& problem)
      : input_size(problem.options.input_size),
        output_size(problem.options.output_size()),
        steps(problem.input.steps),
        rows(problem.input.rows),
        x(converted<T>(problem.input.x)),
        h_0(converted<T>(problem.input.h_0)),
        c_0(converted<T>(problem.input.c_0)),
        d_output(converted<T>(problem.d_result.output)),
        d_h_n(converted<T>(problem.d_result.h_n)),
        d_c_n(converted<T>(problem.d_result.c_n)),
        lengths(problem.input.lengths),
        reset(problem.input.reset) {}

  Input<T> input() const { return {{x.data(), rows * input_size, input_size}, {}}; }
  Batch batch() const {
    Batch batch;
    batch.steps = steps;
    batch.rows = rows;
    if (!lengths.empty()) batch.lengths = lengths.data();
    if (!reset.empty()) batch.reset = {reset.data(), rows, 1};
    return batch;
  }
  States<const T> start() const {
    if (h_0.empty()) return {};
    return {{h_0.data(), c_0.data()}};
  }
  SequenceView<const T> d_output_view() const { return {d_output.data(), rows * output_size, output_size}; }
  States<const T> d_end() const { return {{d_h_n.data(), d_c_n.data()}}; }

  Index input_size, output_size, steps, rows;
  std::vector<T> x, h_0, c_0, d_output, d_h_n, d_c_n;
  std::vector<Index> lengths;
  std::vector<std::uint8_t> reset;
};

// Results are filled with this before the call, so that what is not written shows.
template <class T>
constexpr T unwritten = std::numeric_limits<T>::quiet_NaN();

template <class T>
struct Results {
  explicit Results(const Problem& problem)
      : output(problem.d_result.output.size(), unwritten<T>),
        h_n(problem.d_result.h_n.size(), unwritten<T>),
        c_n(problem.d_result.c_n.size(), unwritten<T>) {}
  std::vector<T> output, h_n, c_n;
};

template <class T>
struct Gradients {
  explicit Gradients(const Problem& problem)
      : parameters(problem.parameters.size(), unwritten<T>),
        x(problem.input.x.size(), unwritten<T>),
        h_0(problem.d_result.h_n.size(), unwritten<T>),
        c_0(problem.d_result.c_n.size(), unwritten<T>) {}
  std::vector<T> parameters, x, h_0, c_0;
};

template <class T>
Results<T> run_forward(const Network<T>& network, const Problem& problem) {
  const Arrays<T> arrays(problem);
  Results<T> results(problem);
  network.forward(arrays.input(), arrays.batch(), arrays.start(),
                  {results.output.data(), arrays.rows * arrays.output_size, arrays.output_size},
                  {{results.h_n.data(), results.c_n.data()}});
  return results;
}

template <class T>
std::shared_ptr<Tape<T>> run_record(const Network<T>& network, const Problem& problem, Results<T>& results,
                                    const RecordOptions& options = {}) {
  const Arrays<T> arrays(problem);
  return network.record(arrays.input(), arrays.batch(), arrays.start(),
                        {results.output.data(), arrays.rows * arrays.output_size, arrays.output_size},
                        {{results.h_n.data(), results.c_n.data()}}, options);
}

template <class T>
Gradients<T> run_backward(const Tape<T>& tape, const Problem& problem) {
  const Arrays<T> arrays(problem);
  Gradients<T> gradients(problem);
  tape.backward(arrays.d_output_view(), arrays.d_end(), gradients.parameters.data(), false,
                {gradients.x.data(), arrays.rows * arrays.input_size, arrays.input_size},
                {{gradients.h_0.data(), gradients.c_0.data()}});
  return gradients;
}

}  // namespace latchwork::test
