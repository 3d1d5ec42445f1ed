#pragma once

#include "kernels/activations.hpp"

// The LSTM cell after the matrix product, for one register of hidden units: Hochreiter & Schmidhuber 1997 with the
// forget gate of Gers, Schmidhuber & Cummins 2000. Every kernel and dtype uses these lines, for tails too.
namespace latchwork::LATCHWORK_ISA {

template <class T>
struct Gates {  // W x + R h_prev + b before activation, i, f, g, o after it; or the gradients with respect to either
  Packet<T> i, f, g, o;
};

template <class T>
EIGEN_ALWAYS_INLINE Gates<T> activate(const Gates<T>& pre) {
  return {sigmoid<T>(pre.i), sigmoid<T>(pre.f), tanh<T>(pre.g), sigmoid<T>(pre.o)};
}

// c = f * c_prev + i * g
template <class T>
EIGEN_ALWAYS_INLINE Packet<T> cell_state(const Gates<T>& gate, const Packet<T>& c_prev) {
  return multiply_add(gate.f, c_prev, multiply(gate.i, gate.g));
}

// h = o * tanh(c)
template <class T>
EIGEN_ALWAYS_INLINE Packet<T> hidden_state(const Packet<T>& o, const Packet<T>& tanh_c) {
  return multiply(o, tanh_c);
}

// Zoneout (Krueger et al. 2017): z old_value + (1 - z) new_value.
template <class T>
EIGEN_ALWAYS_INLINE Packet<T> zoned_out(const Packet<T>& z, const Packet<T>& old_value, const Packet<T>& new_value) {
  return multiply_add(z, old_value, multiply(subtract(broadcast(T(1)), z), new_value));
}

template <class T>
struct CellStateGradient {
  Packet<T> i, f, g, c_prev;
};

// The gradient of cell_state().
template <class T>
EIGEN_ALWAYS_INLINE CellStateGradient<T> cell_state_gradient(const Gates<T>& gate, const Packet<T>& c_prev,
                                                             const Packet<T>& d_c) {
  return {multiply(d_c, gate.g), multiply(d_c, c_prev), multiply(d_c, gate.i), multiply(d_c, gate.f)};
}

template <class T>
struct CellGradient {
  Gates<T> gates;  // with respect to the gates after activation
  Gates<T> pre;    // with respect to the pre-activations
  Packet<T> c, c_prev;
};

// The gradient of the plain cell. d_c_later is the gradient with respect to c that comes from later steps; what comes
// through h is added to it.
template <class T>
EIGEN_ALWAYS_INLINE CellGradient<T> cell_gradient(const Gates<T>& gate, const Packet<T>& c, const Packet<T>& c_prev,
                                                  const Packet<T>& d_h, const Packet<T>& d_c_later) {
  const Packet<T> tanh_c = tanh<T>(c);
  const Packet<T> d_o = multiply(d_h, tanh_c);
  const Packet<T> d_c = multiply_add(multiply(d_h, gate.o), tanh_slope<T>(tanh_c), d_c_later);
  const CellStateGradient<T> d = cell_state_gradient<T>(gate, c_prev, d_c);
  return {{d.i, d.f, d.g, d_o},
          {multiply(d.i, sigmoid_slope<T>(gate.i)), multiply(d.f, sigmoid_slope<T>(gate.f)),
           multiply(d.g, tanh_slope<T>(gate.g)), multiply(d_o, sigmoid_slope<T>(gate.o))},
          d_c,
          d.c_prev};
}

}  // namespace latchwork::LATCHWORK_ISA
