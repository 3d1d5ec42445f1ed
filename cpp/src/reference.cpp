#include "reference.hpp"

#include <algorithm>

namespace latchwork::reference {
namespace {

using Sequence = std::vector<Vector>;  // one row: [t][feature]

struct RowState {
  Vector h, c;
};

// ---- One contiguous buffer of parameters, and the arrays in it.

std::vector<Weights> zero_weights(const LstmOptions& options) {
  const auto units = static_cast<std::size_t>(options.hidden_size);
  const auto h_size = static_cast<std::size_t>(options.hidden_output_size());
  std::vector<Weights> all;
  for (Index state = 0; state < options.states(); ++state) {
    const bool first_layer = state < options.directions();
    const auto x_size = static_cast<std::size_t>(first_layer ? options.input_size : options.output_size());
    const std::size_t projection = options.proj_size > 0 ? h_size * units : 0;
    all.push_back({Vector(4 * units * x_size), Vector(4 * units * h_size), Vector(4 * units), Vector(4 * units),
                   Vector(projection)});
  }
  return all;
}

// The arrays of one layer and direction that a model keeps, in their order.
template <class AnyWeights>
auto stored_arrays(const LstmOptions& options, AnyWeights& weights) {
  std::vector arrays{&weights.weight_ih, &weights.weight_hh};
  if (options.bias) arrays.insert(arrays.end(), {&weights.bias_ih, &weights.bias_hh});
  if (options.proj_size > 0) arrays.push_back(&weights.weight_hr);
  return arrays;
}

std::vector<Weights> split(const LstmOptions& options, const Vector& parameters) {
  std::vector<Weights> all = zero_weights(options);
  auto next = parameters.begin();
  for (Weights& weights : all) {
    for (Vector* array : stored_arrays(options, weights)) {
      std::copy_n(next, array->size(), array->begin());
      next += static_cast<Index>(array->size());
    }
  }
  return all;
}

Vector join(const LstmOptions& options, const std::vector<Weights>& all) {
  Vector parameters;
  for (const Weights& weights : all) {
    for (const Vector* array : stored_arrays(options, weights)) {
      parameters.insert(parameters.end(), array->begin(), array->end());
    }
  }
  return parameters;
}

// ---- Projection: h = W_hr (o tanh(c)).

Vector project(const Weights& weights, const Vector& hidden) {
  if (weights.weight_hr.empty()) return hidden;
  Vector h(weights.weight_hr.size() / hidden.size());
  for (std::size_t p = 0; p < h.size(); ++p) {
    for (std::size_t u = 0; u < hidden.size(); ++u) h[p] += weights.weight_hr[p * hidden.size() + u] * hidden[u];
  }
  return h;
}

Vector project_backward(const Weights& weights, const Vector& hidden, const Vector& d_h, Weights& d_weights) {
  if (weights.weight_hr.empty()) return d_h;
  Vector d_hidden(hidden.size());
  for (std::size_t p = 0; p < d_h.size(); ++p) {
    for (std::size_t u = 0; u < hidden.size(); ++u) {
      d_weights.weight_hr[p * hidden.size() + u] += d_h[p] * hidden[u];
      d_hidden[u] += d_h[p] * weights.weight_hr[p * hidden.size() + u];
    }
  }
  return d_hidden;
}

// ---- One direction of one layer over one sequence.

struct Walk {
  bool reverse;
  std::vector<bool> reset;  // one for each valid step

