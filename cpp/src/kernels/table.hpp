#pragma once

#include <cstdint>

#include "latchwork/types.hpp"

// What the rest of the library knows of the kernels: for each instruction set, one plain table of functions that take
// pointers, sizes and strides. Kernels know neither threads nor layers nor time.
//
// Panels. U is the number of elements in one SIMD register, H the number of hidden units, G the number of gates with
// weights: 4, or 3 if there is no forget gate of its own. A *gate panel* holds the weights of U hidden units for G
// gates: for each k, GU numbers [i | f | g | o] or [i | g | o]. H units take ceil(H / U) gate panels; the numbers of
// units beyond H are zero. "Padded" means H rounded up to a multiple of U. A *packed row* is one row of
// pre-activations, gates or their gradients: G x padded numbers, panel by panel. A *padded row* holds one number for
// each unit, padded. A *column panel* holds up to VU columns of an ordinary matrix, V = 4: for each k, V x U numbers.
// The last panel only has as many registers as its columns need; numbers of columns beyond the matrix are zero. Gate
// panels are column panels with V = G. On instruction sets with *half panels* a panel of weights that is 4 registers
// wide lies in two halves: 2U numbers for each k, and when k has ended the other 2U for each k. Panels of gradients do
// not.
//
// The last gate panel may be *compact* if only the plain step and its gradient read it. It has only w registers for
// each k: as few as hold the G = 4 gates of the units that are left. Each gate has room for s = w U / 4 units: for each
// k, w U numbers [i | f | g | o]. The panels before it lie where they always do, and a packed row ends with it. What a
// padded row of c holds beyond the units then means nothing.
//
// One chain. Every result of a product comes from one accumulator that starts at `start` and adds the products in
// ascending k with explicit multiply-adds: never a second accumulator, never a split of k. So a result does not depend
// on how many rows there are, which of them share a call, or whether a product was interrupted and continued.
namespace latchwork {

struct GateShape {       // the shape of gate panels and packed rows
  Index units;           // H
  Index gates;           // G
  Index last_registers;  // in the last panel: G, or fewer if it is compact
};

// The number of registers of a compact last panel, w; G if H fills the last panel.
constexpr Index compact_registers(Index units, Index gates, Index register_size) {
  const Index left = units % register_size;
  return left == 0 ? gates : (gates * left + register_size - 1) / register_size;
}

// What the kernels know of the machine's caches, to read their weights fast. No result depends on it. The defaults are
// for a CPU of which nothing is known. Arguments only point to it: each cache line of them that another thread reads
// in each step costs a message between cores.
struct CacheUse {
  Index l1_bytes = 32 << 10;  // of L1 for data
  Index l2_bytes = 512 << 10;
  bool fetch_into_l1 = false;            // whether a tile fetches weights into L1 shortly before it needs them
  Index fetch_into_l2_from = 600 << 10;  // from how many bytes of weights it fetches into L2 what the next tiles need
};

template <class T>
struct StepArgs {  // one time step of one layer and direction
  Index rows;
  Index units;            // H
  const T* const* start;  // packed rows to start from: the sum of the biases, or that plus W x
  const T* const* x;      // null: `start` already contains W x
  Index x_size;
  const T* x_weights;  // gate panels of W
  const T* const* h_prev;
  Index h_size;
  const T* h_weights;             // gate panels of R
  const T* const* c_prev;         // padded rows
  T* const* c;                    // padded rows; may be c_prev
  T* const* h;                    // H numbers each
  T* const* gates;                // packed rows i, f, g, o after activation; null: not wanted
  bool last_panel_first = false;  // whether panels are taken from the last to the first; no result depends on it
  // Whether `gates` are stored without going through the caches, which are too small for them; each row then has to
  // start a cache line.
  bool gates_bypass_cache = false;
  Index last_registers = 4;          // fewer: the last gate panel is compact
  const CacheUse* caches = nullptr;  // null: CacheUse{}
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
  const T* peephole;  // packed row with the gates i, f, o, or i, o if G = 3; null: none
  // Layer norm: packed rows, and padded rows for the cell; null: none.
  const T *norm_ih_weight, *norm_ih_bias, *norm_hh_weight, *norm_hh_bias, *norm_cell_weight, *norm_cell_bias;
};

// What is added to the variance in a layer norm: PyTorch's value.
inline constexpr double norm_epsilon = 1e-5;

// How many numbers a row of GeneralStepArgs::norm_scale has: 1 / deviation of W x, of R h_prev and of c, and the mean
// of c.
inline constexpr Index norm_scales = 4;

template <class T>
struct GeneralStepArgs {
  StepArgs<T>
      step;  // packed rows and gate panels have G gates; with layer norm start is b alone and `gates` is not null
  const CellVariant<T>* variant;
  const T* const* candidate_factor;  // padded rows by which g is multiplied; null: ones
  const T* const* cell_zoneout;      // padded rows: which part of c_prev stays; null: none
  // With layer norm. activated_cell: padded rows for intermediate results, at the end the activated cell. norm_ih,
  // norm_hh: packed rows, at the end the normalised W x and R h_prev; norm_ih holds W x at the start if step.x is null.
  // norm_scale: norm_scales numbers for each row.
  T* const* activated_cell;
  T* const* norm_ih;
  T* const* norm_hh;
  T* const* norm_scale;
};

template <class T>
struct ProductArgs {  // y[row] = start[row] + a[row] W, W in column panels (gate panels are column panels too)
  Index rows;
  Index columns;
  const T* start;  // `columns` numbers rounded up to a multiple of U, the same for every row; null: zeros
  // The rows of `a` consist of blocks of a_block elements, a_block_stride numbers apart. The last block may be shorter;
  // contiguous rows are one block. With several a_gates the elements of a block take turns between gates, and element j
  // of a block lies at j / a_gates + j % a_gates * a_gate_stride. The last block has a gate stride of its own.
  const T* const* a;
  Index depth;  // the number of k
  Index a_block;
  Index a_block_stride;
  const T* weights;
  T* const* y;                // `columns` numbers each
  bool accumulate = false;    // the chain starts at y[row] instead of `start`
  Index panel_registers = 4;  // V
  bool last_panel_first = false;
  Index a_gates = 1;
  Index a_gate_stride = 1, a_last_gate_stride = 1;
  const CacheUse* caches = nullptr;  // null: CacheUse{}
};

template <class T>
struct OuterArgs {  // c[panel][j][4U] += sum over k of a[k][j] * b[panel][k][4U]: a weight gradient
  Index depth;      // the number of k: steps x rows
  Index columns;    // the number of j
  const T* a;       // as pack_outer made it
  Index registers;  // V, the number of registers in a row of a panel: 1 to 4
  const T* b;       // one panel, whose row k is at b + k * b_stride
  Index b_stride;   // V * U or more
  T* c;             // one panel, whose row j is at c + j * V * U
};

template <class T>
struct CellBackwardArgs {  // the gradient of the gates' equations, for one step
  Index rows;
  Index units;
  const T* const* gates;   // packed rows
  const T* const* c;       // padded rows
  const T* const* c_prev;  // padded rows
  const T* const* d_h;     // padded rows: the gradient with respect to h
  const T* const* d_output =
      nullptr;    // `units` numbers each, added to d_h; null: nothing (always so for the general cell)
  T* const* d_c;  // padded rows: the gradient with respect to c from later steps; becomes that of c_prev
  // The gradient with respect to the pre-activations: row r of gate panel p is at d_gates[r] + p *
  // d_gates_panel_stride.
  T* const* d_gates;
  Index d_gates_panel_stride;
  Index last_registers = 4;  // fewer: the last panel of gates and d_gates is compact
  // Null: not wanted. For each row cell_signals padded rows one after another: the gradients with respect to i, f, g
  // and o after activation, and with respect to c. If f follows from i, the gradient with respect to i takes that in,
  // and that with respect to f, from which i would follow, is its negative.
  T* const* d_signals = nullptr;
};

// How many padded rows CellBackwardArgs::d_signals has.
inline constexpr Index cell_signals = 5;

// How many registers of hidden units the backward pass of the general cell takes at once, unless one row has more.
inline constexpr Index backward_tile_registers = 8;

template <class T>
struct GeneralBackwardArgs {
  CellBackwardArgs<T> cell;  // c is not read
  const CellVariant<T>* variant;
  const T* const* candidate_factor;  // as in GeneralStepArgs
  const T* const* cell_zoneout;
  T* room;  // general_backward_room() numbers
  // What each row adds to the gradient with respect to the peephole weights, in panels that are d_peephole_panel_stride
  // numbers apart.
  T* const* d_peephole;
  Index d_peephole_panel_stride;
  // With layer norm: the normalised W x and R h_prev and the scales, from the recording; the gradients with respect to
  // W x and R h_prev; and what each row adds to the gradients with respect to the weights of these two norms. All
  // gradients are laid out as d_gates. d_norm_cell is the same for the weight and the bias of the cell's norm: two
  // consecutive padded rows.
  const T* const* norm_ih;
  const T* const* norm_hh;
  const T* const* norm_scale;
  T* const* d_ih;
  T* const* d_hh;
  T* const* d_norm_ih_weight;
  T* const* d_norm_hh_weight;
  T* const* d_norm_cell;
};

// How many numbers of memory the backward pass needs for a layer with `padded` padded units.
constexpr Index general_backward_room(Index padded, Index gates, Index register_size) {
  const Index least = backward_tile_registers * register_size;
  return (3 + 2 * gates) * (padded > least ? padded : least);
}

template <class T>
struct MaskArgs {  // factors[j] = `below` with the probability, else `above`; see mask_counter() in random.hpp
  std::uint64_t seed;
  std::uint32_t counter[4];  // of the first four factors
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
  T shrink;             // decoupled weight decay: parameters are first multiplied by this
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
struct RmspropArgs {
  Index size;
  T* parameters;
  const T* gradient;
  T* square_mean;
  T* gradient_mean;  // null: not centred
  T* velocity;       // null: no momentum
  T gradient_scale;
  T lr, alpha, eps, momentum, weight_decay;
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
struct SoftmaxSum {  // the logarithm of softmax(logits)[label] is logits[label] - largest - log(sum)
  T largest;         // of the logits; NaN if one of them is not finite
  T sum;             // of exp(logit - largest): 16 chains, joined in a tree
};

template <class T>
struct Kernels {
  Index units;        // U
  Index outer_block;  // how many columns of `a` pack_outer puts side by side
  bool half_panels;   // whether a panel of weights that is 4 registers wide lies in two halves

