// "The same bits, always": what no batch, padding, thread or way of stepping may change.
#include <doctest/doctest.h>

#include <algorithm>
#include <numeric>

#if defined(__SSE__)
#include <immintrin.h>
#endif

#include "latchwork/isa.hpp"
#include "latchwork/stream.hpp"
#include "latchwork/threads.hpp"
#include "support/lstm_problem.hpp"
#include "support/support.hpp"

namespace latchwork::test {
namespace {

// Rows `rows` of an array (leading, N, features).
template <class U>
std::vector<U> taken(const std::vector<U>& array, Index leading, Index row_count, const std::vector<Index>& rows) {
  std::vector<U> result;
  if (array.empty()) return result;
  const Index features = static_cast<Index>(array.size()) / (leading * row_count);
  for (Index k = 0; k < leading; ++k) {
    for (const Index row : rows) {
      const auto begin = array.begin() + (k * row_count + row) * features;
      result.insert(result.end(), begin, begin + features);
    }
  }
  return result;
}

Problem with_rows(const Problem& problem, const std::vector<Index>& rows) {
  const Index steps = problem.input.steps, states = problem.options.states(), count = problem.input.rows;
  Problem part = problem;
  part.input.rows = static_cast<Index>(rows.size());
  part.input.x = taken(problem.input.x, steps, count, rows);
  part.input.h_0 = taken(problem.input.h_0, states, count, rows);
  part.input.c_0 = taken(problem.input.c_0, states, count, rows);
  part.input.lengths = taken(problem.input.lengths, 1, count, rows);
  part.input.reset = taken(problem.input.reset, steps, count, rows);
  part.d_result = {taken(problem.d_result.output, steps, count, rows), taken(problem.d_result.h_n, states, count, rows),
                   taken(problem.d_result.c_n, states, count, rows)};
  return part;
}

// The same sequences in longer arrays, the rest being padding.
Problem padded_by(const Problem& problem, Index extra) {
  Problem longer = problem;
  longer.input.steps += extra;
  if (longer.input.lengths.empty())
    longer.input.lengths.assign(static_cast<std::size_t>(problem.input.rows), problem.input.steps);
  const auto cells = static_cast<std::size_t>(longer.input.steps * problem.input.rows);
  longer.input.x.resize(cells * static_cast<std::size_t>(problem.options.input_size), std::nan(""));
  longer.d_result.output.resize(cells * static_cast<std::size_t>(problem.options.output_size()), std::nan(""));
  if (!longer.input.reset.empty()) longer.input.reset.resize(cells, 1);
  return longer;
}

// Rows of length 0 after the others: they add nothing, but work may be cut up differently.
Problem with_empty_rows(const Problem& problem, Index extra) {
  Problem larger = problem;
  const Index rows = problem.input.rows;
  if (larger.input.lengths.empty()) larger.input.lengths.assign(static_cast<std::size_t>(rows), problem.input.steps);
  larger.input.lengths.resize(static_cast<std::size_t>(rows + extra), 0);
  larger.input.rows = rows + extra;
  const auto widen = [&](auto& array, Index leading, double fill) {
    using Values = std::remove_reference_t<decltype(array)>;
    if (array.empty()) return;
    const Index width = static_cast<Index>(array.size()) / leading;
    Values wider;
    for (Index k = 0; k < leading; ++k) {
      wider.insert(wider.end(), array.begin() + k * width, array.begin() + (k + 1) * width);
      wider.resize(wider.size() + static_cast<std::size_t>(width / rows * extra),
                   static_cast<typename Values::value_type>(fill));
    }
    array = wider;
  };
  const Index steps = problem.input.steps, states = problem.options.states();
  widen(larger.input.x, steps, std::nan(""));
  widen(larger.input.reset, steps, 1);
  widen(larger.input.h_0, states, 0.5);
  widen(larger.input.c_0, states, 0.5);
  widen(larger.d_result.output, steps, std::nan(""));
  widen(larger.d_result.h_n, states, 0.5);
  widen(larger.d_result.c_n, states, 0.5);
  return larger;
}

// Everything that belongs to rows.
template <class T>
struct RowResults {
  RowResults(const Network<T>& network, const Problem& problem) : results(problem), gradients(problem) {
    steps = problem.input.steps;
    states = problem.options.states();
    rows = problem.input.rows;
    const Results<T> unrecorded = run_forward(network, problem);
    gradients = run_backward(*run_record(network, problem, results), problem);
    CHECK(same_bits(unrecorded.output, results.output));
    CHECK(same_bits(unrecorded.h_n, results.h_n));
    CHECK(same_bits(unrecorded.c_n, results.c_n));
  }

