// The table of one instruction set. It is constant data: no initialiser runs when the library is loaded.
#include "kernels/activation_list.hpp"
#include "kernels/kernels.hpp"

#define LATCHWORK_NAME_OF(isa) #isa
#define LATCHWORK_NAME(isa) LATCHWORK_NAME_OF(isa)

namespace latchwork::LATCHWORK_ISA {

namespace {

template <class T>
constexpr Kernels<T> functions() {
  Kernels<T> table{};
  table.units = lanes<T>;
  table.outer_block = outer_block<T>;
  table.half_panels = half_panels;
  table.pack_gate_panels = pack_gate_panels<T>;
  table.pack_gate_row = pack_gate_row<T>;
  table.pack_transposed_panels = pack_transposed_panels<T>;
  table.pack_gate_rows = pack_gate_rows<T>;
  table.pack_panels = pack_panels<T>;
  table.unpack_gate_panels = unpack_gate_panels<T>;
  table.unpack_gate_row = unpack_gate_row<T>;
  table.unpack_panels = unpack_panels<T>;
  table.pack_outer = pack_outer<T>;
  table.step = step<T>;
  table.product = product<T>;
  table.outer = outer<T>;
  table.cell_backward = cell_backward<T>;
  table.general_step = general_step<T>;
  table.general_cell_backward = general_cell_backward<T>;
  table.mask = mask<T>;
  table.zoneout = zoneout<T>;
  table.add_rows = add_rows<T>;
  table.scatter_rows = scatter_rows<T>;
  table.activate = activate_all<T>;
  table.multiply_by_slope = multiply_all_by_slope<T>;
  table.softmax_cross_entropy = softmax_cross_entropy<T>;
  table.adam = adam<T>;
  table.sgd = sgd<T>;
  table.rmsprop = rmsprop<T>;
  table.sum_of_squares = sum_of_squares<T>;
  return table;
}

}  // namespace

extern const KernelTable table;
// The namespace is called isa_<name>, so the name starts after four characters.
constinit const KernelTable table = {&LATCHWORK_NAME(LATCHWORK_ISA)[4], Activations::infos,
                                     Activations::count_with_rows, functions<float>(), functions<double>()};

}  // namespace latchwork::LATCHWORK_ISA
