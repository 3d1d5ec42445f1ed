// Mappings of option names to plain Python values become the core's options, and back. An unknown key is a ValueError.
#pragma once

#include <vector>

#include "arguments.hpp"
#include "latchwork/options.hpp"
#include "latchwork/training.hpp"

namespace latchwork::python {

// Of the right types, not validated.
std::vector<ModuleOptions> module_options(py::handle modules);
Loss loss_options(py::handle loss);
OptimizerOptions optimizer_options(py::handle optimizer);

}  // namespace latchwork::python