  std::size_t length() const { return reset.size(); }
  // The step that is processed as number n, counted from 0.
  std::size_t step(std::size_t n) const { return reverse ? length() - 1 - n : n; }
  // Whether a fresh sequence begins with step t. Resets cut the sequence into segments, each from a reset step to the
  // last step before the next one; the reverse direction enters a segment at that last step.
  bool starts_segment(std::size_t t) const {
    if (reverse) return t + 1 < length() && reset[t + 1];
    return reset[t];
  }
};

// `state` comes in as the start state and goes out as the end state.
DirectionRecord direction_forward(const Weights& weights, const Walk& walk, const Sequence& xs, RowState& state) {
  DirectionRecord record{std::vector<CellStep>(walk.length()), Sequence(walk.length())};
  for (std::size_t n = 0; n < walk.length(); ++n) {
    const std::size_t t = walk.step(n);
    if (walk.starts_segment(t)) state = {Vector(state.h.size()), Vector(state.c.size())};
    record.steps[t] = cell_forward(weights, xs[t], state.h, state.c);
    record.h[t] = project(weights, record.steps[t].h);
    state = {record.h[t], record.steps[t].c};
  }
  return record;
}

// `d_state` comes in as the gradient by the end state and goes out as that by the start state. Adds to d_xs.
void direction_backward(const Weights& weights, const Walk& walk, const DirectionRecord& record, const Sequence& d_hs,
                        RowState& d_state, Sequence& d_xs, Weights& d_weights) {
  for (std::size_t n = walk.length(); n-- > 0;) {
    const std::size_t t = walk.step(n);
    for (std::size_t j = 0; j < d_state.h.size(); ++j) d_state.h[j] += d_hs[t][j];
    const Vector d_hidden = project_backward(weights, record.steps[t].h, d_state.h, d_weights);
    const CellGradients d = cell_backward(weights, record.steps[t], d_hidden, d_state.c, d_weights);
    for (std::size_t k = 0; k < d.x.size(); ++k) d_xs[t][k] += d.x[k];
    d_state = {d.h_prev, d.c_prev};
    if (walk.starts_segment(t)) d_state = {Vector(d.h_prev.size()), Vector(d.c_prev.size())};
  }
}

// ---- From arrays of many rows to one row, and back.

struct Geometry {
  const LstmOptions& options;
  const LstmInput& input;

  Index length(Index row) const {
    return input.lengths.empty() ? input.steps : input.lengths[static_cast<std::size_t>(row)];
  }

  Walk walk(Index row, Index direction) const {
    Walk walk{options.direction == Direction::reverse || direction == 1, {}};
    for (Index t = 0; t < length(row); ++t) {
      walk.reset.push_back(!input.reset.empty() && input.reset[static_cast<std::size_t>(t * input.rows + row)] != 0);
    }
    return walk;
  }

  // The valid steps of a row of an array (T, N, features).
  Sequence sequence(const Vector& array, Index row, Index features) const {
    Sequence steps;
    for (Index t = 0; t < length(row); ++t) {
      const auto begin = array.begin() + (t * input.rows + row) * features;
      steps.emplace_back(begin, begin + features);
    }
    return steps;
  }

  void store_sequence(const Sequence& steps, Index row, Vector& array) const {
    for (std::size_t t = 0; t < steps.size(); ++t) {
      const Index features = static_cast<Index>(steps[t].size());
      std::copy(steps[t].begin(), steps[t].end(),
                array.begin() + (static_cast<Index>(t) * input.rows + row) * features);
    }
  }

  // One row of a pair of arrays (states, N, H or P) and (states, N, H); empty arrays mean zeros.
  RowState state(const Vector& h, const Vector& c, Index state, Index row) const {
    const auto entry = [&](const Vector& array, Index size) {
      if (array.empty()) return Vector(static_cast<std::size_t>(size));
      const auto begin = array.begin() + (state * input.rows + row) * size;
      return Vector(begin, begin + size);
    };
    return {entry(h, options.hidden_output_size()), entry(c, options.hidden_size)};
  }

  void store_state(const RowState& value, Index state, Index row, Vector& h, Vector& c) const {
    std::copy(value.h.begin(), value.h.end(), h.begin() + (state * input.rows + row) * options.hidden_output_size());
    std::copy(value.c.begin(), value.c.end(), c.begin() + (state * input.rows + row) * options.hidden_size);
  }

  // Multiplies what goes from layer `layer` to the next, or its gradient.
  void apply_masks(Index layer, Index row, Sequence& steps) const {
    if (input.masks.empty()) return;
    for (std::size_t t = 0; t < steps.size(); ++t) {
      const Index place = (layer * input.steps + static_cast<Index>(t)) * input.rows + row;
      for (std::size_t j = 0; j < steps[t].size(); ++j) {
        steps[t][j] *= input.masks[static_cast<std::size_t>(place) * steps[t].size() + j];
      }
    }
  }

