#pragma once

#include <algorithm>

#include "layer/block_sums.hpp"
#include "layer/row_blocks.hpp"
#include "layer/rows.hpp"
#include "machine/interrupt.hpp"
#include "machine/parallel.hpp"
#include "machine/workspace.hpp"

namespace latchwork {

// Adds each row of d_output that belongs to rows [row_begin, row_end) of the batch to the row of `sums` whose number
// row_of(step, row) gives, in the order of descending steps, then ascending rows. Threads split the features, so every
// sum is added up in this order.
template <class T, class RowOf>
void add_by_row(const Batch& batch, Index row_begin, Index row_end, RowOf&& row_of, SequenceView<const T> d_output,
                Index features, T* sums) {
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
        T* sum = sums + row_of(step, row) * features;
        const T* d_row = d_output.at(step, row);
        for (Index at = begin; at < end; ++at) sum[at] += d_row[at];
      }
    }
  });
}

// Adds to `to` what add(first row of a block, end of its rows, sums) adds to its sums, which are `size` numbers, for
// each block of rows.
template <class T, class Add>
void add_in_blocks(const Kernels<T>& kernels, const RowBlocks& blocks, Index size, T* to, Workspace<T>& workspace,
                   Add&& add) {
  if (blocks.count() == 1) return add(blocks.begin_of(0), blocks.end_of(0), to);
  const Index padded = round_up(size, kernels.units);
  T* const total = workspace.take(padded);
  BlockSums<T> sums(kernels, padded, total, workspace.take((kept_block_sums(blocks.count()) - 1) * padded));
  for (Index block = 0; block < blocks.count(); ++block) {
    add(blocks.begin_of(block), blocks.end_of(block), sums.next());
    sums.add();
  }
  for (Index at = 0; at < size; ++at) to[at] += total[at];
}

// Adds the gradient with respect to the table to `table`.
template <class T>
void embedding_backward(const Kernels<T>& kernels, const Batch& batch, const RowBlocks& blocks,
                        const RowSource<T>& tokens, SequenceView<const T> d_output, const EmbeddingOptions& embedding,
                        T* table, Workspace<T>& workspace) {
  const Index features = embedding.embedding_dim;
  const auto token_at = [&](Index step, Index row) { return *tokens.tokens.at(step, row); };
  add_in_blocks(
      kernels, blocks, embedding.num_embeddings * features, table, workspace,
      [&](Index begin, Index end, T* sums) { add_by_row(batch, begin, end, token_at, d_output, features, sums); });
}

}  // namespace latchwork
