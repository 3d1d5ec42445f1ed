#include "latchwork/options.hpp"

#include <doctest/doctest.h>

#include <chrono>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include "machine/dispatch.hpp"

namespace latchwork::test {
namespace {

// The error message, or "" if the options are valid.
template <class Options>
std::string complaint(const Options& options) {
  try {
    validate(options);
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "";
}

std::string complaint_of(const ModuleOptions& options) { return complaint(options); }
std::string complaint_of(const std::vector<ModuleOptions>& modules) { return complaint(modules); }

LstmOptions lstm(Index input_size, Index hidden_size) {
  LstmOptions options;
  options.input_size = input_size;
  options.hidden_size = hidden_size;
  return options;
}

LinearOptions linear(Index in_features, Index out_features) {
  LinearOptions options;
  options.in_features = in_features;
  options.out_features = out_features;
  return options;
}

// Sets every option that adds parameters or acts within a step.
LstmOptions variant(LstmOptions options) {
  options.peephole = true;
  options.layer_norm = true;
  options.activations[0].input = {"hard_sigmoid", 1.0 / 6.0, 0.5};
  options.clip = 3.0;
  options.cell_clip = 50.0;
  options.zoneout_hidden = 0.1;
  options.zoneout_cell = 1.0;
  options.recurrent_dropout = 0.5;
  options.recurrent_dropout_on = RecurrentDropoutOn::candidate;
  options.weight_dropout = 0.25;
  options.learn_start_state = true;
  options.forget_bias = 1.0;
  options.init = Initialisation::keras;
  return options;
}

constexpr Index huge = std::numeric_limits<Index>::max();
constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double nan = std::numeric_limits<double>::quiet_NaN();

}  // namespace

TEST_CASE("valid options") {
  CHECK(complaint_of(lstm(1, 1)) == "");
  LstmOptions all = lstm(3, 8);
  all.num_layers = 3;
  all.bias = false;
  all.dropout = 1.0;
  all.direction = Direction::both;
  all.proj_size = 7;
  CHECK(complaint_of(all) == "");
  all.bias = true;
  all.residual = true;
  CHECK(complaint_of(variant(all)) == "");
  CHECK(complaint_of(EmbeddingOptions{1, 1}) == "");
  CHECK(complaint_of(LastOptions{}) == "");
  CHECK(complaint_of(linear(1, 1)) == "");
}

TEST_CASE("every activation of the list, with alpha and beta if it takes them") {
  LstmOptions options = lstm(4, 4);
  for (Index number = 0; number < current_kernels().activation_count; ++number) {
    const ActivationInfo& info = activation_info(number);
    CAPTURE(info.name);
    CHECK(activation_number(info.name) == number);
    if (info.kind == ActivationKind::by_row) continue;  // a gate cannot have it
    Activation& candidate = options.activations[0].candidate;
    candidate = {info.name};
    CHECK(complaint_of(options) == "");
    candidate.alpha = 0.5;
    const std::string name = info.name;
    CHECK(complaint_of(options) ==
          (info.parameters >= 1 ? "" : "activations[0].candidate.alpha: expected none for " + name + ", got 0.5"));
    candidate = {info.name};
    candidate.beta = -0.5;
    CHECK(complaint_of(options) ==
          (info.parameters == 2 ? "" : "activations[0].candidate.beta: expected none for " + name + ", got -0.5"));
    if (info.parameters == 0) continue;
    candidate = {info.name, infinity};
    CHECK(complaint_of(options) == "activations[0].candidate.alpha: expected a finite number, got inf");
    candidate = {info.name, 0.0};
    CHECK(complaint_of(options) ==
          (info.alpha_range == AlphaRange::not_zero
               ? "activations[0].candidate.alpha: expected any number but 0 for " + name + ", got 0"
               : ""));
    candidate = {info.name, -2.0};
    CHECK(complaint_of(options) == (info.alpha_range == AlphaRange::not_negative
                                        ? "activations[0].candidate.alpha: expected at least 0 for " + name + ", got -2"
                                        : ""));
  }
  options.activations[0].candidate = {"hard_sigmoid", 0.2, nan};
  CHECK(complaint_of(options) == "activations[0].candidate.beta: expected a finite number, got nan");
}

TEST_CASE("activations of each gate and direction are checked") {
  LstmOptions options = lstm(4, 4);
  options.direction = Direction::both;
  options.activations.resize(2);
  const std::string expected =
      ": expected one of sigmoid, tanh, relu, hard_sigmoid, affine, leaky_relu, thresholded_relu, scaled_tanh, elu, "
      "softsign, softplus, selu, silu, gelu, gelu_tanh, exponential, got \"swish\"";
  for (const std::size_t direction : {std::size_t{0}, std::size_t{1}}) {
    struct Gate {
      const char* name;
      Activation CellActivations::* gate;
    };
    for (const auto& [name, gate] : {Gate{"input", &CellActivations::input}, Gate{"forget", &CellActivations::forget},
                                     Gate{"candidate", &CellActivations::candidate},
                                     Gate{"output", &CellActivations::output}, Gate{"cell", &CellActivations::cell}}) {
      LstmOptions changed = options;
      changed.activations[direction].*gate = {"swish"};
      CHECK(complaint_of(changed) == "activations[" + std::to_string(direction) + "]." + name + expected);
    }
  }
}

TEST_CASE("sizes that overflow are refused") {
  for (Index size : {Index{1} << 31, Index{1} << 40, Index{1} << 62, huge}) {
    CAPTURE(size);
    CHECK(complaint_of(lstm(4, size)).rfind("hidden_size: ", 0) == 0);
    CHECK(complaint_of(EmbeddingOptions{size, size}).rfind("num_embeddings: ", 0) == 0);
    CHECK(complaint_of(linear(size, size)).rfind("out_features: ", 0) == 0);
  }
  CHECK(complaint_of(lstm(huge, 1)).rfind("hidden_size: ", 0) == 0);
  CHECK(complaint_of(lstm(Index{1} << 58, 1)).rfind("hidden_size: ", 0) == 0);
  CHECK(complaint_of(EmbeddingOptions{huge, 1}).rfind("num_embeddings: ", 0) == 0);
  CHECK(complaint_of(lstm(1, Index{1} << 27)) == "");  // large, but no overflow
  for (const ForgetGate forget_gate : {ForgetGate::own, ForgetGate::coupled}) {
    LstmOptions options = lstm(1, Index{1} << 27);
    options.forget_gate = forget_gate;
    options.peephole = options.layer_norm = options.learn_start_state = true;
    CHECK(complaint_of(options) == "");
    options.hidden_size = Index{1} << 57;
    CHECK(complaint_of(options).rfind("hidden_size: ", 0) == 0);
  }
  // The largest number of parameters that is allowed, so that any further one is too many.
  LstmOptions full = lstm((Index{1} << 30) - (Index{1} << 26), Index{1} << 26);
  full.bias = false;
  CHECK(complaint_of(full) == "");
  for (bool LstmOptions::* option :
       {&LstmOptions::bias, &LstmOptions::peephole, &LstmOptions::layer_norm, &LstmOptions::learn_start_state}) {
    LstmOptions options = full;
    options.*option = true;
    CHECK(complaint_of(options).rfind("hidden_size: ", 0) == 0);
    options.input_size -= 5;
    CHECK(complaint_of(options) == "");
  }
  LstmOptions deep = lstm(1, Index{1} << 27);
  deep.num_layers = 10000;
  CHECK(complaint_of(deep).rfind("hidden_size: ", 0) == 0);
  // Each of the two is small enough, but not both together.
  const EmbeddingOptions wide{(Index{1} << 57) + 1, 1};
  const LinearOptions wider = linear(1, Index{1} << 56);
  CHECK(complaint_of(std::vector<ModuleOptions>{wide, wider}).rfind("modules: ", 0) == 0);
}

TEST_CASE("chains whose modules fit are accepted") {
  LstmOptions both = lstm(3, 5);
  both.direction = Direction::both;
  both.proj_size = 2;
  using Modules = std::vector<ModuleOptions>;
  CHECK(complaint_of(Modules{lstm(3, 5)}) == "");
  CHECK(complaint_of(Modules{EmbeddingOptions{9, 3}, both, lstm(4, 6), LastOptions{}, linear(6, 2)}) == "");
  CHECK(complaint_of(Modules{linear(2, 3), lstm(3, 4), linear(4, 1), linear(1, 7)}) == "");
}

TEST_CASE("many features are checked in no time") {
  ImputeOptions options;
  options.features = Index{1} << 40;
  options.indicators.resize(300'000);
  std::iota(options.indicators.begin(), options.indicators.end(), Index{0});
  const auto started = std::chrono::steady_clock::now();
  CHECK(complaint_of(options) == "");
  options.indicators.push_back(7);
  CHECK(complaint_of(options) == "indicators[300000]: expected each feature once, got 7 again");
  CHECK(std::chrono::steady_clock::now() - started < std::chrono::seconds(5));
}

}  // namespace latchwork::test
