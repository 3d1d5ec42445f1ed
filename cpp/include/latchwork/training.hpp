#pragma once

#include <memory>
#include <vector>

#include "latchwork/network.hpp"
#include "latchwork/types.hpp"

namespace latchwork {

enum class LossKind { cross_entropy, squared_error, absolute_error, quantile };

// The mean over all valid elements (for cross-entropy: over all valid steps and rows).
struct Loss {
  LossKind kind = LossKind::squared_error;
  std::vector<double> quantiles;  // quantile loss: output features = target features x quantiles, quantiles fastest
};

// What the output should have been: labels (one class index for each step and row) for cross-entropy, else values with
// the output's features (divided by the number of quantiles).
template <class T>
struct Target {
  SequenceView<const T> values;
  SequenceView<const std::int64_t> labels;

  Target of(Index member) const { return {values.of(member), labels.of(member)}; }
};

// Which outputs count: steps below each row's length, all where lengths is null. After Last: one step, rows of length 0
// count too.
// Returns the loss and, where d_output.data is not null, writes its gradient there (zero in padding).
// Sums run in blocks fixed by shape, in order: no dependence on threads.
// Throws std::invalid_argument for a label outside [0, features), before anything is written. No valid element: 0.
template <class T>
double loss_and_gradient(const Loss& loss, SequenceView<const T> output, Index features, const Batch& batch,
                         const Target<T>& target, SequenceView<T> d_output);

enum class OptimizerKind { sgd, adam, adamw };

// PyTorch's definitions and defaults, except that lr has none in C++.
struct OptimizerOptions {
  OptimizerKind kind = OptimizerKind::adam;
  double lr = 1e-3;
  double momentum = 0.0;      // sgd
  double dampening = 0.0;     // sgd
  bool nesterov = false;      // sgd
  double beta1 = 0.9;         // adam, adamw
  double beta2 = 0.999;       // adam, adamw
  double eps = 1e-8;          // adam, adamw
  double weight_decay = 0.0;  // sgd, adam: added to the gradient; adamw: decoupled
};

// Throws std::invalid_argument naming the option.
void validate(const OptimizerOptions& options);

// One pass over contiguous parameters and gradients.
template <class T>
class Optimizer {
 public:
  Optimizer(const OptimizerOptions& options, Index size);

  const OptimizerOptions& options() const { return options_; }
  void set_lr(double lr);  // throws std::invalid_argument unless finite and >= 0
  std::int64_t steps() const { return steps_; }

  // parameters -= what the rule says of gradient * gradient_scale.
  void step(T* parameters, const T* gradient, double gradient_scale = 1.0);
  // The same for several members, each with a scale of its own: their parameters lie `stride` apart, their gradients
  // one after another.
  void step(T* parameters, Index stride, const T* gradient, const std::vector<double>& gradient_scales);

  // For saving: sgd has one buffer (momentum), adam and adamw two (first and second moment), sgd without momentum none.
  const std::vector<std::vector<T>>& buffers() const { return buffers_; }
  // Throws std::invalid_argument unless the sizes fit.
  void restore(std::int64_t steps, std::vector<std::vector<T>> buffers);

 private:
  OptimizerOptions options_;
  Index size_;
  std::int64_t steps_ = 0;
  std::vector<std::vector<T>> buffers_;
};

// Euclidean norm, summed in double in blocks of fixed size, in order.
template <class T>
double gradient_norm(const T* gradient, Index size);

// What to multiply a gradient of this norm with, so that its norm is at most clip_norm: PyTorch's
// min(1, clip_norm / (norm + 1e-6)).
double clip_scale(double norm, double clip_norm);

// Whether no number is NaN or infinite. Threads share the numbers.
template <class T>
bool all_finite(const T* values, Index size);

// Forward, loss, backward, clipping and optimiser of one mini-batch in one call. Each member of the network is trained
// as by a trainer of its own with seed + m: it has its own loss, clipping, moments and masks.
template <class T>
class Trainer {
 public:
  // clip_norm 0: no clipping. seed: of the dropout masks, which also depend on the number of the step.
  // The network keeps sharing its parameters with the one passed in. Throws std::invalid_argument.
  Trainer(const Network<T>& network, Loss loss, const OptimizerOptions& optimizer, double clip_norm,
          std::uint64_t seed);

  // Trains on one mini-batch: gradient() and apply(). Returns the loss of each member, before the update. `end`
  // receives the state after the last step, for the next window of a stream; it may alias `start`. Throws
  // std::runtime_error, naming the member if there are several, where a loss or a gradient is not finite; the
  // parameters, the optimiser and `end` are then as before.
  std::vector<double> step(const Input<T>& input, const Batch& batch, const States<const T>& start,
                           const Target<T>& target, const States<T>& end);

  // ---- The parts of a step, for whoever exchanges gradients between them, as several machines do that train together.

  // Computes the losses and, in gradients(), their gradients; changes no parameter. first_row: the number that the
  // first row has in the batch of which this is a part. `ready` is told of each module whose gradient is complete.
  std::vector<double> gradient(const Input<T>& input, const Batch& batch, const States<const T>& start,
                               const Target<T>& target, const States<T>& end, Index first_row = 0,
                               const ModuleReady<T>& ready = {});
  // What gradient() computed and apply() reads: parameter_count() numbers, member after member, in the order of the
  // layout. They may be written between the two.
  T* gradients() { return gradients_.data(); }
  // Clips gradients(), and updates the parameters. Throws std::runtime_error where they are not finite; nothing has
  // changed then.
  void apply();

  // The losses alone, without dropout and without a tape.
  std::vector<double> evaluate(const Input<T>& input, const Batch& batch, const States<const T>& start,
                               const Target<T>& target, const States<T>& end) const;

  Optimizer<T>& optimizer() { return optimizer_; }
  const Network<T>& network() const { return network_; }

 private:
  std::vector<double> gradient_and_end(const Input<T>& input, const Batch& batch, const States<const T>& start,
                                       const Target<T>& target, const States<T>& end, Index first_row,
                                       const ModuleReady<T>& ready);

  Network<T> network_;
  Loss loss_;
  Optimizer<T> optimizer_;
  double clip_norm_;
  std::uint64_t seed_;
  // Kept from step to step for their memory.
  std::vector<T> gradients_;
  std::vector<T> end_;
};

}  // namespace latchwork
