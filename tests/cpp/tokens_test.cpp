// An LSTM that reads tokens which repeat. Forward computes W x once for each token, and backward sums the gates'
// gradients for each token.
#include <doctest/doctest.h>

#include "latchwork/training.hpp"
#include "support/random_variants.hpp"
#include "support/support.hpp"
#include "support/token_problem.hpp"

namespace latchwork::test {
namespace {

template <class T>
constexpr double tolerance = sizeof(T) == 4 ? 1e-4 : 1e-11;

template <class T>
void check_same_rows(const Outcome<T>& actual, const Outcome<T>& expected) {
  CHECK(same_bits(actual.results.output, expected.results.output));
  CHECK(same_bits(actual.results.h_n, expected.results.h_n));
  CHECK(same_bits(actual.results.c_n, expected.results.c_n));
  CHECK(same_bits(actual.h_0, expected.h_0));
  CHECK(same_bits(actual.c_0, expected.c_0));
}

template <class T>
void check_against_vectors(const TokenProblem& problem, const RecordOptions& record = {}) {
  const Outcome<T> actual = run_tokens<T>(problem, record), expected = run_vectors<T>(problem.lstm, record);
  check_same_rows(actual, expected);
  if (!sums_by_token(problem)) CHECK(same_bits(actual.parameters, expected.parameters));
  // With unbounded activations a gradient may overflow.
  if (!is_finite(expected.parameters)) return;
  CHECK(difference(actual.parameters, expected.parameters) < tolerance<T>);
  reference::Vector d_table(problem.table.size(), 0.0);
  problem.for_each_active([&](Index place, Index token) {
    const Index features = problem.features();
    for (Index k = 0; k < features; ++k) {
      d_table[static_cast<std::size_t>(token * features + k)] +=
          static_cast<double>(expected.x[static_cast<std::size_t>(place * features + k)]);
    }
  });
  CHECK(difference(actual.front, d_table) < tolerance<T>);
}

LstmOptions random_options(Random& random) {
  constexpr Index inputs[] = {15, 16, 17, 31}, units[] = {1, 7, 17, 33};
  LstmOptions options;
  options.input_size = inputs[random.between(0, 3)];
  options.hidden_size = units[random.between(0, 3)];
  options.num_layers = random.between(1, 2);
  options.bias = random.chance(0.8);
  options.direction = static_cast<Direction>(random.between(0, 2));
  if (options.hidden_size > 1 && random.chance(0.3)) options.proj_size = random.between(2, options.hidden_size - 1);
  if (options.num_layers > 1 && random.chance(0.3)) options.dropout = 0.25;
  if (random.chance(0.7)) add_random_variants(random, options);
  return options;
}

// Plain layers in both directions, and three more shapes that between them have the cell's options.
std::vector<LstmOptions> shapes() {
  std::vector<LstmOptions> all(4);
  all[0].input_size = 33;
  all[0].hidden_size = 33;
  all[0].num_layers = 2;
  all[0].direction = Direction::both;
  all[1].input_size = 31;
  all[1].hidden_size = 17;
  all[1].proj_size = 7;
  all[1].direction = Direction::reverse;
  all[1].peephole = true;
  all[1].forget_gate = ForgetGate::coupled;
  all[1].recurrent_dropout = 0.25;
  all[2].input_size = 16;
  all[2].hidden_size = 7;
  all[2].layer_norm = true;
  all[2].zoneout_hidden = all[2].zoneout_cell = 0.125;
  all[3].input_size = 19;
  all[3].hidden_size = 9;
  all[3].bias = false;
  all[3].weight_dropout = 0.25;
  all[3].learn_start_state = true;
  all[3].clip = 2.0;
  return all;
}

// The LSTM that reads tokens as one-hot vectors. Column v of its W is bias + W x_v, computed as one chain in the
// kernels' order. Its gradient with respect to W is therefore the sum of the gates' gradients for each token.
template <class T>
Problem one_hot(const TokenProblem& problem) {
  const LstmOptions& options = problem.lstm.options;
  const Index features = problem.features(), vocabulary = problem.vocabulary;
  Problem result = problem.lstm;
  result.options.input_size = vocabulary;
  const auto layout = parameter_layout({options}, TensorNames::of_layer),
             one_hot_layout = parameter_layout({result.options}, TensorNames::of_layer);
  result.parameters.assign(static_cast<std::size_t>(parameter_count(result.options)), 0.0);
  const auto value = [&](const std::string& name, Index at) {
    for (const ParameterSpec& spec : layout) {
      if (spec.name == name) return static_cast<T>(problem.lstm.parameters[static_cast<std::size_t>(spec.offset + at)]);
    }
    return T(0);
  };
  for (std::size_t at = 0; at < layout.size(); ++at) {
    const ParameterSpec& spec = layout[at];
    const auto to = result.parameters.begin() + one_hot_layout[at].offset;
    const bool bias = spec.name.starts_with("bias_") && spec.name.find("_l0") != std::string::npos;
    if (spec.name.starts_with("weight_ih_l0")) {
      const std::string suffix = spec.name.substr(std::string("weight_ih").size());
      for (Index gate = 0; gate < spec.shape[0]; ++gate) {
        for (Index token = 0; token < vocabulary; ++token) {
          T chain = options.layer_norm ? T(0) : value("bias_ih" + suffix, gate) + value("bias_hh" + suffix, gate);
          for (Index k = 0; k < features; ++k) {
            const auto x = static_cast<T>(problem.table[static_cast<std::size_t>(token * features + k)]);
            chain = multiply_add(value(spec.name, gate * features + k), x, chain);
          }
          to[gate * vocabulary + token] = static_cast<double>(chain);
        }
      }
    } else if (!bias || options.layer_norm) {  // layer norm takes W x without the bias
      std::copy_n(problem.lstm.parameters.begin() + spec.offset, spec.size(), to);
    }
  }
  const auto places = static_cast<std::size_t>(result.input.steps * result.input.rows);
  result.input.x.assign(places * static_cast<std::size_t>(vocabulary), 0.0);
  problem.for_each_active(
      [&](Index place, Index token) { result.input.x[static_cast<std::size_t>(place * vocabulary + token)] = 1.0; });
  return result;
}

}  // namespace

TEST_CASE_TEMPLATE("tokens: forward gives the bits of the vectors they stand for, and gradients are close to theirs", T,
                   float, double) {
  for_each_isa([] {
    Random random(111);
    int summed = 0;
    for (int round = 0; round < 60; ++round) {
      const LstmOptions options = random_options(random);
      // Every fourth problem is large enough for several threads and several chunks of a gradient.
      const Index steps = round % 4 == 0 ? random.between(20, 40) : random.between(1, 9);
      const Index rows = round % 4 == 0 ? random.between(6, 14) : random.between(1, 9);
      const Index vocabulary = random.chance(0.7) ? random.between(1, 9) : random.between(30, 400);
      const TokenProblem problem = random_tokens(random, options, vocabulary, steps, rows, random.chance(0.5),
                                                 random.chance(0.5), random.chance(0.3));
      const std::string description = described(problem.lstm);
      CAPTURE(round);
      CAPTURE(description);
      CAPTURE(vocabulary);
      summed += sums_by_token(problem) ? 1 : 0;
      const ThreadCount threads(round % 3 + 1);
      RecordOptions record{false, 0};
      record.training = random.chance(0.5);
      record.checkpoint = random.chance(0.5) ? random.between(1, 9) : 0;
      check_against_vectors<T>(problem, record);
    }
    CHECK(summed > 20);
    CHECK(summed < 40);
    // On average each token comes at least twice, but not in each of the two blocks of rows.
    const TokenProblem many = random_tokens(random, shapes()[1], 800, 36, 38, true, false, false);
    REQUIRE(row_blocks_of(many.lstm).count() == 2);
    CHECK(!sums_by_token(many));
    check_against_vectors<T>(many);
  });
}

TEST_CASE_TEMPLATE("tokens: gradients are, bit for bit, chains over the tokens used, from the sums for each token", T,
                   float, double) {
  for_each_isa([] {
    Random random(112);
    for (const LstmOptions& options : shapes()) {
      for (const Index rows : {9, 38, 68}) {
        CAPTURE(options.hidden_size);
        CAPTURE(rows);
        const TokenProblem problem = random_tokens(random, options, 13, 40, rows, true, rows > 9, true);
        const Problem by_token = one_hot<T>(problem);
        REQUIRE(sums_by_token(problem));
        REQUIRE(row_blocks_of(problem.lstm).count() == (rows == 9 ? 1 : rows == 38 ? 2 : 4));
        REQUIRE(row_blocks_of(by_token).begin == row_blocks_of(problem.lstm).begin);
        RecordOptions record{false, 0};
        record.training = rows == 68;
        const Outcome<T> actual = run_tokens<T>(problem, record), sums = run_vectors<T>(by_token, record);
        check_same_rows(actual, sums);

        const Index features = problem.features(), vocabulary = problem.vocabulary;
        const auto layout = parameter_layout({options}, TensorNames::of_layer),
                   one_hot_layout = parameter_layout({by_token.options}, TensorNames::of_layer);
        std::vector<T> expected;
        reference::Vector d_table(problem.table.size(), 0.0);
        for (std::size_t at = 0; at < layout.size(); ++at) {
          const auto from = sums.parameters.begin() + one_hot_layout[at].offset;
          if (!layout[at].name.starts_with("weight_ih_l0")) {
            expected.insert(expected.end(), from, from + one_hot_layout[at].size());
            continue;
          }
          for (Index gate = 0; gate < layout[at].shape[0]; ++gate) {
            for (Index k = 0; k < features; ++k) {
              const auto place = static_cast<std::size_t>(layout[at].offset + gate * features + k);
              T chain = T(0);
              for (Index token = 0; token < vocabulary; token += 2) {
                const T sum = from[gate * vocabulary + token];
                const auto x = static_cast<std::size_t>(token * features + k);
                chain = multiply_add(static_cast<T>(problem.table[x]), sum, chain);
                d_table[x] += static_cast<double>(sum) * problem.lstm.parameters[place];
              }
              expected.push_back(chain);
            }
          }
        }
        CHECK(same_bits(actual.parameters, expected));
        CHECK(difference(actual.front, d_table) < tolerance<T> / 100);
      }
    }
  });
}

TEST_CASE_TEMPLATE("tokens: no bit of a gradient depends on threads, checkpoints, padding or unused tokens", T, float,
                   double) {
  Random random(113);
  std::vector<LstmOptions> all = shapes();
  LstmOptions& wide = all.emplace_back();  // so wide that threads share its units
  wide.input_size = 40;
  wide.hidden_size = 180;
  for (const LstmOptions& options : all) {
    CAPTURE(options.hidden_size);
    const bool few = options.hidden_size == 180;
    // The second problem has so many tokens that threads share the work on their sums.
    const TokenProblem problem =
        few ? random_tokens(random, options, 16, 12, 3, true, false, false)
            : random_tokens(random, options, 121, 36, 38, true, options.hidden_size < 33, options.hidden_size < 17);
    REQUIRE(sums_by_token(problem));
    REQUIRE(row_blocks_of(problem.lstm).count() == (few ? 1 : 2));
    TokenProblem more_tokens = problem;
    more_tokens.vocabulary += 20;
    more_tokens.table.resize(static_cast<std::size_t>(more_tokens.vocabulary * problem.features()), std::nan(""));
    const Outcome<T> expected = run_tokens<T>(problem);
    CHECK(is_finite(expected.front));
    for (const Index count : {1, 2, 3, 5}) {
      CAPTURE(count);
      const ThreadCount threads(count);
      for (const Index checkpoint : {0, 7}) {
        RecordOptions record{false, 0};
        record.checkpoint = checkpoint;
        for (const TokenProblem& same :
             {problem, in_larger_arrays(problem, 5, 0), in_larger_arrays(problem, 0, 120), more_tokens}) {
          Outcome<T> actual = run_tokens<T>(same, record);
          CHECK(std::all_of(actual.front.begin() + static_cast<Index>(expected.front.size()), actual.front.end(),
                            [](T value) { return value == T(0); }));
          actual.front.resize(expected.front.size());
          if (same.tokens.size() == problem.tokens.size()) check_same_rows(actual, expected);
          CHECK(same_bits(actual.front, expected.front));
          CHECK(same_bits(actual.parameters, expected.parameters));
        }
      }
    }
  }
}

TEST_CASE_TEMPLATE("tokens: gradients are added to what is there, for any number of threads", T, float, double) {
  Random random(114);
  for (const LstmOptions& options : shapes()) {
    CAPTURE(options.hidden_size);
    const TokenProblem problem = random_tokens(random, options, 7, 30, 9, true, true, false);
    REQUIRE(sums_by_token(problem));
    const Network<T> network = token_network<T>(problem);
    const Arrays<T> arrays(problem.lstm);
    const auto tape = network.record(problem.input<T>(), arrays.batch(), arrays.start(), {}, {}, {});
    const std::vector<T> before = converted<T>(random.numbers(network.parameter_count()));
    const auto backward = [&](std::vector<T> gradient, bool accumulate) {
      tape->backward(arrays.d_output_view(), arrays.d_end(), gradient.data(), accumulate, {}, {});
      return gradient;
    };
    const std::vector<T> gradient = backward(before, false), sum = backward(before, true);
    std::vector<T> expected;
    for (std::size_t k = 0; k < gradient.size(); ++k) expected.push_back(before[k] + gradient[k]);
    CHECK(difference(sum, expected) < tolerance<T> / 100);
    // Rows of the table that are not used stay bit for bit what they were. Beyond the table each number is one sum.
    const auto table_end = static_cast<std::ptrdiff_t>(problem.table.size()), features = problem.features();
    CHECK(std::equal(sum.begin() + table_end, sum.end(), expected.begin() + table_end));
    CHECK(std::equal(sum.begin() + features, sum.begin() + 2 * features, before.begin() + features));
    for (const Index count : {1, 2, 3, 5}) {
      const ThreadCount threads(count);
      CHECK(same_bits(backward(before, true), sum));
    }
  }
}

TEST_CASE_TEMPLATE("tokens: a NaN in the vector of an unused token changes no result", T, float, double) {
  Random random(115);
  for (const LstmOptions& options : shapes()) {
    TokenProblem problem = random_tokens(random, options, 8, 20, 5, true, true, true);
    REQUIRE(sums_by_token(problem));
    const Outcome<T> expected = run_tokens<T>(problem);
    for (Index token = 1; token < 8; token += 2) {
      std::fill_n(problem.table.begin() + token * options.input_size, options.input_size, std::nan(""));
    }
    const Outcome<T> actual = run_tokens<T>(problem);
    check_same_rows(actual, expected);
    CHECK(is_finite(expected.front));
    CHECK(same_bits(actual.front, expected.front));
    CHECK(same_bits(actual.parameters, expected.parameters));
  }
}

TEST_CASE_TEMPLATE("tokens: one token alone, no rows, no steps, and rows that are all empty", T, float, double) {
  Random random(116);
  for (const LstmOptions& options : shapes()) {
    for (const auto& shape : {std::pair<Index, Index>{9, 4}, {1, 1}, {0, 3}, {3, 0}, {0, 0}}) {
      const Index steps = shape.first;
      const Index rows = shape.second;
      for (const Index vocabulary : {1, 5}) {
        CAPTURE(steps);
        CAPTURE(rows);
        CAPTURE(vocabulary);
        TokenProblem problem = random_tokens(random, options, vocabulary, steps, rows, false, false, false);
        CHECK(sums_by_token(problem) == (steps == 9));
        check_against_vectors<T>(problem);
        problem.lstm.input.lengths.assign(static_cast<std::size_t>(rows), 0);
        std::fill(problem.tokens.begin(), problem.tokens.end(), -1);
        spoil_unused(problem.lstm);
        check_against_vectors<T>(problem);
      }
    }
  }
}

TEST_CASE("tokens: the tokens of the given steps are numbered in ascending order if each comes twice on average") {
  const std::vector<std::int64_t> tokens{7, 2, 4,  -1,  //
                                         2, 7, 9,  -1,  //
                                         7, 7, -1, -1};
  const std::vector<Index> lengths{3, 3, 2, 0};
  const std::vector<double> table(160, 0.0);
  RowSource<double> source{{}, {tokens.data(), 4, 1}, table.data(), 10, 16};
  Batch batch;
  batch.steps = 3;
  batch.rows = 4;
  batch.lengths = lengths.data();
  const auto found = [&](bool reverse, Index begin, Index end, Index blocks) {
    std::vector<Index> result;
    const auto numbers = repeated_tokens(source, {batch, reverse}, begin, end, blocks);
    for (Index number = 0; numbers && number < numbers->count(); ++number) {
      result.push_back(numbers->token(number));
      CHECK(numbers->number(result.back()) == number);
    }
    return result;
  };
  CHECK(found(false, 0, 3, 1) == std::vector<Index>{2, 4, 7, 9});
  CHECK(found(true, 0, 3, 1) == std::vector<Index>{2, 4, 7, 9});
  CHECK(found(false, 0, 3, 2).empty());  // 4 tokens in 8 computed steps, with 2 blocks
  CHECK(found(false, 1, 3, 1).empty());  // 3 tokens in 5 computed steps
  CHECK(found(false, 2, 3, 1) == std::vector<Index>{7});
  CHECK(found(true, 0, 1, 1) == std::vector<Index>{7});
  CHECK(found(true, 0, 2, 1).empty());
  source.features = 15;
  CHECK(found(false, 0, 3, 1).empty());
  source.features = 16;
  source.vocabulary = 64;
  CHECK(!found(false, 0, 3, 1).empty());
  source.vocabulary = 65;
  CHECK(found(false, 0, 3, 1).empty());
}

TEST_CASE_TEMPLATE("tokens: a trainer's step of a language model, with any number of threads", T, float, double) {
  const Index vocabulary = 60, steps = 36, rows = 38;
  LstmOptions lstm;
  lstm.input_size = 31;
  lstm.hidden_size = 33;
  lstm.num_layers = 2;
  lstm.dropout = 0.25;
  LinearOptions head;
  head.in_features = 33;
  head.out_features = vocabulary;
  Random random(117);
  std::vector<std::int64_t> tokens;
  for (Index k = 0; k < (steps + 1) * rows; ++k) tokens.push_back(random.between(0, vocabulary - 1) / 2 * 2);
  Batch batch;
  batch.steps = steps;
  batch.rows = rows;
  const Input<T> input{{}, {tokens.data(), rows, 1}};
  Target<T> target;
  target.labels = {tokens.data() + rows, rows, 1};
  Loss loss;
  loss.kind = LossKind::cross_entropy;
  OptimizerOptions sgd;
  sgd.kind = OptimizerKind::sgd;
  sgd.lr = 0.5;
  std::vector<T> expected;
  for (const Index count : {1, 2, 3, 5}) {
    const ThreadCount threads(count);
    const Network<T> network({EmbeddingOptions{vocabulary, 31}, lstm, head}, TensorNames::of_chain, 3);
    const T* const data = network.store()->data();
    const std::vector<T> before(data, data + network.parameter_count());
    Trainer<T>(network, loss, sgd, 0.0, 5).step(input, batch, {}, target, {});
    const std::vector<T> after(data, data + network.parameter_count());
    if (expected.empty()) expected = after;
    CHECK(same_bits(after, expected));
    for (Index token = 0; token < vocabulary; ++token) {  // the vector of a token changes only if the token is used
      const bool same =
          std::equal(before.begin() + token * 31, before.begin() + (token + 1) * 31, after.begin() + token * 31);
      CHECK(same == (token % 2 == 1));
    }
  }
}

}  // namespace latchwork::test
