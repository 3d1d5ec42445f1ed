#pragma once

#include "latchwork/options.hpp"
#include "reference/cell.hpp"

// The modules around an LSTM, written as their definitions, for one sequence at a time.
namespace latchwork::reference {

using Sequence = std::vector<Vector>;  // one vector of features for each step

// The mean of the steps from `begin` on, and the largest value of each feature; zeros if there is no step at all.
Vector mean(const Sequence& steps, std::size_t begin, std::size_t features);
Vector max(const Sequence& steps, std::size_t begin, std::size_t features);

// Their gradients: of each step, given that of the result.
Sequence mean_backward(const Sequence& steps, std::size_t begin, const Vector& d_result);
Sequence max_backward(const Sequence& steps, std::size_t begin, const Vector& d_result);

// activation(W x + b). The parameters are those of the module: W (outputs, inputs), then b if there is one.
Vector linear(const LinearOptions& options, const Vector& parameters, const Vector& x);

// Adds the gradient with respect to the parameters to d_parameters, and returns that with respect to x.
Vector linear_backward(const LinearOptions& options, const Vector& parameters, const Vector& x, const Vector& d_result,
                       Vector& d_parameters);

// (x - shift) * factor, and its gradient.
Vector scale(const ScaleOptions& options, const Vector& x);
Vector scale_backward(const ScaleOptions& options, const Vector& d_result);

// What an Impute makes of a sequence, and the values and ages after its last step. `value` and `age` are those before
// its first step. restarts: for each step whether it starts anew before it.
struct Imputed {
  Sequence output;
  Vector value, age;
};
Imputed impute(const ImputeOptions& options, const Sequence& steps, const std::vector<bool>& restarts, Vector value,
               Vector age);

// The gradients with respect to the steps and to `value`, given those of the output and of the values after the last
// step.
struct ImputedGradient {
  Sequence d_steps;
  Vector d_value;
};
ImputedGradient impute_backward(const ImputeOptions& options, const Sequence& steps, const std::vector<bool>& restarts,
                                const Sequence& d_output, const Vector& d_end_value);

// Replaces codes by rows of tables, which are the parameters one after another. Backward is like that of linear().
Vector embed_columns(const EmbedColumnsOptions& options, const Vector& parameters, const Vector& x);
Vector embed_columns_backward(const EmbedColumnsOptions& options, const Vector& x, const Vector& d_result,
                              Vector& d_parameters);

// Sorts each run of features, and the gradient.
Vector sort(const SortOptions& options, const Vector& x);
Vector sort_backward(const SortOptions& options, const Vector& x, const Vector& d_result);

}  // namespace latchwork::reference
