// Networks of several members: each member gives bit for bit what it would give alone.
#include <doctest/doctest.h>

#include <stdexcept>

#include "latchwork/network.hpp"
#include "latchwork/threads.hpp"
#include "latchwork/training.hpp"
#include "support/prepared_inputs.hpp"
#include "support/support.hpp"

namespace latchwork::test {
namespace {

constexpr Index members = 5;
constexpr Index steps = 6;
constexpr Index rows = 3;
constexpr std::uint64_t seed = ~std::uint64_t{0} - 1;  // the members' seeds wrap around
constexpr Index vocabulary = 7;

using Modules = std::vector<ModuleOptions>;

LstmOptions plain_lstm(Index input_size = 3) {
  LstmOptions options;
  options.input_size = input_size;
  options.hidden_size = 5;
  return options;
}

LstmOptions rich_lstm() {
  LstmOptions options = plain_lstm();
  options.num_layers = 2;
  options.direction = Direction::both;
  options.proj_size = 2;
  options.dropout = 0.25;
  options.peephole = true;
  options.layer_norm = true;
  options.zoneout_hidden = options.zoneout_cell = 0.25;
  options.recurrent_dropout = 0.25;
  options.weight_dropout = 0.25;
  options.residual = true;
  options.learn_start_state = true;
  return options;
}

LinearOptions linear(Index inputs, Index outputs) { return {inputs, outputs, true, {"tanh"}}; }

// Networks of an LSTM alone, with heads after every step and after the last, with tokens, with two LSTMs, and with
// missing values and codes.
std::vector<Modules> chains() {
  return {{plain_lstm()},
          {rich_lstm()},
          {plain_lstm(), linear(5, 4)},
          {rich_lstm(), LastOptions{}, linear(4, 4), linear(4, 2)},
          {EmbeddingOptions{vocabulary, 16}, plain_lstm(16), linear(5, vocabulary)},
          {EmbeddingOptions{vocabulary, 3}, rich_lstm(), plain_lstm(4), LastOptions{}},
          prepared({plain_lstm(prepared_size), linear(5, 4), SortOptions{2}})};
}

template <class T>
std::vector<T> numbers(Random& random, Index count) {
  std::vector<T> values;
  for (Index at = 0; at < count; ++at) values.push_back(static_cast<T>(random.between(-32, 32)) / T(16));
  return values;
}

// The arguments of a call: one set that all members share, or one for each member.
template <class T>
struct Data {
  Data(const Network<T>& network, bool is_shared, Index step_count)
      : shared(is_shared), count(step_count), features(network.input_size()), outputs(network.output_size()) {
    Random random(3);
    output_steps = network.keeps_sequence() ? count : 1;
    x = numbers<T>(random, members * count * rows * features);
    d_output = numbers<T>(random, members * output_steps * rows * outputs);
    for (Index at = 0; at < members * count * rows; ++at) tokens.push_back(random.between(0, vocabulary - 1));
    for (Index at = 0; at < members * rows; ++at) lengths.push_back(at == 1 ? 0 : random.between(0, count));
    for (Index at = 0; at < members * count * rows; ++at) reset.push_back(random.chance(0.2));
    for (const StateSize& size : network.state_sizes()) {
      hidden_sizes.push_back(size.count * rows * size.hidden);
      cell_sizes.push_back(size.count * rows * size.cell);
      hidden.push_back(numbers<T>(random, members * hidden_sizes.back()));
      cell.push_back(numbers<T>(random, members * cell_sizes.back()));
    }
    if (network.takes_missing()) {
      prepare(random, 0.4, x);
      prepare(random, 0.0, hidden.front());
      for (T& age : cell.front()) age = static_cast<T>(random.between(0, 9));
    }
    takes_tokens = network.takes_tokens();
  }

