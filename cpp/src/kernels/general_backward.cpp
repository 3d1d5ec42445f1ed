// The gradient of the general epilogue: every variant of the cell, one tile of rows after another.
#include "kernels/general_cell.hpp"

namespace latchwork::LATCHWORK_ISA {

namespace {

// Multiplies d by the slope of the activation at the values y, for `count` registers. If the slope follows from the
// input, y is that. The slope is zero if the pre-activation was at one of the limits +-clip.
template <class T>
[[gnu::noinline]] void multiply_by_slope(const ActivationArgs<T>& activation, T clip, Index count, const T* y,
                                         Index y_stride, T* d, Index d_stride) {
  const Coefficients<T> k = coefficients(activation);
  Activations::with(activation.number, [&]<class A>(A) {
    if (clip == T(0)) {
      for (Index at = 0; at < count; ++at) {
        store(d + at * d_stride, multiply(load(d + at * d_stride), A::template slope<T>(load(y + at * y_stride), k)));
      }
      return;
    }
    const Packet<T> zero = broadcast(T(0));
    const bool by_input = A::info.kind == ActivationKind::by_input;
    const auto kept = [&](T x) { return by_input ? broadcast(x) : A::template value<T>(broadcast(x), k); };
    const Packet<T> one_end = kept(-clip), other_end = kept(clip);
    const Packet<T> low = where_less(one_end, other_end, one_end, other_end);
    const Packet<T> high = where_less(one_end, other_end, other_end, one_end);
    for (Index at = 0; at < count; ++at) {
      const Packet<T> value = load(y + at * y_stride);
      const Packet<T> product = multiply(load(d + at * d_stride), A::template slope<T>(value, k));
      store(d + at * d_stride, where_less(low, value, where_less(value, high, product, zero), zero));
    }
  });
}

// The memory of a tile: several arrays one after another, with a fixed number of values for each register of hidden
// units.
template <class T>
struct BackwardPlace {
  BackwardPlace(const Tile& its_tile, Index gate_width, T* room)
      : tile(its_tile),
        cell_before_zoneout(room),
        activated_cell(cell_before_zoneout + tile.registers() * lanes<T>),
        d_activated_cell(activated_cell + tile.registers() * lanes<T>),
        gates(d_activated_cell + tile.registers() * lanes<T>),
        d_gates(gates + tile.registers() * gate_width) {}
  Tile tile;
  T* cell_before_zoneout;  // the new cell before zoneout
  T* activated_cell;       // what the cell activation made of it
  // The gradient with respect to activated_cell, then with respect to the new cell. Before that, the cell activation's
  // slope, if it follows from the input.
  T* d_activated_cell;
  T *gates, *d_gates;
};

template <class T>
class GeneralBackward {
 public:
  explicit GeneralBackward(const GeneralBackwardArgs<T>& args)
      : args_(args),
        cell_(args.cell),
        variant_(*args.variant),
        places_(args.variant->gates),
        panels_((args.cell.units + lanes<T> - 1) / lanes<T>),
        keeps_some_input_(keeps_input(variant_.input) || keeps_input(variant_.forget) ||
                          keeps_input(variant_.candidate) || keeps_input(variant_.output)) {}

  void run() const {
    // A tile has whole rows, because a norm takes all units of a row. It has so many of them that looking up the
    // activations costs little.
    const Index rows = panels_ < backward_tile_registers ? backward_tile_registers / panels_ : 1;
    for (Index row = 0; row < cell_.rows; row += rows) {
      const Index end = row + rows < cell_.rows ? row + rows : cell_.rows;
      run_tile(BackwardPlace<T>({row, end, 0, panels_}, places_.width, args_.room));
    }
  }

 private:
  bool peephole() const { return variant_.peephole != nullptr; }
  bool norm() const { return variant_.norm_ih_weight != nullptr; }

