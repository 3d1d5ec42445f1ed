#pragma once

#include <memory>
#include <vector>

#include "latchwork/network.hpp"
#include "latchwork/types.hpp"

namespace latchwork {

enum class LossKind { cross_entropy, squared_error, absolute_error, quantile };

// The loss is the mean over all valid elements (for cross-entropy: over all valid steps and rows).
struct Loss {
  LossKind kind = LossKind::squared_error;
  // For the quantile loss: output features = target features x quantiles, with the quantiles of a feature side by side.
  std::vector<double> quantiles;
};

// Throws std::invalid_argument, which names the option, unless the loss can be that of a network with this output size.
void validate(const Loss& loss, Index output_size);

// What the output should have been: for cross-entropy labels (one class index for each step and row), otherwise values
// with as many features as the output (divided by the number of quantiles).
template <class T>
struct Target {
  SequenceView<const T> values;
  SequenceView<const std::int64_t> labels;

  Target of(Index member) const { return {values.of(member), labels.of(member)}; }
};

// Returns the loss, and writes its gradient with respect to the output to d_output (zero where a step does not count)
// unless d_output.data is null.
// The steps of a row below its length count, or all steps if lengths is null, except those that batch.skip leaves out,
// whose output is no prediction of their own. After Last there is one step, and rows of
// length 0 count too. The sums run in blocks that depend only on the shape, in order, so they do not depend on the
// number of threads. If there is no valid element, the loss is 0.
// Throws std::invalid_argument for a label outside [0, features), before anything is written.
template <class T>
double loss_and_gradient(const Loss& loss, SequenceView<const T> output, Index features, const Batch& batch,
                         const Target<T>& target, SequenceView<T> d_output);

enum class OptimizerKind { sgd, adam, adamw };

// PyTorch's definitions and defaults.
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

// Throws std::invalid_argument, which names the option.
void validate(const OptimizerOptions& options);

// Updates contiguous parameters from contiguous gradients in one pass.
template <class T>
class Optimizer {
 public:
  Optimizer(const OptimizerOptions& options, Index size);

  const OptimizerOptions& options() const { return options_; }
  void set_lr(double lr);  // throws std::invalid_argument unless finite and >= 0
  std::int64_t steps() const { return steps_; }

  // One update, with the gradient multiplied by gradient_scale.
  void step(T* parameters, const T* gradient, double gradient_scale = 1.0);
  // The same for several members, each with its own scale. Their parameters lie `stride` numbers apart, their gradients
  // one after another.
  void step(T* parameters, Index stride, const T* gradient, const std::vector<double>& gradient_scales);

  // The state of the optimiser, for saving: sgd has one buffer (momentum), or none without momentum; adam and adamw
  // have two (first and second moment).
  const std::vector<std::vector<T>>& buffers() const { return buffers_; }
  // Throws std::invalid_argument if the sizes do not fit.
  void restore(std::int64_t steps, std::vector<std::vector<T>> buffers);

 private:
  OptimizerOptions options_;
  Index size_;
  std::int64_t steps_ = 0;
  std::vector<std::vector<T>> buffers_;
};

// The Euclidean norm, summed in double in blocks of fixed size, in order.
template <class T>
double gradient_norm(const T* gradient, Index size);

// The factor that reduces a gradient of this norm to a norm of at most clip_norm: PyTorch's min(1, clip_norm / (norm +
// 1e-6)).
double clip_scale(double norm, double clip_norm);

// Whether no number is NaN or infinite. Several threads share the work.
template <class T>
bool all_finite(const T* values, Index size);

// Trains a network: one call does the forward pass, the loss, the backward pass, clipping and the update for one
// mini-batch. Each member of the network is trained as if it had a trainer of its own with seed + m: it has its own
// loss, clipping, moments and masks.
template <class T>
class Trainer {
 public:
  // clip_norm: 0 for no clipping. seed: for the dropout masks, which also depend on the number of the step.
  // gradient_blocks: see RecordOptions. The trainer trains the network that was passed in, not a copy. Throws
  // std::invalid_argument.
  Trainer(const Network<T>& network, Loss loss, const OptimizerOptions& optimizer, double clip_norm, std::uint64_t seed,
          Index gradient_blocks = 0);

  // Trains on one mini-batch: gradient(), then apply(). Returns the loss of each member before the update. `end`
  // receives the state after the last step, for the next window of a stream; it may be the same memory as `start`.
  // The targets of steps that batch.skip leaves out do not count.
  // Throws std::runtime_error if a loss or a gradient is not finite, and names the member if there are several;
  // parameters, optimiser and `end` are then unchanged.
  std::vector<double> step(const Input<T>& input, const Batch& batch, const States<const T>& start,
                           const Target<T>& target, const States<T>& end);

  // ---- The parts of a step, for programs that do something with the gradients between them: several machines that
  // train together exchange them.

  // Computes the losses, which it returns, and their gradients, which are then in gradients(). It changes no parameter.
  // first_row: the number of the first row in the larger batch, of which this batch is a part. `ready` is called for
  // each module whose gradient is complete. Throws std::invalid_argument as Network::record() does and if the target
  // does not fit, and std::runtime_error if a loss is not finite; gradients() is then incomplete.
  std::vector<double> gradient(const Input<T>& input, const Batch& batch, const States<const T>& start,
                               const Target<T>& target, const States<T>& end, Index first_row = 0,
                               const ModuleReady<T>& ready = {});
  // What gradient() computed and apply() reads: parameter_count() numbers, member after member, in the order of the
  // layout. The program may change them between the two calls.
  T* gradients() { return gradients_.data(); }
  // Clips gradients() and updates the parameters, once for each call of gradient(): throws std::logic_error if no
  // complete gradients are there. Throws std::runtime_error if the gradients are not finite; nothing has changed then.
  void apply();

  // Computes the losses alone, without dropout and without a tape.
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
  Index gradient_blocks_;
  // Members of the class so that their memory is kept from step to step.
  std::vector<T> gradients_;
  bool gradients_complete_ = false;  // and not applied yet
  std::vector<T> end_;
};

}  // namespace latchwork
