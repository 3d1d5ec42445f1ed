// "The same bits, always": gradients with respect to parameters do not depend on threads, chunks or padding.
#include <doctest/doctest.h>

#include "support/row_problems.hpp"

namespace latchwork::test {

TEST_CASE_TEMPLATE("bits: gradients with respect to parameters depend neither on threads nor on where chunks are cut",
                   T, float, double) {
  for_each_isa([] {
    Random random(42);
    for (const LstmOptions& options : shapes()) {
      for (const Index rows : {1, 2, 20, 38}) {
        CAPTURE(options.hidden_size);
        CAPTURE(rows);
        const Problem problem = random_problem(random, options, 48, rows, true, rows > 1, true);
        // If there are two blocks, two threads take one each, while three threads work on both at once.
        REQUIRE(row_blocks_of(problem).count() == (rows == 38 ? 2 : 1));
        const Network<T> network = network_of<T>(problem);
        const auto gradient = [&](const Problem& same) {
          Results<T> ignored(same);
          return run_backward(*run_record(network, same, ignored), same).parameters;
        };
        const std::vector<T> expected = gradient(problem);
        CHECK(is_finite(expected));
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

TEST_CASE_TEMPLATE("bits: gradients of a large layer, whose rows are one block, for any number of threads", T, float,
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
  CHECK(is_finite(expected.parameters));
  for (const Index count : {2, 3, 5}) {
    const ThreadCount threads(count);
    const Gradients<T> actual = run_backward(*run_record(network, problem, ignored), problem);
    CHECK(same_bits(actual.parameters, expected.parameters));
    CHECK(same_bits(actual.x, expected.x));
    CHECK(same_bits(actual.h_0, expected.h_0));
    CHECK(same_bits(actual.c_0, expected.c_0));
  }
}

TEST_CASE_TEMPLATE(
    "bits: gradients with respect to parameters are the sum, in a tree, of those of each block of rows alone", T, float,
    double) {
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
        std::vector<std::vector<T>> of_blocks;
        for (Index block = 0; block < blocks.count(); ++block) {
          std::vector<Index> block_rows(static_cast<std::size_t>(blocks.rows_of(block)));
          std::iota(block_rows.begin(), block_rows.end(), blocks.begin_of(block));
          const Problem part = with_rows(problem, block_rows);
          REQUIRE(row_blocks_of(part).count() == 1);
          of_blocks.push_back(gradient(part));
        }
        const std::vector<T> expected = tree_sum(of_blocks);
        CHECK(is_finite(expected));
        for (const Index count : {1, 2, 3}) {
          const ThreadCount threads(count);
          CHECK(same_bits(gradient(problem), expected));
        }
      }
    }
  });
}

}  // namespace latchwork::test