  Index stride(Index size) const { return shared ? 0 : size; }
  Input<T> input() const {
    Input<T> result;
    if (takes_tokens) {
      result.tokens = {tokens.data(), rows, 1, stride(count * rows)};
    } else {
      result.values = {x.data(), rows * features, features, stride(count * rows * features)};
    }
    return result;
  }
  Batch batch() const {
    return {count, rows, lengths.data(), {reset.data(), rows, 1, stride(count * rows)}, stride(rows)};
  }
  States<const T> start() const {
    States<const T> states;
    for (std::size_t at = 0; at < hidden.size(); ++at) {
      states.push_back({hidden[at].data(), cell[at].data(), stride(hidden_sizes[at]), stride(cell_sizes[at])});
    }
    return states;
  }
  // A view with the output's shape. Each member always has one of its own.
  template <class V>
  SequenceView<V> output_view(V* data) const {
    return {data, rows * outputs, outputs, output_steps * rows * outputs};
  }
  Target<T> target() const {
    Target<T> result;
    result.values = {d_output.data(), rows * outputs, outputs, stride(output_steps * rows * outputs)};
    return result;
  }

  bool shared, takes_tokens;
  Index count, output_steps, features, outputs;
  std::vector<T> x, d_output;
  std::vector<std::int64_t> tokens;
  std::vector<Index> lengths, hidden_sizes, cell_sizes;
  std::vector<std::uint8_t> reset;
  std::vector<std::vector<T>> hidden, cell;
};

template <class T>
constexpr T unset = std::numeric_limits<T>::quiet_NaN();

// The arrays that calls write for all members, which hold NaN before.
template <class T>
struct Written {
  Written(const Network<T>& network, const Data<T>& data)
      : output(data.d_output.size(), unset<T>),
        d_x(data.takes_tokens ? 0 : data.x.size(), unset<T>),
        gradient(static_cast<std::size_t>(network.parameter_count()), unset<T>) {
    for (std::size_t at = 0; at < data.hidden.size(); ++at) {
      for (auto* states : {&h_n, &d_h}) states->emplace_back(data.hidden[at].size(), unset<T>);
      for (auto* states : {&c_n, &d_c}) states->emplace_back(data.cell[at].size(), unset<T>);
    }
  }

  void check_same(const Written& other) const {
    CHECK(same_bits(output, other.output));
    CHECK(same_bits(d_x, other.d_x));
    CHECK(same_bits(gradient, other.gradient));
    for (std::size_t at = 0; at < h_n.size(); ++at) {
      CHECK(same_bits(h_n[at], other.h_n[at]));
      CHECK(same_bits(c_n[at], other.c_n[at]));
      CHECK(same_bits(d_h[at], other.d_h[at]));
      CHECK(same_bits(d_c[at], other.d_c[at]));
    }
  }
  static States<T> states(std::vector<std::vector<T>>& hidden, std::vector<std::vector<T>>& cell) {
    States<T> result;
    for (std::size_t at = 0; at < hidden.size(); ++at) {
      result.push_back({hidden[at].data(), cell[at].data(), static_cast<Index>(hidden[at].size()) / members,
                        static_cast<Index>(cell[at].size()) / members});
    }
    return result;
  }

