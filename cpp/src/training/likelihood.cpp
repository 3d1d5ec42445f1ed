#include "training/likelihood.hpp"

#include "machine/mathematics.hpp"

namespace latchwork {
namespace {

constexpr double half_log_two_pi = 0.91893853320467274178;
constexpr double log_pi = 1.14472988584940017414;

struct Positive {
  double value;
  double slope;
};

// softplus(x) + least, and its derivative.
Positive softplus(double x, double least) {
  const double e = mathematics::exp(x < 0.0 ? x : -x);
  const double above = x > 0.0 ? x : x < 0.0 ? 0.0 : x;  // NaN stays
  return {above + mathematics::log1p(e) + least, (x < 0.0 ? e : 1.0) / (1.0 + e)};
}

}  // namespace

double gaussian_loss(const double* outputs, double target, double* gradient) {
  const Positive scale = softplus(outputs[1], smallest_scale);
  const double z = (target - outputs[0]) / scale.value;
  gradient[0] = -z / scale.value;
  gradient[1] = (1.0 - z * z) / scale.value * scale.slope;
  return 0.5 * z * z + mathematics::log(scale.value) + half_log_two_pi;
}

double student_t_loss(const double* outputs, double target, double* gradient) {
  using mathematics::digamma;
  using mathematics::log_gamma;
  const Positive scale = softplus(outputs[1], smallest_scale), freedom = softplus(outputs[2], 2.0);
  const double nu = freedom.value, half = 0.5 * nu;
  const double z = (target - outputs[0]) / scale.value, square = z * z;
  const double share = (nu + 1.0) / (nu + square);
  const double log = mathematics::log1p(square / nu);
  gradient[0] = -share * z / scale.value;
  gradient[1] = (1.0 - share * square) / scale.value * scale.slope;
  gradient[2] = 0.5 * (digamma(half) - digamma(half + 0.5) + (1.0 - share * square) / nu + log) * freedom.slope;
  return log_gamma(half) - log_gamma(half + 0.5) + 0.5 * (mathematics::log(nu) + log_pi) +
         mathematics::log(scale.value) + (half + 0.5) * log;
}

double negative_binomial_loss(const double* outputs, double target, double* gradient) {
  using mathematics::digamma;
  using mathematics::log_gamma;
  const Positive mean = softplus(outputs[0], smallest_scale), dispersion = softplus(outputs[1], smallest_scale);
  const double mu = mean.value, alpha = dispersion.value, count = 1.0 / alpha;
  const double product = alpha * mu, log = mathematics::log1p(product);
  gradient[0] = (mu - target) / (mu * (1.0 + product)) * mean.slope;
  const double by_count = digamma(count) - digamma(target + count) + log;
  gradient[1] = (count * (mu - target) / (1.0 + product) - count * count * by_count) * dispersion.slope;
  const double of_target = target > 0.0 ? target * mathematics::log(product) : 0.0 * product;
  return log_gamma(count) + log_gamma(target + 1.0) - log_gamma(target + count) + (count + target) * log - of_target;
}

}  // namespace latchwork
