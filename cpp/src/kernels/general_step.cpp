// One time step of any variant of the cell: products as in the plain step, then the general epilogue.
#include "kernels/general_cell.hpp"
#include "kernels/pre_activations.hpp"

namespace latchwork::LATCHWORK_ISA {

namespace {

// row_stride: the distance between rows of `pre`.
template <class T, int Rows, int Panels, int Width, int Fetch>
[[gnu::noinline]] void pre_activation_tile(const StepArgs<T>& args, Index first_row, Index first_panel, T* pre,
                                           Index row_stride) {
  if constexpr (takes_halves<Rows, Panels * Width>) {
    for (Index half = 0; half < 2; ++half) {
      store_half<T, Rows, Fetch>(args, first_row, first_panel, half, pre, row_stride);
    }
    return;
  }
  Packet<T> sum[Rows][Panels * Width];
  pre_activations<T, Rows, Panels, Width, Fetch>(args, first_row, first_panel, sum);
#pragma GCC unroll 8
  for (int row = 0; row < Rows; ++row) {
#pragma GCC unroll 16
    for (int v = 0; v < Panels * Width; ++v) store(pre + row * row_stride + v * lanes<T>, sum[row][v]);
  }
}

// A tile and its memory: panels of gates, and one register of the cell for each register of hidden units, which at the
// end is the activated cell. aside: room for the inputs of three gates.
template <class T>
struct Workplace {
  Tile tile;
  T *gates, *activated_cell, *aside;
};
template <class T>
inline constexpr Index aside_size = tile_registers * lanes<T>;  // of one gate

template <class T>
class GeneralStep {
 public:
  explicit GeneralStep(const GeneralStepArgs<T>& args)
      : args_(args), step_(args.step), variant_(*args.variant), places_(args.variant->gates) {}

  void run(Index panel_begin, Index panel_end) const {
    alignas(64) T aside[3 * aside_size<T>];
    if (variant_.norm_ih_weight != nullptr) {
      // A norm takes all units of a row, so each row is done by itself, in tiles as large as the others.
      const Index panels = panel_end;
      normalise_pre_activations(panels);
      for (Index row = 0; row < step_.rows; ++row) {
        const auto for_tiles = [&](auto&& task) {
          for (Index panel = 0; panel < panels; panel += tile_registers) {
            const Index end = panel + tile_registers < panels ? panel + tile_registers : panels;
            task(Workplace<T>{{row, row + 1, panel, end},
                              step_.gates[row] + panel * places_.width,
                              args_.activated_cell[row] + panel * lanes<T>,
                              aside});
          }
        };
        for_tiles([&](const Workplace<T>& place) { update_cell(place); });
        normalise_cell(row, panels);
        for_tiles([&](const Workplace<T>& place) { compute_hidden(place); });
      }
      return;
    }
    alignas(64) T gates[tile_registers * 4 * lanes<T>];
    alignas(64) T activated_cell[tile_registers * lanes<T>];
    const Index most_panels = step_.rows == 1 ? tile_registers : 1;
    for_panel_groups(panel_begin, panel_end, most_panels, step_.last_panel_first, [&](Index panel, Index panel_count) {
      for_even_pieces(step_.rows, tile_registers, [&](Index first, Index count) {
        const Workplace<T> place{{first, first + count, panel, panel + panel_count}, gates, activated_cell, aside};
        add_products(place);
        update_cell(place);
        compute_hidden(place);
        if (step_.gates != nullptr) store_gates(place);
      });
    });
  }

 private:
  void add_products(const Workplace<T>& place) const {
    const Tile& tile = place.tile;
    const Index row_stride = tile.panels() * places_.width, rows = tile.row_end - tile.row_begin;
    const FetchAhead fetch = step_fetch(step_, variant_.gates);
    for_step_tiles<T>(
        rows, tile.panel_begin, tile.panel_end, step_.last_panel_first,
        [&](Index) { return most_rows_of(variant_.gates, step_depth(step_)); },
        [&]<int Rows, int Panels>(Constant<Rows>, Constant<Panels>, Index row, Index panel) {
          T* pre = place.gates + row * row_stride + (panel - tile.panel_begin) * places_.width;
          const Index first_row = tile.row_begin + row;
          with_fetch<Rows>(
              fetch_of_tile<T>(fetch, variant_.gates, first_row, step_.rows), [&]<int Fetch>(Constant<Fetch>) {
                if (places_.own_forget) {
                  pre_activation_tile<T, Rows, Panels, 4, Fetch>(step_, first_row, panel, pre, row_stride);
                } else {
                  constexpr int fitting = Rows < most_tile_rows<3> ? Rows : most_tile_rows<3>;
                  pre_activation_tile<T, fitting, Panels, 3, Fetch>(step_, first_row, panel, pre, row_stride);
                }
              });
        });
  }

