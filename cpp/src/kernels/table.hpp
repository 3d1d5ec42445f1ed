#pragma once

#include "latchwork/types.hpp"

// What the rest of the library knows of the kernels: one plain table of functions for each instruction set, which take
// pointers, sizes and strides. Kernels know neither threads nor layers nor time.
//
// Panels. U is the number of elements in one SIMD register. A *gate panel* holds U hidden units x 4 gates: for each k,
// 4U numbers [i | f | g | o]. H units take ceil(H / U) gate panels; units beyond H are zero. "Padded" means H rounded
// up to a multiple of U, and a *packed row* is one row of pre-activations, gates or their gradients: 4 x padded
// numbers, panel by panel. A *column panel* holds up to 4U columns of an ordinary matrix: for each k, V x U numbers,
// where V = 4 registers in every panel but the last, and as few as hold the rest in the last; columns beyond are zero.
//
// One chain. Every result of a product is one accumulator that starts at `start` and takes k in ascending order with
// explicit multiply-adds: never a second accumulator, never a split of k. So results depend neither on how many rows
// there are, nor on which of them share a call, nor on whether a product was interrupted and continued.
namespace latchwork {

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
  const T* h_weights;      // gate panels of R
  const T* const* c_prev;  // padded rows
  T* const* c;             // padded rows; may be c_prev
  T* const* h;             // H numbers each
  T* const* gates;         // packed rows i, f, g, o after activation; null: not wanted
};

template <class T>
struct ProductArgs {  // y[row] = start[row] + a[row] W, W in column panels (gate panels are column panels too)
  Index rows;
  Index columns;
  const T* start;     // `columns` rounded up to a multiple of U; for every row alike; null: zeros
  const T* const* a;  // element k of a row lies at a[k / a_block * a_block_stride + k % a_block]
  Index depth;        // number of k
  Index a_block;      // divides depth; depth itself for a contiguous row
  Index a_block_stride;
  const T* weights;
  T* const* y;              // `columns` numbers each
  bool accumulate = false;  // the chain starts at y[row] instead of `start`
};

template <class T>
struct OuterArgs {  // c[panel][j][4U] += sum over k of a[k][j] * b[panel][k][4U]: a weight gradient
  Index depth;      // number of k: steps x rows
  Index columns;    // number of j
  const T* a;       // as pack_outer made it
  Index registers;  // V: registers a panel is wide, 1 to 4
  const T* b;       // one panel: k-th row at b + k * V * U
  T* c;             // one panel: j-th row at c + j * V * U
};

template <class T>
struct CellBackwardArgs {  // the gates' equations differentiated, for one step
  Index rows;
  Index units;
  const T* const* gates;   // packed rows
  const T* const* c;       // padded rows
  const T* const* c_prev;  // padded rows
  const T* const* d_h;     // padded rows: gradient by h of this step
  T* const* d_c;           // padded rows: gradient by c of this step from later ones; becomes that by c_prev
  T* const* d_gates;  // row r of gate panel p at d_gates[r] + p * d_gates_panel_stride: gradient by the pre-activations
  Index d_gates_panel_stride;
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

  // Gate panels of a PyTorch weight (4H, k_size), row-major, gate order i, f, g, o.
  void (*pack_gate_panels)(const T* weight, Index units, Index k_size, T* panels);
  // One packed row from two PyTorch biases (4H) each: their sum. Null pointers: zeros.
  void (*pack_gate_bias)(const T* bias_ih, const T* bias_hh, Index units, T* row);
  // Column panels of the transpose of a weight (columns, k_size): for y = x W^T.
  void (*pack_transposed_panels)(const T* weight, Index columns, Index k_size, T* panels);
  // Column panels of a weight (4H, columns) for d_gates W: k runs in the order of a packed row, padding zero.
  void (*pack_gate_rows)(const T* weight, Index units, Index columns, T* panels);
  // Column panels of a weight (k_size, columns) as it is: for d_y W.
  void (*pack_panels)(const T* weight, Index k_size, Index columns, T* panels);
  // The reverse of pack_gate_panels, for a weight's gradient: weight = panels, or += where accumulate.
  void (*unpack_gate_panels)(const T* panels, Index units, Index k_size, T* weight, bool accumulate);
  // The same for a packed row, a bias's gradient.
  void (*unpack_gate_bias)(const T* row, Index units, T* bias, bool accumulate);
  // From column panels [panel][j][V U] to a matrix (k_size, columns): weight = panels, or += where accumulate.
  void (*unpack_panels)(const T* panels, Index k_size, Index columns, T* weight, bool accumulate);
  // Rows a[k] (columns numbers each) laid out for `outer`: blocks of outer_block columns, [block][k][outer_block];
  // room: depth x columns rounded up to a multiple of outer_block.
  void (*pack_outer)(const T* const* a, Index depth, Index columns, T* packed);

  void (*step)(const StepArgs<T>&, Index panel_begin, Index panel_end);        // gate panels
  void (*product)(const ProductArgs<T>&, Index panel_begin, Index panel_end);  // column panels
  void (*outer)(const OuterArgs<T>&);
  void (*cell_backward)(const CellBackwardArgs<T>&);
  // sum[j] += rows k ascending of b[k][j], j below width (a multiple of U).
  void (*add_rows)(const T* b, Index depth, Index width, T* sum);

  // y = activation of x, element by element; y may be x.
  void (*sigmoid)(const T* x, Index size, T* y);
  void (*tanh)(const T* x, Index size, T* y);
  // log-sum-exp and gradient of one row of logits; returns the loss -log softmax(logits)[label].
  T (*softmax_cross_entropy)(const SoftmaxArgs<T>&);

  void (*adam)(const AdamArgs<T>&);
  void (*sgd)(const SgdArgs<T>&);
  double (*sum_of_squares)(const T* x, Index size);  // in double, one chain for each of 8 lanes, joined in order
};

struct KernelTable {
  const char* name;  // of the instruction set
  Kernels<float> single;
  Kernels<double> twofold;
};

}  // namespace latchwork
