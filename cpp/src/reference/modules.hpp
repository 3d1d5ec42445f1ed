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

}  // namespace latchwork::reference
