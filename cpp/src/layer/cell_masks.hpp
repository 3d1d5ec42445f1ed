#pragma once

#include "latchwork/batch.hpp"
#include "latchwork/options.hpp"
#include "machine/masks.hpp"

namespace latchwork {

// Which random masks act inside one layer and direction. Outside training there is no dropout, and zoneout acts through
// its expectation.
struct CellMasks {
  CellMasks() = default;
  CellMasks(const LstmOptions& options, const RecordOptions& record, Index module_number, Index state)
      : training(record.training),
        seed(record.mask_seed.value_or(0)),
        module(module_number),
        place(state),
        first_row(record.first_row) {
    if (!training) return;
    (options.recurrent_dropout_on == RecurrentDropoutOn::hidden ? hidden_dropout : candidate_dropout) =
        options.recurrent_dropout;
    hidden_zoneout = options.zoneout_hidden;
    cell_zoneout = options.zoneout_cell;
  }

  // Draws the mask of one step and row. Dropout on h has one mask for all steps.
  template <class T>
  void draw(const Kernels<T>& kernels, MaskOn on, Index step, Index row, Index size, T* factors) const {
    const bool zoneout = on == MaskOn::hidden || on == MaskOn::cell;
    const double probability = on == MaskOn::recurrent_hidden ? hidden_dropout
                               : on == MaskOn::candidate      ? candidate_dropout
                               : on == MaskOn::hidden         ? hidden_zoneout
                                                              : cell_zoneout;
    draw_mask(kernels, {seed, on, module, place}, step, first_row + row, probability, zoneout ? T(1) : T(0),
              zoneout ? T(0) : kept_factor<T>(probability), size, factors);
  }

  bool any() const {
    return hidden_dropout > 0.0 || candidate_dropout > 0.0 || hidden_zoneout > 0.0 || cell_zoneout > 0.0;
  }

  bool training = false;
  std::uint64_t seed = 0;
  Index module = 0, place = 0;
  Index first_row = 0;  // the number that the first row has in the larger batch that masks are drawn for
  // Probabilities, 0 outside training.
  double hidden_dropout = 0.0, candidate_dropout = 0.0, hidden_zoneout = 0.0, cell_zoneout = 0.0;
};

}  // namespace latchwork
