// The activation module, and directions that merge, in chains: the same bits as what they are made of.
#include <doctest/doctest.h>

#include <stdexcept>

#include "latchwork/stream.hpp"
#include "latchwork/training.hpp"
#include "machine/dispatch.hpp"
#include "reference/modules.hpp"
#include "support/lstm_problem.hpp"
#include "support/support.hpp"

namespace latchwork::test {
namespace {

std::vector<std::string> all_names() {
  std::vector<std::string> names{"identity"};
  for (Index number = 0; number < current_kernels().activation_count; ++number) {
    names.emplace_back(activation_info(number).name);
  }
  return names;
}

// A batch of one input, and what a chain without states makes of it, backward too.
template <class T>
struct Run {
  Run(const std::vector<ModuleOptions>& modules, const std::vector<T>& parameters, const std::vector<T>& x,
      const std::vector<T>& d_output, const std::vector<Index>& lengths)
      : network(modules, TensorNames::of_chain, 1) {
    network.store()->write([&](T* values) { std::copy(parameters.begin(), parameters.end(), values); });
    const Index rows = static_cast<Index>(lengths.size()), inputs = network.input_size();
    const Index outputs = network.output_size(), steps = static_cast<Index>(x.size()) / rows / inputs;
    output.assign(static_cast<std::size_t>(steps * rows * outputs), unwritten<T>);
    d_x.assign(x.size(), unwritten<T>);
    d_parameters.assign(parameters.size(), unwritten<T>);
    std::vector<T> called(output.size(), unwritten<T>);
    const Input<T> input{{x.data(), rows * inputs, inputs}, {}};
    const Batch batch{steps, rows, lengths.data(), {}, 0};
    network.forward(input, batch, {}, {called.data(), rows * outputs, outputs}, {});
    const auto tape = network.record(input, batch, {}, {output.data(), rows * outputs, outputs}, {}, {true, 1});
    CHECK(same_bits(called, output));
    tape->backward({d_output.data(), rows * outputs, outputs}, {}, d_parameters.data(), false,
                   {d_x.data(), rows * inputs, inputs}, {});
  }

