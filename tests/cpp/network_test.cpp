// Whole networks against the plain reference, in random combinations of options and sizes.
#include <doctest/doctest.h>

#include <stdexcept>

#include "reference/lstm.hpp"
#include "support/lstm_problem.hpp"
#include "support/support.hpp"

namespace latchwork::test {
namespace {

template <class T>
constexpr double forward_tolerance = sizeof(T) == 4 ? 1e-5 : 1e-12;
template <class T>
constexpr double gradient_tolerance = sizeof(T) == 4 ? 1e-4 : 1e-11;

template <class T>
void check_against_reference(const Problem& problem) {
  const reference::LstmRecord record = reference::lstm_forward(problem.options, problem.parameters, problem.input);
  const reference::LstmGradients gradients =
      reference::lstm_backward(problem.options, problem.parameters, problem.input, record, problem.d_result);

  const Network<T> network = network_of<T>(problem);
  const Results<T> results = run_forward(network, problem);
  CHECK(difference(results.output, record.result.output) < forward_tolerance<T>);
  CHECK(difference(results.h_n, record.result.h_n) < forward_tolerance<T>);
  CHECK(difference(results.c_n, record.result.c_n) < forward_tolerance<T>);

  Results<T> recorded(problem);
  const std::shared_ptr<Tape<T>> tape = run_record(network, problem, recorded);
  CHECK(same_bits(recorded.output, results.output));
  CHECK(same_bits(recorded.h_n, results.h_n));
  CHECK(same_bits(recorded.c_n, results.c_n));

  const Gradients<T> actual = run_backward(*tape, problem);
  for (const ParameterSpec& spec : network.layout()) {
    const auto part = [&](const auto& values) {
      return std::vector(values.begin() + spec.offset, values.begin() + spec.offset + spec.size());
    };
    CAPTURE(spec.name);
    CHECK(difference(part(actual.parameters), part(gradients.parameters)) < gradient_tolerance<T>);
  }
  CHECK(difference(actual.x, gradients.x) < gradient_tolerance<T>);
  CHECK(difference(actual.h_0, gradients.h_0) < gradient_tolerance<T>);
  CHECK(difference(actual.c_0, gradients.c_0) < gradient_tolerance<T>);
}

}  // namespace

TEST_CASE_TEMPLATE("network: forward and gradients equal the reference in random configurations", T, float, double) {
  for_each_isa([] {
    Random random(31);
    for (int round = 0; round < 80; ++round) {
      const LstmOptions options = random_sizes(random);
      // Every fourth problem is large enough for several threads and several chunks of a gradient.
      const Index steps = round % 4 == 0 ? random.between(20, 60) : random.between(1, 9);
      const Index rows = round % 4 == 0 ? random.between(6, 14) : random.between(1, 9);
      Problem problem =
          random_problem(random, options, steps, rows, random.chance(0.7), random.chance(0.5), random.chance(0.5));
      spoil_unused(problem);
      const ThreadCount threads(round % 3 + 1);
      const std::string description = described(problem);
      CAPTURE(round);
      CAPTURE(description);
      check_against_reference<T>(problem);
    }
  });
}

TEST_CASE_TEMPLATE("network: no rows, no steps, and rows of length 0", T, float, double) {
  for_each_isa([] {
    Random random(32);
    for (const Direction direction : {Direction::forward, Direction::reverse, Direction::both}) {
      for (const Index projection : {0, 3}) {
        LstmOptions options;
        options.input_size = 5;
        options.hidden_size = 7;
        options.num_layers = 2;
        options.direction = direction;
        options.proj_size = projection;
        check_against_reference<T>(random_problem(random, options, 4, 0, true, false, true));
        check_against_reference<T>(random_problem(random, options, 0, 3, true, true, true));
        check_against_reference<T>(random_problem(random, options, 0, 0, false, false, false));
        Problem problem = random_problem(random, options, 4, 3, true, false, true);
        problem.input.lengths = {0, 4, 0};
        spoil_unused(problem);
        check_against_reference<T>(problem);
        problem.input.lengths = {0, 0, 0};
        spoil_unused(problem);
        check_against_reference<T>(problem);
        const Results<T> results = run_forward(network_of<T>(problem), problem);
        CHECK(results.h_n == converted<T>(problem.input.h_0));
        CHECK(results.c_n == converted<T>(problem.input.c_0));
      }
    }
  });
}

TEST_CASE_TEMPLATE("network: a trace shows what the reference's gates did", T, float, double) {
  for_each_isa([] {
    Random random(33);
    for (const Index projection : {0, 4}) {
      LstmOptions options;
      options.input_size = 3;
      options.hidden_size = 9;
      options.num_layers = 2;
      options.direction = Direction::both;
      options.proj_size = projection;
      Problem problem = random_problem(random, options, 6, 5, true, true, true);
      spoil_unused(problem);
      const reference::LstmRecord record = reference::lstm_forward(options, problem.parameters, problem.input);
      Results<T> results(problem);
      const std::shared_ptr<Tape<T>> tape = run_record(network_of<T>(problem), problem, results);
      for (Index state = 0; state < options.states(); ++state) {
        const auto check = [&](Signal signal, Index size, auto&& value_of) {
          std::vector<double> expected(static_cast<std::size_t>(30 * size), 0.0);
          for (std::size_t row = 0; row < 5; ++row) {
            const reference::DirectionRecord& direction = record.directions[static_cast<std::size_t>(state)][row];
            for (std::size_t step = 0; step < direction.steps.size(); ++step) {
              const reference::Vector& values = value_of(direction, step);
              std::copy(values.begin(), values.end(), expected.begin() + static_cast<Index>(step * 5 + row) * size);
            }
          }
          std::vector<T> actual(expected.size(), unwritten<T>);
          tape->signal(0, state, signal, actual.data());
          CHECK(difference(actual, expected) < forward_tolerance<T>);
        };
        using Record = reference::DirectionRecord;
        check(Signal::input_gate, 9, [](const Record& r, std::size_t t) { return r.steps[t].i; });
        check(Signal::forget_gate, 9, [](const Record& r, std::size_t t) { return r.steps[t].f; });
        check(Signal::candidate, 9, [](const Record& r, std::size_t t) { return r.steps[t].g; });
        check(Signal::output_gate, 9, [](const Record& r, std::size_t t) { return r.steps[t].o; });
        check(Signal::cell, 9, [](const Record& r, std::size_t t) { return r.steps[t].c; });
        check(Signal::hidden, options.hidden_output_size(), [](const Record& r, std::size_t t) { return r.h[t]; });
      }
    }
  });
}

TEST_CASE_TEMPLATE("tape: backward() again, with gradients added up, and with only some of them wanted", T, float,
                   double) {
  Random random(34);
  LstmOptions options;
  options.input_size = 6;
  options.hidden_size = 11;
  options.num_layers = 2;
  const Problem problem = random_problem(random, options, 7, 4, true, true, true);
  const Network<T> network = network_of<T>(problem);
  Results<T> results(problem);
  const std::shared_ptr<Tape<T>> tape = run_record(network, problem, results);
  const Gradients<T> first = run_backward(*tape, problem);
  network.store()->write([](T* values) { values[0] += T(1); });  // the tape keeps the weights it was recorded with
  const Gradients<T> again = run_backward(*tape, problem);
  CHECK(same_bits(again.parameters, first.parameters));
  CHECK(same_bits(again.x, first.x));
  CHECK(same_bits(again.h_0, first.h_0));
  CHECK(same_bits(again.c_0, first.c_0));

  const Arrays<T> arrays(problem);
  std::vector<T> sum(first.parameters.size(), T(0.5));
  tape->backward(arrays.d_output_view(), arrays.d_end(), sum.data(), true, {}, {});
  for (T& value : sum) value -= T(0.5);
  CHECK(difference(sum, first.parameters) < (sizeof(T) == 4 ? 1e-6 : 1e-14));

  std::vector<T> without_end(first.parameters.size()), with_zero_end(first.parameters.size());
  Problem zero_end = problem;
  std::fill(zero_end.d_result.h_n.begin(), zero_end.d_result.h_n.end(), 0.0);
  std::fill(zero_end.d_result.c_n.begin(), zero_end.d_result.c_n.end(), 0.0);
  const Arrays<T> zero_arrays(zero_end);
  tape->backward(arrays.d_output_view(), {}, without_end.data(), false, {}, {});
  tape->backward(arrays.d_output_view(), zero_arrays.d_end(), with_zero_end.data(), false, {}, {});
  CHECK(same_bits(without_end, with_zero_end));
}

TEST_CASE("tape: it has the output of every kind of chain, even if the call asked for none") {
  Random random(34);
  const Index steps = 5, rows = 3, vocabulary = 4;
  const std::vector<Index> lengths = {5, 0, 2};
  const std::vector<std::int64_t> tokens = {0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2};
  const Input<double> input{{}, {tokens.data(), rows, 1}};
  Batch batch;
  batch.steps = steps;
  batch.rows = rows;
  batch.lengths = lengths.data();
  LstmOptions lstm;
  lstm.input_size = 6;
  lstm.hidden_size = 7;
  lstm.direction = Direction::both;
  const EmbeddingOptions embedding{vocabulary, 6};
  for (const std::vector<ModuleOptions>& chain : std::vector<std::vector<ModuleOptions>>{
           {embedding}, {embedding, lstm}, {embedding, lstm, LinearOptions{14, 3}}, {embedding, lstm, LastOptions{}}}) {
    CAPTURE(chain.size());
    const Network<double> network(chain, TensorNames::of_layer, 5);
    const Index outputs = network.keeps_sequence() ? steps : 1, features = network.output_size();
    std::vector<double> output(static_cast<std::size_t>(outputs * rows * features), std::nan(""));
    const auto asked = network.record(input, batch, {}, {output.data(), rows * features, features}, {}, {});
    const auto tape = network.record(input, batch, {}, {}, {}, {});
    for (Index row = 0; row < rows; ++row) {
      for (Index step = 0; step < (outputs == 1 ? 1 : lengths[static_cast<std::size_t>(row)]); ++step) {
        const double* const expected = output.data() + (step * rows + row) * features;
        CHECK(std::equal(expected, expected + features, tape->output().at(step, row)));
        CHECK(std::equal(expected, expected + features, asked->output().at(step, row)));
      }
    }
  }
  RecordOptions checkpoints{false, 0};
  checkpoints.checkpoint = 2;
  const Network<double> network({embedding, lstm}, TensorNames::of_layer, 5);
  CHECK_THROWS_WITH_AS(network.record(input, batch, {}, {}, {}, checkpoints)->output(),
                       "output: expected a recording without checkpoints, which keeps the output",
                       std::invalid_argument);
}

TEST_CASE_TEMPLATE("network: steps and rows may have any strides, negative ones too", T, float, double) {
  for_each_isa([] {
    Random random(35);
    LstmOptions options;
    options.input_size = 5;
    options.hidden_size = 9;
    options.num_layers = 2;
    options.direction = Direction::both;
    const Index steps = 6, rows = 4, inputs = 5, outputs = 18;
    const Problem problem = random_problem(random, options, steps, rows, true, true, true);
    const Network<T> network = network_of<T>(problem);
    const Results<T> plain = run_forward(network, problem);
    Results<T> ignored(problem);
    const Gradients<T> plain_gradients = run_backward(*run_record(network, problem, ignored), problem);

    // Rows are the outer axis, steps run backwards, and a gap follows each step's features.
    const auto place = [&](Index step, Index row, Index features) {
      return (row * steps + steps - 1 - step) * (features + 3);
    };
    const auto scattered = [&](const std::vector<T>& values, Index features) {
      std::vector<T> result(static_cast<std::size_t>(steps * rows * (features + 3)), T(77));
      for (Index step = 0; step < steps; ++step) {
        for (Index row = 0; row < rows; ++row) {
          std::copy_n(values.begin() + (step * rows + row) * features, features,
                      result.begin() + place(step, row, features));
        }
      }
      return result;
    };
    const auto view = [&](auto* data, Index features) {
      return SequenceView<std::remove_pointer_t<decltype(data)>>{data + place(0, 0, features), -(features + 3),
                                                                 steps * (features + 3)};
    };
    const Arrays<T> arrays(problem);
    const std::vector<T> x = scattered(arrays.x, inputs), d_output = scattered(arrays.d_output, outputs);
    std::vector<T> output(d_output.size(), T(77)), d_x(x.size(), T(77)), d_parameters(problem.parameters.size());
    network.forward({view(x.data(), inputs), {}}, arrays.batch(), arrays.start(), view(output.data(), outputs), {});
    CHECK(same_bits(output, scattered(plain.output, outputs)));
    const std::shared_ptr<Tape<T>> tape =
        network.record({view(x.data(), inputs), {}}, arrays.batch(), arrays.start(), {}, {}, {});
    tape->backward(view(d_output.data(), outputs), arrays.d_end(), d_parameters.data(), false, view(d_x.data(), inputs),
                   {});
    CHECK(same_bits(d_x, scattered(plain_gradients.x, inputs)));
    CHECK(same_bits(d_parameters, plain_gradients.parameters));
  });
}

namespace {

// The factors by which a recording in training multiplies what goes from layer to layer, read off the candidates of the
// next layer. All layers get weights that make their output reveal their input: the gates are open, the cell has no
// memory, and each candidate is tanh(1 + one input).
template <class T>
reference::Vector revealed_masks(const Problem& problem, const RecordOptions& recording) {
  const LstmOptions& options = problem.options;
  const Index units = options.hidden_size, h_size = options.hidden_output_size();
  Problem revealing = problem;
  std::fill(revealing.parameters.begin(), revealing.parameters.end(), 0.0);
  const std::vector<ParameterSpec> layout = parameter_layout({options}, TensorNames::of_layer);
  for (const ParameterSpec& spec : layout) {
    const auto starts = [&](const char* prefix) { return spec.name.rfind(prefix, 0) == 0; };
    double* values = revealing.parameters.data() + spec.offset;
    const bool reverse = spec.name.find("_reverse") != std::string::npos;
    if (starts("bias_ih")) {
      for (Index unit = 0; unit < units; ++unit) {
        values[unit] = values[3 * units + unit] = 50.0;
        values[units + unit] = -50.0;
        values[2 * units + unit] = 1.0;
      }
    } else if (starts("weight_hr")) {
      for (Index p = 0; p < h_size; ++p) values[p * units + p] = 1.0;
    } else if (starts("weight_ih") && !starts("weight_ih_l0")) {
      for (Index j = 0; j < h_size; ++j) {
        values[(2 * units + j) * options.output_size() + (reverse ? h_size : 0) + j] = 1.0;
      }
    }
  }
  Results<T> ignored(revealing);
  const std::shared_ptr<Tape<T>> tape = run_record(network_of<T>(revealing), revealing, ignored, recording);

  const double factor = 1.0 / (1.0 - options.dropout);
  reference::Vector masks;
  for (Index layer = 1; layer < options.num_layers; ++layer) {
    std::vector<std::vector<T>> candidates;
    for (Index direction = 0; direction < options.directions(); ++direction) {
      candidates.emplace_back(static_cast<std::size_t>(problem.input.steps * problem.input.rows * units));
      tape->signal(0, layer * options.directions() + direction, Signal::candidate, candidates.back().data());
    }
    for (Index place = 0; place < problem.input.steps * problem.input.rows; ++place) {
      for (const std::vector<T>& candidate : candidates) {
        for (Index j = 0; j < h_size; ++j) {
          const auto shown = static_cast<double>(candidate[static_cast<std::size_t>(place * units + j)]);
          masks.push_back(shown > std::tanh(1.0) + 0.01 ? factor : 0.0);
        }
      }
    }
  }
  return masks;
}

}  // namespace

TEST_CASE_TEMPLATE(
    "network: dropout acts between layers, only in training, and as in the reference with the same masks", T, float,
    double) {
  for_each_isa([] {
    Random random(36);
    for (const Index projection : {0, 5}) {
      LstmOptions options;
      options.input_size = 4;
      options.hidden_size = 9;
      options.num_layers = 3;
      options.direction = Direction::both;
      options.dropout = 0.3;
      options.proj_size = projection;
      Problem problem = random_problem(random, options, 12, 7, true, false, true);
      const RecordOptions training{true, 5};
      const reference::Vector masks = revealed_masks<T>(problem, training);
      const auto dropped = static_cast<double>(std::count(masks.begin(), masks.end(), 0.0));
      CHECK(std::abs(dropped / static_cast<double>(masks.size()) - 0.3) < 0.03);
      CHECK(revealed_masks<T>(problem, {true, 5}) == masks);
      CHECK(revealed_masks<T>(problem, {true, 6}) != masks);
      CHECK(reference::Vector(masks.begin(), masks.begin() + static_cast<Index>(masks.size()) / 2) !=
            reference::Vector(masks.begin() + static_cast<Index>(masks.size()) / 2, masks.end()));

      const Network<T> network = network_of<T>(problem);
      const Results<T> undropped = run_forward(network, problem);
      Results<T> recorded(problem);
      run_record(network, problem, recorded, {false, 5});
      CHECK(same_bits(recorded.output, undropped.output));

      const std::shared_ptr<Tape<T>> tape = run_record(network, problem, recorded, training);
      const Gradients<T> actual = run_backward(*tape, problem);
      problem.input.masks = masks;
      const reference::LstmRecord record = reference::lstm_forward(options, problem.parameters, problem.input);
      const reference::LstmGradients gradients =
          reference::lstm_backward(options, problem.parameters, problem.input, record, problem.d_result);
      CHECK(difference(recorded.output, record.result.output) < forward_tolerance<T>);
      CHECK(difference(recorded.h_n, record.result.h_n) < forward_tolerance<T>);
      CHECK(difference(actual.parameters, gradients.parameters) < gradient_tolerance<T>);
      CHECK(difference(actual.x, gradients.x) < gradient_tolerance<T>);
      CHECK(difference(actual.c_0, gradients.c_0) < gradient_tolerance<T>);
    }
  });
}

TEST_CASE("network: gradients of a chain with embedding, Last and linear equal finite differences") {
  for_each_isa([] {
    Random random(37);
    const Index steps = 5, rows = 3, vocabulary = 6;
    for (const char* activation : {"identity", "relu", "sigmoid", "tanh"}) {
      for (const bool last : {false, true}) {
        LstmOptions lstm;
        lstm.input_size = 3;
        lstm.hidden_size = 4;
        lstm.direction = Direction::both;
        std::vector<ModuleOptions> modules{EmbeddingOptions{vocabulary, 3}, lstm};
        if (last) modules.emplace_back(LastOptions{});
        modules.emplace_back(LinearOptions{8, 5, true, {activation}});
        modules.emplace_back(LinearOptions{5, 2, false, {"identity"}});
        const Network<double> network(modules, TensorNames::of_chain, 9);

        std::vector<std::int64_t> tokens;
        for (Index k = 0; k < steps * rows; ++k) tokens.push_back(random.between(0, vocabulary - 1));
        const std::vector<Index> lengths{5, 2, 0};
        const Input<double> input{{}, {tokens.data(), rows, 1}};
        Batch batch;
        batch.steps = steps;
        batch.rows = rows;
        batch.lengths = lengths.data();
        const Index output_steps = last ? 1 : steps;
        const std::vector<double> d_output = random.numbers(output_steps * rows * 2);
        const auto loss = [&] {
          std::vector<double> output(d_output.size(), unwritten<double>);
          network.forward(input, batch, {}, {output.data(), rows * 2, 2}, {});
          double sum = 0.0;
          for (std::size_t k = 0; k < output.size(); ++k) sum += output[k] * d_output[k];
          return sum;
        };
        const std::shared_ptr<Tape<double>> tape = network.record(input, batch, {}, {}, {}, {});
        std::vector<double> gradient(static_cast<std::size_t>(network.parameter_count()), unwritten<double>);
        tape->backward({d_output.data(), rows * 2, 2}, {}, gradient.data(), false, {}, {});

        std::vector<double> slopes;
        for (Index k = 0; k < network.parameter_count(); ++k) {
          const double middle = network.store()->data()[k], step = 1e-5;
          const auto loss_at = [&](double value) {
            network.store()->write([&](double* values) { values[k] = value; });
            return loss();
          };
          const double above = loss_at(middle + step), below = loss_at(middle - step);
          loss_at(middle);
          slopes.push_back((above - below) / (2.0 * step));
        }
        CAPTURE(activation);
        CAPTURE(last);
        CHECK(difference(gradient, slopes) < 1e-8);
      }
    }
  });
}

TEST_CASE("network: a module alone shares its parameters with the chain") {
  LstmOptions lstm;
  lstm.input_size = 3;
  lstm.hidden_size = 4;
  const Network<float> chain({lstm, LinearOptions{4, 2, true, {"identity"}}}, TensorNames::of_chain, 1);
  const Network<float> head = chain.module(1);
  REQUIRE(head.parameter_count() == 10);
  CHECK(head.store() == chain.store());
  const std::vector<float> x{1, 2, 3, 4};
  const auto answer = [&] {
    std::vector<float> y(2);
    Batch batch;
    batch.steps = batch.rows = 1;
    head.forward({{x.data(), 4, 4}, {}}, batch, {}, {y.data(), 2, 2}, {});
    return y;
  };
  const Index begin = head.parameters_begin();
  chain.store()->write([&](float* values) {
    // The weight is 0 to 7, the bias 8 and 9.
    for (Index k = 0; k < 10; ++k) values[begin + k] = static_cast<float>(k);
  });
  CHECK(answer() == std::vector<float>{0 + 2 + 6 + 12 + 8, 4 + 10 + 18 + 28 + 9});
}

}  // namespace latchwork::test
