#pragma once

// The negative logarithms of likelihoods, which are losses of forecasts. Each function is given what the network says
// of one target, in double, and the target; it returns the loss and writes its derivatives with respect to the outputs.
namespace latchwork {

// A scale or mean is at least this, so that the loss stays finite.
inline constexpr double smallest_scale = 1e-6;

// outputs: mean, s; the standard deviation is softplus(s) + 1e-6.
double gaussian_loss(const double* outputs, double target, double* gradient);
// outputs: location, s, d; the scale is softplus(s) + 1e-6, the degrees of freedom are 2 + softplus(d).
double student_t_loss(const double* outputs, double target, double* gradient);
// outputs: m, a; the mean is softplus(m) + 1e-6, the dispersion softplus(a) + 1e-6; the variance is
// mean + dispersion mean^2. The target is at least 0.
double negative_binomial_loss(const double* outputs, double target, double* gradient);

}  // namespace latchwork
