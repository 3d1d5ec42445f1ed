// The reference cell with every option, against results worked out by hand, and without options against the plain cell.
#include <doctest/doctest.h>

#include "reference/general_cell.hpp"
#include "reference/weights.hpp"
#include "support/reference_problem.hpp"

namespace latchwork::test {
namespace {

// One unit and one input of 1 at each step, so that each pre-activation is one element of W plus what the peepholes and
// the state add. R is zero.
Problem one_unit(LstmOptions options, const Vector& weight_ih, Index steps = 1) {
  options.input_size = options.hidden_size = 1;
  options.bias = false;
  Problem problem;
  problem.options = options;
  problem.parameters = weight_ih;
  problem.parameters.resize(static_cast<std::size_t>(parameter_count(options)));
  problem.input.steps = steps;
  problem.input.rows = 1;
  problem.input.x = Vector(static_cast<std::size_t>(steps), 1.0);
  problem.input.h_0 = {0.0};
  problem.input.c_0 = {0.1};
  problem.d_result = {Vector(static_cast<std::size_t>(steps)), {0.0}, {0.0}};
  return problem;
}

const double ln2 = std::log(2.0), ln3 = std::log(3.0), ln4 = std::log(4.0);

}  // namespace

TEST_CASE("reference: the cell of 1997, worked out by hand") {
  LstmOptions options;
  options.forget_gate = ForgetGate::none;
  // i, g, o: sigmoid(ln 3) = 3/4, 2 tanh(ln 2 / 2) = 2/3, sigmoid(-ln 4) = 1/5; the output is o c, without tanh.
  options.activations[0].candidate = {"scaled_tanh", 2.0, 0.5};
  options.activations[0].cell = {"affine"};
  Problem problem = one_unit(options, {ln3, ln2, -ln4}, 2);
  const reference::LstmRecord record = run(problem);
  const reference::GeneralStep& first = record.directions[0][0].steps[0];
  CHECK(first.i[0] == exactly(0.75));
  CHECK(first.f[0] == 1.0);
  CHECK(first.g[0] == exactly(2.0 / 3.0));
  CHECK(first.o[0] == exactly(0.2));
  CHECK(record.directions[0][0].c[0][0] == exactly(0.6));  // 0.1 + 3/4 * 2/3
  CHECK(record.result.c_n[0] == exactly(1.1));
  CHECK(record.result.output == Vector{record.directions[0][0].h[0][0], record.directions[0][0].h[1][0]});
  CHECK(record.result.output[0] == exactly(0.12));
  CHECK(record.result.h_n[0] == exactly(0.22));

  // The constant error carousel: the gradient reaches c_0 undiminished.
  problem.d_result.c_n = {1.0};
  const reference::LstmGradients gradients = run_backward(problem);
  CHECK(gradients.c_0[0] == 1.0);
  CHECK(gradients.parameters[0] ==
        exactly(2.0 * 2.0 / 3.0 * 3.0 / 16.0));  // with respect to W_i: g i (1 - i) at each step
}

TEST_CASE("reference: coupled gates, worked out by hand") {
  LstmOptions options;
  options.forget_gate = ForgetGate::coupled;
  Problem problem = one_unit(options, {ln3, ln2, -ln4});
  problem.d_result.c_n = {1.0};
  const reference::LstmRecord record = run(problem);
  CHECK(record.directions[0][0].steps[0].f[0] == exactly(0.25));
  CHECK(record.result.c_n[0] == exactly(0.475));  // 1/4 * 0.1 + 3/4 * 0.6
  CHECK(record.result.h_n[0] == exactly(0.2 * std::tanh(0.475)));
  const reference::LstmGradients gradients = run_backward(problem);
  CHECK(gradients.c_0[0] == exactly(0.25));
  CHECK(gradients.parameters[0] == exactly((0.6 - 0.1) * 0.75 * 0.25));  // (g - c_0) i (1 - i)
}

TEST_CASE("reference: the peepholes of i and f read c_prev, that of o reads the new c") {
  LstmOptions options;
  options.peephole = true;
  Problem problem = one_unit(options, {0.0, 0.0, ln2, 0.0});
  double* peepholes = parameter(problem, "weight_peephole_l0");
  peepholes[0] = 10.0 * ln3;   // i = sigmoid(0.1 * 10 ln 3) = 3/4
  peepholes[1] = -10.0 * ln4;  // f = 1/5
  peepholes[2] = ln3 / 0.47;   // o = 3/4
  const reference::LstmRecord record = run(problem);
  const reference::GeneralStep& step = record.directions[0][0].steps[0];
  CHECK(step.i[0] == exactly(0.75));
  CHECK(step.f[0] == exactly(0.2));
  CHECK(step.c[0] == exactly(0.47));  // 1/5 * 0.1 + 3/4 * 0.6
  CHECK(step.o[0] == exactly(0.75));

  // A clip acts after the peepholes are added.
  problem.options.clip = 1.0;
  CHECK(run(problem).directions[0][0].steps[0].i[0] == exactly(1.0 / (1.0 + std::exp(-1.0))));
  CHECK(run(problem).directions[0][0].steps[0].f[0] == exactly(1.0 / (1.0 + std::exp(1.0))));

  // A cell without a forget gate of its own has two peepholes, for i and for o.
  options.forget_gate = ForgetGate::none;
  problem = one_unit(options, {0.0, ln2, 0.0});
  peepholes = parameter(problem, "weight_peephole_l0");
  peepholes[0] = 10.0 * ln3;
  peepholes[1] = ln3 / 0.55;
  const reference::LstmRecord second = run(problem);
  CHECK(second.directions[0][0].steps[0].c[0] == exactly(0.55));
  CHECK(second.directions[0][0].steps[0].o[0] == exactly(0.75));
}

TEST_CASE("reference: clips, worked out by hand") {
  LstmOptions options;
  options.clip = ln2;
  options.cell_clip = 0.35;
  // All pre-activations are clipped: i and o become sigmoid(ln 2) = 2/3, g tanh(ln 2) = 3/5 and f sigmoid(-ln 2) = 1/3.
  Problem problem = one_unit(options, {ln3, -ln4, 1.0, 5.0});
  reference::LstmRecord record = run(problem);
  const reference::GeneralStep& step = record.directions[0][0].steps[0];
  CHECK(step.i[0] == exactly(2.0 / 3.0));
  CHECK(step.f[0] == exactly(1.0 / 3.0));
  CHECK(step.g[0] == exactly(0.6));
  CHECK(step.o[0] == exactly(2.0 / 3.0));
  CHECK(record.result.c_n[0] == 0.35);  // 1/3 * 0.1 + 2/3 * 0.6 is larger
  CHECK(record.result.h_n[0] == exactly(2.0 / 3.0 * std::tanh(0.35)));

  // No gradient passes through a clip beyond its bound. At the bound itself it passes through that of pre-activations,
  // as in torch.clamp.
  problem.d_result = {{1.0}, {1.0}, {1.0}};
  const reference::LstmGradients stopped = run_backward(problem);
  CHECK(stopped.c_0[0] == 0.0);
  for (std::size_t row = 0; row < 4; ++row) CHECK(stopped.parameters[row] == 0.0);
  problem = one_unit(options, {ln2, -ln4, 0.0, 5.0});
  problem.d_result = {{0.0}, {0.0}, {1.0}};
  problem.input.c_0 = {0.75};
  const reference::LstmGradients gradients = run_backward(problem);
  CHECK(gradients.c_0[0] == exactly(1.0 / 3.0));
  CHECK(gradients.parameters[2] == exactly(2.0 / 3.0));
  options.activations[0].input = {"affine"};
  problem = one_unit(options, {ln2, -ln4, ln2, 5.0});
  problem.options.cell_clip.reset();
  problem.d_result = {{0.0}, {0.0}, {1.0}};
  CHECK(run_backward(problem).parameters[0] == exactly(0.6));
}

TEST_CASE("reference: layer normalisation, worked out by hand") {
  LstmOptions options;
  options.input_size = 1;
  options.hidden_size = 2;
  options.layer_norm = true;
  options.forget_gate = ForgetGate::coupled;
  options.activations[0] = {{"affine"}, {"sigmoid"}, {"affine"}, {"affine"}, {"affine"}};
  Random random(2);
  Problem problem = random_problem(random, options, 1, 1, true, false, false);
  problem.input.x = {1.0};
  problem.input.h_0 = {1.0, 0.0};
  problem.input.c_0 = {0.0, 0.0};
  const auto set = [&](const char* name, const Vector& values) {
    std::copy(values.begin(), values.end(), parameter(problem, name));
  };
  // W x has mean 2 and deviations of 1. R h has mean 0 and deviations of 2, up in three rows and down in three.
  set("weight_ih_l0", {1, 3, 1, 3, 1, 3});
  set("weight_hh_l0", {2, 9, 2, 9, 2, 9, -2, 9, -2, 9, -2, 9});
  set("norm_ih_weight_l0", {1, 2, 3, 4, 5, 6});
  set("norm_ih_bias_l0", {0, 0, 0, 0, 0, 0.5});
  set("norm_hh_weight_l0", {1, 1, 1, 1, 1, 10});
  set("norm_hh_bias_l0", {0, 0, 0, 0, 0.25, 0});
  set("bias_ih_l0", {1, 0, 0, 0, 0, 0});
  set("bias_hh_l0", {1, 0, 0, 1, 0, 0});
  set("norm_cell_weight_l0", {1, 2});
  set("norm_cell_bias_l0", {3, 4});
  const double narrow = 1.0 / std::sqrt(1.0 + 1e-5), wide = 2.0 / std::sqrt(4.0 + 1e-5);
  const double i0 = -narrow + wide + 2.0, i1 = 2.0 * narrow + wide;
  const double g0 = -3.0 * narrow + wide, g1 = 4.0 * narrow - wide + 1.0;
  const double o0 = -5.0 * narrow - wide + 0.25, o1 = 6.0 * narrow + 0.5 - 10.0 * wide;
  const double c0 = i0 * g0, c1 = i1 * g1, half = (c1 - c0) / 2.0;
  const double normal = half / std::sqrt(half * half + 1e-5);
  const reference::LstmRecord record = run(problem);
  CHECK(difference(record.directions[0][0].steps[0].i, Vector{i0, i1}) < 1e-14);
  CHECK(difference(record.directions[0][0].steps[0].g, Vector{g0, g1}) < 1e-14);
  CHECK(difference(record.directions[0][0].steps[0].o, Vector{o0, o1}) < 1e-14);
  CHECK(difference(record.result.c_n, Vector{c0, c1}) < 1e-14);
  CHECK(difference(record.result.h_n, Vector{o0 * (3.0 - normal), o1 * (4.0 + 2.0 * normal)}) < 1e-14);
}

TEST_CASE("reference: zoneout keeps the old state, or outside training its expected part") {
  LstmOptions options;
  options.zoneout_hidden = 0.25;
  options.zoneout_cell = 0.5;
  Problem problem = one_unit(options, {ln3, 0.0, ln2, -ln4});
  problem.input.h_0 = {0.8};
  const double c = 0.5, h = 0.2 * std::tanh(0.5);  // before zoneout
  reference::LstmRecord record = run(problem);
  CHECK(record.directions[0][0].steps[0].c[0] == exactly(c));
  CHECK(record.directions[0][0].c[0][0] == exactly(0.5 * 0.1 + 0.5 * c));
  CHECK(record.directions[0][0].h[0][0] == exactly(0.25 * 0.8 + 0.75 * h));
  CHECK(record.result.c_n == record.directions[0][0].c[0]);
  CHECK(record.result.h_n == record.directions[0][0].h[0]);
  CHECK(record.result.output == record.directions[0][0].h[0]);

  problem.input.hidden_zoneout = {{1.0}};
  problem.input.cell_zoneout = {{0.0}};
  CHECK(run(problem).result.h_n[0] == 0.8);
  CHECK(run(problem).result.c_n[0] == exactly(c));
  problem.input.hidden_zoneout = {{0.0}};
  problem.input.cell_zoneout = {{1.0}};
  CHECK(run(problem).result.h_n[0] == exactly(h));  // from the new cell state, although the old one is kept
  CHECK(run(problem).result.c_n[0] == 0.1);
}

TEST_CASE("reference: masks of h, of g and of R") {
  LstmOptions options;
  const double keep = 2.0;
  Problem problem = one_unit(options, {0.0, 0.0, 0.0, 0.0}, 2);
  double* recurrent = parameter(problem, "weight_hh_l0");
  recurrent[0] = ln3;
  recurrent[2] = ln2;
  problem.input.h_0 = {0.5};
  const auto first_step = [&] { return run(problem).directions[0][0].steps[0]; };
  problem.input.recurrent_masks = {{keep}};
  CHECK(first_step().i[0] == exactly(0.75));
  CHECK(first_step().g[0] == exactly(0.6));
  problem.input.recurrent_masks = {{0.0}};
  const reference::LstmRecord dropped = run(problem);
  for (const reference::GeneralStep& step : dropped.directions[0][0].steps) {
    CHECK(step.i[0] == 0.5);
    CHECK(step.g[0] == 0.0);
  }
  problem.input.recurrent_masks.clear();
  problem.input.weight_masks = {{keep, keep, 0.0, keep}};
  CHECK(first_step().i[0] == exactly(0.75));
  CHECK(first_step().g[0] == 0.0);
  problem.input.weight_masks = {{keep, keep, keep, keep}};
  problem.input.candidate_masks = {{keep, 0.0}};
  CHECK(first_step().g[0] == exactly(0.6));                       // before the mask
  CHECK(first_step().c[0] == exactly(0.05 + 0.75 * keep * 0.6));  // after the mask
  const reference::DirectionRecord record = run(problem).directions[0][0];
  CHECK(record.c[1][0] == exactly(0.5 * record.c[0][0]));
}

TEST_CASE("reference: the general cell without options is the plain one") {
  Random random(6);
  for (int round = 0; round < 20; ++round) {
    const auto x_size = static_cast<std::size_t>(random.between(1, 5));
    const auto units = static_cast<std::size_t>(random.between(1, 5));
    const auto h_size = static_cast<std::size_t>(random.between(1, 5));  // the size of an h that may be projected
    const auto numbers = [&](std::size_t size) { return random.numbers(static_cast<Index>(size)); };
    reference::GeneralWeights weights;
    weights.weight_ih = numbers(4 * units * x_size);
    weights.weight_hh = numbers(4 * units * h_size);
    weights.bias_ih = numbers(4 * units);
    weights.bias_hh = numbers(4 * units);
    const LstmOptions options;
    const reference::GeneralCell cell{options, options.activations[0], weights};
    const Vector x = numbers(x_size), h_prev = numbers(h_size), c_prev = numbers(units);
    const reference::CellStep plain = reference::cell_forward(weights, x, h_prev, c_prev);
    const reference::GeneralStep general = reference::general_cell_forward(cell, {}, x, h_prev, c_prev);
    CHECK(general.i == plain.i);
    CHECK(general.f == plain.f);
    CHECK(general.g == plain.g);
    CHECK(general.o == plain.o);
    CHECK(general.c == plain.c);
    CHECK(general.h == plain.h);

    reference::GeneralWeights d_plain = weights, d_general = weights;  // gradients are added to these
    const Vector d_h = numbers(units), d_c = numbers(units);
    const reference::CellGradients by_plain = reference::cell_backward(weights, plain, d_h, d_c, d_plain);
    const reference::CellGradients by_general =
        reference::general_cell_backward(cell, {}, general, d_h, d_c, d_general);
    CHECK(difference(by_general.x, by_plain.x) < 1e-15);
    CHECK(difference(by_general.h_prev, by_plain.h_prev) < 1e-15);
    CHECK(difference(by_general.c_prev, by_plain.c_prev) < 1e-15);
    CHECK(difference(d_general.weight_ih, d_plain.weight_ih) < 1e-15);
    CHECK(difference(d_general.weight_hh, d_plain.weight_hh) < 1e-15);
    CHECK(difference(d_general.bias_ih, d_plain.bias_ih) < 1e-15);
    CHECK(difference(d_general.bias_hh, d_plain.bias_hh) < 1e-15);
  }
}

TEST_CASE("reference: each option that changes the cell makes it the general one") {
  Random random(7);
  for (int option = 0; option < 8; ++option) {
    LstmOptions options;
    options.input_size = 2;
    options.hidden_size = 3;
    if (option == 0) options.forget_gate = ForgetGate::none;
    if (option == 1) options.forget_gate = ForgetGate::coupled;
    if (option == 2) options.peephole = true;
    if (option == 3) options.layer_norm = true;
    if (option == 4) options.clip = 0.125;
    if (option == 5) options.cell_clip = 0.125;
    if (option == 6) options.activations[0].output = {"softsign"};
    Problem problem = random_problem(random, options, 1, 1, true, false, false);
    if (option == 7) problem.input.candidate_masks = {{2.0, 0.0, 2.0}};
    const std::vector<reference::GeneralWeights> weights = reference::split(options, problem.parameters);
    const reference::GeneralCell cell{options, options.activations[0], weights[0]};
    const Vector candidate_mask = option == 7 ? problem.input.candidate_masks[0] : Vector{};
    const reference::GeneralStep step =
        reference::general_cell_forward(cell, candidate_mask, problem.input.x, problem.input.h_0, problem.input.c_0);
    CAPTURE(option);
    CHECK(run(problem).result.h_n == step.h);
    CHECK(run(problem).result.c_n == step.c);
  }
}

}  // namespace latchwork::test
