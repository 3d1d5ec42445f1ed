// The option gradient_blocks: every module is summed in that many blocks of rows, which are added in a tree.
#include <doctest/doctest.h>

#include <stdexcept>

#include "latchwork/network.hpp"
#include "latchwork/training.hpp"
#include "layer/row_blocks.hpp"
#include "support/support.hpp"

namespace latchwork::test {
namespace {

constexpr Index steps = 7, rows = 21;

LstmOptions lstm(Index input_size, Index hidden_size) {
  LstmOptions options;
  options.input_size = input_size;
  options.hidden_size = hidden_size;
  options.recurrent_dropout = 0.25;
  return options;
}

// Chains with each kind of module that is summed in one block otherwise. None sums by token.
std::vector<std::vector<ModuleOptions>> chains() {
  return {{EmbeddingOptions{400, 5}, lstm(5, 12), LinearOptions{12, 3}},
          {lstm(40, 260), LinearOptions{260, 3}},
          {lstm(3, 9), LastOptions{}, LinearOptions{9, 3}}};
}

// A recording of some of the rows, and its gradient.
template <class T>
class Problem {
 public:
  explicit Problem(const std::vector<ModuleOptions>& modules)
      : network_(modules, TensorNames::of_chain, 4), features_(network_.takes_tokens() ? 0 : network_.input_size()) {
    Random random(31);
    for (Index at = 0; at < steps * rows; ++at) tokens_.push_back(random.between(0, 399));
    x_ = converted<T>(random.numbers(steps * rows * features_));
    d_output_ = converted<T>(random.numbers(steps * rows * 3));
    for (Index row = 0; row < rows; ++row) lengths_.push_back(random.between(0, steps));
  }

  std::vector<T> gradient(Index begin, Index end, Index blocks, Index checkpoint = 0) const {
    Input<T> input;
    if (features_ == 0) {
      input.tokens = {tokens_.data() + begin, rows, 1};
    } else {
      input.values = {x_.data() + begin * features_, rows * features_, features_};
    }
    const Batch batch{steps, end - begin, lengths_.data() + begin, {}, 0};
    std::vector<T> output(static_cast<std::size_t>(steps * rows * 3)), sums(parameter_count());
    const auto tape =
        network_.record(input, batch, {}, {output.data(), rows * 3, 3}, {}, {true, 5, checkpoint, begin, blocks});
    tape->backward({d_output_.data() + begin * 3, network_.keeps_sequence() ? rows * 3 : 0, 3}, {}, sums.data(), false,
                   {}, {});
    return sums;
  }
  RowBlocks blocks(Index count) const {
    return row_blocks(Schedule{{steps, rows, lengths_.data(), {}, 0}, false}, count);
  }
  std::size_t parameter_count() const { return static_cast<std::size_t>(network_.parameter_count()); }
  const Network<T>& network() const { return network_; }

 private:
  Network<T> network_;
  Index features_;
  std::vector<std::int64_t> tokens_;
  std::vector<T> x_, d_output_;
  std::vector<Index> lengths_;
};

}  // namespace

TEST_CASE_TEMPLATE("gradient_blocks: every module's gradient is the tree of those of each block alone", T, float,
                   double) {
  for (const std::vector<ModuleOptions>& modules : chains()) {
    const Problem<T> problem(modules);
    for (const Index count : {1, 2, 4, 16, 32}) {
      CAPTURE(count);
      const RowBlocks blocks = problem.blocks(count);
      std::vector<std::vector<T>> of_blocks;
      for (Index block = 0; block < count; ++block) {
        of_blocks.push_back(problem.gradient(blocks.begin_of(block), blocks.end_of(block), 1));
      }
      const std::vector<T> expected = tree_sum(of_blocks);
      CHECK(is_finite(expected));
      for (const Index thread_count : {1, 2, 3}) {
        const ThreadCount threads(thread_count);
        CAPTURE(thread_count);
        CHECK(same_bits(problem.gradient(0, rows, count), expected));
        CHECK(same_bits(problem.gradient(0, rows, count, 3), expected));
      }
      if (count == 4) CHECK(!same_bits(expected, problem.gradient(0, rows, 1)));
    }
  }
}

TEST_CASE("gradient_blocks: a number that is no power of two is refused, and the trainer passes its number on") {
  const Problem<double> problem(chains().back());
  for (const Index wrong : {-1, 3, 2048}) {
    CHECK_THROWS_AS(problem.gradient(0, rows, wrong), std::invalid_argument);
    CHECK_THROWS_AS(Trainer<double>(problem.network(), Loss{}, OptimizerOptions{}, 0.0, 1, wrong),
                    std::invalid_argument);
  }
  std::vector<double> x(static_cast<std::size_t>(steps * rows * 3), 0.25), y(static_cast<std::size_t>(rows * 3), 0.7);
  for (std::size_t at = 0; at < x.size(); ++at) x[at] *= static_cast<double>(at % 11);
  const auto gradient = [&](Index blocks) {
    Trainer<double> trainer(problem.network(), Loss{}, OptimizerOptions{}, 0.0, 1, blocks);
    Input<double> input;
    input.values = {x.data(), rows * 3, 3};
    Target<double> target;
    target.values = {y.data(), 0, 3};
    trainer.gradient(input, Batch{steps, rows, nullptr, {}, 0}, {}, target, {});
    return std::vector<double>(trainer.gradients(), trainer.gradients() + problem.parameter_count());
  };
  CHECK(same_bits(gradient(0), gradient(1)));
  CHECK(!same_bits(gradient(1), gradient(4)));
}

}  // namespace latchwork::test
