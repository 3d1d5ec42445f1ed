#pragma once

#include "layer/cell_masks.hpp"
#include "layer/strategy.hpp"
#include "machine/interrupt.hpp"
#include "machine/parallel.hpp"

namespace latchwork {

// Names one dropout mask: the recording's seed, and the module and layer whose output it is for.
struct DropoutMask {
  std::uint64_t seed = 0;
  Index module = 0;
  Index layer = 0;
  Index first_row = 0;  // see RecordOptions
  double probability = 0.0;
};

// Copies `from` to `to`. Each number becomes zero with mask.probability, and is divided by 1 - mask.probability
// otherwise. Both are contiguous (steps, rows, features); `to` may be `from`. Whether a number becomes zero depends
// only on the mask and on the number's step, row and unit.
template <class T>
void apply_dropout(const Kernels<T>& kernels, const DropoutMask& mask, const Batch& batch, Index features,
                   const T* from, T* to) {
  constexpr Index drawn_at_once = 256;  // a multiple of 4, because the generator yields 4 at a time
  const T factor = kept_factor<T>(mask.probability);
  const Index sequence_rows = batch.steps * batch.rows;
  const Index parts = number_parts(sequence_rows * features, sequence_rows);
  parallel(parts, [&](Index part) {
    T factors[drawn_at_once];
    for (Index at = piece_begin(sequence_rows, parts, part); at < piece_begin(sequence_rows, parts, part + 1); ++at) {
      if (stops_after(features * work_of_moving)) return;
      for (Index unit = 0; unit < features; unit += drawn_at_once) {
        const Index count = std::min(features - unit, drawn_at_once);
        draw_mask(kernels, {mask.seed, MaskOn::layer_output, mask.module, mask.layer}, at / batch.rows,
                  mask.first_row + at % batch.rows, mask.probability, T(0), factor, count, factors, unit);
        for (Index k = 0; k < count; ++k) {
          const Index place = at * features + unit + k;
          to[place] = factors[k] == T(0) ? T(0) : from[place] * factors[k];
        }
      }
    }
  });
}

}  // namespace latchwork
