#pragma once

#include <algorithm>

#include "layer/block_sums.hpp"
#include "layer/row_blocks.hpp"
#include "layer/rows.hpp"
#include "machine/interrupt.hpp"
#include "machine/parallel.hpp"
#include "machine/workspace.hpp"

namespace latchwork {

// Adds each row of d_output that belongs to rows [row_begin, row_end) of the batch to the row sums[token], in the order
// of descending steps, then ascending rows. Threads split the features, so every sum is added up in this order.
template <class T>
void add_by_token(const Batch& batch, Index row_begin, Index row_end, const RowSource<T>& tokens,
                  SequenceView<const T> d_output, Index features, T* sums) {
  const Schedule schedule{batch, false};
  const Index work = batch.steps * (row_end - row_begin) * features * work_of_moving;
  const Index parts = work < smallest_parallel_work ? 1 : std::min(num_threads(), features);
  parallel(parts, [&](Index part) {
    const Index begin = piece_begin(features, parts, part);
    const Index end = piece_begin(features, parts, part + 1);
    for (Index step = batch.steps - 1; step >= 0; --step) {
      if (stops_after((row_end - row_begin) * (end - begin) * work_of_moving)) return;
      for (Index row = row_begin; row < row_end; ++row) {
        if (!schedule.active(step, row)) continue;
        T* sum = sums + *tokens.tokens.at(step, row) * features;
        const T* d_row = d_output.at(step, row);
        for (Index at = begin; at < end; ++at) sum[at] += d_row[at];
      }
    }
  });
}

// Adds the gradient with respect to the table to `table`.
template <class T>
void embedding_backward(const Kernels<T>& kernels, const Batch& batch, const RowBlocks& blocks,
                        const RowSource<T>& tokens, SequenceView<const T> d_output, const EmbeddingOptions& embedding,
                        T* table, Workspace<T>& workspace) {
  const Index features = embedding.embedding_dim;
  if (blocks.count() == 1) return add_by_token(batch, 0, batch.rows, tokens, d_output, features, table);
  const Index numbers = embedding.num_embeddings * features, size = round_up(numbers, kernels.units);
  T* const total = workspace.take(size);
  BlockSums<T> sums(kernels, size, total, workspace.take((kept_block_sums(blocks.count()) - 1) * size));
  for (Index block = 0; block < blocks.count(); ++block) {
    add_by_token(batch, blocks.begin_of(block), blocks.end_of(block), tokens, d_output, features, sums.next());
    sums.add();
  }
  for (Index at = 0; at < numbers; ++at) table[at] += total[at];
}

}  // namespace latchwork
