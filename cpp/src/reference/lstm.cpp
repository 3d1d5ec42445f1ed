#include "reference/lstm.hpp"

#include <algorithm>

#include "reference/weights.hpp"

namespace latchwork::reference {
namespace {

// ---- From arrays of many rows to one row, and back.

struct Geometry {
  const LstmOptions& options;
  const LstmInput& input;

  Index length(Index row) const {
    return input.lengths.empty() ? input.steps : input.lengths[static_cast<std::size_t>(row)];
  }

  Walk walk(Index row, Index direction) const {
    Walk walk{options.direction == Direction::reverse || direction == 1, {}, {}, input.repeats_skipped};
    for (Index t = 0; t < length(row); ++t) {
      const auto place = static_cast<std::size_t>(t * input.rows + row);
      walk.reset.push_back(!input.reset.empty() && input.reset[place] != 0);
      walk.skip.push_back(!input.skip.empty() && input.skip[place] != 0);
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

  // The state that a sequence starts with if none is passed in, and at resets.
  RowState own_start(const GeneralWeights& weights) const {
    if (options.learn_start_state) return {weights.h_0, weights.c_0};
    return zero_state();
  }

  RowState zero_state() const {
    return {Vector(static_cast<std::size_t>(options.hidden_output_size())),
            Vector(static_cast<std::size_t>(options.hidden_size))};
  }

  // One row of a pair of arrays (states, N, H or P) and (states, N, H). If an array is empty, the value comes from
  // `otherwise`.
  RowState state(const Vector& h, const Vector& c, const RowState& otherwise, Index state, Index row) const {
    const auto entry = [&](const Vector& array, const Vector& instead) {
      if (array.empty()) return instead;
      const auto size = static_cast<Index>(instead.size());
      const auto begin = array.begin() + (state * input.rows + row) * size;
      return Vector(begin, begin + size);
    };
    return {entry(h, otherwise.h), entry(c, otherwise.c)};
  }

  void store_state(const RowState& value, Index state, Index row, Vector& h, Vector& c) const {
    std::copy(value.h.begin(), value.h.end(), h.begin() + (state * input.rows + row) * options.hidden_output_size());
    std::copy(value.c.begin(), value.c.end(), c.begin() + (state * input.rows + row) * options.hidden_size);
  }

  // Multiplies the values that go from layer `layer` to the next one, or their gradient, by the masks.
  void apply_masks(Index layer, Index row, Sequence& steps) const {
    if (input.masks.empty()) return;
    for (std::size_t t = 0; t < steps.size(); ++t) {
      const Index place = (layer * input.steps + static_cast<Index>(t)) * input.rows + row;
      for (std::size_t j = 0; j < steps[t].size(); ++j) {
        steps[t][j] *= input.masks[static_cast<std::size_t>(place) * steps[t].size() + j];
      }
    }
  }

  RowMasks row_masks(std::size_t state, Index row) const {
    const Index units = options.hidden_size, h_size = options.hidden_output_size();
    const auto steps = static_cast<std::size_t>(length(row));
    const auto of_steps = [&](const std::vector<Vector>& arrays, Index size, double otherwise) {
      if (!arrays.empty()) return sequence(arrays[state], row, size);
      return Sequence(steps, otherwise == 0.0 ? Vector{} : Vector(static_cast<std::size_t>(size), otherwise));
    };
    RowMasks masks;
    if (!input.recurrent_masks.empty()) {
      const auto begin = input.recurrent_masks[state].begin() + row * h_size;
      masks.recurrent.assign(begin, begin + h_size);
    }
    masks.candidate = of_steps(input.candidate_masks, units, 0.0);
    masks.hidden_zoneout = of_steps(input.hidden_zoneout, h_size, options.zoneout_hidden);
    masks.cell_zoneout = of_steps(input.cell_zoneout, units, options.zoneout_cell);
    return masks;
  }

  // Multiplies every R by its mask. The gradient with respect to R is also multiplied by it: it is the mask times the
  // gradient with respect to the masked R.
  void apply_weight_masks(std::vector<GeneralWeights>& all) const {
    for (std::size_t state = 0; state < input.weight_masks.size(); ++state) {
      Vector& weight = all[state].weight_hh;
      for (std::size_t k = 0; k < weight.size(); ++k) weight[k] *= input.weight_masks[state][k];
    }
  }

  Vector zeros(Index leading, Index size) const {
    return Vector(static_cast<std::size_t>(leading * input.rows * size));
  }
};

void add(const Vector& values, Vector& sum) {
  for (std::size_t k = 0; k < sum.size(); ++k) sum[k] += values[k];
}

void add(const Sequence& values, Sequence& sum) {
  for (std::size_t t = 0; t < sum.size(); ++t) add(values[t], sum[t]);
}

// What directions that have merged show at steps that are left out: the last step before, in the same segment.
void repeat_skipped(const Walk& walk, Sequence& ys) {
  Vector shown(ys.empty() ? 0 : ys.front().size());
  for (std::size_t t = 0; t < ys.size() && walk.repeats; ++t) {
    if (walk.reset[t]) shown.assign(shown.size(), 0.0);
    if (walk.skip[t]) {
      ys[t] = shown;
    } else {
      shown = ys[t];
    }
  }
}

// Its gradient.
void repeat_skipped_backward(const Walk& walk, Sequence& d_ys) {
  Vector d_shown(d_ys.empty() ? 0 : d_ys.front().size());
  const Vector zeros = d_shown;
  for (std::size_t t = d_ys.size(); walk.repeats && t-- > 0;) {
    if (walk.skip[t]) {
      add(d_ys[t], d_shown);
      d_ys[t] = zeros;
    } else {
      add(d_shown, d_ys[t]);
      d_shown = zeros;
    }
    if (walk.reset[t]) d_shown = zeros;
  }
}

// How the directions, which lie side by side, merge, and the gradient with respect to one of them, given the values of
// the other.
Sequence merged(const LstmOptions& options, const Sequence& both) {
  Sequence result;
  for (const Vector& values : both) {
    Vector& one = result.emplace_back();
    for (std::size_t k = 0; k < values.size() / 2; ++k) {
      const double forward = values[k], reverse = values[values.size() / 2 + k];
      one.push_back(options.merge == Merge::mul   ? forward * reverse
                    : options.merge == Merge::ave ? (forward + reverse) / 2.0
                                                  : forward + reverse);
    }
  }
  return result;
}

Vector merged_backward(const LstmOptions& options, const Vector& other, const Vector& d_merged) {
  Vector d = d_merged;
  for (std::size_t k = 0; k < d.size(); ++k) {
    d[k] *= options.merge == Merge::mul ? other[k] : options.merge == Merge::ave ? 0.5 : 1.0;
  }
  return d;
}

}  // namespace

// ---- The stack of layers. Rows do not depend on one another.

LstmRecord lstm_forward(const LstmOptions& options, const Vector& parameters, const LstmInput& input) {
  const Geometry geometry{options, input};
  std::vector<GeneralWeights> weights = split(options, parameters);
  geometry.apply_weight_masks(weights);
  LstmRecord record{{geometry.zeros(input.steps, options.output_size()),
                     geometry.zeros(options.states(), options.hidden_output_size()),
                     geometry.zeros(options.states(), options.hidden_size)},
                    std::vector<std::vector<DirectionRecord>>(weights.size())};
  for (Index row = 0; row < input.rows; ++row) {
    Sequence xs = geometry.sequence(input.x, row, options.input_size);
    for (Index layer = 0; layer < options.num_layers; ++layer) {
      const Sequence before_dropout = xs;
      if (layer > 0) geometry.apply_masks(layer - 1, row, xs);
      Sequence ys(xs.size());
      for (Index direction = 0; direction < options.directions(); ++direction) {
        const Index state = layer * options.directions() + direction;
        const auto s = static_cast<std::size_t>(state);
        const GeneralCell cell{options, options.activations_of(direction), weights[s]};
        const RowState start = geometry.own_start(weights[s]);
        RowState row_state = geometry.state(input.h_0, input.c_0, start, state, row);
        DirectionRecord done =
            direction_forward({cell, geometry.walk(row, direction), geometry.row_masks(s, row)}, xs, start, row_state);
        for (std::size_t t = 0; t < ys.size(); ++t)
          ys[t].insert(ys[t].end(), done.output[t].begin(), done.output[t].end());
        geometry.store_state(row_state, state, row, record.result.h_n, record.result.c_n);
        record.directions[s].push_back(std::move(done));
      }
      if (options.merges()) ys = merged(options, ys);
      if (options.residual && layer > 0) add(before_dropout, ys);
      xs = std::move(ys);
    }
    if (options.merges()) repeat_skipped(geometry.walk(row, 0), xs);
    geometry.store_sequence(xs, row, record.result.output);
  }
  return record;
}

LstmGradients lstm_backward(const LstmOptions& options, const Vector& parameters, const LstmInput& input,
                            const LstmRecord& record, const LstmOutput& d_result) {
  const Geometry geometry{options, input};
  std::vector<GeneralWeights> weights = split(options, parameters);
  geometry.apply_weight_masks(weights);
  std::vector<GeneralWeights> d_weights = zero_weights(options);
  LstmGradients gradients{{},
                          geometry.zeros(input.steps, options.input_size),
                          geometry.zeros(options.states(), options.hidden_output_size()),
                          geometry.zeros(options.states(), options.hidden_size),
                          {}};
  const Index h_size = options.hidden_output_size();
  std::vector<Vector> no_signals(5, geometry.zeros(input.steps, options.hidden_size));
  no_signals.push_back(geometry.zeros(input.steps, h_size));
  gradients.signals.assign(weights.size(), no_signals);
  for (Index row = 0; row < input.rows; ++row) {
    Sequence d_ys = geometry.sequence(d_result.output, row, options.output_size());
    if (options.merges()) repeat_skipped_backward(geometry.walk(row, 0), d_ys);
    for (Index layer = options.num_layers; layer-- > 0;) {
      const Index x_size = layer == 0 ? options.input_size : options.output_size();
      Sequence d_xs(d_ys.size(), Vector(static_cast<std::size_t>(x_size)));
      for (Index direction = 0; direction < options.directions(); ++direction) {
        const Index state = layer * options.directions() + direction;
        const auto s = static_cast<std::size_t>(state);
        const GeneralCell cell{options, options.activations_of(direction), weights[s]};
        Sequence d_hs;  // this direction's half of the output
        for (std::size_t t = 0; t < d_ys.size(); ++t) {
          if (options.merges()) {
            const auto other = static_cast<std::size_t>(state - direction + 1 - direction);
            const Vector& factors = record.directions[other][static_cast<std::size_t>(row)].output[t];
            d_hs.push_back(merged_backward(options, factors, d_ys[t]));
          } else {
            d_hs.emplace_back(d_ys[t].begin() + direction * h_size, d_ys[t].begin() + (direction + 1) * h_size);
          }
        }
        RowState d_start = geometry.zero_state();
        RowState d_state = geometry.state(d_result.h_n, d_result.c_n, d_start, state, row);
        const DirectionSignals signals = direction_backward(
            {cell, geometry.walk(row, direction), geometry.row_masks(s, row)},
            record.directions[s][static_cast<std::size_t>(row)], d_hs, d_state, d_xs, d_start, d_weights[s]);
        std::size_t at = 0;
        for (const Sequence* each : {&signals.i, &signals.f, &signals.g, &signals.o, &signals.c, &signals.h}) {
          geometry.store_sequence(*each, row, gradients.signals[s][at++]);
        }
        geometry.store_state(d_state, state, row, gradients.h_0, gradients.c_0);
        if (input.h_0.empty()) add(d_state.h, d_start.h);
        if (input.c_0.empty()) add(d_state.c, d_start.c);
        add(d_start.h, d_weights[s].h_0);  // without a learned start state these have no elements
        add(d_start.c, d_weights[s].c_0);
      }
      if (layer > 0) geometry.apply_masks(layer - 1, row, d_xs);
      if (options.residual && layer > 0) add(d_ys, d_xs);
      d_ys = std::move(d_xs);
    }
    geometry.store_sequence(d_ys, row, gradients.x);
  }
  geometry.apply_weight_masks(d_weights);
  gradients.parameters = join(options, d_weights);
  return gradients;
}

}  // namespace latchwork::reference
