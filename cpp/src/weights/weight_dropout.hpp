#pragma once

#include <vector>

#include "latchwork/batch.hpp"
#include "latchwork/options.hpp"
#include "machine/dispatch.hpp"

namespace latchwork {

// Merity, Keskar & Socher 2018: in training each number of R is zeroed with a probability, once for all steps and rows
// of a recording, and else divided by what is left of 1.

bool drops_weights(const ModuleOptions& module, const RecordOptions& options);
bool drops_weights(const std::vector<ModuleOptions>& modules, const RecordOptions& options);

// Multiplies every R of module `number` of the chain by its factors, in a buffer of that module's parameters or of
// their gradients.
template <class T>
void apply_weight_dropout(const ModuleOptions& module, Index number, const Kernels<T>& kernels,
                          const RecordOptions& options, T* parameters);

}  // namespace latchwork
