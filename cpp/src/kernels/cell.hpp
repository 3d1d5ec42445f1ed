#pragma once

#include "kernels/activations.hpp"

// The LSTM cell after the matrix product, for one register of hidden units: Hochreiter & Schmidhuber 1997 with the
// forget gate of Gers, Schmidhuber & Cummins 2000. Every kernel, dtype and tail goes through these lines.
namespace latchwork::LATCHWORK_ISA {

template <class T>
struct Gates {  // before activation W x + R h + b, after it i, f, g, o; or the gradients by either
  Packet<T> i, f, g, o;
};

template <class T>
EIGEN_STRONG_INLINE Gates<T> activate(const Gates<T>& pre) {
  return {sigmoid<T>(pre.i), sigmoid<T>(pre.f), tanh<T>(pre.g), sigmoid<T>(pre.o)};
}

// c_t = f * c_{t-1} + i * g
template <class T>
EIGEN_STRONG_INLINE Packet<T> cell_state(const Gates<T>& gate, const Packet<T>& c_prev) {
  return multiply_add(gate.f, c_prev, multiply(gate.i, gate.g));
}

// h_t = o * tanh(c_t)
template <class T>
EIGEN_STRONG_INLINE Packet<T> hidden_state(const Gates<T>& gate, const Packet<T>& c) {
  return multiply(gate.o, tanh<T>(c));
}

template <class T>
struct CellGradient {
  Gates<T> pre;      // by the pre-activations
  Packet<T> c_prev;  // by c_{t-1}
};

// sigmoid' = s (1 - s), tanh' = 1 - t^2. d_c arrives from step t + 1 and is joined by what flows through h_t.
template <class T>
EIGEN_STRONG_INLINE CellGradient<T> cell_gradient(const Gates<T>& gate, const Packet<T>& c, const Packet<T>& c_prev,
                                                  const Packet<T>& d_h, const Packet<T>& d_c_later) {
  const Packet<T> one = broadcast(T(1));
  const auto sigmoid_slope = [&one](const Packet<T>& s) { return multiply(s, subtract(one, s)); };
  const auto tanh_slope = [&one](const Packet<T>& t) { return subtract(one, multiply(t, t)); };

  const Packet<T> tanh_c = tanh<T>(c);
  const Packet<T> d_o = multiply(d_h, tanh_c);
  const Packet<T> d_c = multiply_add(multiply(d_h, gate.o), tanh_slope(tanh_c), d_c_later);
  const Packet<T> d_i = multiply(d_c, gate.g);
  const Packet<T> d_f = multiply(d_c, c_prev);
  const Packet<T> d_g = multiply(d_c, gate.i);
  return {{multiply(d_i, sigmoid_slope(gate.i)), multiply(d_f, sigmoid_slope(gate.f)),
           multiply(d_g, tanh_slope(gate.g)), multiply(d_o, sigmoid_slope(gate.o))},
          multiply(d_c, gate.f)};
}

}  // namespace latchwork::LATCHWORK_ISA
