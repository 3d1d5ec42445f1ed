#include "layer/cell_step.hpp"

#include <algorithm>

#include "layer/strategy.hpp"
#include "machine/cpu.hpp"
#include "machine/parallel.hpp"

namespace latchwork {

namespace {

// Calls task(first, end) for consecutive ranges of the panels [0, panels), which threads share. Each thread gets the
// same panels at every step.
template <class Task>
void for_panel_parts(Index panels, const UnitSplit& split, Task&& task) noexcept {
  const Index parts = std::min(split.parts, panels);
  if (parts <= 1) return task(Index(0), panels);
  parallel(
      parts, [&](Index part) { task(piece_begin(panels, parts, part), piece_begin(panels, parts, part + 1)); },
      split.threads);
}

// h = W_hr (o tanh(c)): Sak, Senior & Beaufays 2014.
template <class T>
void project_output(const PackedLayer<T>& weights, const Kernels<T>& kernels, Index rows,
                    const CellStepPointers<T>& pointers, const UnitSplit& split) noexcept {
  const ProductArgs<T> args =
      product_of(weights.projection_weights, rows, pointers.unprojected_hidden, pointers.output);
  const bool small = rows * weights.units * weights.projection < smallest_split_step(rows);
  for_panel_parts(weights.projection_weights.count(), small ? UnitSplit{} : split,
                  [&](Index first, Index end) { kernels.product(args, first, end); });
}

}  // namespace

template <class T>
[[gnu::hot]] void cell_step(const PackedLayer<T>& weights, const Kernels<T>& kernels, Index rows, Index number,
                            const CellStepPointers<T>& pointers, const UnitSplit& split) noexcept {
  StepArgs<T> args{};
  args.rows = rows;
  args.units = weights.units;
  args.start = pointers.start;
  args.x = pointers.x;
  args.x_size = weights.x_weights.depth();
  args.x_weights = weights.x_weights.data();
  args.h_prev = pointers.h_prev;
  args.h_size = weights.h_weights.depth();
  args.h_weights = weights.h_weights.data();
  args.c_prev = pointers.c_prev;
  args.c = pointers.c;
  args.h = weights.projection > 0 ? pointers.unprojected_hidden : pointers.output;
  args.gates = pointers.gates;
  args.gates_bypass_cache = pointers.gates_bypass_cache;
  args.last_panel_first = last_panel_first(weights.h_weights, number);
  args.last_registers = weights.panels.last_registers();
  args.caches = &this_cpu().cache_use;
  if (pointers.hidden_dropout != nullptr) {
    for (Index row = 0; row < rows; ++row) {
      const T *hidden = pointers.h_prev[row], *factor = pointers.hidden_dropout[row];
      T* dropped = pointers.dropped_hidden[row];
      for (Index unit = 0; unit < args.h_size; ++unit) dropped[unit] = hidden[unit] * factor[unit];
    }
    args.h_prev = pointers.dropped_hidden;
  }
  if (weights.plain && pointers.candidate_dropout == nullptr) {
    for_panel_parts(weights.panels.count(), split, [&](Index first, Index end) { kernels.step(args, first, end); });
  } else {
    GeneralStepArgs<T> general{};
    general.step = args;
    general.variant = &weights.variant;
    general.candidate_factor = pointers.candidate_dropout;
    general.cell_zoneout = pointers.cell_zoneout;
    general.activated_cell = pointers.activated_cell;
    general.norm_ih = pointers.norm_ih;
    general.norm_hh = pointers.norm_hh;
    general.norm_scale = pointers.norm_scale;
    for_panel_parts(weights.panels.count(), split,
                    [&](Index first, Index end) { kernels.general_step(general, first, end); });
  }
  if (weights.projection > 0) project_output(weights, kernels, rows, pointers, split);
  if (pointers.hidden_zoneout != nullptr) {
    for (Index row = 0; row < rows; ++row) {
      kernels.zoneout(pointers.hidden_zoneout[row], pointers.h_prev[row], args.h_size, pointers.output[row]);
    }
  }
}

template void cell_step<float>(const PackedLayer<float>&, const Kernels<float>&, Index, Index,
                               const CellStepPointers<float>&, const UnitSplit&) noexcept;
template void cell_step<double>(const PackedLayer<double>&, const Kernels<double>&, Index, Index,
                                const CellStepPointers<double>&, const UnitSplit&) noexcept;

}  // namespace latchwork
