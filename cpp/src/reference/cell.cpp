#include "reference/cell.hpp"

#include <cmath>

namespace latchwork::reference {
namespace {

double sigmoid(double a) { return 1.0 / (1.0 + std::exp(-a)); }

// The product of row `row` of a matrix and a vector.
double dot(const Vector& matrix, std::size_t row, const Vector& vector) {
  double sum = 0.0;
  for (std::size_t k = 0; k < vector.size(); ++k) sum += matrix[row * vector.size() + k] * vector[k];
  return sum;
}

// The gradient of y = dot(matrix, row, x): the row of d_matrix += d_y x, and d_x += d_y times the row of the matrix.
void dot_backward(const Vector& matrix, std::size_t row, const Vector& x, double d_y, Vector& d_matrix, Vector& d_x) {
  for (std::size_t k = 0; k < x.size(); ++k) {
    d_matrix[row * x.size() + k] += d_y * x[k];
    d_x[k] += d_y * matrix[row * x.size() + k];
  }
}

}  // namespace

CellStep cell_forward(const Weights& weights, const Vector& x, const Vector& h_prev, const Vector& c_prev) {
  const std::size_t units = c_prev.size();
  const auto pre_activation = [&](std::size_t gate, std::size_t unit) {
    const std::size_t row = gate * units + unit;
    return dot(weights.weight_ih, row, x) + dot(weights.weight_hh, row, h_prev) + weights.bias_ih[row] +
           weights.bias_hh[row];
  };

  CellStep step{
      x, h_prev, c_prev, Vector(units), Vector(units), Vector(units), Vector(units), Vector(units), Vector(units)};
  for (std::size_t u = 0; u < units; ++u) {
    step.i[u] = sigmoid(pre_activation(0, u));    // how much of the candidate to add
    step.f[u] = sigmoid(pre_activation(1, u));    // how much of the old cell to keep
    step.g[u] = std::tanh(pre_activation(2, u));  // what could be added
    step.o[u] = sigmoid(pre_activation(3, u));    // how much of the cell to show
    step.c[u] = step.f[u] * step.c_prev[u] + step.i[u] * step.g[u];
    step.h[u] = step.o[u] * std::tanh(step.c[u]);
  }
  return step;
}

CellGradients cell_backward(const Weights& weights, const CellStep& step, const Vector& d_h, const Vector& d_c,
                            Weights& d_weights) {
  const std::size_t units = step.c.size();
  CellGradients d{Vector(step.x.size()), Vector(step.h_prev.size()), Vector(units)};
  d.i = d.f = d.g = d.o = d.c = Vector(units);
  const auto pre_activation_backward = [&](std::size_t gate, std::size_t unit, double d_a) {
    const std::size_t row = gate * units + unit;
    dot_backward(weights.weight_ih, row, step.x, d_a, d_weights.weight_ih, d.x);
    dot_backward(weights.weight_hh, row, step.h_prev, d_a, d_weights.weight_hh, d.h_prev);
    d_weights.bias_ih[row] += d_a;
    d_weights.bias_hh[row] += d_a;
  };

  for (std::size_t u = 0; u < units; ++u) {
    const double i = step.i[u], f = step.f[u], g = step.g[u], o = step.o[u];
    const double tanh_c = std::tanh(step.c[u]);

    // h = o tanh(c). The loss also depends on c through the next step, which d_c stands for.
    const double d_o = d_h[u] * tanh_c;
    const double d_cell = d_c[u] + d_h[u] * o * (1.0 - tanh_c * tanh_c);

    // c = f c_prev + i g
    const double d_f = d_cell * step.c_prev[u];
    const double d_i = d_cell * g;
    const double d_g = d_cell * i;
    d.c_prev[u] = d_cell * f;
    d.i[u] = d_i;
    d.f[u] = d_f;
    d.g[u] = d_g;
    d.o[u] = d_o;
    d.c[u] = d_cell;

    // sigmoid' = s (1 - s), tanh' = 1 - tanh^2
    pre_activation_backward(0, u, d_i * i * (1.0 - i));
    pre_activation_backward(1, u, d_f * f * (1.0 - f));
    pre_activation_backward(2, u, d_g * (1.0 - g * g));
    pre_activation_backward(3, u, d_o * o * (1.0 - o));
  }
  return d;
}

}  // namespace latchwork::reference
