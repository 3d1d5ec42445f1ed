#pragma once

#include "machine/workspace.hpp"
#include "weights/snapshot.hpp"

namespace latchwork {

// The gradient with respect to an ordinary weight (outputs, inputs) of y = x W^T: the sum over rows of d_y times x, in
// column panels of (outputs, inputs). Each element is one chain of additions over the rows in the given order.
template <class T>
class WeightGradient {
 public:
  // For at most `capacity` rows at a time.
  WeightGradient(const Kernels<T>& kernels, Index capacity, Index outputs, Index inputs, Workspace<T>& workspace);

  // Packs the rows from `begin` to `end` of `count` rows. Several threads may each pack some of the rows.
  void pack(const T* const* d_y, const T* const* x, Index begin, Index end, Index count) const;
  // Adds the sum over `count` rows, when all of them are packed. gradient: outputs x inputs rounded up to whole
  // registers.
  void add(Index count, T* gradient) const;

 private:
  const Kernels<T>& kernels_;
  Index outputs_, inputs_;
  PanelShape panels_;  // how the inputs are cut into panels
  T* x_panels_;
  T* packed_d_y_;
};

}  // namespace latchwork
