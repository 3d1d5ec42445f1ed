// The caller's floating-point state: results do not depend on it, and every call restores it.
#include <doctest/doctest.h>

#if defined(__SSE__)
#include <immintrin.h>
#endif

#include "latchwork/stream.hpp"
#include "support/row_problems.hpp"

namespace latchwork::test {

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

    const unsigned rounding =
        0x1F80 | _MM_ROUND_TOWARD_ZERO | _MM_EXCEPT_DENORM;  // the last of these is an exception flag
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
        for (Index k = 0; k < weight_ih_size; ++k) {  // large enough that the products would not vanish
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
