#pragma once

#include <memory>
#include <vector>

#include "latchwork/parameters.hpp"
#include "machine/buffer.hpp"
#include "machine/dispatch.hpp"
#include "weights/panels.hpp"
#include "weights/parameter_places.hpp"

namespace latchwork {

// One layer and direction of an LSTM, packed. The parts for backward are empty unless asked for.
template <class T>
struct PackedLayer {
  Index input_size = 0;
  Index units = 0;       // H
  Index padded = 0;      // H rounded up to whole registers
  Index gates = 4;       // G
  Index projection = 0;  // P, 0 without
  Index output_size() const { return projection > 0 ? projection : units; }
  PanelShape panels;      // of its gates: of W and R, and of packed rows
  Index packed_size = 0;  // of a packed row
  GateShape shape() const { return {units, gates, panels.last_registers()}; }
  ParameterPlaces places;  // of its tensors in the network's parameters

  bool plain = true;       // whether the plain epilogue will do
  CellVariant<T> variant;  // else, and its arrays are those below
  bool learns_start = false;

  Buffer<T> bias;                                                        // packed row
  WeightPanels<T> x_weights;                                             // gate panels of W
  WeightPanels<T> h_weights;                                             // gate panels of R
  WeightPanels<T> projection_weights;                                    // column panels of W_hr transposed
  WeightPanels<T> x_gradient;                                            // d_gates -> d_x
  WeightPanels<T> h_gradient;                                            // d_gates -> d_h
  WeightPanels<T> projection_gradient;                                   // d_h -> gradient by o tanh(c)
  Buffer<T> peephole;                                                    // packed row of G - 1 gates
  Buffer<T> norm_ih_weight, norm_ih_bias, norm_hh_weight, norm_hh_bias;  // packed rows
  Buffer<T> norm_cell_weight, norm_cell_bias;                            // padded rows
  // The expectation of zoneout, empty without: the probability in every place of a padded row.
  Buffer<T> hidden_zoneout, cell_zoneout;
  // The layer's own start state, zeros unless it is trained: H or P numbers rounded up to whole registers, a padded
  // row.
  Buffer<T> start_hidden, start_cell;
};

template <class T>
struct PackedLinear {
  Index input_size = 0;
  Index output_size = 0;
  Activation activation = Activation::identity;
  Buffer<T> bias;
  WeightPanels<T> weights;   // column panels of the transpose
  WeightPanels<T> gradient;  // d_y -> d_x
};

template <class T>
struct PackedModule {
  std::vector<PackedLayer<T>> layers;  // LSTM: layer by layer, forward before reverse
  PackedLinear<T> linear;
  Buffer<T> table;         // Embedding
  ParameterPlaces places;  // Embedding and Linear; each layer of an LSTM has its own
};

// The modules of one member.
template <class T>
using PackedChain = std::vector<PackedModule<T>>;

// The weights of one moment, for one instruction set. Immutable while a call, a tape or a stream holds it.
template <class T>
struct Snapshot {
  const Kernels<T>* kernels = nullptr;
  std::uint64_t version = 0;
  bool with_backward = false;
  std::vector<PackedChain<T>> members;
};

// Kernels for these modules under the current instruction set. Where no LSTM and no linear layer fills more than one
// of the narrower registers they are of those: to the bit the same, and their operations are sooner done. (Not with
// layer norm, which adds lanes up.)
template <class T>
const Kernels<T>& kernels_for(const std::vector<ModuleOptions>& modules);

// A chain that was packed for the same modules keeps its memory where the sizes are those.
template <class T>
void pack(const std::vector<ModuleOptions>& modules, const std::vector<ParameterSpec>& layout, const T* parameters,
          const Kernels<T>& kernels, bool with_backward, PackedChain<T>& chain);

}  // namespace latchwork
