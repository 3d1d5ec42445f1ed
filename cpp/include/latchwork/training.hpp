#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "latchwork/export.hpp"
#include "latchwork/network.hpp"
#include "latchwork/types.hpp"

namespace latchwork {

enum class LossKind {
  cross_entropy,
  squared_error,
  absolute_error,
  huber,
  quantile,
  gaussian,
  student_t,
  negative_binomial,
};

// The loss is the mean over all valid elements (for cross-entropy: over all valid steps and rows), weighted by the
// target's weights.
struct Loss {
  LossKind kind = LossKind::squared_error;
  // quantile: output features = target features x quantiles, with the quantiles of a feature side by side. Their
  // weights may be left out, then they count alike.
  std::vector<double> quantiles;
  std::vector<double> quantile_weights;
  double delta = 1.0;                // huber: where the square ends
  double label_smoothing = 0.0;      // cross_entropy: the share of the label that all classes divide among them
  std::int64_t ignore_index = -100;  // cross_entropy: a label that does not count
};

// Throws std::invalid_argument, which names the option, unless the loss can be that of a network with this output size.
LATCHWORK_API void validate(const Loss& loss, Index output_size);

// How many output features there are for each feature of the target: the number of quantiles, 2 for gaussian (mean,
// scale) and negative_binomial (mean, dispersion), 3 for student_t (location, scale, degrees of freedom), else 1.
// src/training/likelihood.hpp says how the outputs of likelihoods are read.
LATCHWORK_API Index outputs_per_target(const Loss& loss);

// A loss that a program computes: it is given the output of all members and the steps and rows of the output, writes
// the gradient, which is contiguous, and returns a loss for each member. What it throws is passed on.
template <class T>
using CustomLoss =
    std::function<std::vector<double>(SequenceView<const T> output, Index steps, Index rows, SequenceView<T> d_output)>;

// What the output should have been: for cross-entropy labels (one class index for each step and row), otherwise values
// with as many features as the output (divided by outputs_per_target()).
template <class T>
struct Target {
  SequenceView<const T> values;
  SequenceView<const std::int64_t> labels;
  // How much each target counts, at least 0. With weight 0 it does not count at all, whatever it is. Null: all count
  // alike. weight_features: 1 if there is one weight for each step and row, or the number of target features.
  SequenceView<const T> weights;
  Index weight_features = 1;
  const CustomLoss<T>* custom = nullptr;  // for trainers: computes the loss in place of all this

  Target of(Index member) const {
    return {values.of(member), labels.of(member), weights.of(member), weight_features, custom};
  }
};

// Throws std::invalid_argument, which says where, for a target that counts and is no label, not finite or, with
// negative_binomial, below 0; for a weight that is negative or not finite; and for lengths out of range.
template <class T>
LATCHWORK_API void check_target(const Loss& loss, Index features, const Batch& batch, const Target<T>& target);

struct MeanLoss {
  double mean = 0.0;     // 0 if nothing counts
  double weights = 0.0;  // the sum of the weights: without weights the number of targets that count
};

// Returns the loss, and writes its gradient with respect to the output to d_output (zero in padding and where nothing
// counts) unless d_output.data is null. The target must have passed check_target().
// The steps of a row below its length count, or all steps if lengths is null, except those that batch.skip leaves out,
// whose output is no prediction of their own. After Last there is one step, and rows of
// length 0 count too. The steps of a row are added in blocks of 64, and these blocks and then the rows in a fixed
// binary tree, so that the sum depends neither on threads nor on which rows a machine has.
template <class T>
LATCHWORK_API MeanLoss loss_and_gradient(const Loss& loss, SequenceView<const T> output, Index features,
                                         const Batch& batch, const Target<T>& target, SequenceView<T> d_output);

enum class OptimizerKind { sgd, adam, adamw, rmsprop };

// PyTorch's definitions and defaults; what `lr` is without being said differs there from kind to kind.
struct OptimizerOptions {
  OptimizerKind kind = OptimizerKind::adam;
  double lr = 1e-3;
  double momentum = 0.0;      // sgd, rmsprop
  double dampening = 0.0;     // sgd
  bool nesterov = false;      // sgd
  double beta1 = 0.9;         // adam, adamw
  double beta2 = 0.999;       // adam, adamw
  double alpha = 0.99;        // rmsprop
  bool centered = false;      // rmsprop
  double eps = 1e-8;          // adam, adamw, rmsprop
  double weight_decay = 0.0;  // sgd, adam, rmsprop: added to the gradient; adamw: decoupled
};

// Throws std::invalid_argument, which names the option.
LATCHWORK_API void validate(const OptimizerOptions& options);

template <class T>
class Moments;
template <class T>
class OptimizerStep;

// Where an optimiser finds the gradients of one of its targets: those of its members lie `member_stride` numbers apart.
template <class T>
struct TargetGradients {
  const T* values = nullptr;
  Index member_stride = 0;
};

// Updates the parameters of one or more targets. All have the same number of members, M.
template <class T>
class LATCHWORK_API Optimizer {
 public:
  // A target is a network, or one of its modules (Network::module()): then the rest of the network keeps its weights.
  // Throws std::invalid_argument for an option, for no target, and for targets that share a parameter or differ in M.
  Optimizer(const OptimizerOptions& options, std::vector<Network<T>> targets);
  ~Optimizer();
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;

