#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>
#include <vector>

#include "latchwork/training.hpp"
#include "machine/dispatch.hpp"
#include "machine/float_state.hpp"
#include "machine/interrupt.hpp"
#include "machine/mathematics.hpp"
#include "machine/parallel.hpp"
#include "training/likelihood.hpp"
#include "training/training_step.hpp"
#include "training/tree_sum.hpp"
#include "weights/refusal.hpp"

namespace latchwork {
namespace {

bool takes_labels(const Loss& loss) { return loss.kind == LossKind::cross_entropy; }

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
double huber(double delta, const T* output, const T* target, Index features, double scale, T* d_output) {
  const auto edge = static_cast<T>(delta), slope = static_cast<T>(scale);
  return sum_over_differences(
      output, target, features, d_output,
      [delta](T difference) {
        const double size = std::abs(static_cast<double>(difference));
        return size <= delta ? 0.5 * size * size : delta * (size - 0.5 * delta);
      },
      [edge, slope](T difference) {
        return slope * (difference > edge ? edge : difference < -edge ? -edge : difference);
      });
}

// `scale` is that of the whole: the weights of the quantiles are taken so that they add up to 1.
template <class T>
double quantile_error(const Loss& loss, const T* output, const T* target, Index features, double scale, T* d_output) {
  const auto levels = static_cast<Index>(loss.quantiles.size());
  double total = static_cast<double>(levels);
  if (!loss.quantile_weights.empty()) {
    total = 0.0;
    for (const double weight : loss.quantile_weights) total += weight;
  }
  double sum = 0.0;
  for (Index k = 0; k < features; ++k) {
    const auto level = static_cast<std::size_t>(k % levels);
    const double quantile = loss.quantiles[level];
    const double weight = (loss.quantile_weights.empty() ? 1.0 : loss.quantile_weights[level]) / total;
    const T missing = target[k / levels] - output[k];
    // The loss is this slope times `missing`: an output that is too low costs `quantile` for each unit it is too low
    // by, one that is too high costs 1 - quantile.
    const double slope = (missing > T(0) ? quantile : quantile - 1.0) * weight;
    sum += slope * static_cast<double>(missing);
    if (d_output != nullptr) d_output[k] = missing == T(0) ? T(0) : static_cast<T>(-slope * scale);
  }
  return sum;
}

template <class T>
double likelihood(const Loss& loss, const T* output, const T* target, Index features, double scale, T* d_output) {
  const Index count = outputs_per_target(loss);
  double sum = 0.0;
  for (Index k = 0; k < features; k += count) {
    double outputs[3] = {}, gradient[3];
    for (Index at = 0; at < count; ++at) outputs[at] = static_cast<double>(output[k + at]);
    const auto value = static_cast<double>(target[k / count]);
    const auto of = loss.kind == LossKind::gaussian    ? gaussian_loss
                    : loss.kind == LossKind::student_t ? student_t_loss
                                                       : negative_binomial_loss;
    sum += of(outputs, value, gradient);
    for (Index at = 0; d_output != nullptr && at < count; ++at) d_output[k + at] = static_cast<T>(gradient[at] * scale);
  }
  return sum;
}

// The sum of the logits, less the largest one: class k goes to chain k modulo 16, and the chains are joined in a tree.
template <class T>
double sum_below(T largest, const T* logits, Index classes) {
  double chains[16] = {};
  for (Index k = 0; k < classes; ++k) chains[k % 16] += static_cast<double>(logits[k]) - static_cast<double>(largest);
  return tree_sum(chains, 16);
}

template <class T>
double cross_entropy(const Loss& loss, const Kernels<T>& kernels, const T* output, std::int64_t label, Index classes,
                     double scale, T* d_output) {
  SoftmaxArgs<T> args{};
  args.classes = classes;
  args.logits = output;
  args.label = static_cast<Index>(label);
  args.gradient_scale = static_cast<T>(scale);
  args.d_logits = loss.label_smoothing == 0.0 ? d_output : nullptr;
  const auto label_logit = static_cast<double>(output[label]);  // d_output may be output
  const SoftmaxSum<T> softmax = kernels.softmax_cross_entropy(args);
  const double log_sum = mathematics::log(static_cast<double>(softmax.sum));
  const double below = static_cast<double>(softmax.largest) - label_logit;
  if (loss.label_smoothing == 0.0) return log_sum + below;

  const double share = loss.label_smoothing, each = share / static_cast<double>(classes);
  const double value = log_sum + (1.0 - share) * below - each * sum_below(softmax.largest, output, classes);
  if (d_output != nullptr) {
    args.d_logits = d_output;
    kernels.softmax_cross_entropy(args);
    const auto of_each = static_cast<T>(each * scale);
    for (Index k = 0; k < classes; ++k) d_output[k] -= of_each;
    d_output[label] += static_cast<T>(share * scale);
  }
  return value;
}

// The loss of one step and row at one moment of a batch.
template <class T>
class Positions {
 public:
  Positions(const Loss& loss, SequenceView<const T> output, Index features, const Batch& batch, const Target<T>& target)
      : loss_(loss),
        output_(output),
        features_(features),
        per_target_(outputs_per_target(loss)),
        batch_(batch),
        target_(target),
        kernels_(kernels_of<T>(current_kernels())) {}

