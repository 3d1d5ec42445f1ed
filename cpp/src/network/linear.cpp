#include "network/linear.hpp"

#include <algorithm>
#include <optional>
#include <vector>

#include "layer/block_sums.hpp"
#include "layer/strategy.hpp"
#include "layer/weight_gradient.hpp"
#include "machine/interrupt.hpp"
#include "machine/parallel.hpp"

namespace latchwork {

template <class T>
void linear_forward(const LinearCall<T>& call) {
  const PackedLinear<T>& weights = *call.weights;
  const Schedule schedule{call.batch, false};
  std::vector<const T*> x;
  std::vector<T*> y;
  const auto slots = static_cast<std::size_t>(call.batch.steps * call.batch.rows);
  x.reserve(slots);
  y.reserve(slots);
  for (Index step = 0; step < call.batch.steps; ++step) {
    for (Index row = 0; row < call.batch.rows; ++row) {
      T* output = call.output.at(step, row);
      if (schedule.active(step, row)) {
        x.push_back(call.input.at(step, row));
        y.push_back(output);
      } else {
        std::fill_n(output, weights.output_size, T(0));
      }
    }
  }
  const auto count = static_cast<Index>(x.size());
  if (count == 0) return;
  const Index work = count * weights.input_size * weights.output_size;
  const Index parts = work < smallest_parallel_work ? 1 : std::min(num_threads(), count);
  parallel(parts, [&](Index part) {
    const Index first = piece_begin(count, parts, part);
    const Index rows = piece_begin(count, parts, part + 1) - first;
    for_pieces_until_stopped(rows, weights.input_size * weights.output_size, 64, [&](Index begin, Index end) {
      ProductArgs<T> args =
          product_of(weights.weights, end - begin, x.data() + first + begin, y.data() + first + begin);
      args.start = weights.bias.data();
      call.kernels->product(args, 0, weights.weights.count());
      for (Index row = 0; row < end - begin; ++row) {
        call.kernels->activate(weights.activation, args.y[row], weights.output_size, args.y[row]);
      }
    });
  });
}

template <class T>
void linear_backward(const LinearCall<T>& call, const LinearGradient<T>& gradient, Workspace<T>& workspace) {
  const PackedLinear<T>& weights = *call.weights;
  const Kernels<T>& kernels = *call.kernels;
  const Schedule schedule{call.batch, false};
  const bool by_input = slope_follows_input(weights.activation);
  const Index inputs = weights.input_size;
  const Index outputs = weights.output_size;
  const Index padded_outputs = round_up(outputs, kernels.units);
  const Index slots = call.batch.steps * call.batch.rows;
  const Index capacity = std::max<Index>(1, std::min(linear_chunk_rows, slots));
  const bool wants_weights = gradient.weight != nullptr;
  const Index weight_size = outputs * round_up(inputs, kernels.units);
  const Index sum_size = wants_weights ? weight_size + padded_outputs : 0;
  T* const total = workspace.take(sum_size);
  const RowBlocks& blocks = *gradient.blocks;
  BlockSums<T> sums(kernels, sum_size, total, workspace.take((kept_block_sums(blocks.count()) - 1) * sum_size));
  T* d_y_memory = workspace.take_zeros(capacity * padded_outputs);
  std::optional<WeightGradient<T>> weight_gradient;
  if (wants_weights) weight_gradient.emplace(kernels, capacity, outputs, inputs, workspace);
  // Pointers to the rows that add_rows() takes next.
  std::vector<const T*> x, y, d_output;
  std::vector<T*> d_y, d_x;
  for (Index row = 0; row < capacity; ++row) d_y.push_back(d_y_memory + row * padded_outputs);
  // The pre-activations, computed again if the slope follows from them.
  std::vector<T*> pre;
  if (by_input) {
    T* const memory = workspace.take(capacity * outputs);
    for (Index row = 0; row < capacity; ++row) pre.push_back(memory + row * outputs);
  }

  const auto add_rows = [&](T* sum) {
    const auto count = static_cast<Index>(x.size());
    if (count == 0) return;
    const Index work = count * inputs * outputs;
    const Index parts = work < smallest_parallel_work ? 1 : std::min(num_threads(), count);
    parallel(parts, [&](Index part) {
      const Index begin = piece_begin(count, parts, part), end = piece_begin(count, parts, part + 1);
      if (by_input && !d_output.empty()) {
        for_pieces_until_stopped(end - begin, inputs * outputs, 64, [&](Index first, Index last) {
          ProductArgs<T> args =
              product_of(weights.weights, last - first, x.data() + begin + first, pre.data() + begin + first);
          args.start = weights.bias.data();
          kernels.product(args, 0, weights.weights.count());
        });
      }
      // Without d_output, d_y keeps its zeros.
      for (auto row = static_cast<std::size_t>(begin); !d_output.empty() && row < static_cast<std::size_t>(end);
           ++row) {
        std::copy_n(d_output[row], outputs, d_y[row]);
        kernels.multiply_by_slope(weights.activation, by_input ? pre[row] : y[row], outputs, d_y[row]);
      }
      if (weight_gradient) weight_gradient->pack(d_y.data(), x.data(), begin, end, count);
      if (d_x.empty()) return;
      const WeightPanels<T>& panels = weights.gradient;
      for_pieces_until_stopped(end - begin, inputs * outputs, 64, [&](Index first, Index last) {
        kernels.product(product_of(panels, last - first, d_y.data() + begin + first, d_x.data() + begin + first), 0,
                        panels.count());
      });
    });
    if (weight_gradient) weight_gradient->add(count, sum);
    throw_if_stopped(0);
    if (wants_weights) kernels.add_rows(d_y_memory, padded_outputs, count, padded_outputs, sum + weight_size);
    x.clear();
    y.clear();
    d_output.clear();
    d_x.clear();
  };

  for (Index block = 0; block < blocks.count(); ++block) {
    T* const sum = sums.next();
    for (Index step = call.batch.steps - 1; step >= 0; --step) {
      for (Index row = blocks.begin_of(block); row < blocks.end_of(block); ++row) {
        if (!schedule.active(step, row)) continue;
        x.push_back(call.input.at(step, row));
        y.push_back(call.output.at(step, row));
        if (gradient.d_output.data != nullptr) d_output.push_back(gradient.d_output.at(step, row));
        if (gradient.d_input.data != nullptr) d_x.push_back(gradient.d_input.at(step, row));
        if (static_cast<Index>(x.size()) == capacity) add_rows(sum);
      }
    }
    add_rows(sum);
    sums.add();
  }

  if (!wants_weights) return;
  kernels.unpack_panels(total, outputs, inputs, gradient.weight, gradient.accumulate);
  if (gradient.bias != nullptr) {
    const T* const bias = total + weight_size;
    for (Index at = 0; at < outputs; ++at) {
      gradient.bias[at] = gradient.accumulate ? gradient.bias[at] + bias[at] : bias[at];
    }
  }
}

#define LATCHWORK_INSTANTIATE(T)                         \
  template void linear_forward<T>(const LinearCall<T>&); \
  template void linear_backward<T>(const LinearCall<T>&, const LinearGradient<T>&, Workspace<T>&);
LATCHWORK_INSTANTIATE(float)
LATCHWORK_INSTANTIATE(double)
#undef LATCHWORK_INSTANTIATE

}  // namespace latchwork
