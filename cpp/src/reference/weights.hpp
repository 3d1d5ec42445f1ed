#pragma once

#include <vector>

#include "reference/general_cell.hpp"

// Converts between one contiguous buffer of parameters and its arrays, one set of them for each layer and direction.
namespace latchwork::reference {

// Biases exist even if the model has none; they are zero then.
std::vector<GeneralWeights> zero_weights(const LstmOptions& options);

std::vector<GeneralWeights> split(const LstmOptions& options, const Vector& parameters);
Vector join(const LstmOptions& options, const std::vector<GeneralWeights>& all);

}  // namespace latchwork::reference
