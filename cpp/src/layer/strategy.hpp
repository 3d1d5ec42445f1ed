#pragma once

#include <algorithm>

#include "layer/rows.hpp"
#include "machine/parallel.hpp"
#include "weights/snapshot.hpp"

// How work is cut up. Nothing here changes a bit of any result.
namespace latchwork {

// Thresholds. tests/benchmarks/README.md has the command that measures them and what it found. The kernels have
// their own two, of the caches, in kernels/tile.hpp.

// Below this many multiply-adds of a step two threads that meet after each step lose more than they gain.
inline constexpr Index smallest_split_step = 120'000;
// The same of a step backward, where they meet twice.
inline constexpr Index smallest_split_step_back = 250'000;
// Bytes of one layer's weights that L2 surely does not hold beside all else.
inline constexpr Index cached_weight_bytes = 1'000'000;
// Fewer rows than this leave a thread's multiply-adds waiting for weights.
inline constexpr Index full_tile_rows = 4;
// More rows, or fewer inputs, gain nothing by W x as a product of its own, and so many rows (steps x rows) it then has.
// Where the cache holds the weights, rows gain less by it.
inline constexpr Index most_rows_ahead = 3;
inline constexpr Index most_rows_ahead_beyond_cache = 16;
inline constexpr Index fewest_inputs_ahead = 16;
inline constexpr Index ahead_chunk_rows = 64;
// Rows (steps x rows) whose gate gradients are held at once: the weight gradient's product then finds them in L1 and
// L2. No program measures it: the training cases of `latchwork bench` do, in builds that differ here.
inline constexpr Index gradient_chunk_rows = 128;
// The same of a linear layer, where the threads meet after each chunk.
inline constexpr Index linear_chunk_rows = 512;
// Rows that are enough for a thread's multiply-adds not to wait for weights.
inline constexpr Index full_chain_rows = 16;
// What a cell costs backward beside the products, in multiply-adds.
inline constexpr Index cell_backward_work = 200;

// Whether so many numbers, once written, are in no cache when they are read after the whole sequence.
template <class T>
bool past_cache(Index numbers) {
  return numbers * static_cast<Index>(sizeof(T)) > 20'000'000;
}

// Multiply-adds of one time step of so many rows.
template <class T>
Index step_work(const PackedLayer<T>& weights, Index rows) {
  return rows * weights.gates * weights.units * (weights.input_size + weights.output_size());
}

// Into how many pieces threads split the hidden units of one step. With layer norm a step needs whole rows.
template <class T>
Index unit_parts(const PackedLayer<T>& weights, Index rows) {
  if (weights.variant.norm_ih_weight != nullptr || step_work(weights, rows) < smallest_split_step) return 1;
  return std::min({free_threads(), weights.panels.count(), step_work(weights, rows) / (smallest_split_step / 2)});
}

// Into how many pieces threads split the rows.
template <class T>
Index row_parts(const Schedule& schedule, const PackedLayer<T>& weights) {
  const Index rows = schedule.batch.rows;
  if (step_work(weights, schedule.total(0, rows)) < smallest_parallel_work) return 1;
  return std::max<Index>(1, std::min(free_threads(), rows / 2));
}

// How many threads take whole blocks of rows backward, without meeting. 0: the blocks are too few to keep all threads
// busy to the end, which then work on all blocks at once.
template <class T>
Index block_threads(const Schedule& schedule, const PackedLayer<T>& weights, Index blocks) {
  if (blocks == 1) return 0;
  if (row_parts(schedule, weights) == 1) return 1;
  const Index threads = free_threads();
  return blocks % threads == 0 || blocks >= 4 * threads ? threads : 0;
}

// Row at which part `part` of `parts` begins. Each part has about as many of the steps [order_begin, order_end) as the
// others, for threads wait for the last. Contiguous rows: neighbours share cache lines.
inline Index part_begin(const Schedule& schedule, Index order_begin, Index order_end, Index parts, Index part) {
  const Index rows = schedule.batch.rows;
  if (schedule.batch.lengths == nullptr || part == 0 || part == parts) return piece_begin(rows, parts, part);
  Index total = 0;
  for (Index row = 0; row < rows; ++row) total += schedule.steps_of(row, order_begin, order_end);
  const Index wanted = piece_begin(total, parts, part);
  Index row = 0;
  for (Index sum = 0; row < rows; ++row) {
    const Index steps = schedule.steps_of(row, order_begin, order_end);
    if (sum + steps / 2 >= wanted) break;
    sum += steps;
  }
  return row;
}

// Whether the weights of both products may stay in the cache, if much else need not.
template <class T>
bool fit_cache(const PackedLayer<T>& weights) {
  return weights.x_weights.bytes() + weights.h_weights.bytes() <= 2 * cached_weight_bytes;
}

// How threads share the time steps of a layer: by rows they need not meet at all; by hidden units each keeps its part
// of the weights in its cache, and few rows suffice.
struct LayerSplit {
  Index row_parts = 1;
  Index unit_parts = 1;
};

template <class T>
LayerSplit forward_split(const Schedule& schedule, const PackedLayer<T>& weights) {
  const Index rows = row_parts(schedule, weights);
  const Index units = unit_parts(weights, schedule.batch.rows);
  const bool full_tiles = schedule.batch.rows >= full_tile_rows * rows;
  if (units == 1 || (full_tiles && (units < rows || fit_cache(weights)))) return {rows, 1};
  return {1, units};
}

// Into how many parts of the rows the recurrence backward is split. While a few threads are at it others add up its
// results, with so many products of W's size beside that of R's: so no more than it takes to be done in time, unless
// each has rows enough.
template <class T>
Index chain_count(const Schedule& schedule, const PackedLayer<T>& weights, Index input_products) {
  const Index gates = weights.gates * weights.units;
  const Index chain_work = gates * weights.output_size() + cell_backward_work * weights.units;
  const Index sum_work = gates * (weights.output_size() + input_products * weights.input_size);
  // Nine tenths: what it lacks in the end is less than what more rows gain.
  const Index needed = 9 * free_threads() * chain_work / (10 * (chain_work + sum_work)) + 1;
  return std::min(row_parts(schedule, weights), std::max(needed, schedule.batch.rows / full_chain_rows));
}

// The same for the recurrence backward, which multiplies with R alone and meets twice in a step that is split.
template <class T>
LayerSplit backward_split(const Schedule& schedule, const PackedLayer<T>& weights, Index input_products) {
  const Index rows = row_parts(schedule, weights);
  const bool few_rows = schedule.batch.rows < full_tile_rows * rows;
  const Index size = weights.gates * weights.units * weights.output_size();
  const bool cached = weights.h_gradient.bytes() <= 2 * cached_weight_bytes;
  if (rows > 1 && (!few_rows || cached)) return {chain_count(schedule, weights, input_products), 1};
  const bool small = schedule.batch.rows * size < smallest_split_step_back;
  return {1, small ? 1 : unit_parts(weights, schedule.batch.rows)};
}

// Whether two directions go to two threads, each alone, rather than one after the other to all: they need not meet, but
// each thread must then hold the whole of a direction's weights.
template <class T>
bool directions_apart(const Schedule& schedule, const PackedLayer<T>& weights) {
  const LayerSplit split = forward_split(schedule, weights);
  if (free_threads() < 2 || split.row_parts > 1 || split.unit_parts > 3) return false;
  if (step_work(weights, schedule.total(0, schedule.batch.rows)) < smallest_parallel_work / 2) return false;
  return split.unit_parts == 1 || weights.h_weights.bytes() <= 2 * cached_weight_bytes;
}

// Weights beyond that cache are walked forwards in even steps and backwards in odd ones: the part still in the cache is
// used again.
template <class T>
bool last_panel_first(const WeightPanels<T>& weights, Index step_number) {
  return step_number % 2 == 1 && weights.bytes() > cached_weight_bytes;
}

// How many steps to project at once where the rows are too few to hold the weights of W in cache; 0: W x is part of the
// step.
template <class T>
Index project_ahead_steps(const PackedLayer<T>& weights, Index rows, Index steps) {
  const Index most_rows = fit_cache(weights) ? most_rows_ahead : most_rows_ahead_beyond_cache;
  if (rows > most_rows || weights.input_size < fewest_inputs_ahead || steps < 2) return 0;
  return std::min(steps, ahead_chunk_rows / std::max<Index>(rows, 1));
}

}  // namespace latchwork
