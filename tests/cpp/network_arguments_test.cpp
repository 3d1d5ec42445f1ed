// What a network refuses before any work: indices, other networks, states, lengths and tokens that do not fit.
#include <doctest/doctest.h>

#include <stdexcept>

#include "latchwork/training.hpp"
#include "support/support.hpp"

namespace latchwork::test {

TEST_CASE("network: an index out of range is refused") {
  LstmOptions lstm;
  lstm.input_size = lstm.hidden_size = 2;
  const Network<float> network({lstm, LinearOptions{2, 2}, lstm}, TensorNames::of_chain, 1);
  CHECK(&network.lstm(1) == &std::get<LstmOptions>(network.modules()[2]));
  CHECK_THROWS_WITH_AS(network.lstm(2), "index: expected 0 to 1, got 2", std::invalid_argument);
  CHECK_THROWS_WITH_AS(network.lstm(-1), "index: expected 0 to 1, got -1", std::invalid_argument);
  CHECK_THROWS_WITH_AS(network.module(3), "index: expected 0 to 2, got 3", std::invalid_argument);
  const auto tape = network.record({}, {}, {}, {}, {}, {});
  CHECK_THROWS_WITH_AS(tape->signal(2, 0, Signal::cell, nullptr), "lstm: expected 0 to 1, got 2",
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(tape->signal(1, 1, Signal::cell, nullptr), "state: expected 0 to 0, got 1",
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(tape->output(1), "member: expected 0 to 0, got 1", std::invalid_argument);
}

TEST_CASE("network: only networks whose layers compute the same are stacked") {
  using Modules = std::vector<ModuleOptions>;
  const auto changed = [](void (*change)(LstmOptions&, LinearOptions&)) -> Modules {
    LstmOptions lstm;
    lstm.input_size = lstm.hidden_size = 2;
    LinearOptions linear{2, 2};
    change(lstm, linear);
    return {lstm, linear};
  };
  const auto stack = [](const Modules& first, const Modules& second) {
    return Network<float>::stack({{first, TensorNames::of_chain, 1}, {second, TensorNames::of_chain, 2}});
  };
  const Modules plain = changed([](LstmOptions&, LinearOptions&) {});
  const Network<float> stacked = stack(plain, plain);
  CHECK(stacked.members() == 2);
  CHECK(stacked.layout().front().name == "0.weight_ih_l0");
  CHECK(stacked.member(1).layout().front().name == "0.weight_ih_l0");
  // Only the initial values are drawn in another way.
  CHECK_NOTHROW(stack(plain, changed([](LstmOptions& lstm, LinearOptions&) { lstm.forget_bias = 1.0; })));
  CHECK_NOTHROW(stack(plain, changed([](LstmOptions& lstm, LinearOptions&) {
                        lstm.init = Initialisation::chrono;
                        lstm.t_max = 10;
                      })));
  // The parameters of all of these have the same names and shapes.
  const Modules three_gates =
      changed([](LstmOptions& lstm, LinearOptions&) { lstm.forget_gate = ForgetGate::coupled; });
  CHECK_THROWS_WITH_AS(
      stack(three_gates, changed([](LstmOptions& lstm, LinearOptions&) { lstm.forget_gate = ForgetGate::none; })),
      "networks[1]: expected the layers of networks[0], got others", std::invalid_argument);
  for (const Modules& other : {
           changed([](LstmOptions& lstm, LinearOptions&) { lstm.activations[0].cell = {"relu"}; }),
           changed([](LstmOptions& lstm, LinearOptions&) { lstm.clip = 3.0; }),
           changed([](LstmOptions& lstm, LinearOptions&) { lstm.zoneout_cell = 0.1; }),
           changed([](LstmOptions& lstm, LinearOptions&) { lstm.recurrent_dropout = 0.1; }),
           changed([](LstmOptions&, LinearOptions& linear) { linear.activation = {"relu"}; }),
       }) {
    CHECK_THROWS_AS(stack(plain, other), std::invalid_argument);
  }
}

TEST_CASE("network: states must be one for each LSTM, and of several members one for each member") {
  LstmOptions lstm;
  lstm.input_size = lstm.hidden_size = 2;
  const Network<float> network({lstm, LinearOptions{2, 2}, lstm}, TensorNames::of_chain, 1, 2);
  std::vector<float> memory(8);
  const State<float> separate{memory.data(), memory.data() + 4, 2, 2};
  const State<const float> known{memory.data(), memory.data() + 4, 2, 2};
  const Batch batch{0, 1, nullptr, {}, 0};
  network.forward({}, batch, {known, known}, {}, {separate, separate});
  const auto tape = network.record({}, batch, {known, known}, {}, {separate, separate}, {});
  Trainer<float> trainer(network, Loss{}, OptimizerOptions{}, 0.0, 1);
  for (const std::size_t count : {std::size_t{1}, std::size_t{3}}) {
    const States<float> written(count, separate);
    const States<const float> read(count, known);
    const std::string got = ": expected 2 states, got " + std::to_string(count);
    CHECK_THROWS_WITH_AS(network.forward({}, batch, read, {}, {}), ("start" + got).c_str(), std::invalid_argument);
    CHECK_THROWS_WITH_AS(network.forward({}, batch, {}, {}, written), ("end" + got).c_str(), std::invalid_argument);
    CHECK_THROWS_WITH_AS(network.record({}, batch, read, {}, {}, {}), ("start" + got).c_str(), std::invalid_argument);
    CHECK_THROWS_WITH_AS(network.record({}, batch, {}, {}, written, {}), ("end" + got).c_str(), std::invalid_argument);
    CHECK_THROWS_WITH_AS(tape->backward({}, read, nullptr, false, {}, {}), ("d_end" + got).c_str(),
                         std::invalid_argument);
    CHECK_THROWS_WITH_AS(tape->backward({}, {}, nullptr, false, {}, written), ("d_start" + got).c_str(),
                         std::invalid_argument);
    CHECK_THROWS_WITH_AS(trainer.step({}, batch, read, {}, {}), ("start" + got).c_str(), std::invalid_argument);
    CHECK_THROWS_WITH_AS(trainer.step({}, batch, {}, {}, written), ("end" + got).c_str(), std::invalid_argument);
    CHECK_THROWS_WITH_AS(trainer.evaluate({}, batch, read, {}, {}), ("start" + got).c_str(), std::invalid_argument);
  }
  State<float> one_place = separate;
  one_place.cell_member_stride = 0;
  CHECK_THROWS_AS(network.forward({}, batch, {}, {}, {separate, one_place}), std::invalid_argument);
  CHECK_THROWS_AS(trainer.gradient({}, batch, {}, {}, {separate, one_place}), std::invalid_argument);
  CHECK(trainer.optimizers()[0]->steps().front() == 0);
}

TEST_CASE("network: a length or a token out of range is refused, and nothing is written") {
  LstmOptions lstm;
  lstm.input_size = 3;
  lstm.hidden_size = 4;
  const Network<float> network({EmbeddingOptions{5, 3}, lstm}, TensorNames::of_chain, 1);
  std::vector<std::int64_t> tokens{0, 4, 2, 1};
  std::vector<Index> lengths{2, 1};
  std::vector<float> output(16, 7.0f);
  const auto batch = [&] { return Batch{2, 2, lengths.data(), {}, 0}; };
  const auto run = [&] { network.forward({{}, {tokens.data(), 2, 1}}, batch(), {}, {output.data(), 8, 4}, {}); };
  const auto record = [&] { network.record({{}, {tokens.data(), 2, 1}}, batch(), {}, {output.data(), 8, 4}, {}, {}); };
  const std::vector<float> untouched = output;
  for (const Index length : {-1, 3}) {
    lengths[1] = length;
    CHECK_THROWS_AS(run(), std::invalid_argument);
    CHECK_THROWS_AS(record(), std::invalid_argument);
  }
  lengths[1] = 1;
  for (const std::int64_t token : {-1, 5}) {
    tokens[2] = token;
    CHECK_THROWS_AS(run(), std::invalid_argument);
    CHECK_THROWS_AS(record(), std::invalid_argument);
  }
  CHECK(output == untouched);
  tokens = {0, 4, 2, 99};  // the last one lies in padding
  CHECK_NOTHROW(run());
  CHECK_NOTHROW(record());
}

}  // namespace latchwork::test
