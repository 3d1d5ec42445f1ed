#pragma once

#include <algorithm>

#include "layer/cell_masks.hpp"
#include "layer/rows.hpp"
#include "layer/strategy.hpp"
#include "machine/interrupt.hpp"
#include "machine/parallel.hpp"
#include "network/sequences.hpp"

namespace latchwork {

// Names one dropout mask: the recording's seed, and the module and layer whose output it is for.
struct DropoutMask {
  std::uint64_t seed = 0;
  Index module = 0;
  Index layer = 0;
  Index first_row = 0;  // see RecordOptions
  double probability = 0.0;
};

// Copies the numbers of one step and row. Each becomes zero with mask.probability, and is divided by
// 1 - mask.probability otherwise. `to` may be `from`. Whether a number becomes zero depends only on the mask and on the
// number's step, row and unit.
template <class T>
void drop_units(const Kernels<T>& kernels, const DropoutMask& mask, Index step, Index row, Index features,
                const T* from, T* to) {
  constexpr Index drawn_at_once = 256;  // a multiple of 4, because the generator yields 4 at a time
  const T factor = kept_factor<T>(mask.probability);
  T factors[drawn_at_once];
  for (Index unit = 0; unit < features; unit += drawn_at_once) {
    const Index count = std::min(features - unit, drawn_at_once);
    draw_mask(kernels, {mask.seed, MaskOn::layer_output, mask.module, mask.layer}, step, mask.first_row + row,
              mask.probability, T(0), factor, count, factors, unit);
    for (Index k = 0; k < count; ++k) to[unit + k] = factors[k] == T(0) ? T(0) : from[unit + k] * factors[k];
  }
}

// drop_units() for all steps and rows. Both sequences are contiguous (steps, rows, features), and padding is dropped
// from too.
template <class T>
void apply_dropout(const Kernels<T>& kernels, const DropoutMask& mask, const Batch& batch, Index features,
                   const T* from, T* to) {
  const Index sequence_rows = batch.steps * batch.rows;
  const Index parts = number_parts(sequence_rows * features, sequence_rows);
  parallel(parts, [&](Index part) {
    for (Index at = piece_begin(sequence_rows, parts, part); at < piece_begin(sequence_rows, parts, part + 1); ++at) {
      if (stops_after(features * work_of_moving)) return;
      drop_units(kernels, mask, at / batch.rows, at % batch.rows, features, from + at * features, to + at * features);
    }
  });
}

// The module Dropout, forward and backward: drop_units() for the valid steps of each row, zeros in padding.
template <class T>
void dropout_module(const Kernels<T>& kernels, const DropoutMask& mask, const Batch& batch, const RowSource<T>& from,
                    SequenceView<T> to) {
  write_rows(batch, from.features, to, [&](Index step, Index row, T* values) {
    drop_units(kernels, mask, step, row, from.features, from.at(step, row), values);
  });
}

// The mask of the module Dropout at this place in the chain; its probability is 0 unless the recording drops.
inline DropoutMask mask_of(const DropoutOptions& dropout, const RecordOptions& options, std::size_t at) {
  if (!options.training) return {};
  return {*options.mask_seed, static_cast<Index>(at), 0, options.first_row, dropout.p};
}

}  // namespace latchwork