  void run_tile(const BackwardPlace<T>& place) const {
    recompute_cell(place);
    differentiate_output(place);
    differentiate_cell(place);
    multiply_by_gate_slope(variant_.input, place, places_.i);
    if (places_.own_forget) multiply_by_gate_slope(variant_.forget, place, places_.f);
    multiply_by_gate_slope(variant_.candidate, place, places_.g);
    if (peephole()) differentiate_peepholes(place);
    if (norm()) {
      for (Index row = place.tile.row_begin; row < place.tile.row_end; ++row) differentiate_norms(place, row);
    }
    for_each_register<T>(place.tile, [&](Index row, Index panel, Index) {
      const T* from = d_gates(place, row, panel);
      T* to = cell_.d_gates[row] + panel * cell_.d_gates_panel_stride;
      for (Index at = 0; at < places_.width; at += lanes<T>) store(to + at, load(from + at));
    });
  }

  void multiply_by_gate_slope(const ActivationArgs<T>& activation, const BackwardPlace<T>& place, Index gate) const {
    if (keeps_input(activation)) {  // the recording has what the place no longer has
      for (Index row = place.tile.row_begin; row < place.tile.row_end; ++row) {
        multiply_by_slope<T>(activation, variant_.clip, panels_, cell_.gates[row] + gate, places_.width,
                             d_gates(place, row, 0) + gate, places_.width);
      }
      return;
    }
    multiply_by_slope<T>(activation, variant_.clip, place.tile.registers(), place.gates + gate, places_.width,
                         place.d_gates + gate, places_.width);
  }

  void copy_gates(const BackwardPlace<T>& place, Index row, Index panel) const {
    const T* recorded = cell_.gates[row] + panel * places_.width;
    T* gates = gates_of(place, row, panel);
    for (Index at = 0; at < places_.width; at += lanes<T>) store(gates + at, load(recorded + at));
  }

  // Copies the recorded gates, and activates those of which the recording keeps the inputs.
  void copy_and_activate(const BackwardPlace<T>& place) const {
    for_each_register<T>(place.tile, [&](Index row, Index panel, Index) { copy_gates(place, row, panel); });
    const auto activate = [&](const ActivationArgs<T>& activation, Index gate) {
      if (!keeps_input(activation)) return;
      activate_registers<T>(activation, place.tile.registers(), places_.width, place.gates + gate);
    };
    activate(variant_.input, places_.i);
    if (places_.own_forget) activate(variant_.forget, places_.f);
    activate(variant_.candidate, places_.g);
    activate(variant_.output, places_.o);
  }

  // Computes the new cell and the activated cell again, from the recorded gates.
  void recompute_cell(const BackwardPlace<T>& place) const {
    if (keeps_some_input_) copy_and_activate(place);
    for_each_register<T>(place.tile, [&](Index row, Index panel, Index unit) {
      if (!keeps_some_input_) copy_gates(place, row, panel);
      const T* gates = gates_of(place, row, panel);
      const Gates<T> value = load_gates<T>(variant_, places_, gates, candidate_factor(row, unit));
      const Packet<T> c = new_cell<T>(variant_, value, load(cell_.c_prev[row] + unit), cell_.units - unit);
      const Index at = place.tile.number(row, panel) * lanes<T>;
      store(place.cell_before_zoneout + at, c);
      Packet<T> activated_cell = c;
      if (norm()) {
        activated_cell = multiply_add(normalised_cell(place, row, panel), load(variant_.norm_cell_weight + unit),
                                      load(variant_.norm_cell_bias + unit));
      }
      store(place.activated_cell + at, activated_cell);
      if (keeps_input(variant_.cell)) store(place.d_activated_cell + at, broadcast(T(1)));
    });
    if (keeps_input(variant_.cell)) {
      multiply_by_slope<T>(variant_.cell, T(0), place.tile.registers(), place.activated_cell, lanes<T>,
                           place.d_activated_cell, lanes<T>);
    }
    activate_registers<T>(variant_.cell, place.tile.registers(), lanes<T>, place.activated_cell);
  }

