#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "latchwork/training.hpp"
#include "machine/mathematics.hpp"

namespace latchwork {

// A piece of the parameters of one member, in one stretch of memory.
template <class T>
struct Piece {
  T* parameters;
  const T* gradient;
  Index begin;  // of the piece in the buffers
  Index size;
  Index member;
};

// By what each member's gradient is multiplied. A member without a number is left out of the step.
using MemberScales = std::vector<std::optional<double>>;

// What an optimiser remembers of its parameters, which lie elsewhere, and its arithmetic.
template <class T>
class Moments {
 public:
  // `size` counts the parameters of all members. Throws std::invalid_argument.
  Moments(const OptimizerOptions& options, Index size, Index members = 1);

  const OptimizerOptions& options() const { return options_; }
  void set_lr(double lr);
  const std::vector<std::int64_t>& steps() const { return steps_; }  // of each member
  const std::vector<std::vector<T>>& buffers() const { return buffers_; }
  void restore(const OptimizerOptions& options, std::vector<std::int64_t> steps, std::vector<std::vector<T>> buffers);

  // ---- A step: first begin(), then update(), or cancel() if there is to be no update after all.

  // Counts the step and computes the factors that depend on its number.
  void begin(const MemberScales& scales);
  // Updates parameters and buffers.
  void update(const std::vector<Piece<T>>& pieces);
  void cancel();

  // ---- Whether the step yields finite numbers. It is known without looking at a single number, if bounds on the
  // magnitudes of parameters, buffers and gradients allow no larger result. They are carried from step to step.

  // Forgets what is known of the parameters, because others wrote to them.
  void forget_parameters() { parameters_known_ = false; }
  // Measures what is not known.
  void measure(const std::vector<Piece<T>>& pieces);
  // Whether what is known allows a step, after begin(), with gradients of at most this magnitude, scales included.
  bool allows(double gradient);
  // To be called after an update that allows() has not foreseen.
  void forget() { parameters_known_ = buffers_known_ = false; }
  // Copies of everything that update() writes, and what brings it back.
  std::vector<std::vector<T>> copy(const std::vector<Piece<T>>& pieces) const;
  void bring_back(const std::vector<Piece<T>>& pieces, std::vector<std::vector<T>> copies);
  bool is_finite(const std::vector<Piece<T>>& pieces) const;

 private:
  struct Factors {
    bool takes_part = true;
    double scale = 1.0;
    std::int64_t step = 0;
    double step_size = 0.0, second_correction = 1.0;  // adam, adamw
  };

  OptimizerOptions options_;
  mathematics::PowersOf beta1_powers_, beta2_powers_;  // adam, adamw
  Index size_;
  std::vector<std::int64_t> steps_;
  std::vector<std::vector<T>> buffers_;
  std::vector<Factors> factors_;  // of each member for the step that began
  bool parameters_known_ = false, buffers_known_ = true;
  double parameter_bound_ = 0.0;
  double buffer_bounds_[3] = {0.0, 0.0, 0.0};
};

// Throws std::invalid_argument if two targets share a parameter, or if they differ in their number of members.
template <class T>
void check_separate(const std::vector<Network<T>>& targets);

// Throws std::invalid_argument unless there is a number of steps, at least 0, for each member.
void check_steps(const std::vector<std::int64_t>& steps, std::size_t members);

// The norm of the gradients of one member, all targets together: the sums of their squares are joined in a tree.
template <class T>
double norm_of(const std::vector<Network<T>>& targets, const std::vector<TargetGradients<T>>& gradients, Index member);

}  // namespace latchwork
