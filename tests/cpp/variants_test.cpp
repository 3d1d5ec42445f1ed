// The variants of the cell, alone and combined, against the general reference.
#include <doctest/doctest.h>

#include "latchwork/stream.hpp"
#include "reference/lstm.hpp"
#include "support/lstm_problem.hpp"
#include "support/random_variants.hpp"
#include "support/support.hpp"

namespace latchwork::test {
namespace {

template <class T>
constexpr double tolerance = sizeof(T) == 4 ? 1e-5 : 1e-12;

LstmOptions random_options(Random& random) {
  LstmOptions options = random_sizes(random);
  if (options.num_layers > 1 && random.chance(0.3)) options.dropout = 0.25;
  add_random_variants(random, options);
  return options;
}

std::string described_variant(const LstmOptions& o) {
  std::string text = "forget " + std::to_string(static_cast<int>(o.forget_gate)) + ", peephole " +
                     std::to_string(o.peephole) + ", norm " + std::to_string(o.layer_norm) + ", clip " +
                     std::to_string(o.clip.value_or(0.0)) + ", cell clip " + std::to_string(o.cell_clip.value_or(0.0)) +
                     ", zoneout " + std::to_string(o.zoneout_hidden) + " " + std::to_string(o.zoneout_cell) +
                     ", dropout " + std::to_string(o.recurrent_dropout) + " on " +
                     std::to_string(static_cast<int>(o.recurrent_dropout_on)) + ", weights " +
                     std::to_string(o.weight_dropout) + ", residual " + std::to_string(o.residual) + ", merge " +
                     std::to_string(static_cast<int>(o.merge)) + ", start " + std::to_string(o.learn_start_state);
  for (const CellActivations& set : o.activations) {
    for (const Activation* each : {&set.input, &set.forget, &set.candidate, &set.output, &set.cell}) {
      text += " " + each->name;
    }
  }
  return text;
}

// All results and gradients of one problem, with their names.
using Tensors = std::vector<std::pair<std::string, std::vector<double>>>;

// Appends the gradients with respect to the signals, [state][signal].
template <class T>
void add_signals(const std::vector<std::vector<std::vector<T>>>& signals, Tensors& tensors) {
  for (std::size_t state = 0; state < signals.size(); ++state) {
    std::size_t at = 0;
    for (const char* name : {"input gate", "forget gate", "candidate", "output gate", "cell", "hidden"}) {
      tensors.push_back({name + (" of state " + std::to_string(state)), converted<double>(signals[state][at++])});
    }
  }
}

Tensors reference_tensors(const Problem& problem) {
  const reference::LstmRecord record = reference::lstm_forward(problem.options, problem.parameters, problem.input);
  const reference::LstmGradients gradients =
      reference::lstm_backward(problem.options, problem.parameters, problem.input, record, problem.d_result);
  Tensors tensors{{"output", record.result.output}, {"h_n", record.result.h_n},
                  {"c_n", record.result.c_n},       {"x", gradients.x},
                  {"h_0", gradients.h_0},           {"c_0", gradients.c_0}};
  for (const ParameterSpec& spec : parameter_layout({problem.options}, TensorNames::of_layer)) {
    const auto begin = gradients.parameters.begin() + spec.offset;
    tensors.push_back({spec.name, {begin, begin + spec.size()}});
  }
  add_signals(gradients.signals, tensors);
  return tensors;
}

template <class T>
Tensors library_tensors(const Problem& problem, const RecordOptions& options) {
  const Network<T> network = network_of<T>(problem);
  Results<T> results(problem);
  const std::shared_ptr<Tape<T>> tape = run_record(network, problem, results, options);
  if (!options.training) {
    const Results<T> called = run_forward(network, problem);
    CHECK(same_bits(called.output, results.output));
    CHECK(same_bits(called.h_n, results.h_n));
    CHECK(same_bits(called.c_n, results.c_n));
  }
  const Gradients<T> gradients = run_backward(*tape, problem);
  const AllGradients<T> all = run_backward_with_signals(*tape, problem);
  CHECK(same_gradients(all.others, gradients));
  const auto doubles = [](const std::vector<T>& values) { return converted<double>(values); };
  Tensors tensors{{"output", doubles(results.output)}, {"h_n", doubles(results.h_n)},
                  {"c_n", doubles(results.c_n)},       {"x", doubles(gradients.x)},
                  {"h_0", doubles(gradients.h_0)},     {"c_0", doubles(gradients.c_0)}};
  for (const ParameterSpec& spec : network.layout()) {
    const auto begin = gradients.parameters.begin() + spec.offset;
    tensors.push_back({spec.name, doubles({begin, begin + spec.size()})});
  }
  add_signals(all.signals, tensors);
  return tensors;
}

double largest_difference(const Tensors& actual, const Tensors& expected, std::string& worst) {
  double largest = actual.size() == expected.size() ? 0.0 : std::numeric_limits<double>::infinity();
  for (std::size_t k = 0; k < std::min(actual.size(), expected.size()); ++k) {
    const double apart = difference(actual[k].second, expected[k].second);
    if (apart > largest) {
      largest = apart;
      worst = expected[k].first;
    }
  }
  return largest;
}

// Whether the reference's own results move by more than half the tolerance when every parameter and input is changed by
// a rounding error. Then a kink or a jump is near, or the problem amplifies errors, and no arithmetic of that precision
// is sure to meet the tolerance.
template <class T>
bool is_ill_conditioned(Random& random, const Problem& problem, const Tensors& expected) {
  const double rounding = sizeof(T) == 4 ? 0x1p-23 : 0x1p-52;
  for (int attempt = 0; attempt < 12; ++attempt) {
    Problem moved = problem;
    for (double& value : moved.parameters) value *= 1.0 + rounding * random.number();
    for (double& value : moved.input.x) value *= 1.0 + rounding * random.number();
    std::string worst;
    if (largest_difference(reference_tensors(moved), expected, worst) > tolerance<T> / 2) return true;
  }
  return false;
}

}  // namespace

TEST_CASE_TEMPLATE("variants: 500 random combinations equal the reference", T, float, double) {
  Random random(71);
  int judged = 0, ill_conditioned = 0;
  for (int round = 0; round < 500; ++round) {
    const LstmOptions options = random_options(random);
    // Every eighth problem is large enough for several threads and several chunks of a gradient.
    const Index steps = round % 8 == 0 ? random.between(20, 40) : random.between(1, 9);
    const Index rows = round % 8 == 0 ? random.between(6, 14) : random.between(1, 9);
    Problem problem =
        random_problem(random, options, steps, rows, random.chance(0.5), random.chance(0.5), random.chance(0.5));
    Random skips(static_cast<std::uint64_t>(1000 + round));
    if (round % 2 == 1 || round % 16 == 0) add_random_skips(skips, problem);
    RecordOptions record{false, 0};
    record.training = random.chance(0.6);
    record.mask_seed = static_cast<std::uint64_t>(round) * 0x9E3779B97F4A7C15u;
    if (record.training) draw_training_masks(problem, *record.mask_seed);
    const Tensors expected = reference_tensors(problem);
    spoil_unused(problem);
    const ThreadCount threads(round % 3 + 1);
    const std::string description = described(problem) + ", " + described_variant(options);
    CAPTURE(round);
    CAPTURE(description);
    CAPTURE(record.training);
    for_each_isa([&] {
      std::string worst;
      const double apart = largest_difference(library_tensors<T>(problem, record), expected, worst);
      CAPTURE(worst);
      CAPTURE(apart);
      ++judged;
      if (apart < tolerance<T>) return;
      // A generator apart, so that later problems do not depend on which comparisons were excused.
      Random probe(static_cast<std::uint64_t>(round));
      const bool excused = is_ill_conditioned<T>(probe, problem, expected);
      CHECK(excused);
      ++ill_conditioned;
    });
  }
  CAPTURE(ill_conditioned);
  CHECK(judged >= 500);
  CHECK(ill_conditioned < judged / 10);
  MESSAGE(ill_conditioned << " of " << judged << " comparisons were ill-conditioned");
}

}  // namespace latchwork::test
