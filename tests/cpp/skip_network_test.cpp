// Steps that are left out of networks: Mean, Max, Last and Dropout see the computed steps alone, in whole calls and in
// streams; the last step alone; streams that take new weights between skipped steps.
#include <doctest/doctest.h>

#include "latchwork/stream.hpp"
#include "support/lstm_problem.hpp"
#include "support/support.hpp"

namespace latchwork::test {
namespace {

constexpr Index steps = 11, rows = 5, inputs = 4, units = 6, members = 2;
constexpr std::uint64_t seed = 5;

LstmOptions lstm_of(Direction direction, Index input_size = inputs) {
  LstmOptions options;
  options.input_size = input_size;
  options.hidden_size = units;
  options.direction = direction;
  return options;
}

// A batch whose rows are ragged, restart, and have steps that are left out. What must not matter is NaN.
template <class T>
struct SkippedBatch {
  explicit SkippedBatch(Random& random, bool ragged = true, SkippedOutput skipped_output = SkippedOutput::repeat)
      : x(converted<T>(random.numbers(steps * rows * inputs))) {
    if (!ragged) lengths.assign(rows, steps);
    for (Index k = 0; k < steps * rows; ++k) {
      reset.push_back(random.chance(0.2) ? 1 : 0);
      skip.push_back(random.chance(0.4) || k % rows == rows - 1 ? 1 : 0);  // the last row is left out altogether
    }
    // Row 0 ends with a computed step, row 1 with one that is left out, row 2 with a reset that is left out.
    skip[(steps - 1) * rows] = 0;
    skip[(steps - 3) * rows + 1] = skip[(steps - 4) * rows + 2] = 1;
    reset[(steps - 4) * rows + 2] = 1;
    reset[(steps - 3) * rows + 1] = 0;
    for (Index step = 0; step < steps; ++step) {
      for (Index row = 0; row < rows; ++row) {
        const Index place = step * rows + row;
        tokens.push_back(skips(step, row) ? -7 : random.between(0, 2));
        if (step < lengths[static_cast<std::size_t>(row)] && !skips(step, row)) continue;
        std::fill_n(x.begin() + place * inputs, inputs, std::numeric_limits<T>::quiet_NaN());
      }
    }
    batch = {steps, rows, lengths.data(), {reset.data(), rows, 1}, 0};
    batch.skip = {skip.data(), rows, 1};
    batch.skipped_output = skipped_output;
  }
  SkippedBatch(const SkippedBatch&) = delete;
  SkippedBatch& operator=(const SkippedBatch&) = delete;

  bool skips(Index step, Index row) const { return skip[static_cast<std::size_t>(step * rows + row)] != 0; }
  bool resets(Index step, Index row) const { return reset[static_cast<std::size_t>(step * rows + row)] != 0; }
  Index length(Index row) const { return lengths[static_cast<std::size_t>(row)]; }
  Input<T> input() const { return {{x.data(), rows * inputs, inputs}, {tokens.data(), rows, 1}}; }

  std::vector<T> x;
  std::vector<std::int64_t> tokens;
  std::vector<std::uint8_t> reset, skip;
  std::vector<Index> lengths{steps, steps - 2, steps - 3, 6, steps};
  Batch batch;
};

// One row of a batch without the steps that are left out.
template <class T>
struct ShorterRow {
  ShorterRow(const SkippedBatch<T>& whole, Index row) {
    for (Index step = 0; step < whole.length(row); ++step) {
      restarts_at_end = restarts_at_end || whole.resets(step, row);
      if (whole.skips(step, row)) continue;
      const auto begin = whole.x.begin() + (step * rows + row) * inputs;
      x.insert(x.end(), begin, begin + inputs);
      reset.push_back(restarts_at_end ? 1 : 0);
      kept.push_back(step);
      restarts_at_end = false;
    }
  }
  // Without steps if they come before a reset at the end, after which pooling starts anew.
  Batch batch(bool nothing_counts) const {
    const auto count = static_cast<Index>(kept.size());
    return {nothing_counts ? 0 : count, 1, nullptr, {reset.data(), 1, 1}, 0};
  }

