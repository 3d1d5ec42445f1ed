#include "latchwork/parameters.hpp"

#include <doctest/doctest.h>

#include <sstream>

namespace latchwork::test {
namespace {

using Modules = std::vector<ModuleOptions>;

// One line for each tensor, with its name and shape.
std::string describe(const Modules& modules, TensorNames names) {
  std::ostringstream text;
  Index end = 0;
  for (const ParameterSpec& spec : parameter_layout(modules, names)) {
    CHECK(spec.offset == end);  // tensors follow each other without a gap
    end += spec.size();
    text << spec.name;
    for (Index extent : spec.shape) text << ' ' << extent;
    text << '\n';
  }
  CHECK(parameter_count(modules) == end);
  return text.str();
}

LstmOptions lstm(Index input_size, Index hidden_size) {
  LstmOptions options;
  options.input_size = input_size;
  options.hidden_size = hidden_size;
  return options;
}

}  // namespace

TEST_CASE("names and shapes are PyTorch's") {
  SUBCASE("one layer") {
    CHECK(describe({lstm(3, 5)}, TensorNames::of_layer) ==
          "weight_ih_l0 20 3\nweight_hh_l0 20 5\nbias_ih_l0 20\nbias_hh_l0 20\n");
  }
  SUBCASE("two layers, both directions, projection") {
    LstmOptions options = lstm(3, 5);
    options.num_layers = 2;
    options.direction = Direction::both;
    options.proj_size = 2;
    CHECK(describe({options}, TensorNames::of_layer) ==
          "weight_ih_l0 20 3\nweight_hh_l0 20 2\nbias_ih_l0 20\nbias_hh_l0 20\nweight_hr_l0 2 5\n"
          "weight_ih_l0_reverse 20 3\nweight_hh_l0_reverse 20 2\nbias_ih_l0_reverse 20\nbias_hh_l0_reverse 20\n"
          "weight_hr_l0_reverse 2 5\n"
          "weight_ih_l1 20 4\nweight_hh_l1 20 2\nbias_ih_l1 20\nbias_hh_l1 20\nweight_hr_l1 2 5\n"
          "weight_ih_l1_reverse 20 4\nweight_hh_l1_reverse 20 2\nbias_ih_l1_reverse 20\nbias_hh_l1_reverse 20\n"
          "weight_hr_l1_reverse 2 5\n");
  }
  SUBCASE("a lone reverse direction, without bias") {
    LstmOptions options = lstm(3, 5);
    options.num_layers = 2;
    options.direction = Direction::reverse;
    options.bias = false;
    CHECK(describe({options}, TensorNames::of_layer) ==
          "weight_ih_l0_reverse 20 3\nweight_hh_l0_reverse 20 5\n"
          "weight_ih_l1_reverse 20 5\nweight_hh_l1_reverse 20 5\n");
  }
  SUBCASE("a cell") {
    LstmOptions options = lstm(3, 5);
    options.cell = true;
    CHECK(describe({options}, TensorNames::of_layer) == "weight_ih 20 3\nweight_hh 20 5\nbias_ih 20\nbias_hh 20\n");
  }
  SUBCASE("peephole, norms and start states come last") {
    LstmOptions options = lstm(3, 5);
    options.direction = Direction::both;
    options.proj_size = 2;
    options.peephole = options.layer_norm = options.learn_start_state = true;
    std::string expected;
    for (const std::string suffix : {"_l0", "_l0_reverse"}) {
      expected += "weight_ih" + suffix + " 20 3\nweight_hh" + suffix + " 20 2\nbias_ih" + suffix + " 20\nbias_hh" +
                  suffix + " 20\nweight_hr" + suffix + " 2 5\nweight_peephole" + suffix + " 15\nnorm_ih_weight" +
                  suffix + " 20\nnorm_ih_bias" + suffix + " 20\nnorm_hh_weight" + suffix + " 20\nnorm_hh_bias" +
                  suffix + " 20\nnorm_cell_weight" + suffix + " 5\nnorm_cell_bias" + suffix + " 5\nh_0" + suffix +
                  " 2\nc_0" + suffix + " 5\n";
    }
    CHECK(describe({options}, TensorNames::of_layer) == expected);
  }
  SUBCASE("three gates without a forget gate of its own") {
    LstmOptions options = lstm(3, 5);
    options.cell = true;
    options.peephole = options.layer_norm = options.learn_start_state = true;
    for (const ForgetGate forget_gate : {ForgetGate::none, ForgetGate::coupled}) {
      options.forget_gate = forget_gate;
      CHECK(describe({options}, TensorNames::of_layer) ==
            "weight_ih 15 3\nweight_hh 15 5\nbias_ih 15\nbias_hh 15\nweight_peephole 10\n"
            "norm_ih_weight 15\nnorm_ih_bias 15\nnorm_hh_weight 15\nnorm_hh_bias 15\n"
            "norm_cell_weight 5\nnorm_cell_bias 5\nh_0 5\nc_0 5\n");
    }
  }
  SUBCASE("a chain") {
    LinearOptions head;
    head.in_features = 5;
    head.out_features = 7;
    LinearOptions no_bias = head;
    no_bias.bias = false;
    CHECK(describe({EmbeddingOptions{7, 3}, lstm(3, 5), LastOptions{}, head}, TensorNames::of_chain) ==
          "0.weight 7 3\n1.weight_ih_l0 20 3\n1.weight_hh_l0 20 5\n1.bias_ih_l0 20\n1.bias_hh_l0 20\n"
          "3.weight 7 5\n3.bias 7\n");
    CHECK(describe({no_bias}, TensorNames::of_chain) == "0.weight 7 5\n");
    CHECK(describe({LastOptions{}}, TensorNames::of_chain) == "");
  }
}

TEST_CASE("a store starts at zero and counts its writes") {
  ParameterStore<float> store(3);
  CHECK(store.size() == 3);
  const auto before = store.version();
  for (Index i = 0; i < 3; ++i) CHECK(store.data()[i] == 0.0f);
  store.write([](float* values) { values[1] = 2.0f; });
  CHECK(store.version() != before);
  float seen = 0.0f;
  store.read([&](const float* values) { seen = values[1]; });
  CHECK(seen == 2.0f);
}

}  // namespace latchwork::test
