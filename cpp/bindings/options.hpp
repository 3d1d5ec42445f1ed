// Plain Python numbers and mappings become the core's options; an unknown key is a ValueError.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "arrays.hpp"
#include "latchwork/options.hpp"
#include "latchwork/tape.hpp"
#include "latchwork/training.hpp"

namespace latchwork::python {

bool bool_argument(py::handle value, std::string_view name);
// An int, or what counts as one (`__index__`).
Index index_argument(py::handle value, std::string_view name);
Index size_argument(py::handle value, std::string_view name);  // not negative
std::uint64_t seed_argument(py::handle value, std::string_view name);
Index position_argument(py::handle value, std::string_view name, Index count);  // below count
Signal signal_named(const std::string& name);

std::vector<ModuleOptions> module_options(py::handle modules);
Loss loss_options(py::handle loss);
OptimizerOptions optimizer_options(py::handle optimizer);

}  // namespace latchwork::python
