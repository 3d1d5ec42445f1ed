#include "layer/weight_gradient.hpp"

#include <algorithm>

#include "layer/strategy.hpp"
#include "machine/interrupt.hpp"
#include "machine/parallel.hpp"

namespace latchwork {

template <class T>
WeightGradient<T>::WeightGradient(const Kernels<T>& kernels, Index capacity, Index outputs, Index inputs,
                                  Workspace<T>& workspace)
    : kernels_(kernels),
      outputs_(outputs),
      inputs_(inputs),
      panels_(PanelShape::of_columns(inputs, kernels.units)),
      x_panels_(workspace.take(capacity * panels_.row_size())),
      packed_d_y_(workspace.take(capacity * round_up(outputs, kernels.outer_block))) {}

template <class T>
void WeightGradient<T>::pack(const T* const* d_y, const T* const* x, Index begin, Index end, Index count) const {
  for (Index panel = 0; panel < panels_.count(); ++panel) {
    const Index first = panels_.first_column(panel), width = panels_.registers_of(panel) * kernels_.units;
    const Index size = std::min(inputs_ - first, width);
    for (Index k = begin; k < end; ++k) {
      T* const row = x_panels_ + panels_.begin(panel, count) + k * width;
      std::copy_n(x[k] + first, size, row);
      std::fill(row + size, row + width, T(0));
    }
  }
  kernels_.pack_outer(d_y + begin, end - begin, outputs_, packed_d_y_, begin, count);
}

template <class T>
void WeightGradient<T>::add(Index count, T* gradient) const {
  const Index panels = panels_.count();
  const Index parts = count * inputs_ * outputs_ < smallest_parallel_work ? 1 : std::min(num_threads(), panels);
  parallel(parts, [&](Index part) {
    for (Index panel = piece_begin(panels, parts, part); panel < piece_begin(panels, parts, part + 1); ++panel) {
      if (stops_after(count * outputs_ * panels_.registers_of(panel) * kernels_.units)) return;
      OuterArgs<T> args{};
      args.depth = count;
      args.columns = outputs_;
      args.a = packed_d_y_;
      args.registers = panels_.registers_of(panel);
      args.b = x_panels_ + panels_.begin(panel, count);
      args.b_stride = args.registers * kernels_.units;
      args.c = gradient + panels_.begin(panel, outputs_);
      kernels_.outer(args);
    }
  });
}

template class WeightGradient<float>;
template class WeightGradient<double>;

}  // namespace latchwork
