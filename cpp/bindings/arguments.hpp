// Converts single values from Python to the core's types. A wrong type is a TypeError, a wrong value a ValueError; the
// message names the argument, what was expected and what was given.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "arrays.hpp"
#include "latchwork/tape.hpp"

namespace latchwork::python {

bool bool_argument(py::handle value, std::string_view name);
// An int, or an object that Python accepts as one (`__index__`).
Index index_argument(py::handle value, std::string_view name);
Index size_argument(py::handle value, std::string_view name);  // not negative
std::uint64_t seed_argument(py::handle value, std::string_view name);
Index position_argument(py::handle value, std::string_view name, Index count);  // below count
// A float or an int, NumPy's included.
double float_argument(py::handle value, std::string_view name);
std::string text_argument(py::handle value, std::string_view name);
// `items` says in the message what the sequence should hold.
py::tuple sequence_argument(py::handle value, std::string_view name, std::string_view items);
py::dict mapping_argument(py::handle value, std::string_view name);  // a copy
Signal signal_named(const std::string& name);

inline std::string type_name(py::handle value) { return Py_TYPE(value.ptr())->tp_name; }

}  // namespace latchwork::python
