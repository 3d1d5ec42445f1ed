#pragma once

#include <algorithm>
#include <bit>

#include "layer/rows.hpp"
#include "machine/cpu.hpp"
#include "machine/parallel.hpp"
#include "weights/snapshot.hpp"

// How work is split among threads, and in which pieces it is done. Nothing here changes a bit of any result.
namespace latchwork {

// Thresholds. tests/benchmarks/README.md has the command that measures them, and its results: all were measured on an
// Intel CPU with AMX (AVX-512, L2 of 2 MB), those for a single thread and the first also on an AMD Zen 4 (L2 of 1 MB).
// What follows from the sizes of caches comes from machine/cpu.hpp.

// For fewer multiply-adds in a step of so many rows than this, two threads that wait for each other after each step
// lose more than they gain. A single row gains earlier, because it waits for the weights to come from L2.
constexpr Index smallest_split_step(Index rows) { return rows == 1 ? 76'000 : 120'000; }
// The same for a step of the backward pass, in which they wait for each other twice.
inline constexpr Index smallest_split_step_back = 250'000;
// With fewer rows than this a thread's multiply-adds wait for weights.
inline constexpr Index full_tile_rows = 4;
// When W x is computed for several steps at once, as a separate product, rather than within each step: with at most
// this many rows (more if the weights do not fit into the cache, because then rows gain more from it) and with at least
// this many inputs. The product then takes about ahead_chunk_rows rows (steps x rows).
inline constexpr Index most_rows_ahead = 3;
inline constexpr Index most_rows_ahead_beyond_cache = 16;
inline constexpr Index fewest_inputs_ahead = 16;
inline constexpr Index ahead_chunk_rows = 64;
// The most rows, and how many rows the product takes, if the weights of a thread's units are larger than a third of L3,
// which other programs use too: then weights come from memory, and so W is fetched less often. On an AMD Zen 3 a call
// of 6 rows took 5 to 12 % less by this, one of 20 rows 9 %, of 48 rows 2 % and of 100 rows nothing. With smaller
// weights it would take 3 % longer, because W x itself leaves L2.
inline constexpr Index most_rows_ahead_beyond_l3 = 64;
inline constexpr Index ahead_chunk_rows_beyond_l3 = 384;
// For how many rows (steps x rows) the gradients with respect to the gates are kept before they are summed: few enough
// for the product that sums them to find them in L1 and L2. No program measures this number directly; the training
// cases of `latchwork bench` do, in builds with different values.
inline constexpr Index gradient_chunk_rows = 128;
// The same for a linear layer, in which the threads wait for each other after each chunk.
inline constexpr Index linear_chunk_rows = 512;
// With this many rows a thread's multiply-adds do not wait for weights.
inline constexpr Index full_chain_rows = 16;
// What one cell costs in the backward pass apart from the products, in multiply-adds.
inline constexpr Index cell_backward_work = 200;

// Whether an array of this many numbers, which is written during a sequence and read after it, is too large for any
// cache.
template <class T>
bool exceeds_caches(Index numbers) {
  return numbers * static_cast<Index>(sizeof(T)) > 20'000'000;
}

// The number of multiply-adds in one time step of `rows` rows.
template <class T>
Index step_work(const PackedLayer<T>& weights, Index rows) {
  return rows * weights.gates * weights.units * (weights.input_size + weights.output_size());
}

// Into how many parts threads split the hidden units of one step. With layer norm they cannot, because a norm takes all
// units of a row.
template <class T>
Index unit_parts(const PackedLayer<T>& weights, Index rows) {
  const Index smallest = smallest_split_step(rows);
  if (weights.variant.norm_ih_weight != nullptr || step_work(weights, rows) < smallest) return 1;
  return std::min({free_threads(), weights.panels.count(), step_work(weights, rows) / (smallest / 2)});
}

// Into how many parts threads split the rows.
template <class T>
Index row_parts(const Schedule& schedule, const PackedLayer<T>& weights) {
  const Index rows = schedule.batch.rows;
  if (step_work(weights, schedule.total(0, rows)) < smallest_parallel_work) return 1;
  return std::max<Index>(1, std::min(free_threads(), rows / 2));
}

// How many threads work on whole blocks of rows in the backward pass, without waiting for one another. 0: there are too
// few blocks to keep all threads busy to the end, so that all threads work on all blocks at once.
template <class T>
Index block_threads(const Schedule& schedule, const PackedLayer<T>& weights, Index blocks) {
  if (blocks == 1) return 0;
  if (row_parts(schedule, weights) == 1) return 1;
  const Index threads = free_threads();
  return blocks % threads == 0 || blocks >= 4 * threads ? threads : 0;
}

// The number of tasks, of equally many consecutive blocks, that these threads share. Each task keeps a sum of its own,
// so there are only as many as keep all threads busy to the end.
inline Index block_tasks(Index threads, Index blocks) {
  const auto count =
      static_cast<std::size_t>(std::has_single_bit(static_cast<std::size_t>(threads)) ? threads : 4 * threads);
  return std::min(blocks, static_cast<Index>(std::bit_ceil(count)));
}

// The first row of part `part` of `parts`. Each part has about as many of the steps [order_begin, order_end) as the
// others, because all threads wait for the slowest. The rows of a part are contiguous, because neighbouring rows share
// cache lines.
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

// Whether the weights of both products may stay in the cache, if little else needs it.
template <class T>
bool fit_cache(const PackedLayer<T>& weights) {
  return weights.x_weights.bytes() + weights.h_weights.bytes() <= this_cpu().fast_weight_bytes;
}

// How threads share the time steps of a layer. If they split the rows, they need not wait for one another at all. If
// they split the hidden units, each thread keeps its part of the weights in its cache, and few rows are enough.
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

// Into how many parts the rows are split for the backward recurrence. While a few threads compute the recurrence, the
// others sum up its results, with `input_products` products of W's size beside that of R's. So there are no more parts
// than the recurrence needs to be done as early as the sums, unless each part has enough rows.
template <class T>
Index chain_count(const Schedule& schedule, const PackedLayer<T>& weights, Index input_products) {
  const Index gates = weights.gates * weights.units;
  const Index chain_work = gates * weights.output_size() + cell_backward_work * weights.units;
  const Index sum_work = gates * (weights.output_size() + input_products * weights.input_size);
  // Nine tenths of that number, because more rows for each part gain more than the recurrence loses at the end.
  const Index needed = 9 * free_threads() * chain_work / (10 * (chain_work + sum_work)) + 1;
  return std::min(row_parts(schedule, weights), std::max(needed, schedule.batch.rows / full_chain_rows));
}

// The same as forward_split() for the backward recurrence, which multiplies by R only. Threads that split a step wait
// for one another twice in it.
template <class T>
LayerSplit backward_split(const Schedule& schedule, const PackedLayer<T>& weights, Index input_products) {
  const Index rows = row_parts(schedule, weights);
  const bool few_rows = schedule.batch.rows < full_tile_rows * rows;
  const Index size = weights.gates * weights.units * weights.output_size();
  const bool cached = weights.h_gradient.bytes() <= this_cpu().fast_weight_bytes;
  if (rows > 1 && (!few_rows || cached)) return {chain_count(schedule, weights, input_products), 1};
  const bool small = schedule.batch.rows * size < smallest_split_step_back;
  return {1, small ? 1 : unit_parts(weights, schedule.batch.rows)};
}

// Whether two directions are computed by one thread each, rather than one after the other by all threads. Each thread
// need not wait for the other then, but its cache has to hold all weights of a direction.
template <class T>
bool directions_apart(const Schedule& schedule, const PackedLayer<T>& weights) {
  const LayerSplit split = forward_split(schedule, weights);
  if (free_threads() < 2 || split.row_parts > 1 || split.unit_parts > 3) return false;
  if (step_work(weights, schedule.total(0, schedule.batch.rows)) < smallest_parallel_work / 2) return false;
  return split.unit_parts == 1 || weights.h_weights.bytes() <= this_cpu().fast_weight_bytes;
}

// Whether a step takes the panels of weights that L2 certainly cannot hold beside everything else from the last to the
// first, which odd steps do and even ones do not: the panels that the step before took last are still in the cache.
template <class T>
bool last_panel_first(const WeightPanels<T>& weights, Index step_number) {
  return step_number % 2 == 1 && weights.bytes() > this_cpu().l2.bytes / 2;
}

// For how many steps to compute W x at once, because there are too few rows to make good use of weights that are
// fetched from memory for each step; 0: W x is computed within each step. unit_parts: into how many parts threads split
// the hidden units.
template <class T>
Index project_ahead_steps(const PackedLayer<T>& weights, Index rows, Index steps, Index unit_parts) {
  const Index bytes_of_thread = (weights.x_weights.bytes() + weights.h_weights.bytes()) / unit_parts;
  const bool fits = fit_cache(weights), beyond_l3 = !fits && bytes_of_thread > this_cpu().l3.bytes / 3;
  const Index most_rows = fits ? most_rows_ahead : beyond_l3 ? most_rows_ahead_beyond_l3 : most_rows_ahead_beyond_cache;
  if (rows > most_rows || weights.input_size < fewest_inputs_ahead || steps < 2) return 0;
  const Index chunk_rows = beyond_l3 ? ahead_chunk_rows_beyond_l3 : ahead_chunk_rows;
  return std::min(steps, chunk_rows / std::max<Index>(rows, 1));
}

}  // namespace latchwork
