#pragma once

#include "machine/workspace.hpp"
#include "weights/snapshot.hpp"

namespace latchwork {

// The gradient of an ordinary weight (outputs, inputs) of y = x W^T: the sum over rows of d_y times x, in column panels
// of (outputs, inputs), each element one chain over the rows in the order given.
template <class T>
class WeightGradient {
 public:
  // At most `capacity` rows a call.
  WeightGradient(const Kernels<T>& kernels, Index capacity, Index outputs, Index inputs, Workspace<T>& workspace);

  // Of `count` rows lays out those from `begin` to `end`: threads may share them.
  void pack(const T* const* d_y, const T* const* x, Index begin, Index end, Index count) const;
  // Adds what so many rows give, once all are packed. gradient: outputs x inputs rounded up to whole registers.
  void add(Index count, T* gradient) const;

 private:
  const Kernels<T>& kernels_;
  Index outputs_, inputs_;
  PanelShape panels_;  // of the inputs
  T* x_panels_;
  T* packed_d_y_;
};

}  // namespace latchwork