  Vector zeros(Index leading, Index size) const {
    return Vector(static_cast<std::size_t>(leading * input.rows * size));
  }
};

}  // namespace

// ---- The stack of layers. Rows do not know of one another.

LstmRecord lstm_forward(const LstmOptions& options, const Vector& parameters, const LstmInput& input) {
  const Geometry geometry{options, input};
  const std::vector<Weights> weights = split(options, parameters);
  LstmRecord record{{geometry.zeros(input.steps, options.output_size()),
                     geometry.zeros(options.states(), options.hidden_output_size()),
                     geometry.zeros(options.states(), options.hidden_size)},
                    std::vector<std::vector<DirectionRecord>>(weights.size())};
  for (Index row = 0; row < input.rows; ++row) {
    Sequence xs = geometry.sequence(input.x, row, options.input_size);
    for (Index layer = 0; layer < options.num_layers; ++layer) {
      Sequence ys(xs.size());
      for (Index direction = 0; direction < options.directions(); ++direction) {
        const Index state = layer * options.directions() + direction;
        RowState row_state = geometry.state(input.h_0, input.c_0, state, row);
        DirectionRecord done =
            direction_forward(weights[static_cast<std::size_t>(state)], geometry.walk(row, direction), xs, row_state);
        for (std::size_t t = 0; t < ys.size(); ++t) ys[t].insert(ys[t].end(), done.h[t].begin(), done.h[t].end());
        geometry.store_state(row_state, state, row, record.result.h_n, record.result.c_n);
        record.directions[static_cast<std::size_t>(state)].push_back(std::move(done));
      }
      if (layer + 1 < options.num_layers) geometry.apply_masks(layer, row, ys);
      xs = std::move(ys);
    }
    geometry.store_sequence(xs, row, record.result.output);
  }
  return record;
}

LstmGradients lstm_backward(const LstmOptions& options, const Vector& parameters, const LstmInput& input,
                            const LstmRecord& record, const LstmOutput& d_result) {
  const Geometry geometry{options, input};
  const std::vector<Weights> weights = split(options, parameters);
  std::vector<Weights> d_weights = zero_weights(options);
  LstmGradients gradients{{},
                          geometry.zeros(input.steps, options.input_size),
                          geometry.zeros(options.states(), options.hidden_output_size()),
                          geometry.zeros(options.states(), options.hidden_size)};
  const Index h_size = options.hidden_output_size();
  for (Index row = 0; row < input.rows; ++row) {
    Sequence d_ys = geometry.sequence(d_result.output, row, options.output_size());
    for (Index layer = options.num_layers; layer-- > 0;) {
      if (layer + 1 < options.num_layers) geometry.apply_masks(layer, row, d_ys);
      const Index x_size = layer == 0 ? options.input_size : options.output_size();
      Sequence d_xs(d_ys.size(), Vector(static_cast<std::size_t>(x_size)));
      for (Index direction = 0; direction < options.directions(); ++direction) {
        const Index state = layer * options.directions() + direction;
        const auto s = static_cast<std::size_t>(state);
        Sequence d_hs;  // this direction's half of the output
        for (const Vector& d_y : d_ys) {
          d_hs.emplace_back(d_y.begin() + direction * h_size, d_y.begin() + (direction + 1) * h_size);
        }
        RowState d_state = geometry.state(d_result.h_n, d_result.c_n, state, row);
        direction_backward(weights[s], geometry.walk(row, direction),
                           record.directions[s][static_cast<std::size_t>(row)], d_hs, d_state, d_xs, d_weights[s]);
        geometry.store_state(d_state, state, row, gradients.h_0, gradients.c_0);
      }
      d_ys = std::move(d_xs);
    }
    geometry.store_sequence(d_ys, row, gradients.x);
  }
  gradients.parameters = join(options, d_weights);
  return gradients;
}

}  // namespace latchwork::reference