  std::vector<T> output, d_x, gradient;
  std::vector<std::vector<T>> h_n, c_n, d_h, d_c;
};

// Runs forward and backward for all members together, or for each member's own network with that member's arguments.
template <class T>
Written<T> run(const Network<T>& network, const std::vector<Network<T>>& alone, const Data<T>& data, bool together,
               const RecordOptions& options) {
  Written<T> written(network, data);
  const auto output = data.output_view(written.output.data());
  const auto d_output = data.output_view(static_cast<const T*>(data.d_output.data()));
  const Index features = data.features;
  SequenceView<T> d_x;
  if (!data.takes_tokens) d_x = {written.d_x.data(), rows * features, features, data.count * rows * features};
  const States<T> end = Written<T>::states(written.h_n, written.c_n);
  const States<T> d_start = Written<T>::states(written.d_h, written.d_c);
  if (together) {
    const auto tape = network.record(data.input(), data.batch(), data.start(), output, end, options);
    tape->backward(d_output, {}, written.gradient.data(), false, d_x, d_start);
    return written;
  }
  for (Index member = 0; member < members; ++member) {
    RecordOptions member_options = options;
    *member_options.mask_seed += static_cast<std::uint64_t>(member);
    const auto tape = alone[static_cast<std::size_t>(member)].record(data.input().of(member), data.batch().of(member),
                                                                     states_of(data.start(), member), output.of(member),
                                                                     states_of(end, member), member_options);
    tape->backward(d_output.of(member), {}, written.gradient.data() + member * network.member_parameter_count(), false,
                   d_x.of(member), states_of(d_start, member));
  }
  return written;
}

template <class T>
std::vector<Network<T>> networks_alone(const Modules& modules) {
  std::vector<Network<T>> networks;
  for (Index member = 0; member < members; ++member) {
    networks.emplace_back(modules, TensorNames::of_chain, seed + static_cast<std::uint64_t>(member));
  }
  return networks;
}

template <class T>
Network<T> network_together(const Modules& modules) {
  return {modules, TensorNames::of_chain, seed, members};
}

template <class T>
std::vector<T> parameters_of(const Network<T>& network) {
  std::vector<T> copy;
  network.store()->read([&](const T* values) { copy.assign(values, values + network.store()->size()); });
  return copy;
}

template <class T>
std::vector<T> parameters_of(const std::vector<Network<T>>& networks) {
  std::vector<T> all;
  for (const Network<T>& network : networks) {
    const std::vector<T> parameters = parameters_of(network);
    all.insert(all.end(), parameters.begin(), parameters.end());
  }
  return all;
}

OptimizerOptions adam() {
  OptimizerOptions options;
  options.lr = 0.01;
  return options;
}

}  // namespace

TEST_CASE_TEMPLATE("members give the outputs and gradients that each gives alone", T, float, double) {
  const RecordOptions options{true, seed, 0, 2};
  for (const Modules& modules : chains()) {
    const Network<T> network = network_together<T>(modules);
    const std::vector<Network<T>> alone = networks_alone<T>(modules);
    CHECK(same_bits(parameters_of(network), parameters_of(alone)));
    for (const Index threads : {1, 2, 4}) {
      const ThreadCount setting(threads);
      for (const bool shared : {false, true}) {
        for (const Index count : {steps, Index(0)}) {
          CAPTURE(threads);
          CAPTURE(shared);
          CAPTURE(count);
          const Data<T> data(network, shared, count);
          const Written<T> together = run(network, alone, data, true, options);
          together.check_same(run(network, alone, data, false, options));
          RecordOptions checkpoints = options;
          checkpoints.checkpoint = 2;
          together.check_same(run(network, alone, data, true, checkpoints));
          // A call outside training, without a recording and with one.
          Written<T> called(network, data), recorded(network, data);
          network.forward(data.input(), data.batch(), data.start(), data.output_view(called.output.data()),
                          Written<T>::states(called.h_n, called.c_n));
          network.record(data.input(), data.batch(), data.start(), data.output_view(recorded.output.data()),
                         Written<T>::states(recorded.h_n, recorded.c_n), {false});
          called.check_same(recorded);
        }
      }
    }
  }
}

TEST_CASE("large members are run one after another by all threads, with the same bits") {
  LstmOptions options = plain_lstm();
  options.hidden_size = 130;
  const ThreadCount setting(4);
  // With three members on four threads, one thread would be idle if each took members of its own.
  const Index many_rows = 64, many_steps = 40;
  const std::vector<float> x(static_cast<std::size_t>(many_steps * many_rows * 3), 0.5f);
  Batch batch;
  batch.steps = many_steps;
  batch.rows = many_rows;
  const Network<float> network({options}, TensorNames::of_layer, seed, 3);
  const Index size = many_steps * many_rows * options.hidden_size;
  const auto view = [&](float* output) -> SequenceView<float> {
    return {output, many_rows * options.hidden_size, options.hidden_size, size};
  };
  std::vector<float> output(static_cast<std::size_t>(3 * size)), alone(static_cast<std::size_t>(size));
  const Input<float> input{{x.data(), many_rows * 3, 3}, {}};
  network.forward(input, batch, {}, view(output.data()), {});
  for (Index member = 0; member < 3; ++member) {
    const Network<float> one({options}, TensorNames::of_layer, seed + static_cast<std::uint64_t>(member));
    one.forward(input, batch, {}, view(alone.data()), {});
    CHECK(same_bits(alone, std::vector<float>(output.begin() + member * size, output.begin() + (member + 1) * size)));
  }
}

TEST_CASE_TEMPLATE("members are trained as each would be alone", T, float, double) {
  const Loss loss;
  for (const Modules& modules : chains()) {
    for (const Index threads : {1, 2}) {
      const ThreadCount setting(threads);
      for (const bool shared : {false, true}) {
        CAPTURE(threads);
        CAPTURE(shared);
        const Network<T> network = network_together<T>(modules);
        const Data<T> data(network, shared, steps);
        Trainer<T> trainer(network, loss, adam(), 0.05, seed);
        const std::vector<Network<T>> networks = networks_alone<T>(modules);
        std::vector<Trainer<T>> trainers;
        for (Index member = 0; member < members; ++member) {
          trainers.emplace_back(networks[static_cast<std::size_t>(member)], loss, adam(), 0.05,
                                seed + static_cast<std::uint64_t>(member));
        }
        for (int step = 0; step < 3; ++step) {
          const auto losses = trainer.step(data.input(), data.batch(), data.start(), data.target(), {});
          const auto evaluated = trainer.evaluate(data.input(), data.batch(), data.start(), data.target(), {});
          REQUIRE(losses.size() == members);
          for (Index member = 0; member < members; ++member) {
            const auto at = static_cast<std::size_t>(member);
            const auto of_member = [&](auto&& call) {
              return call(data.input().of(member), data.batch().of(member), states_of(data.start(), member),
                          data.target().of(member));
            };
            CHECK(losses[at] == of_member([&](const auto&... all) { return trainers[at].step(all..., {}).front(); }));
            CHECK(evaluated[at] ==
                  of_member([&](const auto&... all) { return trainers[at].evaluate(all..., {}).front(); }));
          }
        }
        CHECK(trainer.optimizers()[0]->steps().front() == 3);
        CHECK(same_bits(parameters_of(network), parameters_of(networks)));
      }
    }
  }
}

TEST_CASE("a member whose target is not finite is named, and no member changes") {
  const Network<float> network = network_together<float>({plain_lstm()});
  Data<float> data(network, false, steps);
  Trainer<float> trainer(network, Loss{}, adam(), 0.0, seed);
  const std::vector<float> before = parameters_of(network);
  std::fill(data.lengths.begin(), data.lengths.end(), steps);
  data.d_output[static_cast<std::size_t>(3 * steps * rows * data.outputs)] = std::numeric_limits<float>::infinity();
  std::vector<float> h_n(data.hidden[0]), c_n(data.cell[0]);
  const auto step = [&] {
    trainer.step(data.input(), data.batch(), data.start(), data.target(),
                 {{h_n.data(), c_n.data(), data.hidden_sizes[0], data.cell_sizes[0]}});
  };
  CHECK_THROWS_WITH_AS(step(),
                       "target: expected finite numbers, or weights that are 0 in the gaps, got inf at member 3, step "
                       "0, row 0",
                       std::invalid_argument);
  CHECK(same_bits(parameters_of(network), before));
  CHECK(same_bits(h_n, data.hidden[0]));
  CHECK(trainer.optimizers()[0]->steps().front() == 0);
  for (const double moment : trainer.optimizers()[0]->buffers()[0]) CHECK(moment == 0.0);
}

TEST_CASE_TEMPLATE("members stream as each would alone", T, float, double) {
  LstmOptions rich = rich_lstm();
  rich.direction = Direction::forward;
  for (const Index threads : {1, 2}) {
    const ThreadCount setting(threads);
    for (const Modules& modules :
         {Modules{rich}, Modules{EmbeddingOptions{vocabulary, 3}, rich, linear(2, 4)}, Modules{plain_lstm()}}) {
      const Network<T> network = network_together<T>(modules);
      const std::vector<Network<T>> networks = networks_alone<T>(modules);
      const Data<T> data(network, false, steps);
      const auto stream = network.stream(rows);
      CHECK(stream->members() == members);
      stream->set_state(data.start());
      std::vector<std::unique_ptr<Stream<T>>> alone;
      for (Index member = 0; member < members; ++member) {
        alone.push_back(networks[static_cast<std::size_t>(member)].stream(rows));
        alone.back()->set_state(states_of(data.start(), member));
      }
      const Index x_size = rows * data.features, y_size = rows * data.outputs;
      std::vector<T> output(static_cast<std::size_t>(members * y_size)), y(static_cast<std::size_t>(y_size));
      for (int step = 0; step < 4; ++step) {
        const bool shared = step % 2 == 1;
        const StepStrides strides{shared ? 0 : x_size, shared ? 0 : rows};
        const std::uint8_t* const reset = step >= 2 ? data.reset.data() : nullptr;
        wake_threads();
        if (data.takes_tokens) {
          stream->step(data.tokens.data(), output.data(), reset, strides);
        } else {
          stream->step(data.x.data(), output.data(), reset, strides);
        }
        for (Index member = 0; member < members; ++member) {
          Stream<T>& one = *alone[static_cast<std::size_t>(member)];
          const std::uint8_t* const its_reset = reset == nullptr ? nullptr : reset + member * strides.reset;
          if (data.takes_tokens) {
            one.step(data.tokens.data() + member * strides.x, y.data(), its_reset);
          } else {
            one.step(data.x.data() + member * strides.x, y.data(), its_reset);
          }
          CHECK(same_bits(y, std::vector<T>(output.begin() + member * y_size, output.begin() + (member + 1) * y_size)));
        }
      }
      Written<T> state(network, data), state_alone(network, data);
      stream->get_state(Written<T>::states(state.h_n, state.c_n));
      for (Index member = 0; member < members; ++member) {
        alone[static_cast<std::size_t>(member)]->get_state(
            states_of(Written<T>::states(state_alone.h_n, state_alone.c_n), member));
      }
      state.check_same(state_alone);
    }
  }
}

TEST_CASE_TEMPLATE("a module, a member and a stack have the network's weights", T, float, double) {
  const Modules modules = chains()[4];
  const Network<T> network = network_together<T>(modules);
  const Network<T> lstm = network.module(1);
  CHECK(lstm.members() == members);
  CHECK(lstm.layout().front().name == "weight_ih_l0");
  CHECK(lstm.member_stride() == network.member_parameter_count());
  lstm.store()->write([&](T* values) {
    for (Index member = 0; member < members; ++member) {
      values[lstm.parameters_begin() + member * lstm.member_stride()] = static_cast<T>(member);
    }
  });
  std::vector<Network<T>> alone;
  for (Index member = 0; member < members; ++member) {
    alone.push_back(network.member(member));
    const Network<T>& one = alone.back();
    CHECK(one.members() == 1);
    CHECK(one.layout().back().name == network.layout().back().name);
    CHECK(one.store()->data()[one.module(1).parameters_begin()] == static_cast<T>(member));
  }
  CHECK(same_bits(parameters_of(network), parameters_of(alone)));
  // From then on a member's network has weights of its own.
  alone.front().store()->write([](T* values) { values[0] = T(7); });
  CHECK(network.store()->data()[0] != T(7));
  const Network<T> stacked = Network<T>::stack({alone[2], network, alone[0]});
  CHECK(stacked.members() == members + 2);
  CHECK(same_bits(parameters_of(stacked.member(0)), parameters_of(alone[2])));
  CHECK(same_bits(parameters_of(stacked.member(3)), parameters_of(network.member(2))));
  CHECK(same_bits(parameters_of(stacked.member(members + 1)), parameters_of(alone[0])));
  CHECK_THROWS_AS(network.member(members), std::invalid_argument);
  CHECK_THROWS_AS(Network<T>::stack({}), std::invalid_argument);
  CHECK_THROWS_WITH_AS(Network<T>::stack({network, lstm}),
                       "networks[1]: expected the layers of networks[0], got others", std::invalid_argument);
}

TEST_CASE("arguments that do not fit a network of members are refused") {
  CHECK_THROWS_WITH_AS(Network<float>({plain_lstm()}, TensorNames::of_layer, 1, 0),
                       "members: expected at least 1, got 0", std::invalid_argument);
  CHECK_THROWS_AS(Network<float>({plain_lstm()}, TensorNames::of_layer, 1, Index{1} << 60), std::invalid_argument);
  const Network<float> network = network_together<float>({rich_lstm()});
  CHECK_THROWS_AS(network.stream(1), std::invalid_argument);  // because one direction reads a sequence from its end
  Data<float> data(network, false, steps);
  std::vector<float> output(data.d_output.size(), 0.0f);
  SequenceView<float> view = data.output_view(output.data());
  data.lengths[static_cast<std::size_t>(3 * rows + 2)] = steps + 1;
  CHECK_THROWS_WITH_AS(network.forward(data.input(), data.batch(), {}, view, {}),
                       "lengths: expected 0 to 6, got 7 for row 2, member 3", std::invalid_argument);
  data.lengths[static_cast<std::size_t>(3 * rows + 2)] = steps;
  view.member_stride = 0;
  CHECK_THROWS_WITH_AS(network.forward(data.input(), data.batch(), {}, view, {}),
                       "output: expected a place for each of 5 members, got a member_stride of 0",
                       std::invalid_argument);
  CHECK_THROWS_AS(network.record(data.input(), data.batch(), {}, {}, {}, {false, 0, -1}), std::invalid_argument);
  CHECK_THROWS_AS(network.record(data.input(), data.batch(), {}, {}, {}, {false, 0, 0, -1}), std::invalid_argument);
  const Network<float> tokens = network_together<float>({EmbeddingOptions{vocabulary, 3}, plain_lstm()});
  Data<float> token_data(tokens, false, steps);
  std::fill(token_data.lengths.begin(), token_data.lengths.end(), steps);
  token_data.tokens[static_cast<std::size_t>(2 * steps * rows)] = vocabulary;
  CHECK_THROWS_WITH_AS(tokens.forward(token_data.input(), token_data.batch(), {}, {}, {}),
                       "tokens: expected 0 to 6, got 7 at step 0, row 0, member 2", std::invalid_argument);
}

TEST_CASE("a tape keeps the weights it was recorded with") {
  const Network<double> network = network_together<double>({plain_lstm()});
  const Data<double> data(network, true, steps);
  Written<double> first(network, data), second = first;
  const auto tape = network.record(data.input(), data.batch(), {}, {}, {}, {});
  const auto backward = [&](Written<double>& written) {
    tape->backward(data.output_view(data.d_output.data()), {}, written.gradient.data(), false, {}, {});
  };
  backward(first);
  network.store()->write([&](double* values) { std::fill_n(values, network.parameter_count(), 0.0); });
  backward(second);
  CHECK(same_bits(first.gradient, second.gradient));
}

}  // namespace latchwork::test
