#pragma once

#include "layer/token_numbers.hpp"
#include "support/lstm_problem.hpp"
#include "support/support.hpp"

namespace latchwork::test {

// An Embedding followed by an LSTM. `lstm` is the problem of the LSTM alone: its x are the vectors of the tokens.
struct TokenProblem {
  Index vocabulary = 0;
  reference::Vector table;
  std::vector<std::int64_t> tokens;
  Problem lstm;

  Index features() const { return lstm.options.input_size; }
  bool active(Index step, Index row) const {
    return lstm.input.lengths.empty() || step < lstm.input.lengths[static_cast<std::size_t>(row)];
  }
  std::int64_t token(Index step, Index row) const {
    return tokens[static_cast<std::size_t>(step * lstm.input.rows + row)];
  }
  template <class T>
  Input<T> input() const {
    return {{}, {tokens.data(), lstm.input.rows, 1}};
  }
  // Calls task(step * rows + row, token) for every valid step of each row.
  template <class Task>
  void for_each_active(Task&& task) const {
    for (Index step = 0; step < lstm.input.steps; ++step) {
      for (Index row = 0; row < lstm.input.rows; ++row) {
        if (active(step, row)) task(step * lstm.input.rows + row, static_cast<Index>(token(step, row)));
      }
    }
  }
};

// Only even tokens occur, so that a token differs from its number among those that occur. Padding holds no valid token.
inline TokenProblem random_tokens(Random& random, const LstmOptions& options, Index vocabulary, Index steps, Index rows,
                                  bool with_start, bool ragged, bool with_reset) {
  TokenProblem problem;
  problem.vocabulary = vocabulary;
  problem.lstm = random_problem(random, options, steps, rows, with_start, ragged, with_reset);
  problem.table = random.numbers(vocabulary * options.input_size);
  for (Index step = 0; step < steps; ++step) {
    for (Index row = 0; row < rows; ++row) {
      const Index token = random.between(0, vocabulary - 1) / 2 * 2;
      problem.tokens.push_back(problem.active(step, row) ? token : std::int64_t{1} << 40);
      if (!problem.active(step, row)) continue;
      std::copy_n(problem.table.begin() + token * options.input_size, options.input_size,
                  problem.lstm.input.x.begin() + (step * rows + row) * options.input_size);
    }
  }
  spoil_unused(problem.lstm);
  return problem;
}

// The same sequences in arrays of more steps and rows: the former are padding, the latter have length 0.
inline TokenProblem in_larger_arrays(const TokenProblem& problem, Index more_steps, Index more_rows) {
  TokenProblem larger = problem;
  const Index steps = problem.lstm.input.steps, rows = problem.lstm.input.rows;
  const auto spread = [&](auto& array, Index leading, Index more_leading, double fill) {
    using Values = std::remove_reference_t<decltype(array)>;
    if (array.empty()) return;
    const Index width = static_cast<Index>(array.size()) / (leading * rows), row_size = (rows + more_rows) * width;
    Values wide(static_cast<std::size_t>((leading + more_leading) * row_size),
                static_cast<typename Values::value_type>(fill));
    for (Index k = 0; k < leading; ++k) {
      std::copy_n(array.begin() + k * rows * width, rows * width, wide.begin() + k * row_size);
    }
    array = wide;
  };
  reference::LstmInput& input = larger.lstm.input;
  if (input.lengths.empty()) input.lengths.assign(static_cast<std::size_t>(rows), steps);
  input.lengths.resize(static_cast<std::size_t>(rows + more_rows), 0);
  input.steps += more_steps;
  input.rows += more_rows;
  const Index states = problem.lstm.options.states();
  spread(larger.tokens, steps, more_steps, -1e15);
  spread(input.x, steps, more_steps, std::nan(""));
  spread(input.reset, steps, more_steps, 1);
  spread(input.h_0, states, 0, 0.5);
  spread(input.c_0, states, 0, 0.5);
  spread(larger.lstm.d_result.output, steps, more_steps, std::nan(""));
  spread(larger.lstm.d_result.h_n, states, 0, 0.5);
  spread(larger.lstm.d_result.c_n, states, 0, 0.5);
  return larger;
}

// Whether backward sums the gates' gradients for each token.
inline bool sums_by_token(const TokenProblem& problem) {
  const Arrays<double> arrays(problem.lstm);
  RowSource<double> source;
  source.tokens = problem.input<double>().tokens;
  source.table = problem.table.data();
  source.vocabulary = problem.vocabulary;
  source.features = problem.features();
  const Index blocks = row_blocks_of(problem.lstm).count();
  return repeated_tokens(source, {arrays.batch()}, 0, arrays.steps, blocks).has_value();
}

template <class T>
Network<T> network_of(const std::vector<ModuleOptions>& modules, std::vector<reference::Vector> parameters) {
  Network<T> network(modules, TensorNames::of_chain, 1);
  reference::Vector all;
  for (const reference::Vector& values : parameters) all.insert(all.end(), values.begin(), values.end());
  REQUIRE(network.parameter_count() == static_cast<Index>(all.size()));
  network.store()->write([&](T* values) {
    std::transform(all.begin(), all.end(), values, [](double value) { return static_cast<T>(value); });
  });
  return network;
}

template <class T>
Network<T> token_network(const TokenProblem& problem) {
  return network_of<T>({EmbeddingOptions{problem.vocabulary, problem.features()}, problem.lstm.options},
                       {problem.table, problem.lstm.parameters});
}

// The LSTM, reading vectors. The module before it changes none of them; it is there so that the LSTM is the second
// module and draws the same masks as behind an Embedding.
template <class T>
Network<T> vector_network(const Problem& problem) {
  const Index size = problem.options.input_size;
  reference::Vector identity(static_cast<std::size_t>(size * size), 0.0);
  for (Index k = 0; k < size; ++k) identity[static_cast<std::size_t>(k * (size + 1))] = 1.0;
  LinearOptions front;
  front.in_features = front.out_features = size;
  front.bias = false;
  return network_of<T>({front, problem.options}, {identity, problem.parameters});
}

template <class T>
struct Outcome {
  Results<T> results;
  std::vector<T> front, parameters;  // gradients with respect to the parameters of the first module and of the LSTM
  std::vector<T> x, h_0, c_0;
};

template <class T>
Outcome<T> run(const Network<T>& network, const Input<T>& input, const Problem& problem,
               const RecordOptions& record = {false}) {
  const Arrays<T> arrays(problem);
  Outcome<T> outcome{Results<T>(problem), {}, {}, {}, {}, {}};
  Gradients<T> gradients(problem);
  gradients.parameters.assign(static_cast<std::size_t>(network.parameter_count()), unwritten<T>);
  Results<T>& results = outcome.results;
  const auto tape = network.record(input, arrays.batch(), arrays.start(),
                                   {results.output.data(), arrays.rows * arrays.output_size, arrays.output_size},
                                   {{results.h_n.data(), results.c_n.data()}}, record);
  SequenceView<T> d_x{gradients.x.data(), arrays.rows * arrays.input_size, arrays.input_size};
  if (network.takes_tokens()) d_x = {};
  tape->backward(arrays.d_output_view(), arrays.d_end(), gradients.parameters.data(), false, d_x,
                 {{gradients.h_0.data(), gradients.c_0.data()}});
  if (!record.training) {
    Results<T> called(problem);
    network.forward(input, arrays.batch(), arrays.start(),
                    {called.output.data(), arrays.rows * arrays.output_size, arrays.output_size},
                    {{called.h_n.data(), called.c_n.data()}});
    CHECK(same_bits(called.output, results.output));
    CHECK(same_bits(called.h_n, results.h_n));
    CHECK(same_bits(called.c_n, results.c_n));
  }
  const auto front_end = gradients.parameters.end() - static_cast<Index>(problem.parameters.size());
  outcome.front.assign(gradients.parameters.begin(), front_end);
  outcome.parameters.assign(front_end, gradients.parameters.end());
  outcome.x = gradients.x;
  outcome.h_0 = gradients.h_0;
  outcome.c_0 = gradients.c_0;
  return outcome;
}

template <class T>
Outcome<T> run_tokens(const TokenProblem& problem, const RecordOptions& record = {false}) {
  return run(token_network<T>(problem), problem.input<T>(), problem.lstm, record);
}

template <class T>
Outcome<T> run_vectors(const Problem& problem, const RecordOptions& record = {false}) {
  const Arrays<T> arrays(problem);
  return run(vector_network<T>(problem), arrays.input(), problem, record);
}

}  // namespace latchwork::test
