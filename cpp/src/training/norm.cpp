#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "latchwork/training.hpp"
#include "machine/dispatch.hpp"
#include "machine/float_state.hpp"
#include "machine/parallel.hpp"
#include "training/moments.hpp"
#include "training/parameter_blocks.hpp"
#include "training/tree_sum.hpp"

namespace latchwork {

template <class T>
double sum_of_squares(const T* values, Index size) {
  const FlushToZero flush_to_zero;
  const Kernels<T>& kernels = kernels_of<T>(current_kernels());
  const Index blocks = block_count(size);
  if (blocks == 1) return kernels.sum_of_squares(values, size);
  std::vector<double> partial(static_cast<std::size_t>(blocks));
  parallel(blocks, [&](Index block) {
    const Index begin = block * block_size;
    partial[static_cast<std::size_t>(block)] =
        kernels.sum_of_squares(values + begin, std::min(block_size, size - begin));
  });
  return tree_sum(partial.data(), blocks);
}

template <class T>
double gradient_norm(const T* gradient, Index size) {
  return std::sqrt(sum_of_squares(gradient, size));
}

template <class T>
double norm_of(const std::vector<Network<T>>& targets, const std::vector<TargetGradients<T>>& gradients, Index member) {
  const auto squares = [&](std::size_t target) {
    return sum_of_squares(gradients[target].values + member * gradients[target].member_stride,
                          targets[target].member_parameter_count());
  };
  if (targets.size() == 1) return std::sqrt(squares(0));
  std::vector<double> sums;
  for (std::size_t target = 0; target < targets.size(); ++target) sums.push_back(squares(target));
  return joined_norm(std::move(sums));
}

double joined_norm(std::vector<double> sums_of_squares) {
  return std::sqrt(tree_sum(sums_of_squares.data(), static_cast<Index>(sums_of_squares.size())));
}

double clip_scale(double norm, double clip_norm) {
  const double scale = clip_norm / (norm + 1e-6);
  return scale > 1.0 ? 1.0 : scale;  // std::min would turn NaN into 1
}

template double sum_of_squares(const float*, Index);
template double sum_of_squares(const double*, Index);
template double norm_of(const std::vector<Network<float>>&, const std::vector<TargetGradients<float>>&, Index);
template double norm_of(const std::vector<Network<double>>&, const std::vector<TargetGradients<double>>&, Index);
template double gradient_norm(const float*, Index);
template double gradient_norm(const double*, Index);

}  // namespace latchwork
