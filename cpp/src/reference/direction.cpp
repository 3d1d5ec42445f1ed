#include "reference/direction.hpp"

namespace latchwork::reference {
namespace {

void add(const Vector& values, Vector& sum) {
  for (std::size_t k = 0; k < sum.size(); ++k) sum[k] += values[k];
}

// values times factors; an empty vector of factors stands for ones.
Vector times(const Vector& factors, Vector values) {
  for (std::size_t k = 0; k < factors.size(); ++k) values[k] *= factors[k];
  return values;
}

// ---- The cell: the plain one, unless an option changes its equations.

bool is_plain(const GeneralCell& cell, const Vector& candidate_mask) {
  const LstmOptions& options = cell.options;
  return options.forget_gate == ForgetGate::own && !options.peephole && !options.layer_norm && !options.clip &&
         !options.cell_clip && cell.activations == CellActivations{} && candidate_mask.empty();
}

GeneralStep any_cell_forward(const GeneralCell& cell, const Vector& candidate_mask, const Vector& x,
                             const Vector& h_prev, const Vector& c_prev) {
  if (is_plain(cell, candidate_mask)) return {cell_forward(cell.weights, x, h_prev, c_prev)};
  return general_cell_forward(cell, candidate_mask, x, h_prev, c_prev);
}

CellGradients any_cell_backward(const GeneralCell& cell, const Vector& candidate_mask, const GeneralStep& step,
                                const Vector& d_h, const Vector& d_c, GeneralWeights& d_weights) {
  if (is_plain(cell, candidate_mask)) return cell_backward(cell.weights, step, d_h, d_c, d_weights);
  return general_cell_backward(cell, candidate_mask, step, d_h, d_c, d_weights);
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

// ---- Zoneout: y = z old + (1 - z) updated. An empty z stands for zeros.

Vector zoneout(const Vector& z, const Vector& old, const Vector& updated) {
  Vector y = updated;
  for (std::size_t k = 0; k < z.size(); ++k) y[k] = z[k] * old[k] + (1.0 - z[k]) * updated[k];
  return y;
}

struct ZoneoutGradients {
  Vector old, updated;
};

ZoneoutGradients zoneout_backward(const Vector& z, const Vector& d_y) {
  ZoneoutGradients d{Vector(d_y.size()), d_y};
  for (std::size_t k = 0; k < z.size(); ++k) {
    d.old[k] = z[k] * d_y[k];
    d.updated[k] = (1.0 - z[k]) * d_y[k];
  }
  return d;
}

}  // namespace

DirectionRecord direction_forward(const DirectionInput& input, const Sequence& xs, const RowState& start,
                                  RowState& state) {
  const auto& [cell, walk, masks] = input;
  const std::size_t length = walk.length();
  DirectionRecord record{std::vector<GeneralStep>(length), Sequence(length), Sequence(length), Sequence(length),
                         std::vector<bool>(length)};
  const Vector nothing(state.h.size());
  Vector shown = nothing;     // the output of the last step that was not left out, if it is of this segment
  bool must_restart = false;  // a segment has begun, but the state is still that of the segment before
  for (std::size_t n = 0; n < length; ++n) {
    const std::size_t t = walk.step(n);
    if (walk.starts_segment(t)) {
      must_restart = true;
      shown = nothing;
    }
    // The end state of the forward direction may be the start of a later window, so it must know of every reset. That
    // of the reverse direction belongs to the first segment that has a step.
    record.restarts[t] = must_restart && !(walk.skip[t] && walk.reverse);
    if (record.restarts[t]) {
      state = start;
      must_restart = false;
    }
    if (walk.skip[t]) {
      record.h[t] = must_restart ? start.h : state.h;
      record.c[t] = must_restart ? start.c : state.c;
      record.output[t] = walk.repeats ? shown : nothing;
      continue;
    }
    const GeneralStep step =
        any_cell_forward(cell, masks.candidate[t], xs[t], times(masks.recurrent, state.h), state.c);
    state.h = zoneout(masks.hidden_zoneout[t], state.h, project(cell.weights, step.h));
    state.c = zoneout(masks.cell_zoneout[t], state.c, step.c);
    record.steps[t] = step;
    record.h[t] = state.h;
    record.c[t] = state.c;
    record.output[t] = shown = state.h;
  }
  return record;
}

DirectionSignals direction_backward(const DirectionInput& input, const DirectionRecord& record, const Sequence& d_hs,
                                    RowState& d_state, Sequence& d_xs, RowState& d_start, GeneralWeights& d_weights) {
  const auto& [cell, walk, masks] = input;
  Vector d_shown(d_state.h.size());
  const Sequence zeros(walk.length(), Vector(d_state.c.size()));
  DirectionSignals signals{zeros, zeros, zeros, zeros, zeros, Sequence(walk.length(), Vector(d_state.h.size()))};
  for (std::size_t n = walk.length(); n-- > 0;) {
    const std::size_t t = walk.step(n);
    if (walk.skip[t]) {
      if (walk.repeats) add(d_hs[t], d_shown);
    } else {
      const GeneralStep& step = record.steps[t];
      add(d_hs[t], d_state.h);
      add(d_shown, d_state.h);
      d_shown = Vector(d_shown.size());
      const ZoneoutGradients d_h = zoneout_backward(masks.hidden_zoneout[t], d_state.h);
      const ZoneoutGradients d_c = zoneout_backward(masks.cell_zoneout[t], d_state.c);
      const Vector d_hidden = project_backward(cell.weights, step.h, d_h.updated, d_weights);
      const CellGradients d = any_cell_backward(cell, masks.candidate[t], step, d_hidden, d_c.updated, d_weights);
      signals.i[t] = d.i;
      signals.f[t] = d.f;
      signals.g[t] = d.g;
      signals.o[t] = d.o;
      // With zoneout the step's h comes from c before zoneout, and only later steps read c after it.
      signals.c[t] = masks.cell_zoneout[t].empty() ? d.c : d_state.c;
      signals.h[t] = d_state.h;
      add(d.x, d_xs[t]);
      d_state = {times(masks.recurrent, d.h_prev), d.c_prev};
      add(d_h.old, d_state.h);
      add(d_c.old, d_state.c);
    }
    if (walk.starts_segment(t)) d_shown = Vector(d_shown.size());
    if (record.restarts[t]) {
      add(d_state.h, d_start.h);
      add(d_state.c, d_start.c);
      d_state = {Vector(d_state.h.size()), Vector(d_state.c.size())};
    }
  }
  return signals;
}

}  // namespace latchwork::reference
