#include "reference/general_cell.hpp"

#include <algorithm>
#include <cmath>
#include <optional>

#include "reference/activations.hpp"

namespace latchwork::reference {
namespace {

// ---- Matrix times vector.

Vector product(const Vector& matrix, const Vector& x, std::size_t rows) {
  Vector y(rows);
  for (std::size_t row = 0; row < rows; ++row) {
    for (std::size_t k = 0; k < x.size(); ++k) y[row] += matrix[row * x.size() + k] * x[k];
  }
  return y;
}

void product_backward(const Vector& matrix, const Vector& x, const Vector& d_y, Vector& d_matrix, Vector& d_x) {
  for (std::size_t row = 0; row < d_y.size(); ++row) {
    for (std::size_t k = 0; k < x.size(); ++k) {
      d_matrix[row * x.size() + k] += d_y[row] * x[k];
      d_x[k] += d_y[row] * matrix[row * x.size() + k];
    }
  }
}

// ---- Layer normalisation: y = weight * (x - mean) / sqrt(variance + epsilon) + bias, with the biased variance.

struct Normalised {
  Vector values;  // before weight and bias
  double scale;   // 1 / sqrt(variance + epsilon)
};

Normalised normalised(const Vector& x) {
  const auto size = static_cast<double>(x.size());
  double mean = 0.0, variance = 0.0;
  for (const double value : x) mean += value / size;
  for (const double value : x) variance += (value - mean) * (value - mean) / size;
  Normalised result{x, 1.0 / std::sqrt(variance + 1e-5)};
  for (double& value : result.values) value = (value - mean) * result.scale;
  return result;
}

Vector layer_norm(const Vector& x, const Vector& weight, const Vector& bias) {
  Vector y = normalised(x).values;
  for (std::size_t k = 0; k < y.size(); ++k) y[k] = weight[k] * y[k] + bias[k];
  return y;
}

Vector layer_norm_backward(const Vector& x, const Vector& weight, const Vector& d_y, Vector& d_weight, Vector& d_bias) {
  const auto size = static_cast<double>(x.size());
  const Normalised norm = normalised(x);
  Vector d_x(x.size());
  // The means of the gradient with respect to norm.values, and of that gradient times norm.values.
  double mean_d = 0.0, mean_d_value = 0.0;
  for (std::size_t k = 0; k < x.size(); ++k) {
    d_weight[k] += d_y[k] * norm.values[k];
    d_bias[k] += d_y[k];
    d_x[k] = d_y[k] * weight[k];
    mean_d += d_x[k] / size;
    mean_d_value += d_x[k] * norm.values[k] / size;
  }
  for (std::size_t k = 0; k < x.size(); ++k) d_x[k] = norm.scale * (d_x[k] - mean_d - norm.values[k] * mean_d_value);
  return d_x;
}

// ---- Limits a value to the range from -bound to bound, if there is a bound.

double clipped(double value, const std::optional<double>& bound) {
  return bound ? std::clamp(value, -*bound, *bound) : value;
}

double clip_slope(double value, const std::optional<double>& bound) {
  return bound && std::abs(value) > *bound ? 0.0 : 1.0;
}

// ---- Where the rows of each gate start, and its peephole weights.

struct Rows {
  std::size_t all, f, g, o;  // those of i start at 0; f is valid only with a forget gate of its own
  std::size_t peephole_f, peephole_o;

