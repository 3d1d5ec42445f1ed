#include <doctest/doctest.h>

#include <stdexcept>

#include "reference/activations.hpp"
#include "support/random_variants.hpp"
#include "support/support.hpp"

namespace latchwork::test {

namespace {

doctest::Approx exactly(double value) { return doctest::Approx(value).epsilon(1e-14); }

const double ln2 = std::log(2.0), ln3 = std::log(3.0), ln4 = std::log(4.0);

}  // namespace

TEST_CASE("reference activations: values worked out by hand") {
  const auto value = [](Activation activation, double x) { return reference::activate(activation, x).value; };
  CHECK(value({"sigmoid"}, ln3) == exactly(0.75));
  CHECK(value({"tanh"}, ln2) == exactly(0.6));
  CHECK(value({"relu"}, 2.0) == 2.0);
  CHECK(value({"relu"}, -2.0) == 0.0);
  CHECK(value({"hard_sigmoid"}, 1.0) == exactly(0.7));
  CHECK(value({"hard_sigmoid", 0.5, 0.25}, 1.0) == exactly(0.75));
  CHECK(value({"hard_sigmoid"}, 3.0) == 1.0);
  CHECK(value({"hard_sigmoid"}, -3.0) == 0.0);
  CHECK(value({"affine"}, 3.0) == 3.0);
  CHECK(value({"affine", 2.0, -1.0}, 3.0) == 5.0);
  CHECK(value({"leaky_relu"}, -2.0) == exactly(-0.02));
  CHECK(value({"leaky_relu", 0.5}, -2.0) == -1.0);
  CHECK(value({"leaky_relu"}, 2.0) == 2.0);
  CHECK(value({"thresholded_relu"}, 0.9) == 0.0);
  CHECK(value({"thresholded_relu"}, 1.0) == 1.0);
  CHECK(value({"thresholded_relu", 0.5}, 0.9) == 0.9);
  CHECK(value({"scaled_tanh"}, ln2) == exactly(0.6));
  CHECK(value({"scaled_tanh", 2.0, 0.5}, 2.0 * ln2) == exactly(1.2));
  CHECK(value({"elu"}, 2.0) == 2.0);
  CHECK(value({"elu"}, -ln4) == exactly(-0.75));
  CHECK(value({"elu", 2.0}, -ln4) == exactly(-1.5));
  CHECK(value({"softsign"}, -3.0) == -0.75);
  CHECK(value({"softplus"}, ln3) == exactly(ln4));
  CHECK(value({"softplus"}, 1000.0) == 1000.0);
  CHECK(value({"selu"}, 2.0) == exactly(2.1014019747109609));
  CHECK(value({"selu"}, -ln4) == exactly(-0.75 * 1.7580993408473766));
  CHECK(value({"silu"}, ln3) == exactly(0.75 * ln3));
  CHECK(value({"gelu"}, 1.0) == exactly(0.84134474606854293));
  CHECK(value({"gelu"}, -1.0) == exactly(-0.15865525393145705));
  CHECK(value({"gelu_tanh"}, 0.0) == 0.0);
  CHECK(value({"gelu_tanh"}, 1.0) == exactly(0.84119199060827670));
  CHECK(value({"exponential"}, ln3) == exactly(3.0));
  CHECK_THROWS_AS(value({"mish"}, 1.0), std::invalid_argument);
  CHECK_THROWS_AS(value({"softmax"}, 1.0), std::invalid_argument);
}

TEST_CASE("reference activations: of a row, worked out by hand") {
  const auto row = [](const char* name) { return reference::activate_row({name}, {ln2, ln4, ln2 + 1000.0 - 1000.0}); };
  const reference::Vector probabilities = row("softmax"), logarithms = row("log_softmax");
  CHECK(probabilities[0] == doctest::Approx(0.25).epsilon(1e-12));
  CHECK(probabilities[1] == doctest::Approx(0.5).epsilon(1e-12));
  CHECK(logarithms[1] == doctest::Approx(-ln2).epsilon(1e-12));
  CHECK(reference::activate_row({"identity"}, {1.0, 2.0}) == reference::Vector{1.0, 2.0});
  const reference::Vector x{0.5, -1.0, 2.0, 0.25}, d{1.0, -0.5, 0.25, 3.0};
  for (const char* name : {"softmax", "log_softmax", "gelu", "identity"}) {
    const reference::Vector gradient = reference::activate_row_backward({name}, x, d);
    for (std::size_t k = 0; k < x.size(); ++k) {
      const auto loss = [&](double change) {
        reference::Vector moved = x;
        moved[k] += change;
        const reference::Vector y = reference::activate_row({name}, moved);
        double sum = 0.0;
        for (std::size_t at = 0; at < y.size(); ++at) sum += d[at] * y[at];
        return sum;
      };
      CAPTURE(name);
      CHECK(gradient[k] == doctest::Approx((loss(1e-6) - loss(-1e-6)) / 2e-6).epsilon(1e-8));
    }
  }
}

TEST_CASE("reference activations: slopes equal finite differences") {
  Random random(1);
  for (int round = 0; round < 400; ++round) {
    const Activation activation = random_activation(random);
    const double x = 4.0 * random.number(), step = 1e-6;
    const auto value = [&](double at) { return reference::activate(activation, at).value; };
    const double above = (value(x + step) - value(x)) / step, below = (value(x) - value(x - step)) / step;
    if (std::abs(above - below) > 1e-4) continue;  // the function has a corner or a jump between the two
    CAPTURE(activation.name);
    CAPTURE(x);
    CHECK(reference::activate(activation, x).slope == doctest::Approx((above + below) / 2.0).epsilon(1e-8));
  }
}

}  // namespace latchwork::test