  // Packs a PyTorch weight (GH, k_size), row-major, gate order i, f, g, o or i, g, o, into gate panels.
  void (*pack_gate_panels)(const T* weight, const GateShape& shape, Index k_size, T* panels, Index panel_begin,
                           Index panel_end);
  // Packs the sum of two PyTorch biases (GH) into a packed row. A null pointer stands for zeros.
  void (*pack_gate_row)(const T* first, const T* second, const GateShape& shape, T* row);
  // Packs the transpose of a weight (columns, k_size) into column panels: for y = x W^T.
  void (*pack_transposed_panels)(const T* weight, Index columns, Index k_size, T* panels);
  // Packs a weight (GH, columns) into column panels, for the product of d_gates and W. k runs over the units and, for
  // each unit, over its gates, which is the same order for every instruction set. Packs only those k that belong to the
  // gate panels from gate_panel_begin to gate_panel_end.
  void (*pack_gate_rows)(const T* weight, const GateShape& shape, Index columns, T* panels, Index gate_panel_begin,
                         Index gate_panel_end);
  // Packs a weight (k_size, columns), not transposed, into column panels: for d_y W.
  void (*pack_panels)(const T* weight, Index k_size, Index columns, T* panels);
  // The reverse of pack_gate_panels, for the gradient of a weight: weight = panels, or weight += panels if
  // `accumulate`.
  void (*unpack_gate_panels)(const T* panels, const GateShape& shape, Index k_size, T* weight, bool accumulate,
                             Index panel_begin, Index panel_end);
  // The same for a packed row, the gradient of a bias.
  void (*unpack_gate_row)(const T* row, const GateShape& shape, T* bias, bool accumulate);
  // Unpacks column panels [panel][j][V U] into a matrix (k_size, columns): weight = panels, or weight += panels if
  // `accumulate`.
  void (*unpack_panels)(const T* panels, Index k_size, Index columns, T* weight, bool accumulate);
  // Packs rows of `columns` numbers, as the k from `first` on, for `outer`: in blocks of outer_block columns,
  // [block][depth][outer_block]. Needs room for depth x columns numbers, with columns rounded up to a multiple of
  // outer_block.
  void (*pack_outer)(const T* const* a, Index rows, Index columns, T* packed, Index first, Index depth);