  // h = o * activated_cell. d_activated_cell becomes the gradient with respect to the new cell, as far as it comes
  // through h.
  void differentiate_output(const BackwardPlace<T>& place) const {
    const bool has_cell_slope = keeps_input(variant_.cell);
    for_each_register<T>(place.tile, [&](Index row, Index panel, Index unit) {
      const Packet<T> d_h = load(cell_.d_h[row] + unit);
      const Index at = place.tile.number(row, panel) * lanes<T>;
      const Packet<T> d_o = multiply(d_h, load(place.activated_cell + at));
      store(d_gates(place, row, panel) + places_.o, d_o);
      if (cell_.d_signals != nullptr) store(d_signal(row, 3) + unit, d_o);
      Packet<T> d_activated_cell = multiply(d_h, load(gates_of(place, row, panel) + places_.o));
      if (has_cell_slope) d_activated_cell = multiply(d_activated_cell, load(place.d_activated_cell + at));
      store(place.d_activated_cell + at, d_activated_cell);
    });
    if (!has_cell_slope) {
      multiply_by_slope<T>(variant_.cell, T(0), place.tile.registers(), place.activated_cell, lanes<T>,
                           place.d_activated_cell, lanes<T>);
    }
    multiply_by_gate_slope(variant_.output, place, places_.o);
    if (norm()) {
      for (Index row = place.tile.row_begin; row < place.tile.row_end; ++row) differentiate_cell_norm(place, row);
    }
  }

  // c = f * c_prev + i * g, with the peephole of o, zoneout and the limit of the cell.
  void differentiate_cell(const BackwardPlace<T>& place) const {
    const Packet<T> zero = broadcast(T(0)), one = broadcast(T(1));
    for_each_register<T>(place.tile, [&](Index row, Index panel, Index unit) {
      const Packet<T> c_prev = load(cell_.c_prev[row] + unit);
      const Index at = place.tile.number(row, panel) * lanes<T>;
      const Packet<T> c = load(place.cell_before_zoneout + at);
      T* d = d_gates(place, row, panel);
      Packet<T> d_c = load(place.d_activated_cell + at);
      if (peephole()) {
        const Packet<T> d_o = load(d + places_.o);
        const T* weight = variant_.peephole + panel * places_.peephole_width + places_.peephole_o;
        d_c = multiply_add(load(weight), d_o, d_c);
        store(d_peephole(row, panel) + places_.peephole_o, multiply(d_o, c));
      }
      Packet<T> d_later = load(cell_.d_c[row] + unit);
      // After zoneout, the cell is read by later steps alone.
      if (args_.cell_zoneout != nullptr && cell_.d_signals != nullptr) store(d_signal(row, 4) + unit, d_later);
      Packet<T> d_c_prev_by_zoneout = zero;
      if (args_.cell_zoneout != nullptr) {
        const Packet<T> z = load(args_.cell_zoneout[row] + unit);
        d_c_prev_by_zoneout = multiply(z, d_later);
        d_later = multiply(subtract(one, z), d_later);
      }
      d_c = add(d_c, d_later);
      if (args_.cell_zoneout == nullptr && cell_.d_signals != nullptr) store(d_signal(row, 4) + unit, d_c);
      if (variant_.cell_clip > T(0)) d_c = where_less(magnitude(c), broadcast(variant_.cell_clip), d_c, zero);

      const T* factor = candidate_factor(row, unit);
      const Gates<T> value = load_gates<T>(variant_, places_, gates_of(place, row, panel), factor);
      CellStateGradient<T> gradient = cell_state_gradient<T>(value, c_prev, d_c);
      if (factor != nullptr) gradient.g = multiply(load(factor), gradient.g);
      if (places_.own_forget) {
        store(d + places_.f, gradient.f);
      } else if (variant_.coupled) {
        const CellStateGradient<T> apart = gradient;
        gradient.i = subtract(apart.i, apart.f);
        gradient.f = subtract(apart.f, apart.i);
      }
      if (cell_.d_signals != nullptr) {
        store(d_signal(row, 0) + unit, gradient.i);
        store(d_signal(row, 1) + unit, gradient.f);
        store(d_signal(row, 2) + unit, gradient.g);
      }
      store(d + places_.i, gradient.i);
      store(d + places_.g, gradient.g);
      store(cell_.d_c[row] + unit, add(gradient.c_prev, d_c_prev_by_zoneout));
    });
  }

