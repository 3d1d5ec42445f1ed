#pragma once

#include <cstdint>

#include "latchwork/types.hpp"

// What the rest of the library knows of the kernels: one plain table of functions for each instruction set, which take
// pointers, sizes and strides. Kernels know neither threads nor layers nor time.
//
// Panels. U is the number of elements in one SIMD register, G the number of gates with weights: 4, or 3 where the
// forget gate has none of its own. A *gate panel* holds U hidden units x G gates: for each k, GU numbers [i | f | g |
// o] or [i | g | o]. H units take ceil(H / U) gate panels; units beyond H are zero. "Padded" means H rounded up to a
// multiple of U, and a *packed row* is one row of pre-activations, gates or their gradients: G x padded numbers, panel
// by panel. A *column panel* holds up to VU columns of an ordinary matrix, V = 4: for each k, V x U numbers, and as few
// registers as hold the rest in the last panel; columns beyond are zero. Gate panels are column panels with V = G.
//
// The last gate panel may be *compact*, where only the plain step and its gradient read it: it takes w registers, as
// few as hold G = 4 gates of the units left, and gives each gate s = w U / 4 units: for each k, w U numbers [i | f | g
// | o]. The panels before it lie where they always do, and a packed row ends with it. What a padded row of c holds
// beyond the units then means nothing.
//
// One chain. Every result of a product is one accumulator that starts at `start` and takes k in ascending order with
// explicit multiply-adds: never a second accumulator, never a split of k. So results depend neither on how many rows
// there are, nor on which of them share a call, nor on whether a product was interrupted and continued.
namespace latchwork {

struct GateShape {       // of gate panels and packed rows
  Index units;           // H
  Index gates;           // G
  Index last_registers;  // which the last panel takes: G, or fewer where it is compact
};

// w, or G where H fills the last panel.
constexpr Index compact_registers(Index units, Index gates, Index register_size) {
  const Index left = units % register_size;
  return left == 0 ? gates : (gates * left + register_size - 1) / register_size;
}

template <class T>
struct StepArgs {  // one time step of one layer and direction
  Index rows;
  Index units;            // H
  const T* const* start;  // each row's packed pre-activations so far: the biases' sum, or that plus W x
  const T* const* x;      // null: `start` holds W x already
  Index x_size;
  const T* x_weights;  // gate panels of W
  const T* const* h_prev;
  Index h_size;
  const T* h_weights;             // gate panels of R
  const T* const* c_prev;         // padded rows
  T* const* c;                    // padded rows; may be c_prev
  T* const* h;                    // H numbers each
  T* const* gates;                // packed rows i, f, g, o after activation; null: not wanted
  bool last_panel_first = false;  // in which order panels are taken; no result depends on it
  bool gates_past_cache = false;  // gates, whose rows begin cache lines, are too many to be found in a cache later
  Index last_registers = 4;       // fewer: the last gate panel is compact
};

template <class T>
struct ActivationArgs {
  Index number;  // in KernelTable::activations
  T alpha, beta;
};

template <class T>
struct CellVariant {  // what the general epilogue does differently from the plain one
  Index gates;        // G
  bool coupled;       // with G = 3: f = 1 - i; else f = 1
  ActivationArgs<T> input, forget, candidate, output, cell;
  T clip, cell_clip;  // 0: none
  const T* peephole;  // packed row with the gates i, f, o, or i, o where G = 3; null: none
  // Layer norm: packed rows, and padded rows for the cell; null: none.
  const T *norm_ih_weight, *norm_ih_bias, *norm_hh_weight, *norm_hh_bias, *norm_cell_weight, *norm_cell_bias;
};

// Added to a layer norm's variance, as PyTorch's.
inline constexpr double norm_epsilon = 1e-5;

// Numbers in a row of GeneralStepArgs::norm_scale: 1 / deviation of W x, of R h and of c, and the mean of c.
inline constexpr Index norm_scales = 4;

template <class T>
struct GeneralStepArgs {
  StepArgs<T> step;  // packed rows and gate panels of G gates; with layer norm start is b alone and `gates` not null
  const CellVariant<T>* variant;
  const T* const* candidate_factor;  // padded rows: g is multiplied by it; null: ones
  const T* const* cell_zoneout;      // padded rows: how much of the old cell stays; null: none
  // With layer norm: padded rows, room for what the output activation sees; packed rows, W x in norm_ih where step.x is
  // null, both become what the norm made of them.
  T* const* shown;
  T* const* norm_ih;
  T* const* norm_hh;
  T* const* norm_scale;
};

template <class T>
struct ProductArgs {  // y[row] = start[row] + a[row] W, W in column panels (gate panels are column panels too)
  Index rows;
  Index columns;
  const T* start;     // `columns` rounded up to a multiple of U; for every row alike; null: zeros
  const T* const* a;  // element k of a row lies at a[k / a_block * a_block_stride + k % a_block]
  Index depth;        // number of k
  Index a_block;      // the last block may be shorter; depth itself for a contiguous row
  Index a_block_stride;
  const T* weights;
  T* const* y;                // `columns` numbers each
  bool accumulate = false;    // the chain starts at y[row] instead of `start`
  Index panel_registers = 4;  // V
  bool last_panel_first = false;
};

template <class T>
struct OuterArgs {  // c[panel][j][4U] += sum over k of a[k][j] * b[panel][k][4U]: a weight gradient
  Index depth;      // number of k: steps x rows
  Index columns;    // number of j
  const T* a;       // as pack_outer made it
  Index registers;  // V: registers a panel is wide, 1 to 4
  const T* b;       // one panel: k-th row at b + k * b_stride
  Index b_stride;   // V * U or more
  T* c;             // one panel: j-th row at c + j * V * U
};

template <class T>
struct CellBackwardArgs {  // the gates' equations differentiated, for one step
  Index rows;
  Index units;
  const T* const* gates;               // packed rows
  const T* const* c;                   // padded rows
  const T* const* c_prev;              // padded rows
  const T* const* d_h;                 // padded rows: gradient by h of this step
  const T* const* d_output = nullptr;  // `units` numbers each, added to d_h; null: nothing. The general cell has none
  T* const* d_c;      // padded rows: gradient by c of this step from later ones; becomes that by c_prev
  T* const* d_gates;  // row r of gate panel p at d_gates[r] + p * d_gates_panel_stride: gradient by the pre-activations
  Index d_gates_panel_stride;
  Index last_registers = 4;  // fewer: the last panel of gates and d_gates is compact
};

// Registers of hidden units that the general cell's backward pass takes at once, or else one row.
inline constexpr Index backward_tile_registers = 8;

template <class T>
struct GeneralBackwardArgs {
  CellBackwardArgs<T> cell;  // c is not read
  const CellVariant<T>* variant;
  const T* const* candidate_factor;  // as in GeneralStepArgs
  const T* const* cell_zoneout;
  T* room;  // general_backward_room() numbers
  // What each row adds to the gradient of the peephole weights, panels d_peephole_panel_stride apart.
  T* const* d_peephole;
  Index d_peephole_panel_stride;
  // With layer norm: what the norm made of W x and R h, and its scales; the gradients by W x and R h, and what each row
  // adds to the gradients of the norms' weights, all laid out as d_gates; and the same for the weight and the bias of
  // the cell's, two padded rows one behind the other.
  const T* const* norm_ih;
  const T* const* norm_hh;
  const T* const* norm_scale;
  T* const* d_ih;
  T* const* d_hh;
  T* const* d_norm_ih_weight;
  T* const* d_norm_hh_weight;
  T* const* d_norm_cell;
};

// Of a layer with so many padded units and U numbers in a register.
constexpr Index general_backward_room(Index padded, Index gates, Index register_size) {
  const Index least = backward_tile_registers * register_size;
  return (3 + 2 * gates) * (padded > least ? padded : least);
}

template <class T>
struct MaskArgs {  // factors[j] = `below` with a probability, else `above`; see mask_counter() in random.hpp
  std::uint64_t seed;
  std::uint32_t counter[4];  // of the first four
  double probability;
  T below, above;
  Index size;
  T* factors;
};

template <class T>
struct AdamArgs {
  Index size;
  T* parameters;
  const T* gradient;
  T* first_moment;
  T* second_moment;
  T gradient_scale;
  T beta1, beta2;
  T eps;
  T step_size;          // lr / (1 - beta1^t)
  T second_correction;  // sqrt(1 - beta2^t)
  T weight_decay;       // added to the gradient
  T shrink;             // decoupled: parameters are first multiplied by this
};

template <class T>
struct SgdArgs {
  Index size;
  T* parameters;
  const T* gradient;
  T* velocity;  // null: no momentum
  bool first;   // the first step sets the velocity to the gradient
  T gradient_scale;
  T lr, momentum, dampening, weight_decay;
  bool nesterov;
};

template <class T>
struct SoftmaxArgs {  // one row of cross-entropy
  Index classes;
  const T* logits;
  Index label;
  T gradient_scale;
  T* d_logits;  // null: not wanted; may be logits
};

template <class T>
struct Kernels {
  Index units;        // U
  Index outer_block;  // columns of `a` that pack_outer lays side by side