  // The sum of the weights of a step and row.
  double weights(Index step, Index row) const {
    if (!counts(step, row)) return 0.0;
    const Index targets = takes_labels(loss_) ? 1 : features_ / per_target_;
    if (target_.weights.data == nullptr) return static_cast<double>(targets);
    const T* const weights = target_.weights.at(step, row);
    if (target_.weight_features == 1) return static_cast<double>(weights[0]) * static_cast<double>(targets);
    double sum = 0.0;
    for (Index k = 0; k < targets; ++k) sum += static_cast<double>(weights[k]);
    return sum;
  }

  // The weighted loss of a step and row. Writes its gradient times `scale` unless d_output is null.
  double value(Index step, Index row, double scale, T* d_output) const {
    if (!counts(step, row)) return nothing(d_output, features_);
    const T* const output = output_.at(step, row);
    if (target_.weights.data == nullptr) return plain(step, row, output, 0, features_, scale, d_output);
    const T* const weights = target_.weights.at(step, row);
    if (target_.weight_features == 1) return weighted(weights[0], step, row, output, 0, features_, scale, d_output);
    double sum = 0.0;
    for (Index k = 0; k * per_target_ < features_; ++k) {
      const Index first = k * per_target_;
      sum += weighted(weights[k], step, row, output + first, k, per_target_, scale,
                      d_output == nullptr ? nullptr : d_output + first);
    }
    return sum;
  }

 private:
  bool counts(Index step, Index row) const {
    if (step >= valid_steps(batch_, row) || batch_.skips(step, row)) return false;
    return !takes_labels(loss_) || *target_.labels.at(step, row) != loss_.ignore_index;
  }

  static double nothing(T* d_output, Index features) {
    if (d_output != nullptr) std::fill_n(d_output, features, T(0));
    return 0.0;
  }

  double weighted(T weight, Index step, Index row, const T* output, Index first_target, Index features, double scale,
                  T* d_output) const {
    if (weight == T(0)) return nothing(d_output, features);
    const auto factor = static_cast<double>(weight);
    return factor * plain(step, row, output, first_target, features, factor * scale, d_output);
  }

  double plain(Index step, Index row, const T* output, Index first_target, Index features, double scale,
               T* d_output) const {
    if (takes_labels(loss_)) {
      return cross_entropy(loss_, kernels_, output, *target_.labels.at(step, row), features, scale, d_output);
    }
    const T* const target = target_.values.at(step, row) + first_target;
    switch (loss_.kind) {
      case LossKind::squared_error:
        return squared_error(output, target, features, scale, d_output);
      case LossKind::absolute_error:
        return absolute_error(output, target, features, scale, d_output);
      case LossKind::huber:
        return huber(loss_.delta, output, target, features, scale, d_output);
      case LossKind::quantile:
        return quantile_error(loss_, output, target, features, scale, d_output);
      default:
        return likelihood(loss_, output, target, features, scale, d_output);
    }
  }

