#include <algorithm>
#include <stdexcept>
#include <string>

#include "latchwork/training.hpp"
#include "machine/dispatch.hpp"
#include "machine/float_state.hpp"
#include "machine/interrupt.hpp"
#include "machine/parallel.hpp"
#include "weights/refusal.hpp"

namespace latchwork {
namespace {

Index valid_steps(const Batch& batch, Index row) { return batch.lengths == nullptr ? batch.steps : batch.lengths[row]; }

bool counts(const Batch& batch, Index step, Index row) {
  return step < valid_steps(batch, row) && !batch.skips(step, row);
}

Index counted_steps(const Batch& batch, Index row) {
  const Index valid = valid_steps(batch, row);
  if (batch.skip.data == nullptr) return valid;
  Index sum = 0;
  for (Index step = 0; step < valid; ++step) sum += batch.skips(step, row) ? 0 : 1;
  return sum;
}

void check_lengths(const Batch& batch) {
  if (batch.lengths == nullptr) return;
  for (Index row = 0; row < batch.rows; ++row) {
    if (batch.lengths[row] >= 0 && batch.lengths[row] <= batch.steps) continue;
    throw std::invalid_argument("lengths: expected integers from 0 to " + std::to_string(batch.steps) + ", got " +
                                std::to_string(batch.lengths[row]));
  }
}

void check_labels(SequenceView<const std::int64_t> labels, Index classes, const Batch& batch) {
  for (Index row = 0; row < batch.rows; ++row) {
    const Index steps = valid_steps(batch, row);
    for (Index step = 0; step < steps; ++step) {
      if (batch.skips(step, row)) continue;
      const std::int64_t label = *labels.at(step, row);
      if (label >= 0 && label < classes) continue;
      throw std::invalid_argument("target: expected labels from 0 to " + std::to_string(classes - 1) + ", got " +
                                  std::to_string(label));
    }
  }
}

// Each of the functions below returns the loss of one step and row, summed over the features, and writes its gradient
// times `scale` unless d_output is null.

// Sums loss_of(output - target) in double. Feature k is added to sum k modulo 8, because additions to one sum would
// have to wait for each other. The 8 sums are then added in order, then the features that do not fill a group of 8.
template <class T, class LossOf, class GradientOf>
double sum_over_differences(const T* output, const T* target, Index features, T* d_output, LossOf&& loss_of,
                            GradientOf&& gradient_of) {
  constexpr Index lanes = 8;
  double sum = 0.0;
  Index k = 0;
  if (features >= lanes) {
    double chains[lanes] = {};
    for (; k + lanes <= features; k += lanes) {
      T difference[lanes];  // d_output may be output
      for (Index lane = 0; lane < lanes; ++lane) difference[lane] = output[k + lane] - target[k + lane];
      for (Index lane = 0; lane < lanes; ++lane) chains[lane] += loss_of(difference[lane]);
      if (d_output == nullptr) continue;
      for (Index lane = 0; lane < lanes; ++lane) d_output[k + lane] = gradient_of(difference[lane]);
    }
    for (double chain : chains) sum += chain;
  }
  for (; k < features; ++k) {
    const T difference = output[k] - target[k];
    sum += loss_of(difference);
    if (d_output != nullptr) d_output[k] = gradient_of(difference);
  }
  return sum;
}

template <class T>
double squared_error(const T* output, const T* target, Index features, double scale, T* d_output) {
  const auto twice = static_cast<T>(2.0 * scale);
  return sum_over_differences(
      output, target, features, d_output,
      [](T difference) { return static_cast<double>(difference) * static_cast<double>(difference); },
      [twice](T difference) { return twice * difference; });
}

template <class T>
double absolute_error(const T* output, const T* target, Index features, double scale, T* d_output) {
  const auto step = static_cast<T>(scale);
  return sum_over_differences(
      output, target, features, d_output,
      [](T difference) { return static_cast<double>(difference < T(0) ? -difference : difference); },
      [step](T difference) { return difference > T(0)   ? step
                                    : difference < T(0) ? -step
                                                        : T(0); });
}

template <class T>
double quantile_error(const std::vector<double>& quantiles, const T* output, const T* target, Index features,
                      double scale, T* d_output) {
  const auto levels = static_cast<Index>(quantiles.size());
  double sum = 0.0;
  for (Index k = 0; k < features; ++k) {
    const double quantile = quantiles[static_cast<std::size_t>(k % levels)];
    const T missing = target[k / levels] - output[k];
    // The loss is this slope times `missing`: an output that is too low costs `quantile` for each unit it is too low
    // by, one that is too high costs 1 - quantile.
    const double slope = missing > T(0) ? quantile : quantile - 1.0;
    sum += slope * static_cast<double>(missing);
    if (d_output != nullptr) d_output[k] = missing == T(0) ? T(0) : static_cast<T>(-slope * scale);
  }
  return sum;
}

template <class T>
double cross_entropy(const Kernels<T>& kernels, const T* output, std::int64_t label, Index classes, double scale,
                     T* d_output) {
  SoftmaxArgs<T> args{};
  args.classes = classes;
  args.logits = output;
  args.label = static_cast<Index>(label);
  args.gradient_scale = static_cast<T>(scale);
  args.d_logits = d_output;
  return static_cast<double>(kernels.softmax_cross_entropy(args));
}

// The loss is summed in blocks of about this many output elements.
constexpr Index block_elements = 4096;

}  // namespace

void validate(const Loss& loss, Index output_size) {
  const auto count = static_cast<Index>(loss.quantiles.size());
  if (loss.kind != LossKind::quantile) {
    if (count > 0) refuse("quantiles", "none, because the loss is another one", text(count) + " of them");
    return;
  }
  if (count == 0) refuse("quantiles", "at least one for the quantile loss", "none");
  for (std::size_t at = 0; at < loss.quantiles.size(); ++at) {
    const double quantile = loss.quantiles[at];
    if (quantile > 0.0 && quantile < 1.0) continue;
    refuse("quantiles[" + std::to_string(at) + "]", "more than 0 and less than 1", text(quantile));
  }
  if (output_size % count != 0) {
    refuse("quantiles", "a number of them that divides the output size " + text(output_size), text(count));
  }
}

template <class T>
double loss_and_gradient(const Loss& loss, SequenceView<const T> output, Index features, const Batch& batch,
                         const Target<T>& target, SequenceView<T> d_output) {
  const FlushToZero flush_to_zero;
  const bool has_labels = loss.kind == LossKind::cross_entropy;
  validate(loss, features);
  check_lengths(batch);

  Index valid = 0;
  for (Index row = 0; row < batch.rows; ++row) valid += counted_steps(batch, row);
  if (valid > 0 && has_labels && target.labels.data == nullptr) {
    throw std::invalid_argument("target: expected labels for cross-entropy, got values");
  }
  if (valid > 0 && !has_labels && target.values.data == nullptr) {
    throw std::invalid_argument("target: expected values, got labels");
  }
  if (has_labels) check_labels(target.labels, features, batch);

  const Kernels<T>& kernels = kernels_of<T>(current_kernels());
  const Index count = has_labels ? valid : valid * features;
  const double scale = count > 0 ? 1.0 / static_cast<double>(count) : 0.0;
  const auto of_position = [&](Index step, Index row) {
    const T* y = output.at(step, row);
    T* d_y = d_output.data == nullptr ? nullptr : d_output.at(step, row);
    if (!counts(batch, step, row)) {
      if (d_y != nullptr) std::fill_n(d_y, features, T(0));
      return 0.0;
    }
    switch (loss.kind) {
      case LossKind::cross_entropy:
        return cross_entropy(kernels, y, *target.labels.at(step, row), features, scale, d_y);
      case LossKind::squared_error:
        return squared_error(y, target.values.at(step, row), features, scale, d_y);
      case LossKind::absolute_error:
        return absolute_error(y, target.values.at(step, row), features, scale, d_y);
      case LossKind::quantile:
        break;
    }
    return quantile_error(loss.quantiles, y, target.values.at(step, row), features, scale, d_y);
  };

  const Index positions = batch.steps * batch.rows;
  const Index block = std::max<Index>(1, block_elements / std::max<Index>(1, features));
  const Index blocks = (positions + block - 1) / block;
  std::vector<double> partial(static_cast<std::size_t>(blocks));
  parallel(blocks, [&](Index index) {
    if (stops_after(work_of_moving * block_elements)) return;
    double sum = 0.0;
    const Index end = std::min(positions, (index + 1) * block);
    for (Index position = index * block; position < end; ++position) {
      sum += of_position(position / batch.rows, position % batch.rows);
    }
    partial[static_cast<std::size_t>(index)] = sum;
  });
  throw_if_stopped(0);
  double sum = 0.0;
  for (double part : partial) sum += part;
  return sum * scale;
}

template double loss_and_gradient(const Loss&, SequenceView<const float>, Index, const Batch&, const Target<float>&,
                                  SequenceView<float>);
template double loss_and_gradient(const Loss&, SequenceView<const double>, Index, const Batch&, const Target<double>&,
                                  SequenceView<double>);

}  // namespace latchwork
