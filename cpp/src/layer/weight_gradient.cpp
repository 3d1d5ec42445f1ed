#include "layer/weight_gradient.hpp"

#include <algorithm>

#include "layer/strategy.hpp"
#include "machine/parallel.hpp"

namespace latchwork {

template <class T>
WeightGradient<T>::WeightGradient(const Kernels<T>& kernels, Index capacity, Index outputs, Index inputs,
                                  Workspace<T>& workspace)
    : kernels_(kernels),
      outputs_(outputs),
      inputs_(inputs),
      x_panels_(workspace.take(capacity * round_up(inputs, kernels.units))),
      packed_d_y_(workspace.take(capacity * round_up(outputs, kernels.outer_block))) {}

template <class T>
void WeightGradient<T>::pack(const T* const* d_y, const T* const* x, Index begin, Index end, Index count) const {
  const Index padded = round_up(inputs_, kernels_.units);
  for (Index first = 0; first < padded; first += 4 * kernels_.units) {
    const Index width = std::min(padded - first, 4 * kernels_.units), size = std::min(inputs_ - first, width);
    for (Index k = begin; k < end; ++k) {
      T* const row = x_panels_ + first * count + k * width;
      std::copy_n(x[k] + first, size, row);
      std::fill(row + size, row + width, T(0));
    }
  }
  kernels_.pack_outer(d_y + begin, end - begin, outputs_, packed_d_y_, begin, count);
}

template <class T>
void WeightGradient<T>::add(Index count, T* gradient) const {
  const Index panel_width = 4 * kernels_.units;
  const Index panels = (inputs_ + panel_width - 1) / panel_width;
  const Index parts = count * inputs_ * outputs_ < smallest_parallel_work ? 1 : std::min(num_threads(), panels);
  parallel(parts, [&](Index part) {
    for (Index panel = piece_begin(panels, parts, part); panel < piece_begin(panels, parts, part + 1); ++panel) {
      const Index first = panel * panel_width;
      OuterArgs<T> args{};
      args.depth = count;
      args.columns = outputs_;
      args.a = packed_d_y_;
      args.registers = std::min<Index>(4, (inputs_ - first + kernels_.units - 1) / kernels_.units);
      args.b = x_panels_ + first * count;
      args.b_stride = args.registers * kernels_.units;
      args.c = gradient + first * outputs_;
      kernels_.outer(args);
    }
  });
}

template class WeightGradient<float>;
template class WeightGradient<double>;

}  // namespace latchwork
