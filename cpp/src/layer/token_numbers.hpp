#pragma once

#include <optional>
#include <vector>

#include "layer/rows.hpp"

namespace latchwork {

// The different tokens that the computed steps read, in ascending order; each has its number in that order.
class TokenNumbers {
 public:
  // For the steps that are computed as number order_begin to order_end - 1.
  template <class T>
  TokenNumbers(const RowSource<T>& input, const Schedule& schedule, Index order_begin, Index order_end)
      : numbers_(static_cast<std::size_t>(input.vocabulary), absent) {
    const auto for_each_token = [&](auto&& task) {
      for (Index order = order_begin; order < order_end; ++order) {
        const Index step = schedule.step(order);
        for (Index row = 0; row < schedule.batch.rows; ++row) {
          if (schedule.active(step, row)) task(static_cast<std::size_t>(*input.tokens.at(step, row)));
        }
      }
    };
    for_each_token([&](std::size_t token) { numbers_[token] = 0; });
    for (std::size_t token = 0; token < numbers_.size(); ++token) {
      if (numbers_[token] == absent) continue;
      numbers_[token] = count();
      tokens_.push_back(static_cast<Index>(token));
    }
  }

  Index count() const { return static_cast<Index>(tokens_.size()); }
  Index token(Index number) const { return tokens_[static_cast<std::size_t>(number)]; }
  Index number(Index token) const { return numbers_[static_cast<std::size_t>(token)]; }

 private:
  static constexpr Index absent = -1;

  std::vector<Index> tokens_;
  std::vector<Index> numbers_;  // for each token of the vocabulary
};

// With shorter embedding vectors than this, finding the number of a token costs as much as the arithmetic that it
// saves.
inline constexpr Index fewest_token_features = 16;

// A layer that reads tokens has no more different inputs than there are different tokens. If each token is read at
// least twice on average in each of `blocks` blocks of rows, what depends on the input alone is computed once for each
// token rather than for each step and row, and the result holds the tokens; otherwise it is empty. In the backward pass
// this changes bits, so it depends only on the tokens of the computed steps and on the size of the table.
template <class T>
std::optional<TokenNumbers> repeated_tokens(const RowSource<T>& input, const Schedule& schedule, Index order_begin,
                                            Index order_end, Index blocks) {
  if (input.table == nullptr || input.features < fewest_token_features) return {};
  Index total = 0;
  for (Index row = 0; row < schedule.batch.rows; ++row) total += schedule.steps_of(row, order_begin, order_end);
  // A vocabulary this large would take too long to go through.
  if (input.vocabulary > 8 * total) return {};
  TokenNumbers numbers(input, schedule, order_begin, order_end);
  if (2 * blocks * numbers.count() > total) return {};
  return numbers;
}

}  // namespace latchwork
