// "The same bits, always": a row's results do not depend on the batch, padding, threads or instruction set.
#include <doctest/doctest.h>

#include "latchwork/isa.hpp"
#include "latchwork/stream.hpp"
#include "support/row_problems.hpp"

namespace latchwork::test {

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
        CHECK(whole.finite());

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

TEST_CASE_TEMPLATE("bits: random masks do not depend on threads or padding, and are the same when recorded again", T,
                   float, double) {
  for_each_isa([] {
    Random random(47);
    for (const LstmOptions& options : variant_shapes()) {
      CAPTURE(options.hidden_size);
      const Problem problem = random_problem(random, options, 40, 9, false, true, true);
      const Network<T> network = network_of<T>(problem);
      const auto record = [&](const Problem& same, std::uint64_t seed) {
        RecordOptions recording{false, 0};
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
      for (const std::vector<T>& part : expected) CHECK(is_finite(part));
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

TEST_CASE_TEMPLATE("bits: a call keeps its instruction set, even if another one becomes current", T, float, double) {
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

}  // namespace latchwork::test
