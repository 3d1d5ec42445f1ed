// What is not asked of a backward pass is not computed, and what is asked for is the same bit for bit.
#include <doctest/doctest.h>

#include "support/lstm_problem.hpp"
#include "support/random_variants.hpp"
#include "support/support.hpp"

namespace latchwork::test {
namespace {

// Runs backward without the gradients with respect to the parameters, and without those of the input or the start
// state where they are not wanted.
template <class T>
Gradients<T> without_parameters(const Tape<T>& tape, const Problem& problem, bool wants_input, bool wants_start) {
  const Arrays<T> arrays(problem);
  Gradients<T> gradients(problem);
  SequenceView<T> d_input;
  if (wants_input) d_input = {gradients.x.data(), arrays.rows * arrays.input_size, arrays.input_size};
  States<T> d_start;
  if (wants_start) d_start = {{gradients.h_0.data(), gradients.c_0.data()}};
  const ModuleReady<T> ready = [](Index, Index, T*, Index) { FAIL("a gradient that nobody wants is ready"); };
  tape.backward(arrays.d_output_view(), arrays.d_end(), nullptr, false, d_input, d_start, ready);
  return gradients;
}

}  // namespace

TEST_CASE_TEMPLATE("wanted gradients: those of input and start state do not depend on whether the parameters' are", T,
                   float, double) {
  Random random(93);
  for (int round = 0; round < 60; ++round) {
    LstmOptions options = random_sizes(random);
    if (round % 2 == 1) add_random_variants(random, options);
    // Every fourth problem is large enough for several threads and several chunks.
    const Index steps = round % 4 == 0 ? random.between(20, 40) : random.between(0, 9);
    const Index rows = round % 4 == 0 ? random.between(30, 70) : random.between(1, 9);
    Problem problem =
        random_problem(random, options, steps, rows, random.chance(0.5), random.chance(0.5), random.chance(0.3));
    spoil_unused(problem);
    RecordOptions record{round % 3 == 0, 0};
    if (round % 5 == 0) record.checkpoint = 3;
    const ThreadCount threads(round % 3 + 1);
    const std::string description = described(problem);
    CAPTURE(description);
    for_each_isa([&] {
      Results<T> results(problem);
      const auto tape = run_record(network_of<T>(problem), problem, results, record);
      const Gradients<T> all = run_backward(*tape, problem);
      const Gradients<T> both = without_parameters(*tape, problem, true, true);
      CHECK(same_bits(both.x, all.x));
      CHECK(same_bits(both.h_0, all.h_0));
      CHECK(same_bits(both.c_0, all.c_0));
      CHECK(same_bits(both.parameters, Gradients<T>(problem).parameters));  // as they were before
      CHECK(same_bits(without_parameters(*tape, problem, true, false).x, all.x));
      const Gradients<T> of_start = without_parameters(*tape, problem, false, true);
      CHECK(same_bits(of_start.h_0, all.h_0));
      CHECK(same_bits(of_start.c_0, all.c_0));
      without_parameters(*tape, problem, false, false);
    });
  }
}

}  // namespace latchwork::test