  void (*step)(const StepArgs<T>&, Index panel_begin, Index panel_end);        // by gate panels
  void (*product)(const ProductArgs<T>&, Index panel_begin, Index panel_end);  // by column panels
  void (*outer)(const OuterArgs<T>&);
  void (*cell_backward)(const CellBackwardArgs<T>&, Index panel_begin, Index panel_end);
  // The same for every variant of the cell.
  void (*general_step)(const GeneralStepArgs<T>&, Index panel_begin, Index panel_end);  // with layer norm: all panels
  void (*general_cell_backward)(const GeneralBackwardArgs<T>&);
  // sum[j] += b[k * stride + j] for k ascending and j below width, which is a multiple of U.
  void (*add_rows)(const T* b, Index stride, Index depth, Index width, T* sum);

  // sum[row[k] * sum_stride + j] += b[k * stride + j] for k ascending and j below width, which is 1 to 4 times U.
  void (*scatter_rows)(const T* b, Index stride, const Index* row, Index depth, Index width, T* sum, Index sum_stride);

  void (*mask)(const MaskArgs<T>&);
  // values = z previous + (1 - z) values
  void (*zoneout)(const T* z, const T* previous, Index size, T* values);

  // y = activation of x, element by element, or of the row x as a whole; y may be x.
  void (*activate)(const ActivationArgs<T>&, const T* x, Index size, T* y);
  // d *= the activation's slope where its value is y, element by element, or the gradient of the row as a whole. If the
  // slope follows from the input, `y` is that.
  void (*multiply_by_slope)(const ActivationArgs<T>&, const T* y, Index size, T* d);
  // The sum in the softmax of one row, and the gradient of the loss -log softmax(logits)[label].
  SoftmaxSum<T> (*softmax_cross_entropy)(const SoftmaxArgs<T>&);

  void (*adam)(const AdamArgs<T>&);
  void (*sgd)(const SgdArgs<T>&);
  void (*rmsprop)(const RmspropArgs<T>&);
  double (*sum_of_squares)(const T* x, Index size);  // in double: 16 chains, joined in a tree
};

enum class AlphaRange { any, not_negative, not_zero };  // the alphas for which the slope follows from the value

// What an activation computes with: `by_value`, each number alone, and the slope follows from the value; `by_input`,
// the same, but the slope follows from the input alone, because the function is not monotone; `by_row`, all numbers of
// a row, and the gradient follows from the values.
enum class ActivationKind { by_value, by_input, by_row };

struct ActivationInfo {
  const char* name;
  Index parameters;    // 0; 1: alpha; 2: alpha and beta
  double alpha, beta;  // defaults
  AlphaRange alpha_range;
  ActivationKind kind = ActivationKind::by_value;
};

struct KernelTable {
  const char* name;  // the name of the instruction set
  // The same for every instruction set. The number of an activation is its place in this array.
  const ActivationInfo* activations;
  Index activation_count;
  Kernels<float> float32;
  Kernels<double> float64;
};

}  // namespace latchwork