  // Gate panels of a PyTorch weight (GH, k_size), row-major, gate order i, f, g, o or i, g, o.
  void (*pack_gate_panels)(const T* weight, const GateShape& shape, Index k_size, T* panels, Index panel_begin,
                           Index panel_end);
  // One packed row from two PyTorch biases (GH) each: their sum. Null pointers: zeros.
  void (*pack_gate_row)(const T* first, const T* second, const GateShape& shape, T* row);
  // Column panels of the transpose of a weight (columns, k_size): for y = x W^T.
  void (*pack_transposed_panels)(const T* weight, Index columns, Index k_size, T* panels);
  // Column panels of a weight (GH, columns) for d_gates W: k runs in the order of a packed row, padding zero. Of these
  // k those of the gate panels from gate_panel_begin on.
  void (*pack_gate_rows)(const T* weight, const GateShape& shape, Index columns, T* panels, Index gate_panel_begin,
                         Index gate_panel_end);
  // Column panels of a weight (k_size, columns) as it is: for d_y W.
  void (*pack_panels)(const T* weight, Index k_size, Index columns, T* panels);
  // The reverse of pack_gate_panels, for a weight's gradient: weight = panels, or += where accumulate.
  void (*unpack_gate_panels)(const T* panels, const GateShape& shape, Index k_size, T* weight, bool accumulate,
                             Index panel_begin, Index panel_end);
  // The same for a packed row, a bias's gradient.
  void (*unpack_gate_row)(const T* row, const GateShape& shape, T* bias, bool accumulate);
  // From column panels [panel][j][V U] to a matrix (k_size, columns): weight = panels, or += where accumulate.
  void (*unpack_panels)(const T* panels, Index k_size, Index columns, T* weight, bool accumulate);
  // Rows a[k] (columns numbers each) laid out for `outer` from its k = first on: blocks of outer_block columns,
  // [block][depth][outer_block]; room: depth x columns rounded up to a multiple of outer_block.
  void (*pack_outer)(const T* const* a, Index rows, Index columns, T* packed, Index first, Index depth);

