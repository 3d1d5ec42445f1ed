#include "latchwork/stream.hpp"

#include <doctest/doctest.h>

#include <stdexcept>

#include "support/lstm_problem.hpp"
#include "support/support.hpp"

namespace latchwork::test {
namespace {

template <class T>
std::vector<T> random_values(Random& random, Index size) {
  return converted<T>(random.numbers(size));
}

LstmOptions lstm_options(Index input_size, Index hidden_size, Index layers = 1, Index projection = 0) {
  LstmOptions options;
  options.input_size = input_size;
  options.hidden_size = hidden_size;
  options.num_layers = layers;
  options.proj_size = projection;
  return options;
}

}  // namespace

TEST_CASE_TEMPLATE("stream: embedding, LSTM and linear give the bits that forward() gives, resets included", T, float,
                   double) {
  for_each_isa([] {
    Random random(52);
    const Index steps = 19, vocabulary = 7;
    for (const Index rows : {1, 2, 9}) {
      CAPTURE(rows);
      const Network<T> network({EmbeddingOptions{vocabulary, 17}, lstm_options(17, 21, 2),
                                LinearOptions{21, 10, true, {"sigmoid"}}, LinearOptions{10, 3, false}},
                               TensorNames::of_chain, 3);
      std::vector<std::int64_t> tokens;
      std::vector<std::uint8_t> reset;
      for (Index k = 0; k < steps * rows; ++k) {
        tokens.push_back(random.between(0, vocabulary - 1));
        reset.push_back(random.chance(0.2) ? 2 : 0);
      }
      Batch batch;
      batch.steps = steps;
      batch.rows = rows;
      batch.reset = {reset.data(), rows, 1};
      std::vector<T> expected(static_cast<std::size_t>(steps * rows * 3), unwritten<T>), actual = expected;
      network.forward({{}, {tokens.data(), rows, 1}}, batch, {}, {expected.data(), rows * 3, 3}, {});

      const std::unique_ptr<Stream<T>> stream = network.stream(rows);
      CHECK(stream->rows() == rows);
      CHECK(stream->takes_tokens());
      CHECK(stream->input_size() == 1);
      CHECK(stream->output_size() == 3);
      for (Index step = 0; step < steps; ++step) {
        stream->step(tokens.data() + step * rows, actual.data() + step * rows * 3, reset.data() + step * rows);
      }
      CHECK(same_bits(actual, expected));
    }
  });
}

TEST_CASE_TEMPLATE("stream: after Last, each step answers as if it were the final one", T, float, double) {
  Random random(53);
  const Index steps = 5;
  const Network<T> network({lstm_options(4, 6), LastOptions{}, LinearOptions{6, 2}}, TensorNames::of_chain, 3);
  const std::vector<T> x = random_values<T>(random, steps * 4);
  const std::unique_ptr<Stream<T>> stream = network.stream(1);
  for (Index step = 0; step < steps; ++step) {
    Batch batch;
    batch.steps = step + 1;
    batch.rows = 1;
    std::vector<T> expected(2), actual(2);
    network.forward({{x.data(), 4, 4}, {}}, batch, {}, {expected.data(), 2, 2}, {});
    stream->step(x.data() + step * 4, actual.data());
    CHECK(same_bits(actual, expected));
  }
}

TEST_CASE_TEMPLATE("stream: its state can be read, set and cleared, over a chain of two LSTMs", T, float, double) {
  for_each_isa([] {
    Random random(54);
    const Index rows = 3;
    const Network<T> network({lstm_options(4, 9, 2), lstm_options(9, 7, 1, 5)}, TensorNames::of_chain, 3);
    const std::unique_ptr<Stream<T>> stream = network.stream(rows);
    const std::vector<T> x = random_values<T>(random, rows * 4);
    const auto step = [&] {
      std::vector<T> y(15);
      stream->step(x.data(), y.data());
      return y;
    };
    struct Copy {
      std::vector<T> h0 = std::vector<T>(54), c0 = std::vector<T>(54), h1 = std::vector<T>(15), c1 = std::vector<T>(21);
      States<T> states() { return {{h0.data(), c0.data()}, {h1.data(), c1.data()}}; }
      States<const T> constant() const { return {{h0.data(), c0.data()}, {h1.data(), c1.data()}}; }
      bool operator==(const Copy&) const = default;
    };
    const auto state = [&] {
      Copy copy;
      stream->get_state(copy.states());
      return copy;
    };
    CHECK(state() == Copy());
    const std::vector<T> first = step();
    const Copy after_first = state();
    CHECK(after_first.h1 == first);
    const std::vector<T> second = step();
    CHECK(second != first);
    step();
    stream->set_state(after_first.constant());
    CHECK(state() == after_first);
    CHECK(same_bits(step(), second));
    stream->reset();
    CHECK(state() == Copy());
    CHECK(same_bits(step(), first));

    Copy with_zeros = after_first;  // a null pointer stands for zeros
    std::fill(with_zeros.c0.begin(), with_zeros.c0.end(), T(0));
    stream->set_state({{after_first.h0.data(), nullptr}, {after_first.h1.data(), after_first.c1.data()}});
    CHECK(state() == with_zeros);
    stream->set_state({});
    CHECK(state() == Copy());
  });
}

TEST_CASE("stream: it keeps the weights that it was made with") {
  Random random(55);
  const Network<float> network({lstm_options(4, 9)}, TensorNames::of_layer, 3);
  const std::vector<float> x = random_values<float>(random, 4);
  std::vector<float> before(9), after(9), fresh(9);
  network.stream(1)->step(x.data(), before.data());
  const std::unique_ptr<Stream<float>> stream = network.stream(1);
  network.store()->write([&](float* values) { std::fill_n(values, network.parameter_count(), 0.5f); });
  stream->step(x.data(), after.data());
  network.stream(1)->step(x.data(), fresh.data());
  CHECK(same_bits(after, before));
  CHECK(fresh != before);
}

TEST_CASE_TEMPLATE("stream: refresh() takes new weights and keeps the state, whatever the instruction set", T, float,
                   double) {
  Random random(56);
  LstmOptions learned = lstm_options(4, 9, 2, 5);
  learned.learn_start_state = true;
  const Index rows = 3;
  for (const ModuleOptions& pooling : {ModuleOptions(LastOptions{}), ModuleOptions(MeanOptions{})}) {
    const Network<T> network({learned, pooling, LinearOptions{5, 2}}, TensorNames::of_chain, 3, 2);
    const std::vector<T> x = random_values<T>(random, 8 * rows * 4);
    const auto play = [&](Stream<T>& stream, Index begin, Index end) {
      std::vector<T> y(2 * rows * 2);
      for (Index step = begin; step < end; ++step) stream.step(x.data() + step * rows * 4, y.data());
      return y;
    };
    const auto stream = network.stream(rows), kept = network.stream(rows);
    play(*stream, 0, 4);
    const std::vector<T> before = play(*kept, 0, 8);
    stream->refresh();  // the same weights
    CHECK(same_bits(play(*stream, 4, 8), before));

    // With new weights it goes on as a stream that is made with them and given the state.
    std::vector<T> hidden(2 * 2 * rows * 5), cell(2 * 2 * rows * 9);
    stream->get_state({{hidden.data(), cell.data(), 2 * rows * 5, 2 * rows * 9}});
    network.store()->write([&](T* values) {
      for (Index k = 0; k < network.parameter_count(); ++k) values[k] *= T(1.25);
    });
    stream->refresh();
    std::vector<T> same_hidden(hidden.size()), same_cell(cell.size());
    stream->get_state({{same_hidden.data(), same_cell.data(), 2 * rows * 5, 2 * rows * 9}});
    CHECK(same_bits(same_hidden, hidden));
    CHECK(same_bits(same_cell, cell));
    const auto fresh = network.stream(rows);
    fresh->set_state({{hidden.data(), cell.data(), 2 * rows * 5, 2 * rows * 9}});
    const std::vector<T> actual = play(*stream, 2, 3), expected = play(*fresh, 2, 3);
    if (std::holds_alternative<LastOptions>(pooling)) {
      CHECK(same_bits(actual, expected));
    } else {
      CHECK(!same_bits(actual, expected));  // the mean goes on over the steps before
    }
    stream->reset();
    fresh->reset();
    CHECK(same_bits(play(*stream, 0, 3), play(*fresh, 0, 3)));  // from the new start state
  }

  // A stream that was made for other registers.
  const Network<T> network({lstm_options(4, 33)}, TensorNames::of_layer, 3);
  const std::vector<T> x = random_values<T>(random, 4);
  for_each_isa([&] {
    const auto stream = network.stream(1);
    std::vector<T> first(33), second(33), again(33), cell(33);
    stream->step(x.data(), first.data());
    stream->get_state({{nullptr, cell.data()}});
    set_isa(available_isas().front());
    stream->refresh();
    std::vector<T> same_hidden(33), same_cell(33);
    stream->get_state({{same_hidden.data(), same_cell.data()}});
    CHECK(same_bits(same_hidden, first));
    CHECK(same_bits(same_cell, cell));
    const auto fresh = network.stream(1);
    fresh->set_state({{first.data(), cell.data()}});
    stream->step(x.data(), second.data());
    fresh->step(x.data(), again.data());
    CHECK(same_bits(second, again));
  });
}

TEST_CASE("stream: a reverse direction is refused") {
  for (const Direction direction : {Direction::reverse, Direction::both}) {
    LstmOptions options = lstm_options(4, 9);
    options.direction = direction;
    const Network<float> network({options}, TensorNames::of_layer, 3);
    CHECK_THROWS_AS(network.stream(1), std::invalid_argument);
  }
}

}  // namespace latchwork::test
