// What a network refuses before any work: indices, states, lengths and tokens that do not fit.
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
  CHECK(trainer.optimizer().steps() == 0);
}

TEST_CASE("network: a length or a token out of range is refused, and nothing is written") {
  LstmOptions lstm;
  lstm.input_size = 3;
  lstm.hidden_size = 4;
  const Network<float> network({EmbeddingOptions{5, 3}, lstm}, TensorNames::of_chain, 1);
  std::vector<std::int64_t> tokens{0, 4, 2, 1};
  std::vector<Index> lengths{2, 1};
  std::vector<float> output(16, 7.0f);
  const auto run = [&] {
    Batch batch;
    batch.steps = 2;
    batch.rows = 2;
    batch.lengths = lengths.data();
    network.forward({{}, {tokens.data(), 2, 1}}, batch, {}, {output.data(), 8, 4}, {});
  };
  const std::vector<float> untouched = output;
  for (const Index length : {-1, 3}) {
    lengths[1] = length;
    CHECK_THROWS_AS(run(), std::invalid_argument);
  }
  lengths[1] = 1;
  for (const std::int64_t token : {-1, 5}) {
    tokens[2] = token;
    CHECK_THROWS_AS(run(), std::invalid_argument);
  }
  CHECK(output == untouched);
  tokens = {0, 4, 2, 99};  // the last one lies in padding
  CHECK_NOTHROW(run());
}

}  // namespace latchwork::test