  // The gradient of the peepholes of i and f.
  void differentiate_peepholes(const BackwardPlace<T>& place) const {
    for_each_register<T>(place.tile, [&](Index row, Index panel, Index unit) {
      const Packet<T> c_prev = load(cell_.c_prev[row] + unit);
      const T* weight = variant_.peephole + panel * places_.peephole_width;
      const T* d = d_gates(place, row, panel);
      T* d_weight = d_peephole(row, panel);
      Packet<T> d_c = load(cell_.d_c[row] + unit);
      d_c = multiply_add(load(weight), load(d + places_.i), d_c);
      store(d_weight, multiply(load(d + places_.i), c_prev));
      if (places_.own_forget) {
        d_c = multiply_add(load(weight + lanes<T>), load(d + places_.f), d_c);
        store(d_weight + lanes<T>, multiply(load(d + places_.f), c_prev));
      }
      store(cell_.d_c[row] + unit, d_c);
    });
  }

  // ---- Layer normalisation. With n = (a - mean) / s and y = w n + b, the gradients are d_n = w d_y and d_a = (d_n -
  // mean(d_n) - n mean(n d_n)) / s.

  void differentiate_cell_norm(const BackwardPlace<T>& place, Index row) const {
    T* d = place.d_activated_cell + place.tile.number(row, 0) * lanes<T>;
    T *d_weight = args_.d_norm_cell[row], *d_bias = d_weight + panels_ * lanes<T>;
    for (Index panel = 0; panel < panels_; ++panel) {
      const Packet<T> d_y = load(d + panel * lanes<T>);
      store(d_bias + panel * lanes<T>, d_y);
      store(d_weight + panel * lanes<T>, multiply(d_y, normalised_cell(place, row, panel)));
    }
    differentiate_norm(
        {cell_.units, panels_, 1}, args_.norm_scale[row][2], variant_.norm_cell_weight,
        [&](Index panel, Index) { return normalised_cell(place, row, panel); },
        [&](Index panel, Index) { return d + panel * lanes<T>; },
        [&](Index panel, Index) { return d + panel * lanes<T>; });
  }

  void differentiate_norms(const BackwardPlace<T>& place, Index row) const {
    differentiate_gate_norm(place, row, args_.norm_ih[row], args_.norm_scale[row][0], variant_.norm_ih_weight,
                            args_.d_norm_ih_weight[row], args_.d_ih[row]);
    differentiate_gate_norm(place, row, args_.norm_hh[row], args_.norm_scale[row][1], variant_.norm_hh_weight,
                            args_.d_norm_hh_weight[row], args_.d_hh[row]);
  }

  void differentiate_gate_norm(const BackwardPlace<T>& place, Index row, const T* normalised, T scale, const T* weight,
                               T* d_weight, T* d) const {
    const auto spread = [&](Index panel, Index gate) { return panel * cell_.d_gates_panel_stride + gate * lanes<T>; };
    const auto packed = [&](Index panel, Index gate) { return panel * places_.width + gate * lanes<T>; };
    for (Index panel = 0; panel < panels_; ++panel) {
      for (Index gate = 0; gate < variant_.gates; ++gate) {
        store(d_weight + spread(panel, gate),
              multiply(load(d_gates(place, row, panel) + gate * lanes<T>), load(normalised + packed(panel, gate))));
      }
    }
    differentiate_norm(
        {cell_.units, panels_, variant_.gates}, scale, weight,
        [&](Index panel, Index gate) { return load(normalised + packed(panel, gate)); },
        [&](Index panel, Index gate) { return d_gates(place, row, panel) + gate * lanes<T>; },
        [&](Index panel, Index gate) { return d + spread(panel, gate); });
  }

