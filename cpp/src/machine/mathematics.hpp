#pragma once

#include "latchwork/export.hpp"

// Elementary functions in double that give the same bits on every CPU, with every compiler and C library, because they
// are built from + - * / alone. Whatever decides weights, losses or schedules takes them from here instead of from the
// C library, whose results differ from one version to the next in the last bit.
//
// They hold for double precision with rounding to nearest. If the caller flushes subnormals to zero (FlushToZero), a
// subnormal argument counts as zero and a subnormal result is zero. NaN stays NaN.
//
// Those that the Python package calls too are exported.
namespace latchwork::mathematics {

// ---- At most 1 ulp off, except for subnormal results.

LATCHWORK_API double exp(double x);
double expm1(double x);              // exp(x) - 1
LATCHWORK_API double log(double x);  // NaN below 0, minus infinity at 0
double log1p(double x);              // log(1 + x)
// As the C library defines it for zeros, infinities and negative bases, which need a whole number as the exponent.
LATCHWORK_API double pow(double base, double exponent);
// Many powers of one base: each is, bit for bit, what pow() gives, but the logarithm of the base, which is most of the
// work, is computed once.
class PowersOf {
 public:
  explicit PowersOf(double base);
  double operator()(double exponent) const;

 private:
  double base_;
  double log_high_ = 0.0, log_low_ = 0.0;  // if the base is positive and finite
};
// For |x| up to 1e6; NaN beyond.
double sin(double x);
LATCHWORK_API double cos(double x);

// ---- For x > 0 only, NaN below 0: at most 2 ulp or 1e-15 off, whichever is more. The absolute bound matters close to
// the zeros, which are at 1 and 2 for log_gamma and at 1.46 for digamma.

double log_gamma(double x);  // the logarithm of the gamma function; infinity at 0
double digamma(double x);    // the derivative of log_gamma; minus infinity at 0

}  // namespace latchwork::mathematics
