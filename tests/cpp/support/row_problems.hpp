#pragma once

#include <algorithm>
#include <numeric>

#include "support/lstm_problem.hpp"
#include "support/support.hpp"

namespace latchwork::test {

// The rows with the numbers `rows` of an array (leading, row_count, features).
template <class U>
std::vector<U> taken(const std::vector<U>& array, Index leading, Index row_count, const std::vector<Index>& rows) {
  std::vector<U> result;
  if (array.empty()) return result;
  const Index features = static_cast<Index>(array.size()) / (leading * row_count);
  for (Index k = 0; k < leading; ++k) {
    for (const Index row : rows) {
      const auto begin = array.begin() + (k * row_count + row) * features;
      result.insert(result.end(), begin, begin + features);
    }
  }
  return result;
}

inline Problem with_rows(const Problem& problem, const std::vector<Index>& rows) {
  const Index steps = problem.input.steps, states = problem.options.states(), count = problem.input.rows;
  Problem part = problem;
  part.input.rows = static_cast<Index>(rows.size());
  part.input.x = taken(problem.input.x, steps, count, rows);
  part.input.h_0 = taken(problem.input.h_0, states, count, rows);
  part.input.c_0 = taken(problem.input.c_0, states, count, rows);
  part.input.lengths = taken(problem.input.lengths, 1, count, rows);
  part.input.reset = taken(problem.input.reset, steps, count, rows);
  part.d_result = {taken(problem.d_result.output, steps, count, rows), taken(problem.d_result.h_n, states, count, rows),
                   taken(problem.d_result.c_n, states, count, rows)};
  return part;
}

// The same sequences in longer arrays, with padding behind them.
inline Problem padded_by(const Problem& problem, Index extra) {
  Problem longer = problem;
  longer.input.steps += extra;
  if (longer.input.lengths.empty())
    longer.input.lengths.assign(static_cast<std::size_t>(problem.input.rows), problem.input.steps);
  const auto cells = static_cast<std::size_t>(longer.input.steps * problem.input.rows);
  longer.input.x.resize(cells * static_cast<std::size_t>(problem.options.input_size), std::nan(""));
  longer.d_result.output.resize(cells * static_cast<std::size_t>(problem.options.output_size()), std::nan(""));
  if (!longer.input.reset.empty()) longer.input.reset.resize(cells, 1);
  return longer;
}

// The same rows followed by rows of length 0. Those add nothing, but the work may be split differently.
inline Problem with_empty_rows(const Problem& problem, Index extra) {
  Problem larger = problem;
  const Index rows = problem.input.rows;
  if (larger.input.lengths.empty()) larger.input.lengths.assign(static_cast<std::size_t>(rows), problem.input.steps);
  larger.input.lengths.resize(static_cast<std::size_t>(rows + extra), 0);
  larger.input.rows = rows + extra;
  const auto widen = [&](auto& array, Index leading, double fill) {
    using Values = std::remove_reference_t<decltype(array)>;
    if (array.empty()) return;
    const Index width = static_cast<Index>(array.size()) / leading;
    Values wider;
    for (Index k = 0; k < leading; ++k) {
      wider.insert(wider.end(), array.begin() + k * width, array.begin() + (k + 1) * width);
      wider.resize(wider.size() + static_cast<std::size_t>(width / rows * extra),
                   static_cast<typename Values::value_type>(fill));
    }
    array = wider;
  };
  const Index steps = problem.input.steps, states = problem.options.states();
  widen(larger.input.x, steps, std::nan(""));
  widen(larger.input.reset, steps, 1);
  widen(larger.input.h_0, states, 0.5);
  widen(larger.input.c_0, states, 0.5);
  widen(larger.d_result.output, steps, std::nan(""));
  widen(larger.d_result.h_n, states, 0.5);
  widen(larger.d_result.c_n, states, 0.5);
  return larger;
}

// The results and gradients that belong to rows.
template <class T>
struct RowResults {
  RowResults(const Network<T>& network, const Problem& problem) : results(problem), gradients(problem) {
    steps = problem.input.steps;
    states = problem.options.states();
    rows = problem.input.rows;
    const Results<T> unrecorded = run_forward(network, problem);
    gradients = run_backward(*run_record(network, problem, results), problem);
    CHECK(same_bits(unrecorded.output, results.output));
    CHECK(same_bits(unrecorded.h_n, results.h_n));
    CHECK(same_bits(unrecorded.c_n, results.c_n));
  }