  Network<T> network;
  std::vector<T> output, d_x, d_parameters;
};

LstmOptions both_directions(Merge merge, Index layers = 1) {
  LstmOptions options;
  options.input_size = 3;
  options.hidden_size = 7;
  options.num_layers = layers;
  options.direction = Direction::both;
  options.merge = merge;
  return options;
}

}  // namespace

TEST_CASE_TEMPLATE("activation module: after a Linear it is that Linear's activation, bit for bit", T, float, double) {
  for_each_isa([] {
    Random random(131);
    for (const std::string& name : all_names()) {
      CAPTURE(name);
      for (const Index features : {1, 7, 17, 31}) {
        const Index rows = 5, steps = 6;
        const LinearOptions plain{3, features};
        LinearOptions activated = plain;
        activated.activation = {name};
        const std::vector<T> parameters = converted<T>(random.numbers(4 * features));
        std::vector<T> x = converted<T>(random.numbers(steps * rows * 3));
        for (T& value : x) value *= T(3);
        const std::vector<T> d_output = converted<T>(random.numbers(steps * rows * features));
        const std::vector<Index> lengths{6, 0, 1, 4, 6};
        const Run<T> alone({activated}, parameters, x, d_output, lengths);
        const Run<T> apart({plain, ActivationOptions{{name}}}, parameters, x, d_output, lengths);
        CHECK(same_bits(apart.output, alone.output));
        CHECK(same_bits(apart.d_x, alone.d_x));
        CHECK(same_bits(apart.d_parameters, alone.d_parameters));
      }
    }
  });
}

TEST_CASE_TEMPLATE("Linear: every activation equals the reference, with its gradient", T, float, double) {
  for_each_isa([] {
    Random random(132);
    for (const std::string& name : all_names()) {
      CAPTURE(name);
      for (const Index features : {1, 7, 17, 31}) {
        const Index rows = 9;
        LinearOptions options{3, features};
        options.activation = {name};
        const std::vector<double> parameters = random.numbers(4 * features), x = random.numbers(rows * 3),
                                  d_output = random.numbers(rows * features);
        const Run<T> run({options}, converted<T>(parameters), converted<T>(x), converted<T>(d_output),
                         std::vector<Index>(rows, 1));
        std::vector<double> output, d_x, d_parameters(parameters.size());
        for (Index row = 0; row < rows; ++row) {
          const reference::Vector in(x.begin() + row * 3, x.begin() + row * 3 + 3);
          const auto d_begin = d_output.begin() + row * features;
          const reference::Vector out = reference::linear(options, parameters, in);
          const reference::Vector d_in =
              reference::linear_backward(options, parameters, in, {d_begin, d_begin + features}, d_parameters);
          output.insert(output.end(), out.begin(), out.end());
          d_x.insert(d_x.end(), d_in.begin(), d_in.end());
        }
        const double tolerance = sizeof(T) == 4 ? 1e-5 : 1e-13;
        CHECK(difference(run.output, output) < tolerance);
        CHECK(difference(run.d_x, d_x) < tolerance);
        CHECK(difference(run.d_parameters, d_parameters) < tolerance);
      }
    }
  });
}

TEST_CASE_TEMPLATE("activation module: streams give the bits of calls, also at steps that are left out", T, float,
                   double) {
  for_each_isa([] {
    Random random(133);
    const Index steps = 6, rows = 3;
    const std::vector<T> x = converted<T>(random.numbers(steps * rows * 3));
    std::vector<std::uint8_t> skip;
    for (Index k = 0; k < steps * rows; ++k) skip.push_back(random.chance(0.3) ? 1 : 0);
    LstmOptions lstm;
    lstm.input_size = 3;
    lstm.hidden_size = 7;
    for (const char* name : {"identity", "gelu", "softmax"}) {
      CAPTURE(name);
      const ActivationOptions activation{{name}};
      for (const std::vector<ModuleOptions>& modules :
           {std::vector<ModuleOptions>{activation, lstm, activation}, {lstm, activation, LinearOptions{7, 2}}}) {
        const Network<T> network(modules, TensorNames::of_chain, 1);
        const Index outputs = network.output_size();
        std::vector<T> whole(static_cast<std::size_t>(steps * rows * outputs)), step(whole);
        Batch batch{steps, rows, nullptr, {}, 0};
        batch.skip = {skip.data(), rows, 1};
        network.forward({{x.data(), rows * 3, 3}, {}}, batch, {}, {whole.data(), rows * outputs, outputs}, {});
        const auto stream = network.stream(rows);
        for (Index at = 0; at < steps; ++at) {
          StepSkip skipped;
          skipped.rows = skip.data() + at * rows;
          stream->step(x.data() + at * rows * 3, step.data() + at * rows * outputs, nullptr, {}, skipped);
        }
        CHECK(same_bits(step, whole));
      }
    }
  });
}

TEST_CASE_TEMPLATE("activation module: without a network", T, float, double) {
  const std::vector<T> x{T(-1), T(0), T(1), T(2), T(3), T(4)};
  std::vector<T> y(6, unwritten<T>);
  activate<T>(ActivationOptions{{"leaky_relu", 0.5}}, x.data(), 2, 3, y.data());
  CHECK(y == std::vector<T>{T(-0.5), T(0), T(1), T(2), T(3), T(4)});
  activate<T>(ActivationOptions{{"softmax"}}, x.data(), 6, 1, y.data());
  CHECK(y == std::vector<T>(6, T(1)));
  CHECK_THROWS_WITH_AS(activate<T>(LastOptions{}, x.data(), 2, 3, y.data()),
                       "activation: expected an activation, got another module", std::invalid_argument);
  CHECK_THROWS_AS(activate<T>(ActivationOptions{{"mish"}}, x.data(), 2, 3, y.data()), std::invalid_argument);
}

TEST_CASE_TEMPLATE("merging: a Last joins the final outputs of both directions", T, float, double) {
  Random random(134);
  const Index steps = 5, rows = 4;
  const std::vector<Index> lengths{5, 0, 1, 3};
  for (const Index layers : {1, 2}) {
    for (const Merge merge : {Merge::sum, Merge::mul, Merge::ave}) {
      const LstmOptions merging = both_directions(merge, layers);
      const std::vector<T> parameters = converted<T>(random.numbers(parameter_count(merging)));
      const std::vector<T> x = converted<T>(random.numbers(steps * rows * 3));
      const std::vector<T> d_output = converted<T>(random.numbers(rows * 7));
      const Network<T> network({merging, LastOptions{}}, TensorNames::of_chain, 1),
          stack({merging}, TensorNames::of_layer, 1);
      for (const Network<T>& each : {network, stack}) {
        each.store()->write([&](T* values) { std::copy(parameters.begin(), parameters.end(), values); });
      }
      const Input<T> input{{x.data(), rows * 3, 3}, {}};
      const Batch batch{steps, rows, lengths.data(), {}, 0};
      const Index states = merging.states() * rows * 7;
      std::vector<T> output(d_output.size(), unwritten<T>), recorded(output), h_n(static_cast<std::size_t>(states)),
          c_n(h_n), d_x(x.size(), unwritten<T>), d_x_by_states(d_x);
      network.forward(input, batch, {}, {output.data(), rows * 7, 7}, {});
      stack.forward(input, batch, {}, {}, {{h_n.data(), c_n.data()}});
      const T *const forward = h_n.data() + states - 2 * rows * 7, *const reverse = forward + rows * 7;
      std::vector<T> expected, d_h_n(static_cast<std::size_t>(states)), d_c_n(d_h_n);
      for (std::size_t k = 0; k < output.size(); ++k) {
        const bool empty = k / 7 == 1;
        const T one = forward[k], other = reverse[k], d = d_output[k];
        expected.push_back(empty                 ? T(0)
                           : merge == Merge::mul ? one * other
                           : merge == Merge::ave ? (one + other) / 2
                                                 : one + other);
        const std::size_t at = d_h_n.size() - 2 * output.size() + k;
        if (empty) continue;
        d_h_n[at] = merge == Merge::mul ? d * other : merge == Merge::ave ? d / 2 : d;
        d_h_n[at + output.size()] = merge == Merge::mul ? d * one : merge == Merge::ave ? d / 2 : d;
      }
      CHECK(same_bits(output, expected));
      const auto tape = network.record(input, batch, {}, {recorded.data(), rows * 7, 7}, {}, {true, 1});
      CHECK(same_bits(recorded, expected));
      std::vector<T> d_parameters(parameters.size()), by_states(d_parameters);
      tape->backward({d_output.data(), rows * 7, 7}, {}, d_parameters.data(), false, {d_x.data(), rows * 3, 3}, {});
      stack.record(input, batch, {}, {}, {}, {true, 1})
          ->backward({}, {{d_h_n.data(), d_c_n.data()}}, by_states.data(), false, {d_x_by_states.data(), rows * 3, 3},
                     {});
      const double tolerance = sizeof(T) == 4 ? 1e-5 : 1e-13;
      CHECK(difference(d_x, converted<double>(d_x_by_states)) < tolerance);
      CHECK(difference(d_parameters, converted<double>(by_states)) < tolerance);
    }
  }
}

TEST_CASE("cross-entropy: a network that ends in softmax is refused, one that ends in its logarithm is not") {
  const auto make = [](std::vector<ModuleOptions> modules, LossKind kind) {
    const Network<float> network(std::move(modules), TensorNames::of_chain, 1);
    Loss loss;
    loss.kind = kind;
    return Trainer<float>(network, loss, OptimizerOptions{}, 0.0, 0, 0);
  };
  LinearOptions softmax{3, 4};
  softmax.activation = {"softmax"};
  const char* message =
      "loss: expected another one for a network that ends in softmax, because cross_entropy takes logits and applies "
      "the softmax itself, got cross_entropy";
  const ActivationOptions activation{{"softmax"}};
  const LinearOptions plain{3, 4};
  for (const std::vector<ModuleOptions>& modules : {std::vector<ModuleOptions>{softmax},
                                                    {plain, activation},
                                                    {softmax, MeanOptions{}, DropoutOptions{0.5}},
                                                    {softmax, ReverseOptions{}}}) {
    CHECK_THROWS_WITH_AS(make(modules, LossKind::cross_entropy), message, std::invalid_argument);
    CHECK_NOTHROW(make(modules, LossKind::squared_error));
  }
  CHECK_NOTHROW(make({plain, ActivationOptions{{"log_softmax"}}}, LossKind::cross_entropy));
  CHECK_NOTHROW(make({activation, plain}, LossKind::cross_entropy));
  CHECK_NOTHROW(make({softmax, LinearOptions{4, 4}}, LossKind::cross_entropy));
}

}  // namespace latchwork::test