  std::vector<T> x;
  std::vector<std::uint8_t> reset;
  std::vector<Index> kept;
  bool restarts_at_end = false;
};

template <class T>
SequenceView<T> pooled_view(std::vector<T>& values, Index row_count, Index features) {
  return {values.data(), row_count * features, features, row_count * features};
}

const std::vector<ModuleOptions> poolings{MeanOptions{}, MaxOptions{}, LastOptions{}};

}  // namespace

TEST_CASE_TEMPLATE("skip in networks: pooling and Dropout see the computed steps alone", T, float, double) {
  for_each_isa([] {
    Random random(71);
    for (const ModuleOptions& pooling : poolings) {
      for (const Direction direction : {Direction::forward, Direction::both}) {
        const bool is_last = std::holds_alternative<LastOptions>(pooling);
        const Index features = direction == Direction::both ? 2 * units : units;
        const Network<T> network({DropoutOptions{0.25}, lstm_of(direction), DropoutOptions{0.25}, pooling,
                                  DropoutOptions{0.25}, LinearOptions{features, 3, true, {"elu"}}},
                                 TensorNames::of_chain, 1);
        const SkippedBatch<T> whole(random);
        const std::vector<T> d_output = converted<T>(random.numbers(rows * 3));
        std::vector<T> called(rows * 3, unwritten<T>), recorded = called, d_x(whole.x.size(), unwritten<T>);
        std::vector<T> gradient(static_cast<std::size_t>(network.parameter_count()));
        network.forward(whole.input(), whole.batch, {}, pooled_view(called, rows, 3), {});
        network.record(whole.input(), whole.batch, {}, pooled_view(recorded, rows, 3), {}, {false});
        CHECK(same_bits(called, recorded));
        const auto tape =
            network.record(whole.input(), whole.batch, {}, pooled_view(recorded, rows, 3), {}, {true, seed});
        tape->backward({d_output.data(), rows * 3, 3}, {}, gradient.data(), false, {d_x.data(), rows * inputs, inputs},
                       {});
        for (Index row = 0; row < rows; ++row) {
          CAPTURE(row);
          const ShorterRow<T> alone(whole, row);
          // What a reverse direction computes after a reset at the end, test_skip.py compares.
          if (is_last && alone.restarts_at_end && direction == Direction::both) continue;
          const Batch batch = alone.batch(alone.restarts_at_end && !is_last);
          const Input<T> input{{alone.x.data(), inputs, inputs}, {}};
          std::vector<T> expected(3, unwritten<T>), expected_d_x(alone.x.size(), T(0)), other(gradient.size());
          network.forward(input, batch, {}, pooled_view(expected, 1, 3), {});
          CHECK(same_bits(called.data() + row * 3, expected.data(), 3));
          const auto own = network.record(input, batch, {}, pooled_view(expected, 1, 3), {}, {true, seed, 0, row});
          own->backward({d_output.data() + row * 3, 3, 3}, {}, other.data(), false,
                        {expected_d_x.data(), inputs, inputs}, {});
          CHECK(same_bits(recorded.data() + row * 3, expected.data(), 3));
          auto next = alone.kept.begin();
          for (Index step = 0; step < steps; ++step) {
            const T* const actual = d_x.data() + (step * rows + row) * inputs;
            const bool computed = next != alone.kept.end() && *next == step;
            const std::vector<T> zeros(inputs);
            const T* const wanted =
                computed ? expected_d_x.data() + (next++ - alone.kept.begin()) * inputs : zeros.data();
            CHECK(same_bits(actual, wanted, inputs));
          }
        }
      }
    }
  });
}

TEST_CASE_TEMPLATE("skip in networks: a stream pools the steps that are not left out", T, float, double) {
  for_each_isa([] {
    Random random(72);
    for (const ModuleOptions& pooling : poolings) {
      for (const bool head : {false, true}) {
        for (const SkippedOutput skipped : {SkippedOutput::repeat, SkippedOutput::zero}) {
          std::vector<ModuleOptions> modules{lstm_of(Direction::forward), DropoutOptions{}, pooling};
          if (head) modules.emplace_back(LinearOptions{units, units});
          const Network<T> network(modules, TensorNames::of_chain, 1, members);
          const SkippedBatch<T> whole(random, false, skipped);
          const auto stream = network.stream(rows);
          std::vector<T> actual(members * rows * units), expected = actual;
          std::vector<bool> blank(rows, true);
          for (int pass = 0; pass < 2; ++pass) {
            for (Index step = 0; step < steps; ++step) {
              const Index begin = step * rows;
              stream->step(whole.x.data() + begin * inputs, actual.data(), whole.reset.data() + begin, {},
                           {whole.skip.data() + begin, 0, skipped});
              Batch so_far = whole.batch;
              so_far.steps = step + 1;
              so_far.lengths = nullptr;
              network.forward(whole.input(), so_far, {}, pooled_view(expected, rows, units), {});
              for (Index row = 0; row < rows; ++row) {
                const auto at = static_cast<std::size_t>(row);
                blank[at] = whole.skips(step, row) && (blank[at] || whole.resets(step, row));
                const bool zero = blank[at] || (whole.skips(step, row) && skipped == SkippedOutput::zero);
                for (Index member = 0; member < members; ++member) {
                  const std::vector<T> zeros(units);
                  const Index place = (member * rows + row) * units;
                  CHECK(same_bits(actual.data() + place, zero ? zeros.data() : expected.data() + place, units));
                }
              }
            }
            stream->reset();  // the second pass starts anew
            blank.assign(rows, true);
          }
        }
      }
    }
  });
}

TEST_CASE_TEMPLATE("skip in networks: the last step is that of the whole output", T, float, double) {
  for_each_isa([] {
    Random random(73);
    const LinearOptions head{2 * units, 3, true, {"softplus"}};
    const std::vector<std::vector<ModuleOptions>> chains{
        {lstm_of(Direction::forward)},
        {lstm_of(Direction::both)},
        {lstm_of(Direction::reverse), DropoutOptions{}},
        {DropoutOptions{}, lstm_of(Direction::both), DropoutOptions{}, head},
        {LinearOptions{inputs, 2}},
        {EmbeddingOptions{3, inputs}},
        {EmbeddingOptions{3, inputs}, lstm_of(Direction::forward), LinearOptions{units, 3}}};
    for (const auto& chain : chains) {
      for (const SkippedOutput skipped : {SkippedOutput::repeat, SkippedOutput::zero}) {
        CAPTURE(chain.size());
        const Network<T> network(chain, TensorNames::of_chain, 1, members);
        const SkippedBatch<T> whole(random, true, skipped);
        const Index features = network.output_size(), size = rows * features;
        std::vector<T> output(static_cast<std::size_t>(members * steps * size), unwritten<T>);
        std::vector<T> actual(static_cast<std::size_t>(members * size), unwritten<T>), expected = actual;
        std::vector<T> hidden(members * 2 * rows * units), hidden_then = hidden;
        States<T> end, end_then;
        if (network.lstm_count() > 0) {
          end = {{hidden.data(), nullptr, 2 * rows * units, 0}};
          end_then = {{hidden_then.data(), nullptr, 2 * rows * units, 0}};
        }
        network.forward(whole.input(), whole.batch, {}, {output.data(), size, features, steps * size}, end);
        network.forward_last_step(whole.input(), whole.batch, {}, pooled_view(actual, rows, features), end_then);
        for (Index member = 0; member < members; ++member) {
          for (Index row = 0; row < rows; ++row) {
            std::copy_n(output.begin() + ((member * steps + whole.length(row) - 1) * rows + row) * features, features,
                        expected.begin() + (member * rows + row) * features);
          }
        }
        CHECK(same_bits(actual, expected));
        CHECK(same_bits(hidden, hidden_then));
      }
    }
  });
}

TEST_CASE_TEMPLATE("skip in networks: a refreshed stream repeats the outputs from before", T, float, double) {
  Random random(74);
  LstmOptions residual = lstm_of(Direction::forward, units);
  residual.num_layers = 2;
  residual.residual = true;
  const LstmOptions lstm = lstm_of(Direction::forward);
  const std::vector<std::vector<ModuleOptions>> chains{{lstm},
                                                       {lstm, residual},
                                                       {lstm, LinearOptions{units, 3}},
                                                       {lstm, MeanOptions{}},
                                                       {lstm, MaxOptions{}},
                                                       {EmbeddingOptions{3, inputs}}};
  for (const auto& chain : chains) {
    CAPTURE(chain.size());
    const Network<T> network(chain, TensorNames::of_chain, 1, members);
    const auto stream = network.stream(rows);
    const auto size = static_cast<std::size_t>(members * rows * network.output_size());
    const std::vector<T> x = converted<T>(random.numbers(rows * inputs)), zeros(size);
    const std::vector<std::int64_t> tokens{0, 1, 2, 1, 0};
    const std::vector<std::uint8_t> all(rows, 1);
    const auto step = [&](const std::uint8_t* skip) {
      std::vector<T> y(size, unwritten<T>);
      if (stream->takes_tokens()) {
        stream->step(tokens.data(), y.data(), nullptr, {}, {skip});
      } else {
        stream->step(x.data(), y.data(), nullptr, {}, {skip});
      }
      return y;
    };
    const auto change = [&] {
      network.store()->write([&](T* parameters) {
        for (Index k = 0; k < members * network.member_parameter_count(); ++k) parameters[k] += T(0.25);
      });
      stream->refresh();
    };
    stream->refresh();
    CHECK(same_bits(step(all.data()), zeros));  // there is nothing to repeat
    const std::vector<T> before = step(nullptr);
    change();
    CHECK(same_bits(step(all.data()), before));
    CHECK_FALSE(same_bits(step(nullptr), before));
    stream->reset();
    change();
    CHECK(same_bits(step(all.data()), zeros));
  }
}

}  // namespace latchwork::test
