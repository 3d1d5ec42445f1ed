#include "latchwork/options.hpp"

#include <doctest/doctest.h>

#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "machine/dispatch.hpp"

namespace latchwork::test {
namespace {

// The message, or nothing where the options are valid.
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

LinearOptions linear(Index input_size, Index output_size) {
  LinearOptions options;
  options.input_size = input_size;
  options.output_size = output_size;
  return options;
}

// With every option that adds parameters or acts within a step.
LstmOptions variant(LstmOptions options) {
  options.peephole = true;
  options.layer_norm = true;
  options.activations[0].input = {"hard_sigmoid", 1.0 / 6.0, 0.5};
  options.activations[1] = options.activations[0];
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

TEST_CASE("sizes must be positive") {
  CHECK(complaint_of(lstm(0, 4)) == "input_size: expected a positive integer, got 0");
  CHECK(complaint_of(lstm(4, 0)) == "hidden_size: expected a positive integer, got 0");
  CHECK(complaint_of(lstm(4, -2)) == "hidden_size: expected a positive integer, got -2");
  CHECK(complaint_of(EmbeddingOptions{0, 4}) == "vocabulary: expected a positive integer, got 0");
  CHECK(complaint_of(EmbeddingOptions{4, -1}) == "size: expected a positive integer, got -1");
  CHECK(complaint_of(linear(0, 4)) == "input_size: expected a positive integer, got 0");
  CHECK(complaint_of(linear(4, 0)) == "output_size: expected a positive integer, got 0");
  LstmOptions options = lstm(4, 4);
  options.num_layers = 0;
  CHECK(complaint_of(options) == "num_layers: expected a positive integer, got 0");
  options.num_layers = 10001;
  CHECK(complaint_of(options) == "num_layers: expected an integer from 1 to 10000, got 10001");
}

TEST_CASE("dropout is a probability") {
  LstmOptions options = lstm(4, 4);
  options.dropout = 1.5;
  CHECK(complaint_of(options) == "dropout: expected a number from 0 to 1, got 1.5");
  options.dropout = -0.1;
  CHECK(complaint_of(options) == "dropout: expected a number from 0 to 1, got -0.1");
  options.dropout = std::numeric_limits<double>::quiet_NaN();
  CHECK(complaint_of(options) == "dropout: expected a number from 0 to 1, got nan");
}

TEST_CASE("zoneout and the other dropouts are probabilities") {
  struct Probability {
    const char* name;
    double LstmOptions::* option;
  };
  for (const auto& [name, option] : {Probability{"zoneout_hidden", &LstmOptions::zoneout_hidden},
                                     Probability{"zoneout_cell", &LstmOptions::zoneout_cell},
                                     Probability{"recurrent_dropout", &LstmOptions::recurrent_dropout},
                                     Probability{"weight_dropout", &LstmOptions::weight_dropout}}) {
    LstmOptions options = lstm(4, 4);
    for (const double valid : {0.0, 0.25, 1.0}) {
      options.*option = valid;
      CHECK(complaint_of(options) == "");
    }
    const std::string expected = name + std::string(": expected a number from 0 to 1, got ");
    options.*option = 1.5;
    CHECK(complaint_of(options) == expected + "1.5");
    options.*option = -0.5;
    CHECK(complaint_of(options) == expected + "-0.5");
    options.*option = nan;
    CHECK(complaint_of(options) == expected + "nan");
  }
}

TEST_CASE("clips are positive and finite, 0 is none") {
  struct Clip {
    const char* name;
    double LstmOptions::* option;
  };
  for (const auto& [name, option] : {Clip{"clip", &LstmOptions::clip}, Clip{"cell_clip", &LstmOptions::cell_clip}}) {
    LstmOptions options = lstm(4, 4);
    options.*option = 0.5;
    CHECK(complaint_of(options) == "");
    const std::string expected = name + std::string(": expected 0 for none or a positive finite number, got ");
    options.*option = -1.0;
    CHECK(complaint_of(options) == expected + "-1");
    options.*option = infinity;
    CHECK(complaint_of(options) == expected + "inf");
    options.*option = nan;
    CHECK(complaint_of(options) == expected + "nan");
  }
}

TEST_CASE("every activation of the list, with alpha and beta where it takes them") {
  LstmOptions options = lstm(4, 4);
  for (Index number = 0; number < current_kernels().activation_count; ++number) {
    const ActivationInfo& info = activation_info(number);
    CAPTURE(info.name);
    CHECK(activation_number(info.name) == number);
    GateActivation& candidate = options.activations[0].candidate;
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

TEST_CASE("activations of each gate and direction are looked at") {
  LstmOptions options = lstm(4, 4);
  options.direction = Direction::both;
  const std::string expected =
      ": expected one of sigmoid, tanh, relu, hard_sigmoid, affine, leaky_relu, thresholded_relu, scaled_tanh, elu, "
      "softsign, softplus, got \"swish\"";
  for (const std::size_t direction : {std::size_t{0}, std::size_t{1}}) {
    struct Gate {
      const char* name;
      GateActivation CellActivations::* gate;
    };
    for (const auto& [name, gate] : {Gate{"input", &CellActivations::input}, Gate{"forget", &CellActivations::forget},
                                     Gate{"candidate", &CellActivations::candidate},
                                     Gate{"output", &CellActivations::output}, Gate{"cell", &CellActivations::cell}}) {
      LstmOptions changed = options;
      changed.activations[direction].*gate = {"swish"};
      CHECK(complaint_of(changed) == "activations[" + std::to_string(direction) + "]." + name + ".name" + expected);
    }
  }
}

TEST_CASE("one direction has one set of activations") {
  LstmOptions options = lstm(4, 4);
  options.activations[0].candidate = {"relu"};
  CHECK(complaint_of(options) == "");  // those of the other direction, which is not there, were left alone
  options.activations[1] = options.activations[0];
  CHECK(complaint_of(options) == "");
  options.activations[1].candidate = {"softsign"};
  CHECK(complaint_of(options) == "activations: expected one set for one direction, got two");
  options.direction = Direction::reverse;
  CHECK(complaint_of(options) == "activations: expected one set for one direction, got two");
  options.direction = Direction::both;
  CHECK(complaint_of(options) == "");
}

TEST_CASE("what a forget gate of its own has is refused without one") {
  for (const ForgetGate forget_gate : {ForgetGate::none, ForgetGate::coupled}) {
    LstmOptions options = lstm(4, 4);
    options.forget_gate = forget_gate;
    CHECK(complaint_of(options) == "");
    options.activations[0].forget = {"tanh"};
    CHECK(complaint_of(options) == "activations[0].forget: expected none without a forget gate of its own, got tanh");
    options = lstm(4, 4);
    options.forget_gate = forget_gate;
    options.forget_bias = 1.0;
    CHECK(complaint_of(options) == "forget_bias: expected none without a forget gate of its own, got 1");
  }
}

TEST_CASE("initial values that contradict other options") {
  LstmOptions options = lstm(4, 4);
  options.forget_bias = -2.5;
  CHECK(complaint_of(options) == "");
  options.bias = false;
  CHECK(complaint_of(options) == "forget_bias: expected none without bias, got -2.5");
  options = lstm(4, 4);
  options.forget_bias = infinity;
  CHECK(complaint_of(options) == "forget_bias: expected a finite number, got inf");

  for (const Initialisation init : {Initialisation::torch, Initialisation::keras, Initialisation::orthogonal}) {
    options = lstm(4, 4);
    options.init = init;
    CHECK(complaint_of(options) == "");
    options.t_max = 7;
    CHECK(complaint_of(options) == "t_max: expected 0 unless init is chrono, got 7");
  }
  LstmOptions chrono = lstm(4, 4);
  chrono.init = Initialisation::chrono;
  for (const Index t_max : {Index{-3}, Index{0}, Index{1}}) {
    chrono.t_max = t_max;
    CHECK(complaint_of(chrono) ==
          "t_max: expected an integer of at least 2 for init chrono, got " + std::to_string(t_max));
  }
  chrono.t_max = 2;
  CHECK(complaint_of(chrono) == "");
  options = chrono;
  options.forget_gate = ForgetGate::coupled;
  CHECK(complaint_of(options) == "");
  options.forget_gate = ForgetGate::none;
  CHECK(complaint_of(options).rfind("init: expected any but chrono without a forget gate", 0) == 0);
  options = chrono;
  options.bias = false;
  CHECK(complaint_of(options).rfind("init: expected any but chrono without bias", 0) == 0);
  options = chrono;
  options.forget_bias = 1.0;
  CHECK(complaint_of(options) ==
        "forget_bias: expected none with init chrono, which sets the forget gate's bias, got 1");
}

TEST_CASE("residual needs a layer below") {
  LstmOptions options = lstm(4, 4);
  options.residual = true;
  CHECK(complaint_of(options) == "residual: expected false with one layer, which has no layer below, got true");
  options.num_layers = 2;
  CHECK(complaint_of(options) == "");
}

TEST_CASE("proj_size lies below hidden_size") {
  LstmOptions options = lstm(4, 4);
  const std::string expected = "proj_size: expected 0 for none or a positive integer less than hidden_size (4), got ";
  options.proj_size = 4;
  CHECK(complaint_of(options) == expected + "4");
  options.proj_size = -1;
  CHECK(complaint_of(options) == expected + "-1");
}

TEST_CASE("a cell is one layer forward") {
  LstmOptions cell = lstm(4, 4);
  cell.cell = true;
  CHECK(complaint_of(cell) == "");
  LstmOptions options = cell;
  options.num_layers = 2;
  CHECK(complaint_of(options) == "num_layers: expected 1 for a cell, got 2");
  options = cell;
  options.direction = Direction::both;
  CHECK(complaint_of(options).rfind("direction: ", 0) == 0);
  options = cell;
  options.dropout = 0.5;
  CHECK(complaint_of(options) == "dropout: expected 0 for a cell, got 0.5");
  options = cell;
  options.residual = true;
  CHECK(complaint_of(options).rfind("residual: ", 0) == 0);
  options = variant(cell);
  options.proj_size = 2;
  CHECK(complaint_of(options) == "");
}

TEST_CASE("sizes that overflow are refused") {
  for (Index size : {Index{1} << 31, Index{1} << 40, Index{1} << 62, huge}) {
    CAPTURE(size);
    CHECK(complaint_of(lstm(4, size)).rfind("hidden_size: ", 0) == 0);
    CHECK(complaint_of(EmbeddingOptions{size, size}).rfind("vocabulary: ", 0) == 0);
    CHECK(complaint_of(linear(size, size)).rfind("output_size: ", 0) == 0);
  }
  CHECK(complaint_of(lstm(huge, 1)).rfind("hidden_size: ", 0) == 0);
  CHECK(complaint_of(lstm(Index{1} << 58, 1)).rfind("hidden_size: ", 0) == 0);
  CHECK(complaint_of(EmbeddingOptions{huge, 1}).rfind("vocabulary: ", 0) == 0);
  CHECK(complaint_of(lstm(1, Index{1} << 27)) == "");  // large, but no overflow
  for (const ForgetGate forget_gate : {ForgetGate::own, ForgetGate::coupled}) {
    LstmOptions options = lstm(1, Index{1} << 27);
    options.forget_gate = forget_gate;
    options.peephole = options.layer_norm = options.learn_start_state = true;
    CHECK(complaint_of(options) == "");
    options.hidden_size = Index{1} << 57;
    CHECK(complaint_of(options).rfind("hidden_size: ", 0) == 0);
  }
  // Exactly as many parameters as there may be, so that there is no room for any others.
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
  // Each fits, their sum does not.
  const EmbeddingOptions wide{(Index{1} << 57) + 1, 1};
  const LinearOptions wider = linear(1, Index{1} << 56);
  CHECK(complaint_of(std::vector<ModuleOptions>{wide, wider}).rfind("modules: ", 0) == 0);
}

TEST_CASE("chains that fit") {
  LstmOptions both = lstm(3, 5);
  both.direction = Direction::both;
  both.proj_size = 2;
  using Modules = std::vector<ModuleOptions>;
  CHECK(complaint_of(Modules{lstm(3, 5)}) == "");
  CHECK(complaint_of(Modules{EmbeddingOptions{9, 3}, both, lstm(4, 6), LastOptions{}, linear(6, 2)}) == "");
  CHECK(complaint_of(Modules{linear(2, 3), lstm(3, 4), linear(4, 1), linear(1, 7)}) == "");
}

TEST_CASE("chains that do not fit") {
  using Modules = std::vector<ModuleOptions>;
  CHECK(complaint_of(Modules{}) == "modules: expected at least one module, got none");
  CHECK(complaint_of(Modules{EmbeddingOptions{9, 3}, lstm(4, 5)}) ==
        "modules[1].input_size: expected 3, the output size of modules[0], got 4");
  CHECK(complaint_of(Modules{lstm(3, 5), LastOptions{}, linear(4, 2)}) ==
        "modules[2].input_size: expected 5, the output size of modules[1], got 4");
  CHECK(complaint_of(Modules{lstm(3, 5), EmbeddingOptions{9, 5}}).rfind("modules[1]: ", 0) == 0);
  CHECK(complaint_of(Modules{lstm(3, 5), LastOptions{}, lstm(5, 5)}).rfind("modules[2]: ", 0) == 0);
  CHECK(complaint_of(Modules{lstm(3, 5), LastOptions{}, LastOptions{}}).rfind("modules[2]: ", 0) == 0);
  CHECK(complaint_of(Modules{LastOptions{}}).rfind("modules: ", 0) == 0);
  CHECK(complaint_of(Modules{lstm(3, 0)}) == "hidden_size: expected a positive integer, got 0");
  CHECK(complaint_of(Modules{lstm(3, 5), linear(5, 0)}) ==
        "modules[1].output_size: expected a positive integer, got 0");
}

}  // namespace latchwork::test