  // n(panel, block) returns a register of the normalised values; d_y and d_a return where the register's gradients lie.
  // d_a may be the same as d_y.
  template <class Normalised, class From, class To>
  static void differentiate_norm(const NormShape& shape, T scale, const T* weight, Normalised&& n, From&& d_y,
                                 To&& d_a) {
    const auto d_n = [&](Index panel, Index block) {
      return multiply(load(d_y(panel, block)), load(weight + (panel * shape.blocks + block) * lanes<T>));
    };
    NormSum<T> sum, products;
    for_norm_registers<T>(shape, [&](Index panel, Index block, Index, int chain) {  // both are zero in padding
      const Packet<T> d = d_n(panel, block);
      sum.chains[chain] = add(sum.chains[chain], d);
      products.chains[chain] = multiply_add(d, n(panel, block), products.chains[chain]);
    });
    const T count = static_cast<T>(shape.units * shape.blocks);
    const Packet<T> mean = broadcast(sum.total() / count);
    const Packet<T> mean_product = broadcast(products.total() / count);
    for_norm_registers<T>(shape, [&](Index panel, Index block, Index valid, int) {
      const Packet<T> apart = subtract(subtract(d_n(panel, block), mean), multiply(n(panel, block), mean_product));
      const Packet<T> result = multiply(broadcast(scale), apart);
      store(d_a(panel, block), valid < lanes<T> ? first_lanes<T>(result, valid) : result);
    });
  }

  // The normalised cell, from the cell before zoneout. Both are zero in padding.
  Packet<T> normalised_cell(const BackwardPlace<T>& place, Index row, Index panel) const {
    const T* scale = args_.norm_scale[row];
    const Packet<T> c = load(place.cell_before_zoneout + place.tile.number(row, panel) * lanes<T>);
    const Packet<T> n = multiply(subtract(c, broadcast(scale[3])), broadcast(scale[2]));
    const Index left = cell_.units - panel * lanes<T>;
    return left < lanes<T> ? first_lanes<T>(n, left) : n;
  }

  // ---- Where the values of a register lie.

  T* gates_of(const BackwardPlace<T>& place, Index row, Index panel) const {
    return place.gates + place.tile.number(row, panel) * places_.width;
  }
  T* d_gates(const BackwardPlace<T>& place, Index row, Index panel) const {
    return place.d_gates + place.tile.number(row, panel) * places_.width;
  }
  T* d_signal(Index row, Index signal) const { return cell_.d_signals[row] + signal * panels_ * lanes<T>; }
  T* d_peephole(Index row, Index panel) const { return args_.d_peephole[row] + panel * args_.d_peephole_panel_stride; }
  const T* candidate_factor(Index row, Index unit) const {
    return args_.candidate_factor == nullptr ? nullptr : args_.candidate_factor[row] + unit;
  }

  const GeneralBackwardArgs<T>& args_;
  const CellBackwardArgs<T>& cell_;
  const CellVariant<T>& variant_;
  const GatePlaces<T> places_;
  const Index panels_;
  const bool keeps_some_input_;
};

}  // namespace

template <class T>
void general_cell_backward(const GeneralBackwardArgs<T>& args) {
  GeneralBackward<T>(args).run();
}

template void general_cell_backward<float>(const GeneralBackwardArgs<float>&);
template void general_cell_backward<double>(const GeneralBackwardArgs<double>&);

}  // namespace latchwork::LATCHWORK_ISA
