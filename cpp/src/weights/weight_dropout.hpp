#pragma once

#include <vector>

#include "latchwork/batch.hpp"
#include "latchwork/options.hpp"
#include "machine/dispatch.hpp"

namespace latchwork {

// Merity, Keskar & Socher 2018: in training each number of R is set to zero with probability p, once for all steps and
// rows of a recording; the others are divided by 1 - p.

bool drops_weights(const ModuleOptions& module, const RecordOptions& options);
bool drops_weights(const std::vector<ModuleOptions>& modules, const RecordOptions& options);

// Multiplies every R of module `number` of the chain by its mask, in a buffer that holds the parameters of that module
// or their gradients.
template <class T>
void apply_weight_dropout(const ModuleOptions& module, Index number, const Kernels<T>& kernels,
                          const RecordOptions& options, T* parameters);

}  // namespace latchwork