  Rows(const LstmOptions& options, std::size_t units) {
    const auto gates = static_cast<std::size_t>(options.gates());
    all = gates * units;
    f = units;
    g = (gates - 2) * units;
    o = (gates - 1) * units;
    peephole_f = units;
    peephole_o = (gates - 2) * units;
  }
};

}  // namespace

GeneralStep general_cell_forward(const GeneralCell& cell, const Vector& candidate_mask, const Vector& x,
                                 const Vector& h_prev, const Vector& c_prev) {
  const LstmOptions& options = cell.options;
  const CellActivations& activations = cell.activations;
  const GeneralWeights& weights = cell.weights;
  const bool own_forget_gate = options.forget_gate == ForgetGate::own;
  const std::size_t units = c_prev.size();
  const Rows rows(options, units);
  const Vector zeros(units);
  GeneralStep step{{x, h_prev, c_prev, zeros, zeros, zeros, zeros, zeros, zeros}};

  step.from_x = product(weights.weight_ih, x, rows.all);
  step.from_h = product(weights.weight_hh, h_prev, rows.all);
  Vector u = step.from_x, v = step.from_h;
  if (options.layer_norm) {
    u = layer_norm(u, weights.norm_ih_weight, weights.norm_ih_bias);
    v = layer_norm(v, weights.norm_hh_weight, weights.norm_hh_bias);
  }
  for (std::size_t row = 0; row < rows.all; ++row) {
    step.a.push_back(u[row] + v[row] + weights.bias_ih[row] + weights.bias_hh[row]);
  }

  const auto peep = [&](std::size_t row, std::size_t peephole, double c) {
    if (options.peephole) step.a[row] += weights.weight_peephole[peephole] * c;
  };
  const auto gate = [&](const Activation& activation, std::size_t row) {
    return activate(activation, clipped(step.a[row], options.clip)).value;
  };
  step.unclipped = zeros;
  for (std::size_t n = 0; n < units; ++n) {
    peep(n, n, c_prev[n]);
    step.i[n] = gate(activations.input, n);
    if (own_forget_gate) {
      peep(rows.f + n, rows.peephole_f + n, c_prev[n]);
      step.f[n] = gate(activations.forget, rows.f + n);
    } else {
      step.f[n] = options.forget_gate == ForgetGate::coupled ? 1.0 - step.i[n] : 1.0;
    }
    step.g[n] = gate(activations.candidate, rows.g + n);
    const double factor = candidate_mask.empty() ? 1.0 : candidate_mask[n];
    step.unclipped[n] = step.f[n] * c_prev[n] + step.i[n] * (factor * step.g[n]);
    step.c[n] = clipped(step.unclipped[n], options.cell_clip);
    peep(rows.o + n, rows.peephole_o + n, step.c[n]);
    step.o[n] = gate(activations.output, rows.o + n);
  }

  step.cell_to_output = step.c;
  if (options.layer_norm) step.cell_to_output = layer_norm(step.c, weights.norm_cell_weight, weights.norm_cell_bias);
  for (std::size_t n = 0; n < units; ++n) {
    step.h[n] = step.o[n] * activate(activations.cell, step.cell_to_output[n]).value;
  }
  return step;
}

CellGradients general_cell_backward(const GeneralCell& cell, const Vector& candidate_mask, const GeneralStep& step,
                                    const Vector& d_h, const Vector& d_c, GeneralWeights& d_weights) {
  const LstmOptions& options = cell.options;
  const CellActivations& activations = cell.activations;
  const GeneralWeights& weights = cell.weights;
  const bool own_forget_gate = options.forget_gate == ForgetGate::own;
  const std::size_t units = step.c.size();
  const Rows rows(options, units);
  CellGradients d{Vector(step.x.size()), Vector(step.h_prev.size()), Vector(units)};
  d.i = d.f = d.g = d.c = Vector(units);

  // h = o act(cell_to_output)
  Vector d_o(units), d_cell_to_output(units);
  for (std::size_t n = 0; n < units; ++n) {
    const Activated activated = activate(activations.cell, step.cell_to_output[n]);
    d_o[n] = d_h[n] * activated.value;
    d_cell_to_output[n] = d_h[n] * step.o[n] * activated.slope;
  }
  Vector d_cell = d_cell_to_output;
  if (options.layer_norm) {
    d_cell = layer_norm_backward(step.c, weights.norm_cell_weight, d_cell_to_output, d_weights.norm_cell_weight,
                                 d_weights.norm_cell_bias);
  }
  for (std::size_t n = 0; n < units; ++n) d_cell[n] += d_c[n];

  Vector d_a(rows.all);
  const auto gate_backward = [&](const Activation& activation, std::size_t row, double d_gate) {
    d_a[row] = d_gate * activate(activation, step.a[row]).slope * clip_slope(step.a[row], options.clip);
  };
  const auto peep_backward = [&](std::size_t row, std::size_t peephole, double c, double& d_seen) {
    if (!options.peephole) return;
    d_weights.weight_peephole[peephole] += d_a[row] * c;
    d_seen += d_a[row] * weights.weight_peephole[peephole];
  };
  for (std::size_t n = 0; n < units; ++n) {
    gate_backward(activations.output, rows.o + n, d_o[n]);
    peep_backward(rows.o + n, rows.peephole_o + n, step.c[n], d_cell[n]);
    d.c[n] = d_cell[n];

    // c = f c_prev + i (factor g)
    const double factor = candidate_mask.empty() ? 1.0 : candidate_mask[n];
    // At the bound itself, which a cell reaches exactly if f is 1 and nothing is added, the gradient is zero: the
    // library keeps the cell after it is clipped, and cannot tell it from one that was beyond.
    const bool cut = options.cell_clip && std::abs(step.unclipped[n]) >= *options.cell_clip;
    const double d_unclipped = cut ? 0.0 : d_cell[n];
    d.f[n] = d_unclipped * step.c_prev[n];
    d.i[n] = d_unclipped * (factor * step.g[n]);
    d.g[n] = d_unclipped * step.i[n] * factor;
    d.c_prev[n] = d_unclipped * step.f[n];
    if (options.forget_gate == ForgetGate::coupled) {  // f = 1 - i, and i = 1 - f
      d.i[n] -= d.f[n];
      d.f[n] = -d.i[n];
    }

    gate_backward(activations.candidate, rows.g + n, d.g[n]);
    if (own_forget_gate) {
      gate_backward(activations.forget, rows.f + n, d.f[n]);
      peep_backward(rows.f + n, rows.peephole_f + n, step.c_prev[n], d.c_prev[n]);
    }
    gate_backward(activations.input, n, d.i[n]);
    peep_backward(n, n, step.c_prev[n], d.c_prev[n]);
  }

  d.o = d_o;

  // a = u + v + b
  for (std::size_t row = 0; row < rows.all; ++row) {
    d_weights.bias_ih[row] += d_a[row];
    d_weights.bias_hh[row] += d_a[row];
  }
  Vector d_from_x = d_a, d_from_h = d_a;
  if (options.layer_norm) {
    d_from_x =
        layer_norm_backward(step.from_x, weights.norm_ih_weight, d_a, d_weights.norm_ih_weight, d_weights.norm_ih_bias);
    d_from_h =
        layer_norm_backward(step.from_h, weights.norm_hh_weight, d_a, d_weights.norm_hh_weight, d_weights.norm_hh_bias);
  }
  product_backward(weights.weight_ih, step.x, d_from_x, d_weights.weight_ih, d.x);
  product_backward(weights.weight_hh, step.h_prev, d_from_h, d_weights.weight_hh, d.h_prev);
  return d;
}

}  // namespace latchwork::reference