  void (*step)(const StepArgs<T>&, Index panel_begin, Index panel_end);        // gate panels
  void (*product)(const ProductArgs<T>&, Index panel_begin, Index panel_end);  // column panels
  void (*outer)(const OuterArgs<T>&);
  void (*cell_backward)(const CellBackwardArgs<T>&, Index panel_begin, Index panel_end);
  // The same for every variant of the cell.
  void (*general_step)(const GeneralStepArgs<T>&, Index panel_begin, Index panel_end);  // with layer norm all panels
  void (*general_cell_backward)(const GeneralBackwardArgs<T>&);
  // sum[j] += rows k ascending of b[k][j], j below width (a multiple of U), rows `stride` apart.
  void (*add_rows)(const T* b, Index stride, Index depth, Index width, T* sum);

  // sum[row[k] * sum_stride + j] += b[k * stride + j] for k ascending and j below width, which is 1 to 4 times U.
  void (*scatter_rows)(const T* b, Index stride, const Index* row, Index depth, Index width, T* sum, Index sum_stride);

  void (*mask)(const MaskArgs<T>&);
  // values = z previous + (1 - z) values, z being `kept`.
  void (*zoneout)(const T* kept, const T* previous, Index size, T* values);

  // y = activation of x, element by element; y may be x.
  void (*sigmoid)(const T* x, Index size, T* y);
  void (*tanh)(const T* x, Index size, T* y);
  // log-sum-exp and gradient of one row of logits; returns the loss -log softmax(logits)[label].
  T (*softmax_cross_entropy)(const SoftmaxArgs<T>&);

  void (*adam)(const AdamArgs<T>&);
  void (*sgd)(const SgdArgs<T>&);
  double (*sum_of_squares)(const T* x, Index size);  // in double, one chain for each of 8 lanes, joined in order
};

enum class AlphaRange { any, not_negative, not_zero };  // where the slope can be told from the value

struct ActivationInfo {
  const char* name;
  Index parameters;    // 0; 1: alpha; 2: alpha and beta
  double alpha, beta;  // defaults
  AlphaRange alpha_range;
};

struct KernelTable {
  const char* name;  // of the instruction set
  // Alike for every instruction set. An activation's number is its place here.
  const ActivationInfo* activations;
  Index activation_count;
  Kernels<float> float32;
  Kernels<double> float64;
};

}  // namespace latchwork