  const OptimizerOptions& options() const;
  void set_lr(double lr);  // throws std::invalid_argument unless finite and >= 0
  const std::vector<Network<T>>& targets() const { return targets_; }
  Index members() const { return targets_.front().members(); }
  // The number of steps; of each member.
  const std::vector<std::int64_t>& steps() const;

  // One step, with gradients of every target. With `check_finite` it throws std::runtime_error if the norm of the
  // gradients or a result would not be finite; then nothing has changed.
  void step(const std::vector<TargetGradients<T>>& gradients, bool check_finite = true);

  // The state of the optimiser, for saving: sgd has one buffer (momentum), or none without momentum; adam and adamw
  // have two (first and second moment); rmsprop has the mean of squares and, if wanted, the mean and the momentum. Each
  // holds the numbers of one target after another, in a target those of one member after another.
  const std::vector<std::vector<T>>& buffers() const;
  // Goes on as an optimiser with these options would after these steps. Throws std::invalid_argument for an option, and
  // if the sizes do not fit; nothing has changed then.
  void restore(const OptimizerOptions& options, std::vector<std::int64_t> steps, std::vector<std::vector<T>> buffers);

 private:
  friend class OptimizerStep<T>;

  std::vector<Network<T>> targets_;
  std::vector<std::uint64_t> versions_;  // of the targets' parameters after the last step
  std::unique_ptr<Moments<T>> moments_;
};

// The Euclidean norm, summed in double: 16 chains in each 16,384 numbers, and the sums of these in a binary tree.
template <class T>
LATCHWORK_API double gradient_norm(const T* gradient, Index size);

// Its square, and the norm of several pieces whose squares are these: they are joined in a binary tree.
template <class T>
LATCHWORK_API double sum_of_squares(const T* values, Index size);
LATCHWORK_API double joined_norm(std::vector<double> sums_of_squares);

// The factor that reduces a gradient of this norm to a norm of at most clip_norm: PyTorch's min(1, clip_norm / (norm +
// 1e-6)).
LATCHWORK_API double clip_scale(double norm, double clip_norm);

// Whether no number is NaN or infinite. Several threads share the work.
template <class T>
LATCHWORK_API bool all_finite(const T* values, Index size);

// Trains a network: one call does the forward pass, the loss, the backward pass, clipping and the update for one
// mini-batch. Each member of the network is trained as if it had a trainer of its own with seed + m: it has its own
// loss, clipping, moments and masks.
template <class T>
class LATCHWORK_API Trainer {
 public:
  // clip_norm: 0 for no clipping. seed: for the dropout masks, which also depend on the number of the step.
  // gradient_blocks: see RecordOptions. The trainer trains the network that was passed in, not a copy, with an
  // optimiser of its own. Throws std::invalid_argument.
  Trainer(const Network<T>& network, Loss loss, const OptimizerOptions& optimizer, double clip_norm, std::uint64_t seed,
          Index gradient_blocks = 0);
  // Trains with these optimisers, whose targets are the network or modules of it. What is no target keeps its weights,
  // and its gradient does not count for clipping.
  Trainer(const Network<T>& network, Loss loss, std::vector<std::shared_ptr<Optimizer<T>>> optimizers, double clip_norm,
          std::uint64_t seed, Index gradient_blocks = 0);
  // Trains on one mini-batch: gradient(), then apply(). Returns the loss of each member before the update. `end`
  // receives the state after the last step, for the next window of a stream; it may be the same memory as `start`.
  // The targets of steps that batch.skip leaves out do not count.
  // Throws std::runtime_error if a loss, a gradient or a result of the update is not finite, and names the member if
  // there are several; parameters, optimisers and `end` are then unchanged.
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
  // complete gradients are there. A member of whose targets none counted is left out. Throws std::runtime_error if the
  // gradients or the results are not finite; nothing has changed then.
  void apply();

