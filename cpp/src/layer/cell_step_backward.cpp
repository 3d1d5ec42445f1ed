#include "layer/cell_step_backward.hpp"

#include <algorithm>

#include "layer/strategy.hpp"

namespace latchwork {

namespace {

template <class T>
class CellStepBackward {
 public:
  CellStepBackward(const PackedLayer<T>& weights, const Kernels<T>& kernels, Index rows, Index slots,
                   const CellBackwardPointers<T>& pointers, T* room, Index number, const UnitSplit& split)
      : weights_(weights),
        kernels_(kernels),
        rows_(rows),
        slots_(slots),
        h_size_(weights.output_size()),
        p_(pointers),
        room_(room),
        number_(number),
        split_(split) {}

  void run() const noexcept {
    // The kernel of the plain cell adds d_output itself.
    const bool plain = room_ == nullptr && weights_.projection == 0 && p_.hidden_zoneout == nullptr;
    if (p_.d_output != nullptr && !plain) add_output();
    if (p_.hidden_zoneout != nullptr) differentiate_zoneout();
    T* const* d_new = p_.hidden_zoneout != nullptr ? p_.d_new_hidden : p_.d_hidden;
    if (weights_.projection > 0) differentiate_projection(d_new);
    differentiate_cell(weights_.projection > 0 ? p_.d_unprojected_hidden : d_new, plain ? p_.d_output : nullptr);
    // The gradient with respect to h_prev, through R.
    if (p_.hidden_dropout == nullptr) {
      multiply(p_.d_hh, p_.d_hidden, p_.hidden_zoneout != nullptr);
    } else {
      multiply(p_.d_hh, p_.d_dropped_hidden, false);
      differentiate_dropout();
    }
  }

 private:
  void add_output() const {
    for (Index row = 0; row < rows_; ++row) {
      const T* d_output = p_.d_output[row];
      T* d_hidden = p_.d_hidden[row];
      for (Index unit = 0; unit < h_size_; ++unit) d_hidden[unit] += d_output[unit];
    }
  }

  // h = z h_prev + (1 - z) h_new
  void differentiate_zoneout() const {
    for (Index row = 0; row < rows_; ++row) {
      const T* z = p_.hidden_zoneout[row];
      T *d_hidden = p_.d_hidden[row], *d_new = p_.d_new_hidden[row];
      for (Index unit = 0; unit < h_size_; ++unit) {
        d_new[unit] = (T(1) - z[unit]) * d_hidden[unit];
        d_hidden[unit] *= z[unit];
      }
    }
  }

  void differentiate_dropout() const {
    for (Index row = 0; row < rows_; ++row) {
      const T *factor = p_.hidden_dropout[row], *d_dropped = p_.d_dropped_hidden[row];
      T* d_hidden = p_.d_hidden[row];
      for (Index unit = 0; unit < h_size_; ++unit) {
        const T through_r = factor[unit] * d_dropped[unit];
        d_hidden[unit] = p_.hidden_zoneout != nullptr ? d_hidden[unit] + through_r : through_r;
      }
    }
  }

  // From the gradient with respect to the projected h to the one with respect to o tanh(c).
  void differentiate_projection(T* const* d_projected) const {
    for (Index row = 0; row < rows_; ++row) std::copy_n(d_projected[row], h_size_, p_.d_projected[row]);
    const WeightPanels<T>& panels = weights_.projection_gradient;
    kernels_.product(product_of(panels, rows_, p_.d_projected, p_.d_unprojected_hidden), 0, panels.count());
  }

  void differentiate_cell(T* const* d_h, const T* const* d_output) const {
    CellBackwardArgs<T> args{};
    args.rows = rows_;
    args.units = weights_.units;
    args.gates = p_.gates;
    args.c = p_.c;
    args.c_prev = p_.c_prev;
    args.d_h = d_h;
    args.d_output = d_output;
    args.d_c = p_.d_c;
    args.d_gates = p_.d_gates;
    args.d_gates_panel_stride = slots_ * weights_.panels.width();
    args.last_registers = weights_.panels.last_registers();
    args.d_signals = p_.d_signals;
    if (room_ == nullptr) {
      // Unless h is projected, each thread takes the units whose d_h it computed in the product of the step before:
      // they are in its cache.
      const PanelShape& of_units =
          (weights_.projection > 0 ? weights_.projection_gradient : weights_.h_gradient).shape();
      const auto gate_panel = [&](Index part) {
        return std::min(weights_.panels.count(), of_units.registers() * of_units.piece_begin(split_.parts, part));
      };
      for_parts([&](Index part) { kernels_.cell_backward(args, gate_panel(part), gate_panel(part + 1)); });
      return;
    }
    GeneralBackwardArgs<T> general{};
    general.cell = args;
    general.variant = &weights_.variant;
    general.candidate_factor = p_.candidate_dropout;
    general.cell_zoneout = p_.cell_zoneout;
    general.room = room_;
    general.d_peephole = p_.d_peephole;
    general.d_peephole_panel_stride = slots_ * (weights_.gates - 1) * kernels_.units;
    general.norm_ih = p_.norm_ih;
    general.norm_hh = p_.norm_hh;
    general.norm_scale = p_.norm_scale;
    general.d_ih = p_.d_ih;
    general.d_hh = p_.d_hh;
    general.d_norm_ih_weight = p_.d_norm_ih_weight;
    general.d_norm_hh_weight = p_.d_norm_hh_weight;
    general.d_norm_cell = p_.d_norm_cell;
    kernels_.general_cell_backward(general);
  }

  void multiply(const T* const* d_gates, T* const* y, bool accumulate) const {
    const WeightPanels<T>& panels = weights_.h_gradient;
    const Index panel_stride = slots_ * weights_.panels.width();
    ProductArgs<T> args = product_of_gates(panels, weights_.panels, panel_stride, rows_, d_gates, y);
    args.accumulate = accumulate;
    args.last_panel_first = last_panel_first(panels, number_);
    for_parts([&](Index part) {
      kernels_.product(args, panels.shape().piece_begin(split_.parts, part),
                       panels.shape().piece_begin(split_.parts, part + 1));
    });
  }

  template <class Task>
  void for_parts(Task&& task) const {
    parallel(split_.parts, task, split_.threads);
  }

  const PackedLayer<T>& weights_;
  const Kernels<T>& kernels_;
  Index rows_, slots_, h_size_;
  const CellBackwardPointers<T>& p_;
  T* room_;
  Index number_;
  const UnitSplit& split_;
};

}  // namespace

template <class T>
void cell_step_backward(const PackedLayer<T>& weights, const Kernels<T>& kernels, Index rows, Index slots,
                        const CellBackwardPointers<T>& pointers, T* room, Index number,
                        const UnitSplit& split) noexcept {
  CellStepBackward<T>(weights, kernels, rows, slots, pointers, room, number, split).run();
}

template void cell_step_backward<float>(const PackedLayer<float>&, const Kernels<float>&, Index, Index,
                                        const CellBackwardPointers<float>&, float*, Index, const UnitSplit&) noexcept;
template void cell_step_backward<double>(const PackedLayer<double>&, const Kernels<double>&, Index, Index,
                                         const CellBackwardPointers<double>&, double*, Index,
                                         const UnitSplit&) noexcept;

}  // namespace latchwork
