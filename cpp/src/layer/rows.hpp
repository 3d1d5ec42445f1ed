#pragma once

#include <algorithm>

#include "latchwork/batch.hpp"
#include "latchwork/types.hpp"

namespace latchwork {

// Where the features of each step and row lie: in a sequence, or for tokens in the rows of an embedding's table, so
// that tokens are looked up without copying.
template <class T>
struct RowSource {
  SequenceView<const T> values;
  SequenceView<const std::int64_t> tokens;
  const T* table = nullptr;  // null: the features are in `values`
  Index vocabulary = 0;      // the number of rows of the table
  Index features = 0;

  const T* at(Index step, Index row) const {
    return table == nullptr ? values.at(step, row) : table + *tokens.at(step, row) * features;
  }
};

// The view of a contiguous sequence: (steps, rows, features).
template <class T>
SequenceView<T> contiguous(T* data, Index rows, Index features) {
  return {data, rows * features, features};
}

// Which steps of which rows are computed, in which order, and where a row restarts.
struct Schedule {
  Batch batch;
  bool reverse = false;

  Index length(Index row) const { return batch.lengths == nullptr ? batch.steps : batch.lengths[row]; }
  bool active(Index step, Index row) const { return step < length(row); }
  // The step that is computed as number `order`, counted from 0.
  Index step(Index order) const { return reverse ? batch.steps - 1 - order : order; }
  // The earliest step, in the order of the sequence, of those that are computed as number order_begin to order_end - 1.
  Index first_step(Index order_begin, Index order_end) const { return reverse ? batch.steps - order_end : order_begin; }
  bool is_first(Index step, Index row) const { return step == (reverse ? length(row) - 1 : 0); }
  // The step whose state this step continues.
  Index previous(Index step) const { return reverse ? step + 1 : step - 1; }
  // Whether the row restarts before this step from the layer's own start state. The reverse direction restarts at the
  // last step before each reset, because that is the step which it computes first there.
  bool restarts(Index step, Index row) const {
    if (reverse && step + 1 == length(row)) return batch.end_reset != nullptr && batch.end_reset[row] != 0;
    return batch.reset.data != nullptr && *batch.reset.at(reverse ? step + 1 : step, row) != 0;
  }
  bool may_restart() const { return batch.reset.data != nullptr || batch.end_reset != nullptr; }
  // How many steps of a row are among those that are computed as number order_begin to order_end - 1.
  Index steps_of(Index row, Index order_begin, Index order_end) const {
    if (batch.lengths == nullptr) return order_end - order_begin;
    return std::clamp<Index>(batch.lengths[row] - first_step(order_begin, order_end), 0, order_end - order_begin);
  }
  // The number of steps that are computed, summed over these rows.
  Index total(Index row_begin, Index row_end) const {
    if (batch.lengths == nullptr) return (row_end - row_begin) * batch.steps;
    Index sum = 0;
    for (Index row = row_begin; row < row_end; ++row) sum += batch.lengths[row];
    return sum;
  }
};

}  // namespace latchwork