  // Computes the gates from the pre-activations, and the cell from the gates.
  void update_cell(const Workplace<T>& place) const {
    const Tile& tile = place.tile;
    if (variant_.peephole != nullptr || variant_.clip > T(0)) add_peepholes_and_clip(place);
    activate(variant_.input, place, places_.i, 0);
    if (places_.own_forget) activate(variant_.forget, place, places_.f, 1);
    activate(variant_.candidate, place, places_.g, 2);
    for_each_register<T>(tile, [&](Index row, Index panel, Index unit) {
      T* gates = gates_at(place, row, panel);
      const Packet<T> c_prev = load(step_.c_prev[row] + unit);
      const Gates<T> value = load_gates<T>(variant_, places_, gates, candidate_factor(row, unit));
      const Packet<T> c = new_cell<T>(variant_, value, c_prev, step_.units - unit);
      store(activated_cell_at(place, row, panel), c);
      Packet<T> c_after_zoneout = c;
      if (args_.cell_zoneout != nullptr) {
        c_after_zoneout = zoned_out<T>(load(args_.cell_zoneout[row] + unit), c_prev, c);
      }
      store(step_.c[row] + unit, c_after_zoneout);
      if (variant_.peephole != nullptr) {
        const T* weight = variant_.peephole + panel * places_.peephole_width;
        add_product(gates + places_.o, weight + places_.peephole_o, c);
      }
      if (variant_.clip > T(0)) clip_at(gates + places_.o);
    });
    put_back(variant_.input, place, places_.i, 0);
    if (places_.own_forget) put_back(variant_.forget, place, places_.f, 1);
    put_back(variant_.candidate, place, places_.g, 2);
  }

  // Adds the peepholes of i and f (Gers & Schmidhuber 2000), and limits all pre-activations except that of o.
  void add_peepholes_and_clip(const Workplace<T>& place) const {
    for_each_register<T>(place.tile, [&](Index row, Index panel, Index unit) {
      T* gates = gates_at(place, row, panel);
      if (variant_.peephole != nullptr) {
        const T* weight = variant_.peephole + panel * places_.peephole_width;
        const Packet<T> c_prev = load(step_.c_prev[row] + unit);
        add_product(gates + places_.i, weight, c_prev);
        if (places_.own_forget) add_product(gates + places_.f, weight + lanes<T>, c_prev);
      }
      if (variant_.clip > T(0)) {
        for (Index at = 0; at < places_.o; at += lanes<T>) clip_at(gates + at);
      }
    });
  }

  // Also activates o.
  void compute_hidden(const Workplace<T>& place) const {
    activate(variant_.output, place, places_.o, 0);
    activate_registers<T>(variant_.cell, place.tile.registers(), lanes<T>, place.activated_cell);
    for_each_register<T>(place.tile, [&](Index row, Index panel, Index unit) {
      const Packet<T> o = load(gates_at(place, row, panel) + places_.o);
      const Packet<T> h = hidden_state<T>(o, load(activated_cell_at(place, row, panel)));
      if (const Index left = step_.units - unit; left >= lanes<T>) {
        store(step_.h[row] + unit, h);
      } else {
        store_part(step_.h[row] + unit, h, left);
      }
    });
    put_back(variant_.output, place, places_.o, 0);
  }

  void store_gates(const Workplace<T>& place) const {
    for_each_register<T>(place.tile, [&](Index row, Index panel, Index) {
      const T* from = gates_at(place, row, panel);
      T* to = step_.gates[row] + panel * places_.width;
      for (Index at = 0; at < places_.width; at += lanes<T>) store(to + at, load(from + at));
    });
  }

  // ---- Layer normalisation: Ba, Kiros & Hinton 2016.

  void normalise_pre_activations(Index panels) const {
    if (step_.x != nullptr) multiply_rows(step_.x, step_.x_size, step_.x_weights, args_.norm_ih, panels);
    multiply_rows(step_.h_prev, step_.h_size, step_.h_weights, args_.norm_hh, panels);
    const NormShape shape{step_.units, panels, variant_.gates};
    const CellVariant<T>& v = variant_;
    for (Index row = 0; row < step_.rows; ++row) {
      T *ih = args_.norm_ih[row], *hh = args_.norm_hh[row], *scale = args_.norm_scale[row];
      T unused;
      scale[0] = normalise(shape, ih, ih, unused);
      scale[1] = normalise(shape, hh, hh, unused);
      for (Index at = 0; at < panels * places_.width; at += lanes<T>) {
        const Packet<T> from_x = multiply_add(load(ih + at), load(v.norm_ih_weight + at), load(v.norm_ih_bias + at));
        const Packet<T> from_h = multiply_add(load(hh + at), load(v.norm_hh_weight + at), load(v.norm_hh_bias + at));
        store(step_.gates[row] + at, add(add(from_x, from_h), load(step_.start[row] + at)));
      }
    }
  }

