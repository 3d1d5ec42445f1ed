#pragma once

#include <vector>

#include "reference/general_cell.hpp"

// Conversion between one contiguous buffer of parameters and the arrays in it, one set for each layer and direction.
namespace latchwork::reference {

// A model without biases gets biases of zero.
std::vector<GeneralWeights> zero_weights(const LstmOptions& options);

std::vector<GeneralWeights> split(const LstmOptions& options, const Vector& parameters);
Vector join(const LstmOptions& options, const std::vector<GeneralWeights>& all);

}  // namespace latchwork::reference
