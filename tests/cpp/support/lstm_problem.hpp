#pragma once

#include "latchwork/network.hpp"
#include "layer/row_blocks.hpp"
#include "reference/lstm.hpp"
#include "support/mask_number.hpp"
#include "support/support.hpp"

namespace latchwork::test {

// Everything that one forward and backward pass of an LSTM needs, in double, for both the reference and the library.
struct Problem {
  LstmOptions options;
  reference::Vector parameters;
  reference::LstmInput input;
  reference::LstmOutput d_result;
};

// Random options of a stack of layers, small enough for a test.
inline LstmOptions random_sizes(Random& random) {
  LstmOptions options;
  options.input_size = random.between(1, 37);
  options.hidden_size = random.between(1, 37);
  options.num_layers = random.between(1, 3);
  options.bias = random.chance(0.8);
  options.direction = static_cast<Direction>(random.between(0, 2));
  if (options.hidden_size > 1 && random.chance(0.3)) options.proj_size = random.between(1, options.hidden_size - 1);
  return options;
}

inline Index parameter_count(const LstmOptions& options) {
  Index count = 0;
  for (const ParameterSpec& spec : parameter_layout({options}, TensorNames::of_layer)) count += spec.size();
  return count;
}

// The parameters are as large as PyTorch's initial weights, so that gates are neither saturated nor all equal. The
// norms' weights are around 1.
inline reference::Vector random_parameters(Random& random, const LstmOptions& options) {
  reference::Vector parameters = random.numbers(parameter_count(options));
  const std::vector<ParameterSpec> layout = parameter_layout({options}, TensorNames::of_layer);
  for (const ParameterSpec& spec : layout) {
    const bool norm_weight = spec.name.starts_with("norm_") && spec.name.find("_weight") != std::string::npos;
    const double scale = norm_weight ? 0.3 : 1.5 / std::sqrt(static_cast<double>(options.hidden_size));
    for (Index k = spec.offset; k < spec.offset + spec.size(); ++k) {
      double& value = parameters[static_cast<std::size_t>(k)];
      value = (norm_weight ? 1.0 : 0.0) + scale * value;
    }
  }
  return converted<double>(converted<float>(parameters));
}

inline Problem random_problem(Random& random, const LstmOptions& options, Index steps, Index rows, bool with_start,
                              bool ragged, bool with_reset) {
  const Index h_total = options.states() * rows * options.hidden_output_size();
  const Index c_total = options.states() * rows * options.hidden_size;
  Problem problem;
  problem.options = options;
  problem.parameters = random_parameters(random, options);
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

// Lets a problem leave out some steps: hardly any, many, or in some rows all of them.
inline void add_random_skips(Random& random, Problem& problem) {
  reference::LstmInput& input = problem.input;
  const double share = random.chance(0.5) ? 0.2 : 0.7;
  input.skip.clear();
  for (Index k = 0; k < input.steps * input.rows; ++k) input.skip.push_back(random.chance(share) ? 1 : 0);
  const Index row = random.between(0, input.rows - 1);
  for (Index step = 0; step < input.steps && random.chance(0.9); ++step) {
    input.skip[static_cast<std::size_t>(step * input.rows + row)] = 1;
  }
  input.repeats_skipped = random.chance(0.6);
}

// A mask (steps, rows, units) that was drawn for the steps that are not left out, counted without the others, moved to
// where these steps lie. Elsewhere it does not matter.
inline reference::Vector moved_to_steps(const reference::LstmInput& input, const reference::Vector& mask, Index units) {
  if (input.skip.empty()) return mask;
  reference::Vector moved = mask;
  for (Index row = 0; row < input.rows; ++row) {
    Index number = 0;
    for (Index step = 0; step < input.steps; ++step) {
      if (input.skip[static_cast<std::size_t>(step * input.rows + row)] != 0) continue;
      std::copy_n(mask.begin() + (number++ * input.rows + row) * units, units,
                  moved.begin() + (step * input.rows + row) * units);
    }
  }
  return moved;
}

// (steps, rows, units): `below` if the mask's random number is below the probability, else `otherwise`.
inline reference::Vector drawn_mask(const MaskKey& key, double probability, Index steps, Index rows, Index units,
                                    double below, double otherwise) {
  reference::Vector factors;
  for (Index step = 0; step < steps; ++step) {
    for (Index row = 0; row < rows; ++row) {
      for (Index unit = 0; unit < units; ++unit) {
        factors.push_back(mask_number(key, step, row, unit) < probability ? below : otherwise);
      }
    }
  }
  return factors;
}

// Dropout's factors: 0 for what is dropped, 1 / (1 - probability) for everything else.
inline reference::Vector drawn_dropout(const MaskKey& key, double probability, Index steps, Index rows, Index units) {
  return drawn_mask(key, probability, steps, rows, units, 0.0, probability < 1.0 ? 1.0 / (1.0 - probability) : 0.0);
}

// The masks that the library draws in a recording with training on, for an LSTM that is the only module.
inline void draw_training_masks(Problem& problem, std::uint64_t mask_seed) {
  const LstmOptions& options = problem.options;
  reference::LstmInput& input = problem.input;
  const Index units = options.hidden_size, h_size = options.hidden_output_size();

  input.masks.clear();
  for (Index layer = 0; options.dropout > 0.0 && layer + 1 < options.num_layers; ++layer) {
    const reference::Vector factors = drawn_dropout({mask_seed, MaskOn::layer_output, 0, layer}, options.dropout,
                                                    input.steps, input.rows, options.output_size());
    const reference::Vector moved = moved_to_steps(input, factors, options.output_size());
    input.masks.insert(input.masks.end(), moved.begin(), moved.end());
  }

  const auto draw = [&](std::vector<reference::Vector>& masks, double probability, auto&& draw_state) {
    masks.clear();
    for (Index state = 0; probability > 0.0 && state < options.states(); ++state) masks.push_back(draw_state(state));
  };
  const bool on_hidden = options.recurrent_dropout_on == RecurrentDropoutOn::hidden;
  draw(input.recurrent_masks, on_hidden ? options.recurrent_dropout : 0.0, [&](Index state) {
    return drawn_dropout({mask_seed, MaskOn::recurrent_hidden, 0, state}, options.recurrent_dropout, 1, input.rows,
                         h_size);
  });
  draw(input.candidate_masks, on_hidden ? 0.0 : options.recurrent_dropout, [&](Index state) {
    return moved_to_steps(input,
                          drawn_dropout({mask_seed, MaskOn::candidate, 0, state}, options.recurrent_dropout,
                                        input.steps, input.rows, units),
                          units);
  });
  draw(input.weight_masks, options.weight_dropout, [&](Index state) {
    return drawn_dropout({mask_seed, MaskOn::recurrent_weight, 0, state}, options.weight_dropout, 1,
                         options.gates() * units, h_size);
  });
  draw(input.hidden_zoneout, options.zoneout_hidden, [&](Index state) {
    return moved_to_steps(input,
                          drawn_mask({mask_seed, MaskOn::hidden, 0, state}, options.zoneout_hidden, input.steps,
                                     input.rows, h_size, 1.0, 0.0),
                          h_size);
  });
  draw(input.cell_zoneout, options.zoneout_cell, [&](Index state) {
    return moved_to_steps(
        input,
        drawn_mask({mask_seed, MaskOn::cell, 0, state}, options.zoneout_cell, input.steps, input.rows, units, 1.0, 0.0),
        units);
  });
}

template <class T>
Network<T> network_of(const Problem& problem) {
  Network<T> network({problem.options}, TensorNames::of_layer, 1);
  REQUIRE(network.parameter_count() == static_cast<Index>(problem.parameters.size()));
  network.store()->write([&](T* values) {
    for (std::size_t k = 0; k < problem.parameters.size(); ++k) values[k] = static_cast<T>(problem.parameters[k]);
  });
  return network;
}

// The blocks of rows in which the gradients of the first layer are summed.
inline RowBlocks row_blocks_of(const Problem& problem) {
  PackedLayer<double> layer;
  layer.gates = problem.options.gates();
  layer.input_size = problem.options.input_size;
  layer.units = problem.options.hidden_size;
  layer.projection = problem.options.proj_size;
  Schedule schedule;
  schedule.batch.steps = problem.input.steps;
  schedule.batch.rows = problem.input.rows;
  if (!problem.input.lengths.empty()) schedule.batch.lengths = problem.input.lengths.data();
  return row_blocks(schedule, layer, 0);
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
        reset(problem.input.reset),
        skip(problem.input.skip),
        skipped_output(problem.input.repeats_skipped ? SkippedOutput::repeat : SkippedOutput::zero) {}

  Input<T> input() const { return {{x.data(), rows * input_size, input_size}, {}}; }
  Batch batch() const {
    Batch batch;
    batch.steps = steps;
    batch.rows = rows;
    if (!lengths.empty()) batch.lengths = lengths.data();
    if (!reset.empty()) batch.reset = {reset.data(), rows, 1};
    if (!skip.empty()) batch.skip = {skip.data(), rows, 1};
    batch.skipped_output = skipped_output;
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
  std::vector<std::uint8_t> reset, skip;
  SkippedOutput skipped_output;
};

// Results are filled with this before a call, so that places which the call does not write are found.
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
                                    const RecordOptions& options = {false}) {
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

// The gradients with respect to the signals, [state][signal], and all other gradients of the same call.
template <class T>
struct AllGradients {
  Gradients<T> others;
  std::vector<std::vector<std::vector<T>>> signals;
};

template <class T>
AllGradients<T> run_backward_with_signals(const Tape<T>& tape, const Problem& problem) {
  const Arrays<T> arrays(problem);
  const LstmOptions& options = problem.options;
  AllGradients<T> all{Gradients<T>(problem), {}};
  const auto places = static_cast<std::size_t>(arrays.steps * arrays.rows);
  std::vector<std::vector<T>> of_state(6, std::vector<T>(places * static_cast<std::size_t>(options.hidden_size)));
  of_state.back().resize(places * static_cast<std::size_t>(options.hidden_output_size()));
  for (std::vector<T>& values : of_state) std::fill(values.begin(), values.end(), unwritten<T>);
  all.signals.assign(static_cast<std::size_t>(options.states()), of_state);
  std::vector<SignalArrays<T>> pointers(all.signals.size());
  for (std::size_t state = 0; state < pointers.size(); ++state) {
    for (std::size_t signal = 0; signal < 6; ++signal) pointers[state][signal] = all.signals[state][signal].data();
  }
  tape.backward(arrays.d_output_view(), arrays.d_end(), all.others.parameters.data(), false,
                {all.others.x.data(), arrays.rows * arrays.input_size, arrays.input_size},
                {{all.others.h_0.data(), all.others.c_0.data()}}, {}, {pointers});
  return all;
}

template <class T>
bool same_gradients(const Gradients<T>& one, const Gradients<T>& other) {
  return same_bits(one.parameters, other.parameters) && same_bits(one.x, other.x) && same_bits(one.h_0, other.h_0) &&
         same_bits(one.c_0, other.c_0);
}

// Fills padding and steps that are left out with NaN, because what lies there must not matter.
inline void spoil_unused(Problem& problem) {
  reference::LstmInput& input = problem.input;
  const Index inputs = problem.options.input_size, outputs = problem.options.output_size();
  for (Index step = 0; step < input.steps; ++step) {
    for (Index row = 0; row < input.rows; ++row) {
      const Index place = step * input.rows + row;
      const bool padding = !input.lengths.empty() && step >= input.lengths[static_cast<std::size_t>(row)];
      const bool skipped = !input.skip.empty() && input.skip[static_cast<std::size_t>(place)] != 0;
      if (padding || skipped) std::fill_n(input.x.begin() + place * inputs, inputs, std::nan(""));
      if (padding || (skipped && !input.repeats_skipped)) {
        std::fill_n(problem.d_result.output.begin() + place * outputs, outputs, std::nan(""));
      }
    }
  }
}

inline std::string described(const Problem& problem) {
  const LstmOptions& options = problem.options;
  return "input " + std::to_string(options.input_size) + ", hidden " + std::to_string(options.hidden_size) +
         ", layers " + std::to_string(options.num_layers) + ", bias " + std::to_string(options.bias) + ", direction " +
         std::to_string(static_cast<int>(options.direction)) + ", projection " + std::to_string(options.proj_size) +
         ", steps " + std::to_string(problem.input.steps) + ", rows " + std::to_string(problem.input.rows) +
         ", start " + std::to_string(!problem.input.h_0.empty()) + ", ragged " +
         std::to_string(!problem.input.lengths.empty()) + ", reset " + std::to_string(!problem.input.reset.empty()) +
         ", skip " + std::to_string(!problem.input.skip.empty()) + ", repeats " +
         std::to_string(problem.input.repeats_skipped);
}

}  // namespace latchwork::test