  void multiply_rows(const T* const* a, Index depth, const T* weights, T* const* y, Index panels) const {
    ProductArgs<T> args{};
    args.rows = step_.rows;
    args.columns = panels * places_.width;
    args.a = a;
    args.depth = depth;
    args.a_block = depth;
    args.weights = weights;
    args.y = y;
    args.panel_registers = variant_.gates;
    product(args, 0, panels);
  }

  void normalise_cell(Index row, Index panels) const {
    T *activated_cell = args_.activated_cell[row], *scale = args_.norm_scale[row];
    scale[2] = normalise({step_.units, panels, 1}, activated_cell, activated_cell, scale[3]);
    for (Index unit = 0; unit < panels * lanes<T>; unit += lanes<T>) {
      store(activated_cell + unit, multiply_add(load(activated_cell + unit), load(variant_.norm_cell_weight + unit),
                                                load(variant_.norm_cell_bias + unit)));
    }
  }

  // to = (from - mean) / deviation, zero in padding; returns 1 / deviation.
  static T normalise(const NormShape& shape, const T* from, T* to, T& mean) {
    const T count = static_cast<T>(shape.units * shape.blocks);
    const auto at = [&](Index panel, Index block) { return (panel * shape.blocks + block) * lanes<T>; };
    NormSum<T> sum;
    for_norm_registers<T>(shape, [&](Index panel, Index block, Index valid, int chain) {
      const T* values = from + at(panel, block);
      sum.chains[chain] = add(sum.chains[chain], valid < lanes<T> ? load_part(values, valid) : load(values));
    });
    mean = sum.total() / count;
    NormSum<T> squares;
    for_norm_registers<T>(shape, [&](Index panel, Index block, Index valid, int chain) {
      Packet<T> apart = subtract(load(from + at(panel, block)), broadcast(mean));
      if (valid < lanes<T>) apart = first_lanes<T>(apart, valid);
      squares.chains[chain] = multiply_add(apart, apart, squares.chains[chain]);
      store(to + at(panel, block), apart);
    });
    const T scale = T(1) / square_root(squares.total() / count + T(norm_epsilon));
    for (Index k = 0; k < shape.panels * shape.blocks * lanes<T>; k += lanes<T>) {
      store(to + k, multiply(load(to + k), broadcast(scale)));
    }
    return scale;
  }

  // ---- Helpers for one register.

  T* gates_at(const Workplace<T>& place, Index row, Index panel) const {
    return place.gates + place.tile.number(row, panel) * places_.width;
  }
  T* activated_cell_at(const Workplace<T>& place, Index row, Index panel) const {
    return place.activated_cell + place.tile.number(row, panel) * lanes<T>;
  }
  // Activates a gate. If a recording keeps its inputs, they are put aside, in the room with this number.
  void activate(const ActivationArgs<T>& activation, const Workplace<T>& place, Index gate, Index room) const {
    if (is_kept(activation)) copy_registers(place, place.gates + gate, places_.width, aside_of(place, room), lanes<T>);
    activate_registers<T>(activation, place.tile.registers(), places_.width, place.gates + gate);
  }
  void put_back(const ActivationArgs<T>& activation, const Workplace<T>& place, Index gate, Index room) const {
    if (is_kept(activation)) copy_registers(place, aside_of(place, room), lanes<T>, place.gates + gate, places_.width);
  }
  bool is_kept(const ActivationArgs<T>& activation) const { return step_.gates != nullptr && keeps_input(activation); }
  static T* aside_of(const Workplace<T>& place, Index room) { return place.aside + room * aside_size<T>; }
  static void copy_registers(const Workplace<T>& place, const T* from, Index from_stride, T* to, Index to_stride) {
    for (Index at = 0; at < place.tile.registers(); ++at) store(to + at * to_stride, load(from + at * from_stride));
  }
  const T* candidate_factor(Index row, Index unit) const {
    return args_.candidate_factor == nullptr ? nullptr : args_.candidate_factor[row] + unit;
  }
  static void add_product(T* sum, const T* weight, const Packet<T>& value) {
    store(sum, multiply_add(load(weight), value, load(sum)));
  }
  void clip_at(T* value) const { store(value, clipped<T>(load(value), variant_.clip)); }

  const GeneralStepArgs<T>& args_;
  const StepArgs<T>& step_;
  const CellVariant<T>& variant_;
  const GatePlaces<T> places_;
};

}  // namespace

template <class T>
void general_step(const GeneralStepArgs<T>& args, Index panel_begin, Index panel_end) {
  GeneralStep<T>(args).run(panel_begin, panel_end);
}

template void general_step<float>(const GeneralStepArgs<float>&, Index, Index);
template void general_step<double>(const GeneralStepArgs<double>&, Index, Index);

}  // namespace latchwork::LATCHWORK_ISA
