#pragma once

#include "kernels/packet.hpp"
#include "kernels/table.hpp"

// The functions of one instruction set's table; table.hpp says what they do.
namespace latchwork::LATCHWORK_ISA {

// step.cpp
template <class T>
void step(const StepArgs<T>& args, Index panel_begin, Index panel_end);
template <class T>
void cell_backward(const CellBackwardArgs<T>& args, Index panel_begin, Index panel_end);

// general_step.cpp, general_backward.cpp
template <class T>
void general_step(const GeneralStepArgs<T>& args, Index panel_begin, Index panel_end);
template <class T>
void general_cell_backward(const GeneralBackwardArgs<T>& args);

// masks.cpp
template <class T>
void mask(const MaskArgs<T>& args);
template <class T>
void zoneout(const T* z, const T* previous, Index size, T* values);

// product.cpp
template <class T>
void product(const ProductArgs<T>& args, Index panel_begin, Index panel_end);
template <class T>
void outer(const OuterArgs<T>& args);
template <class T>
void add_rows(const T* b, Index stride, Index depth, Index width, T* sum);
template <class T>
void scatter_rows(const T* b, Index stride, const Index* row, Index depth, Index width, T* sum, Index sum_stride);
template <class T>
inline constexpr Index outer_block = 4 * whole_panel_rows;

// packing.cpp
template <class T>
void pack_gate_panels(const T* weight, const GateShape& shape, Index k_size, T* panels, Index panel_begin,
                      Index panel_end);
template <class T>
void pack_gate_row(const T* first, const T* second, const GateShape& shape, T* row);
template <class T>
void pack_transposed_panels(const T* weight, Index columns, Index k_size, T* panels);
template <class T>
void pack_gate_rows(const T* weight, const GateShape& shape, Index columns, T* panels, Index gate_panel_begin,
                    Index gate_panel_end);
template <class T>
void pack_panels(const T* weight, Index k_size, Index columns, T* panels);
template <class T>
void unpack_gate_panels(const T* panels, const GateShape& shape, Index k_size, T* weight, bool accumulate,
                        Index panel_begin, Index panel_end);
template <class T>
void unpack_gate_row(const T* row, const GateShape& shape, T* bias, bool accumulate);
template <class T>
void unpack_panels(const T* panels, Index k_size, Index columns, T* weight, bool accumulate);
template <class T>
void pack_outer(const T* const* a, Index rows, Index columns, T* packed, Index first, Index depth);

// elementwise.cpp
template <class T>
void activate_all(const ActivationArgs<T>& activation, const T* x, Index size, T* y);
template <class T>
void multiply_all_by_slope(const ActivationArgs<T>& activation, const T* y, Index size, T* d);
template <class T>
SoftmaxSum<T> softmax_cross_entropy(const SoftmaxArgs<T>& args);

// update.cpp
template <class T>
void adam(const AdamArgs<T>& args);
template <class T>
void sgd(const SgdArgs<T>& args);
template <class T>
void rmsprop(const RmspropArgs<T>& args);
template <class T>
double sum_of_squares(const T* x, Index size);

}  // namespace latchwork::LATCHWORK_ISA
