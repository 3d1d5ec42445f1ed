// Converts mappings of option names to plain Python values into the core's options, and back. Unknown keys are refused
// with a ValueError.
#pragma once

#include <vector>

#include "arguments.hpp"
#include "latchwork/options.hpp"
#include "latchwork/training.hpp"

namespace latchwork::python {

// Checks the types of the values, but does not validate the options.
std::vector<ModuleOptions> module_options(const py::object& modules);
Loss loss_options(const py::object& loss);
OptimizerOptions optimizer_options(const py::object& optimizer);

}  // namespace latchwork::python
