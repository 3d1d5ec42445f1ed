#pragma once

#include <algorithm>

#include "layer/rows.hpp"
#include "machine/interrupt.hpp"
#include "machine/parallel.hpp"

namespace latchwork {

// Adds each row of d_output to the row table[token], in the order of descending steps, then ascending rows. Threads
// split the features, so every sum is added up in this order.
template <class T>
void embedding_backward(const Batch& batch, const RowSource<T>& tokens, SequenceView<const T> d_output, Index features,
                        T* table) {
  const Schedule schedule{batch, false};
  const Index work = batch.steps * batch.rows * features * work_of_moving;
  const Index parts = work < smallest_parallel_work ? 1 : std::min(num_threads(), features);
  parallel(parts, [&](Index part) {
    const Index begin = piece_begin(features, parts, part);
    const Index end = piece_begin(features, parts, part + 1);
    for (Index step = batch.steps - 1; step >= 0; --step) {
      if (stops_after(batch.rows * (end - begin) * work_of_moving)) return;
      for (Index row = 0; row < batch.rows; ++row) {
        if (!schedule.active(step, row)) continue;
        T* sum = table + *tokens.tokens.at(step, row) * features;
        const T* d_row = d_output.at(step, row);
        for (Index at = begin; at < end; ++at) sum[at] += d_row[at];
      }
    }
  });
}

}  // namespace latchwork