  // Whether every result was written, with a finite number.
  bool finite() const {
    return is_finite(results.output) && is_finite(results.h_n) && is_finite(results.c_n) && is_finite(gradients.x) &&
           is_finite(gradients.h_0) && is_finite(gradients.c_0);
  }

  // Whether row k here equals row of[k] of `other`, which has at most as many steps, and padding is zero.
  bool equals(const RowResults& other, const std::vector<Index>& of) const {
    const auto same = [&](const std::vector<T>& mine, const std::vector<T>& theirs, Index their_leading) {
      const std::vector<T> expected = taken(theirs, their_leading, other.rows, of);
      const auto size = static_cast<Index>(expected.size());
      return mine.size() >= expected.size() && same_bits(mine.data(), expected.data(), size) &&
             std::all_of(mine.begin() + size, mine.end(), [](T value) { return same_bits(value, T(0)); });
    };
    return same(results.output, other.results.output, other.steps) && same(results.h_n, other.results.h_n, states) &&
           same(results.c_n, other.results.c_n, states) && same(gradients.x, other.gradients.x, other.steps) &&
           same(gradients.h_0, other.gradients.h_0, states) && same(gradients.c_0, other.gradients.c_0, states);
  }

  Index steps = 0, states = 0, rows = 0;
  Results<T> results;
  Gradients<T> gradients;
};

// Between them these have every option of the cell.
inline std::vector<LstmOptions> variant_shapes() {
  std::vector<LstmOptions> all(5);
  all[0].input_size = 3;
  all[0].hidden_size = 17;
  all[0].forget_gate = ForgetGate::none;
  all[0].activations[0].candidate = {"scaled_tanh", 2.0, 0.5};
  all[0].activations[0].cell = {"softsign"};
  all[0].zoneout_cell = 0.25;
  all[1].input_size = 35;
  all[1].hidden_size = 31;
  all[1].num_layers = 2;
  all[1].residual = true;
  all[1].layer_norm = true;
  all[1].zoneout_hidden = 0.125;
  all[1].zoneout_cell = 0.25;
  all[2].input_size = 7;
  all[2].hidden_size = 19;
  all[2].num_layers = 2;
  all[2].direction = Direction::both;
  all[2].proj_size = 5;
  all[2].peephole = true;
  all[2].forget_gate = ForgetGate::coupled;
  all[2].cell_clip = 0.5;
  all[2].zoneout_hidden = 0.125;
  all[2].learn_start_state = true;
  all[3].input_size = 21;
  all[3].hidden_size = 13;
  all[3].direction = Direction::reverse;
  all[3].bias = false;
  all[3].layer_norm = true;
  all[3].peephole = true;
  all[3].clip = 1.5;
  all[3].activations[0].input = {"hard_sigmoid", 0.25, 0.5};
  all[4].input_size = 18;
  all[4].hidden_size = 53;
  all[4].peephole = true;
  all[4].clip = 3.0;
  for (LstmOptions& options : all) {
    options.recurrent_dropout = 0.25;
    options.recurrent_dropout_on =
        options.hidden_size % 4 == 3 ? RecurrentDropoutOn::hidden : RecurrentDropoutOn::candidate;
    options.weight_dropout = options.hidden_size < 18 ? 0.25 : 0.0;
  }
  return all;
}

// Options with odd sizes: a small and a wide input, projection, both directions, and then the variants.
inline std::vector<LstmOptions> shapes() {
  std::vector<LstmOptions> all(4);
  all[0].input_size = 3;
  all[0].hidden_size = 17;
  all[1].input_size = 35;
  all[1].hidden_size = 31;
  all[1].num_layers = 2;
  all[2].input_size = 7;
  all[2].hidden_size = 19;
  all[2].num_layers = 2;
  all[2].direction = Direction::both;
  all[2].proj_size = 5;
  all[3].input_size = 21;
  all[3].hidden_size = 13;
  all[3].direction = Direction::reverse;
  all[3].bias = false;
  const std::vector<LstmOptions> variants = variant_shapes();
  all.insert(all.end(), variants.begin(), variants.end());
  return all;
}

}  // namespace latchwork::test