  // Row k here is row `of[k]` of `other`, which has at most as many steps.
  bool equals(const RowResults& other, const std::vector<Index>& of) const {
    const auto same = [&](const std::vector<T>& mine, const std::vector<T>& theirs, Index their_leading) {
      const std::vector<T> expected = taken(theirs, their_leading, other.rows, of);
      return mine.size() >= expected.size() &&
             std::memcmp(mine.data(), expected.data(), expected.size() * sizeof(T)) == 0 &&
             std::all_of(mine.begin() + static_cast<Index>(expected.size()), mine.end(),
                         [](T value) { return value == T(0); });
    };
    return same(results.output, other.results.output, other.steps) && same(results.h_n, other.results.h_n, states) &&
           same(results.c_n, other.results.c_n, states) && same(gradients.x, other.gradients.x, other.steps) &&
           same(gradients.h_0, other.gradients.h_0, states) && same(gradients.c_0, other.gradients.c_0, states);
  }

  Index steps = 0, states = 0, rows = 0;
  Results<T> results;
  Gradients<T> gradients;
};

// Every option of the cell in one of them.
std::vector<LstmOptions> variant_shapes() {
  std::vector<LstmOptions> all(5);
  all[0].input_size = 3;
  all[0].hidden_size = 17;
  all[0].forget_gate = ForgetGate::none;
  all[0].activations[0].candidate = {"scaled_tanh", 2.0, 0.5};
  all[0].activations[0].cell = {"softsign"};
  all[0].zoneout_cell = 0.25;
  all[1].input_size = 35;
  all[1].hidden_size = 31;
  all[1].num_layers = 2;
  all[1].residual = true;
  all[1].layer_norm = true;
  all[1].zoneout_hidden = 0.125;
  all[1].zoneout_cell = 0.25;
  all[2].input_size = 7;
  all[2].hidden_size = 19;
  all[2].num_layers = 2;
  all[2].direction = Direction::both;
  all[2].proj_size = 5;
  all[2].peephole = true;
  all[2].forget_gate = ForgetGate::coupled;
  all[2].cell_clip = 0.5;
  all[2].zoneout_hidden = 0.125;
  all[2].learn_start_state = true;
  all[3].input_size = 21;
  all[3].hidden_size = 13;
  all[3].direction = Direction::reverse;
  all[3].bias = false;
  all[3].layer_norm = true;
  all[3].peephole = true;
  all[3].clip = 1.5;
  all[3].activations[0].input = {"hard_sigmoid", 0.25, 0.5};
  all[4].input_size = 18;
  all[4].hidden_size = 53;
  all[4].peephole = true;
  all[4].clip = 3.0;
  for (LstmOptions& options : all) {
    options.recurrent_dropout = 0.25;
    options.recurrent_dropout_on =
        options.hidden_size % 4 == 3 ? RecurrentDropoutOn::hidden : RecurrentDropoutOn::candidate;
    options.weight_dropout = options.hidden_size < 18 ? 0.25 : 0.0;
  }
  return all;
}

// Options with odd sizes: a small and a wide input, projection, both directions; then the variants.
std::vector<LstmOptions> shapes() {
  std::vector<LstmOptions> all(4);
  all[0].input_size = 3;
  all[0].hidden_size = 17;
  all[1].input_size = 35;
  all[1].hidden_size = 31;
  all[1].num_layers = 2;
  all[2].input_size = 7;
  all[2].hidden_size = 19;
  all[2].num_layers = 2;
  all[2].direction = Direction::both;
  all[2].proj_size = 5;
  all[3].input_size = 21;
  all[3].hidden_size = 13;
  all[3].direction = Direction::reverse;
  all[3].bias = false;
  const std::vector<LstmOptions> variants = variant_shapes();
  all.insert(all.end(), variants.begin(), variants.end());
  return all;
}

}  // namespace

TEST_CASE_TEMPLATE("bits: a row's results and gradients depend on no other row, place, padding or thread", T, float,
                   double) {
  for_each_isa([] {
    Random random(41);
    for (const LstmOptions& options : shapes()) {
      for (const bool ragged : {false, true}) {
        CAPTURE(options.hidden_size);
        CAPTURE(ragged);
        const Index steps = 39, rows = 13;
        const Problem problem = random_problem(random, options, steps, rows, true, ragged, ragged);
        const Network<T> network = network_of<T>(problem);
        std::vector<Index> all(static_cast<std::size_t>(rows));
        std::iota(all.begin(), all.end(), 0);
        const RowResults<T> whole(network, problem);
        CHECK(whole.equals(whole, all));

        for (const Index row : {0, 5, 12}) {
          CHECK(RowResults<T>(network, with_rows(problem, {row})).equals(whole, {row}));
        }
        for (const std::vector<Index>& some : {std::vector<Index>{12, 3},
                                               {7, 6, 5, 1, 11},
                                               {4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 2, 0, 9}}) {
          CHECK(RowResults<T>(network, with_rows(problem, some)).equals(whole, some));
        }
        CHECK(RowResults<T>(network, padded_by(problem, 6)).equals(whole, all));
        for (const Index count : {2, 3}) {
          const ThreadCount threads(count);
          CHECK(RowResults<T>(network, problem).equals(whole, all));
          CHECK(RowResults<T>(network, with_rows(problem, {8, 2})).equals(whole, {8, 2}));
        }
      }
    }
  });
}

TEST_CASE_TEMPLATE("bits: gradients by parameters depend neither on threads nor on where chunks are cut", T, float,
                   double) {
  for_each_isa([] {
    Random random(42);
    for (const LstmOptions& options : shapes()) {
      for (const Index rows : {1, 2, 20, 38}) {
        CAPTURE(options.hidden_size);
        CAPTURE(rows);
        const Problem problem = random_problem(random, options, 48, rows, true, rows > 1, true);
        // Of two blocks, two threads take one each, three work on both at once.
        REQUIRE(row_blocks_of(problem).count() == (rows == 38 ? 2 : 1));
        const Network<T> network = network_of<T>(problem);
        const auto gradient = [&](const Problem& same) {
          Results<T> ignored(same);
          return run_backward(*run_record(network, same, ignored), same).parameters;
        };
        const std::vector<T> expected = gradient(problem);
        CHECK(difference(expected, expected) == 0.0);  // finite
        for (const Index count : {1, 2, 3, 5}) {
          const ThreadCount threads(count);
          CHECK(same_bits(gradient(problem), expected));
          CHECK(same_bits(gradient(padded_by(problem, 5)), expected));
          CHECK(same_bits(gradient(with_empty_rows(problem, 120)), expected));
        }
      }
    }
  });
}

TEST_CASE_TEMPLATE("bits: gradients of a large layer, whose rows are one block, whoever adds up its chunks", T, float,
                   double) {
  Random random(51);
  LstmOptions options;
  options.input_size = 40;
  options.hidden_size = 260;
  const Problem problem = random_problem(random, options, 16, 17, true, true, false);
  REQUIRE(row_blocks_of(problem).count() == 1);
  const Network<T> network = network_of<T>(problem);
  Results<T> ignored(problem);
  const ThreadCount one(1);
  const Gradients<T> expected = run_backward(*run_record(network, problem, ignored), problem);
  CHECK(difference(expected.parameters, expected.parameters) == 0.0);  // finite
  for (const Index count : {2, 3, 5}) {
    const ThreadCount threads(count);
    const Gradients<T> actual = run_backward(*run_record(network, problem, ignored), problem);
    CHECK(same_bits(actual.parameters, expected.parameters));
    CHECK(same_bits(actual.x, expected.x));
    CHECK(same_bits(actual.h_0, expected.h_0));
    CHECK(same_bits(actual.c_0, expected.c_0));
  }
}

TEST_CASE_TEMPLATE("bits: gradients by parameters are the sum, in order, of those of each block of rows alone", T,
                   float, double) {
  for_each_isa([] {
    Random random(50);
    for (const LstmOptions& options : shapes()) {
      for (const Index rows : {38, 74}) {
        CAPTURE(options.hidden_size);
        CAPTURE(rows);
        const Problem problem = random_problem(random, options, 48, rows, true, true, true);
        const Network<T> network = network_of<T>(problem);
        const auto gradient = [&](const Problem& part) {
          Results<T> ignored(part);
          return run_backward(*run_record(network, part, ignored), part).parameters;
        };
        const RowBlocks blocks = row_blocks_of(problem);
        REQUIRE(blocks.count() == (rows == 38 ? 2 : 4));
        std::vector<T> expected;
        for (Index block = 0; block < blocks.count(); ++block) {
          std::vector<Index> own_rows(static_cast<std::size_t>(blocks.rows_of(block)));
          std::iota(own_rows.begin(), own_rows.end(), blocks.begin_of(block));
          const Problem part = with_rows(problem, own_rows);
          REQUIRE(row_blocks_of(part).count() == 1);
          const std::vector<T> own = gradient(part);
          expected.resize(own.size(), T(0));
          for (std::size_t k = 0; k < own.size(); ++k) expected[k] += own[k];
        }
        CHECK(difference(expected, expected) == 0.0);  // finite
        for (const Index count : {1, 2, 3}) {
          const ThreadCount threads(count);
          CHECK(same_bits(gradient(problem), expected));
        }
      }
    }
  });
}

TEST_CASE_TEMPLATE("bits: random masks depend on neither threads, padding nor recording again", T, float, double) {
  for_each_isa([] {
    Random random(47);
    for (const LstmOptions& options : variant_shapes()) {
      CAPTURE(options.hidden_size);
      const Problem problem = random_problem(random, options, 40, 9, false, true, true);
      const Network<T> network = network_of<T>(problem);
      const auto record = [&](const Problem& same, std::uint64_t seed) {
        RecordOptions recording;
        recording.training = true;
        recording.mask_seed = seed;
        Results<T> results(same);
        Gradients<T> gradients = run_backward(*run_record(network, same, results, recording), same);
        results.output.resize(problem.d_result.output.size());
        gradients.x.resize(problem.input.x.size());
        return std::vector<std::vector<T>>{results.output, results.h_n,   results.c_n,  gradients.parameters,
                                           gradients.x,    gradients.h_0, gradients.c_0};
      };
      const auto expected = record(problem, 5);
      CHECK(record(problem, 6) != expected);
      for (const Index count : {1, 2, 3}) {
        const ThreadCount threads(count);
        const auto again = record(problem, 5), padded = record(padded_by(problem, 4), 5);
        for (std::size_t k = 0; k < expected.size(); ++k) {
          CHECK(same_bits(again[k], expected[k]));
          CHECK(same_bits(padded[k], expected[k]));
        }
      }
    }
  });
}

TEST_CASE_TEMPLATE("bits: whole, in two windows, or step by step in a stream", T, float, double) {
  for_each_isa([] {
    Random random(43);
    for (LstmOptions options : shapes()) {
      if (options.directions() == 2) {  // a stream runs forward only
        options.direction = Direction::forward;
      } else if (options.direction == Direction::reverse) {
        continue;
      }
      CAPTURE(options.hidden_size);
      const Index steps = 23, inputs = options.input_size, outputs = options.output_size();
      for (const Index rows : {1, 3, 11}) {
        CAPTURE(rows);
        const Problem problem = random_problem(random, options, steps, rows, true, false, true);
        const Network<T> network = network_of<T>(problem);
        const Arrays<T> arrays(problem);
        const Results<T> whole = run_forward(network, problem);

        const Index cut = 9;
        Results<T> windows(problem);
        Batch first = arrays.batch(), second = arrays.batch();
        first.steps = cut;
        second.steps = steps - cut;
        second.reset.data += cut * rows;
        const States<T> end{{windows.h_n.data(), windows.c_n.data()}};
        std::vector<T> h = windows.h_n, c = windows.c_n;
        network.forward(arrays.input(), first, arrays.start(), {windows.output.data(), rows * outputs, outputs},
                        {{h.data(), c.data()}});
        network.forward({{arrays.x.data() + cut * rows * inputs, rows * inputs, inputs}, {}}, second,
                        {{h.data(), c.data()}}, {windows.output.data() + cut * rows * outputs, rows * outputs, outputs},
                        end);
        CHECK(same_bits(windows.output, whole.output));
        CHECK(same_bits(windows.h_n, whole.h_n));
        CHECK(same_bits(windows.c_n, whole.c_n));

        Results<T> streamed(problem);
        const std::unique_ptr<Stream<T>> stream = network.stream(rows);
        stream->set_state(arrays.start());
        for (Index step = 0; step < steps; ++step) {
          stream->step(arrays.x.data() + step * rows * inputs, streamed.output.data() + step * rows * outputs,
                       arrays.reset.data() + step * rows);
        }
        stream->get_state({{streamed.h_n.data(), streamed.c_n.data()}});
        CHECK(same_bits(streamed.output, whole.output));
        CHECK(same_bits(streamed.h_n, whole.h_n));
        CHECK(same_bits(streamed.c_n, whole.c_n));
      }
    }
  });
}

// What lets small layers use the narrower registers.
TEST_CASE_TEMPLATE("bits: under avx512, small layers are to the bit what they are under avx2", T, float, double) {
  const std::string before = current_isa();
  const std::vector<std::string> isas = available_isas();
  if (std::find(isas.begin(), isas.end(), "avx512") == isas.end()) {
    MESSAGE("skipped: this CPU has no AVX-512");
    return;
  }
  Random random(49);
  const Index narrow = 32 / static_cast<Index>(sizeof(T));
  for (const Index units : {Index{1}, narrow - 3, narrow, narrow + 1, 2 * narrow - 1, 2 * narrow, 2 * narrow + 1}) {
    for (const bool variant : {false, true}) {
      CAPTURE(units);
      LstmOptions options;
      options.input_size = 3;
      options.hidden_size = units;
      options.num_layers = 2;
      options.peephole = options.residual = variant;
      options.zoneout_cell = variant ? 0.25 : 0.0;
      for (const Index rows : {1, 7}) {
        const Problem problem = random_problem(random, options, 19, rows, true, false, true);
        const Network<T> network = network_of<T>(problem);
        std::vector<std::vector<T>> results[2];
        for (const bool wide : {false, true}) {
          set_isa(wide ? "avx512" : "avx2");
          const Arrays<T> arrays(problem);
          Results<T> whole(problem);
          const Gradients<T> gradients = run_backward(*run_record(network, problem, whole), problem);
          const std::unique_ptr<Stream<T>> stream = network.stream(rows);
          stream->set_state(arrays.start());
          std::vector<T> streamed(whole.output.size());
          for (Index step = 0; step < problem.input.steps; ++step) {
            stream->step(arrays.x.data() + step * rows * 3, streamed.data() + step * rows * units,
                         arrays.reset.data() + step * rows);
          }
          CHECK(same_bits(streamed, whole.output));
          results[wide] = {whole.output, whole.h_n, whole.c_n};
          if (units <= narrow) {
            results[wide].insert(results[wide].end(),
                                 {gradients.parameters, gradients.x, gradients.h_0, gradients.c_0});
          }
        }
        set_isa(before);
        for (std::size_t k = 0; k < results[0].size(); ++k) CHECK(same_bits(results[0][k], results[1][k]));
      }
    }
  }
}

// Steps large enough that threads share the hidden units of each, forward and back, or take a direction each.
TEST_CASE_TEMPLATE("bits: hidden units shared by threads, in calls, recordings and streams", T, float, double) {
  Random random(48);
  LstmOptions plain, projected, peephole, norm, both;
  for (LstmOptions* options : {&plain, &projected, &peephole, &norm, &both}) {
    options->input_size = 150;
    options->hidden_size = 333;
  }
  projected.proj_size = 101;
  peephole.peephole = true;
  peephole.forget_gate = ForgetGate::coupled;
  norm.layer_norm = true;
  both.direction = Direction::both;
  both.num_layers = 2;
  for (const LstmOptions& options : {plain, projected, peephole, norm, both}) {
    for (const Index rows : {1, 3, 9}) {
      CAPTURE(rows);
      const Problem problem = random_problem(random, options, 11, rows, true, rows > 1, true);
      const Network<T> network = network_of<T>(problem);
      const auto run = [&](Index count) {
        const ThreadCount threads(count);
        const Results<T> called = run_forward(network, problem);
        Results<T> recorded(problem);
        const auto tape = run_record(network, problem, recorded);
        const Gradients<T> gradients = run_backward(*tape, problem);
        std::vector<std::vector<T>> all{called.output, called.h_n,          called.c_n,  recorded.output,
                                        recorded.h_n,  recorded.c_n,        gradients.x, gradients.h_0,
                                        gradients.c_0, gradients.parameters};
        if (options.direction == Direction::both) return all;
        const Arrays<T> arrays(problem);
        std::vector<T> streamed(problem.d_result.output.size());
        const std::unique_ptr<Stream<T>> stream = network.stream(rows);
        CHECK(stream->is_shared() == (count > 1 && !options.layer_norm));
        stream->set_state(arrays.start());
        for (Index step = 0; step < problem.input.steps; ++step) {
          wake_threads();
          stream->step(arrays.x.data() + step * rows * options.input_size,
                       streamed.data() + step * rows * options.output_size(), arrays.reset.data() + step * rows);
        }
        all.push_back(streamed);
        return all;
      };
      const auto expected = run(1);
      CHECK(same_bits(expected[0], expected[3]));
      for (int repeat = 0; repeat < 3; ++repeat) {
        for (const Index count : {2, 3}) {
          const auto actual = run(count);
          for (std::size_t k = 0; k < expected.size(); ++k) CHECK(same_bits(actual[k], expected[k]));
        }
      }
    }
  }
}

TEST_CASE_TEMPLATE("bits: a call keeps its instruction set, whatever becomes current", T, float, double) {
  Random random(44);
  const Problem problem = random_problem(random, shapes()[0], 9, 3, true, false, false);
  for_each_isa([&] {
    const std::string mine = current_isa();
    const Network<T> network = network_of<T>(problem);
    Results<T> results(problem);
    const std::shared_ptr<Tape<T>> tape = run_record(network, problem, results);
    const std::unique_ptr<Stream<T>> stream = network.stream(3);
    const Gradients<T> gradients = run_backward(*tape, problem);
    const Arrays<T> arrays(problem);
    stream->set_state(arrays.start());
    for (const std::string& other : available_isas()) {
      set_isa(other);
      CHECK(same_bits(run_backward(*tape, problem).parameters, gradients.parameters));
    }
    std::vector<T> y(3 * 17);
    stream->step(arrays.x.data(), y.data());
    CHECK(same_bits(y, std::vector<T>(results.output.begin(), results.output.begin() + 3 * 17)));
    set_isa(mine);
  });
}

#if defined(__SSE__)

TEST_CASE_TEMPLATE("floating-point state: the caller's does not matter, and is restored afterwards", T, float, double) {
  for_each_isa([] {
    Random random(45);
    const Problem problem = random_problem(random, shapes()[2], 39, 13, true, true, true);
    const Network<T> network = network_of<T>(problem);
    const RowResults<T> expected(network, problem);
    Problem stepped = random_problem(random, shapes()[1], 1, 2, false, false, false);
    const std::unique_ptr<Stream<T>> stream = network_of<T>(stepped).stream(2);
    const Arrays<T> arrays(stepped);
    std::vector<T> y(62), y_expected(62);
    stream->step(arrays.x.data(), y_expected.data());
    stream->reset();

    const unsigned rounding = 0x1F80 | _MM_ROUND_TOWARD_ZERO | _MM_EXCEPT_DENORM;  // with an exception's flag raised
    const unsigned flushing = 0x9FC0 | _MM_EXCEPT_OVERFLOW;
    for (const auto& [count, unusual] : {std::pair{Index{1}, rounding}, {3, rounding}, {1, flushing}, {3, flushing}}) {
      const ThreadCount threads(count);
      const unsigned before = _mm_getcsr();
      Results<T> results(problem);
      _mm_setcsr(unusual);
      const std::shared_ptr<Tape<T>> tape = run_record(network, problem, results);
      const unsigned after_record = _mm_getcsr();
      const Gradients<T> gradients = run_backward(*tape, problem);
      const unsigned after_backward = _mm_getcsr();
      const Results<T> forward = run_forward(network, problem);
      const unsigned after_forward = _mm_getcsr();
      stream->step(arrays.x.data(), y.data());
      const unsigned after_step = _mm_getcsr();
      _mm_setcsr(before);
      stream->reset();
      CHECK(after_record == unusual);
      CHECK(after_backward == unusual);
      CHECK(after_forward == unusual);
      CHECK(after_step == unusual);
      CHECK(same_bits(results.output, expected.results.output));
      CHECK(same_bits(forward.output, expected.results.output));
      CHECK(same_bits(gradients.parameters, expected.gradients.parameters));
      CHECK(same_bits(gradients.x, expected.gradients.x));
      CHECK(same_bits(y, y_expected));
    }
  });
}

TEST_CASE_TEMPLATE("floating-point state: subnormal input and weights count as zero, on every thread", T, float,
                   double) {
  for_each_isa([] {
    Random random(46);
    for (const bool weights_too : {false, true}) {
      Problem problem = random_problem(random, shapes()[0], 39, 13, true, false, false);
      std::fill(problem.input.x.begin(), problem.input.x.end(), 0.0);
      const Index weight_ih_size = 4 * 17 * 3;
      if (weights_too) std::fill_n(problem.parameters.begin(), weight_ih_size, 0.0);
      const Network<T> zero = network_of<T>(problem);
      const Results<T> expected = run_forward(zero, problem);

      const double subnormal = static_cast<double>(std::numeric_limits<T>::min() / T(4));
      if (weights_too) {
        std::fill_n(problem.parameters.begin(), weight_ih_size, subnormal);
        std::fill(problem.input.x.begin(), problem.input.x.end(), 1000.0);
      } else {
        std::fill(problem.input.x.begin(), problem.input.x.end(), subnormal);
        for (Index k = 0; k < weight_ih_size; ++k) {  // large enough for the products not to vanish
          problem.parameters[static_cast<std::size_t>(k)] = static_cast<double>(std::numeric_limits<T>::max() / T(4));
        }
      }
      const Network<T> network = network_of<T>(problem);
      for (const Index count : {1, 3}) {
        const ThreadCount threads(count);
        const Results<T> results = run_forward(network, problem);
        CHECK(same_bits(results.output, expected.output));
        CHECK(same_bits(results.c_n, expected.c_n));
      }
      const std::unique_ptr<Stream<T>> stream = network.stream(13);
      const Arrays<T> arrays(problem);
      stream->set_state(arrays.start());
      std::vector<T> y(13 * 17);
      stream->step(arrays.x.data(), y.data());
      CHECK(same_bits(y, std::vector<T>(expected.output.begin(), expected.output.begin() + 13 * 17)));
    }
  });
}

#endif

}  // namespace latchwork::test
