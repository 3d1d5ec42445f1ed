#pragma once

#include <memory>
#include <vector>

#include "latchwork/parameters.hpp"
#include "machine/buffer.hpp"
#include "machine/dispatch.hpp"
#include "weights/panels.hpp"
#include "weights/parameter_places.hpp"

namespace latchwork {

// The packed weights of one layer and direction of an LSTM. What only the backward pass reads is empty unless it was
// asked for.
template <class T>
struct PackedLayer {
  Index input_size = 0;
  Index units = 0;       // H
  Index padded = 0;      // H rounded up to whole registers
  Index gates = 4;       // G
  Index projection = 0;  // P; 0: no projection
  Index output_size() const { return projection > 0 ? projection : units; }
  PanelShape panels;      // of the gates: in W, in R and in packed rows
  Index packed_size = 0;  // numbers in a packed row
  GateShape shape() const { return {units, gates, panels.last_registers()}; }
  ParameterPlaces places;  // of the layer's tensors in the network's parameters

  bool plain = true;       // whether the plain epilogue suffices
  CellVariant<T> variant;  // for the general epilogue; its pointers point into the arrays below
  bool learns_start = false;

  Buffer<T> bias;                                                        // packed row
  WeightPanels<T> x_weights;                                             // gate panels of W
  WeightPanels<T> h_weights;                                             // gate panels of R
  WeightPanels<T> projection_weights;                                    // column panels of W_hr transposed
  WeightPanels<T> x_gradient;                                            // d_gates -> d_x
  WeightPanels<T> h_gradient;                                            // d_gates -> d_h
  WeightPanels<T> projection_gradient;                                   // d_h -> gradient with respect to o tanh(c)
  Buffer<T> peephole;                                                    // packed row of G - 1 gates
  Buffer<T> norm_ih_weight, norm_ih_bias, norm_hh_weight, norm_hh_bias;  // packed rows
  Buffer<T> norm_cell_weight, norm_cell_bias;                            // padded rows
  // What zoneout does outside training: padded rows that hold its probability in every place. Empty without zoneout.
  Buffer<T> hidden_zoneout, cell_zoneout;
  // The layer's own start state, which is zero unless it is trained: h as H or P numbers rounded up to whole registers,
  // c as a padded row.
  Buffer<T> start_hidden, start_cell;
};

inline constexpr Index no_activation = -1;  // the number of the identity, which is none of the kernels' activations

// The activation as the kernels take it.
template <class T>
ActivationArgs<T> activation_args(const Activation& activation);

// Whether the slope follows from the input, and not from the value.
template <class T>
bool slope_follows_input(const ActivationArgs<T>& activation) {
  return activation.number != no_activation && activation_info(activation.number).kind == ActivationKind::by_input;
}

template <class T>
struct PackedLinear {
  Index input_size = 0;
  Index output_size = 0;
  ActivationArgs<T> activation{no_activation, T(0), T(0)};
  Buffer<T> bias;
  WeightPanels<T> weights;   // column panels of the transpose
  WeightPanels<T> gradient;  // d_y -> d_x
};

template <class T>
struct PackedModule {
  std::vector<PackedLayer<T>> layers;  // of an LSTM: layer by layer, forward before reverse
  PackedLinear<T> linear;
  Buffer<T> table;          // of an Embedding; of an EmbedColumns those of its columns, one after another
  Buffer<T> shift, factor;  // of a Scale
  Buffer<T> fill;           // of an Impute
  Buffer<T> persistence;    // of an Impute; empty: ones
  ActivationArgs<T> activation{no_activation, T(0), T(0)};  // of an activation module
  // Of an Embedding, a Linear, or the first table of an EmbedColumns; each layer of an LSTM has its own.
  ParameterPlaces places;
};

// The modules of one member.
template <class T>
using PackedChain = std::vector<PackedModule<T>>;

// The weights as they were at one moment, packed for one instruction set. A snapshot does not change while a call, a
// tape or a stream holds it.
template <class T>
struct Snapshot {
  const Kernels<T>* kernels = nullptr;
  std::uint64_t version = 0;
  bool with_backward = false;
  std::vector<PackedChain<T>> members;
};

// The kernels for these modules under the current instruction set. If every LSTM and every linear layer fits into one
// register of the next narrower instruction set, these are the kernels of that set: they give the same results bit for
// bit and are faster on layers this small.
template <class T>
const Kernels<T>& kernels_for(const std::vector<ModuleOptions>& modules);

// Packs the parameters of the modules into `chain`, which is empty or was packed for the same modules before. It then
// keeps its memory, as far as the sizes are the same.
template <class T>
void pack(const std::vector<ModuleOptions>& modules, const std::vector<ParameterSpec>& layout, const T* parameters,
          const Kernels<T>& kernels, bool with_backward, PackedChain<T>& chain);

}  // namespace latchwork