  const Loss& loss_;
  const SequenceView<const T> output_;
  const Index features_, per_target_;
  const Batch& batch_;
  const Target<T>& target_;
  const Kernels<T>& kernels_;
};

// Adds value(step, row) of all steps and rows: those of 64 steps of a row in one chain, these sums and then those of
// the rows in a tree. Threads share the work; `features` says how much there is for each step and row.
template <class ValueOf>
double sum_over_rows(Index steps, Index rows, Index features, ValueOf&& value) {
  constexpr Index chain = 64;
  // What a task reads of a step is about one page, because the steps of a sequence lie far apart.
  constexpr Index step_elements = 1024;
  if (steps == 0 || rows == 0) return 0.0;
  const Index chains = (steps + chain - 1) / chain;
  const Index task_rows = std::min(rows, std::max<Index>(1, step_elements / std::max<Index>(1, features)));
  const Index row_tasks = (rows + task_rows - 1) / task_rows;
  std::vector<double> sums(static_cast<std::size_t>(rows * chains));
  parallel(row_tasks * chains, [&](Index task) {
    if (stops_after(work_of_moving * step_elements * chain)) return;
    const Index block = task % chains, row_begin = task / chains * task_rows;
    const Index row_end = std::min(rows, row_begin + task_rows), step_end = std::min(steps, (block + 1) * chain);
    for (Index step = block * chain; step < step_end; ++step) {
      for (Index row = row_begin; row < row_end; ++row) {
        sums[static_cast<std::size_t>(row * chains + block)] += value(step, row);
      }
    }
  });
  throw_if_stopped(0);
  if (chains > 1) {
    for (Index row = 0; row < rows; ++row) {
      sums[static_cast<std::size_t>(row)] = tree_sum(sums.data() + row * chains, chains);
    }
  }
  return tree_sum(sums.data(), rows);
}

// Without weights, skipped steps or labels to ignore nothing need be looked at.
template <class T>
double sum_of_weights(const Positions<T>& positions, const Loss& loss, Index features, const Batch& batch,
                      const Target<T>& target) {
  if (target.weights.data != nullptr || takes_labels(loss) || batch.skip.data != nullptr) {
    return sum_over_rows(batch.steps, batch.rows, target.weight_features,
                         [&](Index step, Index row) { return positions.weights(step, row); });
  }
  Index valid = batch.lengths == nullptr ? batch.steps * batch.rows : 0;
  for (Index row = 0; batch.lengths != nullptr && row < batch.rows; ++row) valid += batch.lengths[row];
  return static_cast<double>(valid * (features / outputs_per_target(loss)));
}

void refuse_quantiles(const Loss& loss, Index output_size) {
  const auto count = static_cast<Index>(loss.quantiles.size());
  if (count == 0) refuse("quantiles", "at least one for the quantile loss", "none");
  for (std::size_t at = 0; at < loss.quantiles.size(); ++at) {
    const double quantile = loss.quantiles[at];
    if (quantile > 0.0 && quantile < 1.0) continue;
    refuse("quantiles[" + std::to_string(at) + "]", "more than 0 and less than 1", text(quantile));
  }
  if (output_size % count != 0) {
    refuse("quantiles", "a number of them that divides the output size " + text(output_size), text(count));
  }
  if (loss.quantile_weights.empty()) return;
  const auto weights = static_cast<Index>(loss.quantile_weights.size());
  if (weights != count) refuse("quantile_weights", "one for each of the " + text(count) + " quantiles", text(weights));
  double sum = 0.0;
  for (std::size_t at = 0; at < loss.quantile_weights.size(); ++at) {
    const double weight = loss.quantile_weights[at];
    if (!(weight >= 0.0 && std::isfinite(weight))) {
      refuse("quantile_weights[" + std::to_string(at) + "]", "a finite number of at least 0", text(weight));
    }
    sum += weight;
  }
  if (!(sum > 0.0 && std::isfinite(sum))) refuse("quantile_weights", "at least one above 0", "a sum of " + text(sum));
}

}  // namespace

Index outputs_per_target(const Loss& loss) {
  switch (loss.kind) {
    case LossKind::quantile:
      return static_cast<Index>(loss.quantiles.size());
    case LossKind::gaussian:
    case LossKind::negative_binomial:
      return 2;
    case LossKind::student_t:
      return 3;
    default:
      return 1;
  }
}

void validate(const Loss& loss, Index output_size) {
  if (loss.kind == LossKind::quantile) return refuse_quantiles(loss, output_size);
  if (const auto count = static_cast<Index>(loss.quantiles.size()); count > 0) {
    refuse("quantiles", "none, because the loss is another one", text(count) + " of them");
  }
  if (!(loss.delta > 0.0 && std::isfinite(loss.delta))) refuse("delta", "a finite number above 0", text(loss.delta));
  if (!(loss.label_smoothing >= 0.0 && loss.label_smoothing <= 1.0)) {
    refuse("label_smoothing", "0 to 1", text(loss.label_smoothing));
  }
  if (const Index count = outputs_per_target(loss); output_size % count != 0) {
    refuse("loss", "an output size that is a multiple of " + text(count) + ", the outputs for each target",
           text(output_size));
  }
}

template <class T>
MeanLoss loss_and_gradient(const Loss& loss, SequenceView<const T> output, Index features, const Batch& batch,
                           const Target<T>& target, SequenceView<T> d_output) {
  validate(loss, features);
  const FlushToZero flush_to_zero;
  const Positions<T> positions(loss, output, features, batch, target);
  MeanLoss result;
  result.weights = sum_of_weights(positions, loss, features, batch, target);
  const double scale = result.weights > 0.0 ? 1.0 / result.weights : 0.0;
  if (scale == 0.0) {
    for (Index step = 0; d_output.data != nullptr && step < batch.steps; ++step) {
      for (Index row = 0; row < batch.rows; ++row) std::fill_n(d_output.at(step, row), features, T(0));
    }
    return result;
  }
  const double sum = sum_over_rows(batch.steps, batch.rows, features, [&](Index step, Index row) {
    return positions.value(step, row, scale, d_output.data == nullptr ? nullptr : d_output.at(step, row));
  });
  result.mean = sum * scale;
  return result;
}

template MeanLoss loss_and_gradient(const Loss&, SequenceView<const float>, Index, const Batch&, const Target<float>&,
                                    SequenceView<float>);
template MeanLoss loss_and_gradient(const Loss&, SequenceView<const double>, Index, const Batch&, const Target<double>&,
                                    SequenceView<double>);

}  // namespace latchwork