  // The Euclidean norm of the gradients of each member before clipping, as the last call of apply() found it, also if
  // it then threw because a norm is not finite. Parameters that no optimiser updates do not count. Empty before the
  // first.
  const std::vector<double>& gradient_norms() const { return norms_; }

  // Computes the losses alone, without dropout and without a tape.
  std::vector<double> evaluate(const Input<T>& input, const Batch& batch, const States<const T>& start,
                               const Target<T>& target, const States<T>& end) const;

  const std::vector<std::shared_ptr<Optimizer<T>>>& optimizers() const { return optimizers_; }
  const Network<T>& network() const { return network_; }

  // How many steps each member has taken. With the seed it gives the masks of the next step.
  const std::vector<std::int64_t>& steps() const { return steps_; }
  std::uint64_t seed() const { return seed_; }
  // See RecordOptions::checkpoint. It changes no bit of any result, only how much memory a step takes. Throws
  // std::invalid_argument if it is negative.
  void set_checkpoint(Index checkpoint);
  Index checkpoint() const { return checkpoint_; }
  // Goes on as a trainer with this seed would after these steps. Throws std::invalid_argument.
  void restore(std::uint64_t seed, std::vector<std::int64_t> steps);

  ~Trainer();
  Trainer(Trainer&&) noexcept;
  Trainer& operator=(Trainer&&) = delete;

 private:
  std::vector<double> gradient_and_end(const Input<T>& input, const Batch& batch, const States<const T>& start,
                                       const Target<T>& target, const States<T>& end, Index first_row,
                                       const ModuleReady<T>& ready);

  Network<T> network_;
  Loss loss_;
  std::vector<std::shared_ptr<Optimizer<T>>> optimizers_;
  double clip_norm_;
  std::uint64_t seed_;
  Index gradient_blocks_;
  Index checkpoint_ = 0;
  std::vector<std::int64_t> steps_;
  // Members of the class so that their memory is kept from step to step.
  std::vector<T> gradients_;
  bool gradients_complete_ = false;                                // and not applied yet
  std::vector<char> counts_;                                       // whether any target of a member counted
  std::vector<std::vector<TargetGradients<T>>> target_gradients_;  // of each optimiser, in gradients_
  // Of all optimisers together.
  std::vector<Network<T>> targets_;
  std::vector<TargetGradients<T>> all_gradients_;
  std::unique_ptr<OptimizerStep<T>> update_;
  std::vector<double> norms_;
  std::vector<std::optional<double>> scales_;
  std::vector<T> end_;
};

}  // namespace latchwork
