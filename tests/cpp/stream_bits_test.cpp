// "The same bits, always": whole sequences, windows and streams agree, with any registers and any number of threads.
#include <doctest/doctest.h>

#include "latchwork/isa.hpp"
#include "latchwork/stream.hpp"
#include "latchwork/threads.hpp"
#include "support/row_problems.hpp"

namespace latchwork::test {

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

// This is why small layers may use the narrower registers.
TEST_CASE_TEMPLATE("bits: under avx512, small layers are bit for bit what they are under avx2", T, float, double) {
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

// The steps are so large that threads share the hidden units of each, forward and backward, or take one direction each.
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

}  // namespace latchwork::test
