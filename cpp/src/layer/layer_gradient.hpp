#pragma once

#include "weights/snapshot.hpp"

namespace latchwork {

// The gradients with respect to the parameters of a layer and direction, in the kernels' layouts, summed over chunks of
// steps. If they are summed by token, x_weights is computed from those sums when all steps are added. All arrays are
// null if nobody wants these gradients.
template <class T>
struct LayerGradient {
  T* by_token = nullptr;        // [panel][token's number][panel width]: gradients with respect to pre-activations
  T* x_weights = nullptr;       // gate panels
  T* h_weights = nullptr;       // gate panels
  T* bias = nullptr;            // packed row
  T* projection = nullptr;      // column panels of (P, H)
  T* peephole = nullptr;        // packed row of G - 1 gates
  T* norm_ih_weight = nullptr;  // packed rows
  T* norm_hh_weight = nullptr;
  T* norm_cell_weight = nullptr;  // padded rows
  T* norm_cell_bias = nullptr;
  T* start_hidden = nullptr;  // H or P
  T* start_cell = nullptr;    // H

  // Calls task(array, numbers in it) for every array that is summed. tokens: the number of different tokens; 0: not
  // summed by token.
  template <class Task>
  void for_each_array(const PackedLayer<T>& weights, Index tokens, Task&& task) {
    const Index packed = weights.packed_size;
    if (tokens > 0) {
      task(by_token, weights.panels.count() * weights.panels.width() * tokens);
    } else {
      task(x_weights, packed * weights.input_size);
    }
    task(h_weights, packed * weights.output_size());
    task(bias, packed);
    if (weights.projection > 0) task(projection, weights.projection * weights.padded);
    if (weights.variant.peephole != nullptr) task(peephole, (weights.gates - 1) * weights.padded);
    if (weights.variant.norm_ih_weight != nullptr) {
      task(norm_ih_weight, packed);
      task(norm_hh_weight, packed);
      task(norm_cell_weight, weights.padded);
      task(norm_cell_bias, weights.padded);
    }
    if (weights.learns_start) {
      task(start_hidden, weights.output_size());
      task(start_cell, weights.units);
    }
  }

  // How many numbers the arrays take, one after another, rounded up to whole registers.
  static Index size(const PackedLayer<T>& weights, Index tokens, const Kernels<T>& kernels) {
    Index sum = 0;
    LayerGradient().for_each_array(weights, tokens, [&](T*&, Index size) { sum += size; });
    return round_up(sum, kernels.units);
  }

  // The arrays in memory for size() numbers.
  static LayerGradient in(T* memory, const PackedLayer<T>& weights, Index tokens) {
    LayerGradient gradient;
    gradient.for_each_array(weights, tokens, [&](T*& array, Index size) {
      array = memory;
      memory += size;
    });
    return gradient;
  }
};

}  // namespace latchwork
