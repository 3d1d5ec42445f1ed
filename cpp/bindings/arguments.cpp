#include "arguments.hpp"

#include <limits>
#include <utility>

namespace latchwork::python {
namespace {

// Whether the value is an instance of one of NumPy's scalar types, not all of which are subclasses of Python's.
bool is_numpy(py::handle value, const char* type) {
  return py::isinstance(value, py::module_::import("numpy").attr(type));
}

py::int_ int_argument(py::handle value, std::string_view name) {
  if (!PyBool_Check(value.ptr()) && PyIndex_Check(value.ptr()) != 0) {
    if (PyObject* number = PyNumber_Index(value.ptr())) return py::reinterpret_steal<py::int_>(number);
    if (PyErr_ExceptionMatches(PyExc_TypeError) == 0) throw py::error_already_set();
    PyErr_Clear();  // an array that holds no single integer
  }
  throw py::type_error(complaint(name, "int", type_name(value)));
}

}  // namespace

bool bool_argument(py::handle value, std::string_view name) {
  if (!PyBool_Check(value.ptr()) && !is_numpy(value, "bool_")) {
    throw py::type_error(complaint(name, "bool", type_name(value)));
  }
  return PyObject_IsTrue(value.ptr()) == 1;
}

Index index_argument(py::handle value, std::string_view name) {
  const py::int_ number = int_argument(value, name);
  int overflow = 0;
  const long long result = PyLong_AsLongLongAndOverflow(number.ptr(), &overflow);
  const auto index = static_cast<Index>(result);
  if (overflow == 0 && index == result) return index;
  const bool above = overflow > 0 || result > 0;
  using Limits = std::numeric_limits<Index>;
  throw py::value_error(
      complaint(name, above ? "at most " + std::to_string(Limits::max()) : "at least " + std::to_string(Limits::min()),
                std::string(py::str(number))));
}

Index size_argument(py::handle value, std::string_view name) {
  const Index index = index_argument(value, name);
  if (index < 0) throw py::value_error(complaint(name, "an int of at least 0", std::to_string(index)));
  return index;
}

std::uint64_t seed_argument(py::handle value, std::string_view name) {
  const py::int_ number = int_argument(value, name);
  const unsigned long long seed = PyLong_AsUnsignedLongLong(number.ptr());
  if (PyErr_Occurred() != nullptr) {
    PyErr_Clear();
    throw py::value_error(complaint(name, "an int from 0 to 2^64 - 1", std::string(py::str(number))));
  }
  return seed;
}

Index position_argument(py::handle value, std::string_view name, Index count) {
  const Index index = index_argument(value, name);
  if (index < 0 || index >= count) {
    throw py::value_error(complaint(name, "an int from 0 to " + std::to_string(count - 1), std::to_string(index)));
  }
  return index;
}

double float_argument(py::handle value, std::string_view name) {
  const bool plain = PyFloat_Check(value.ptr()) || (PyLong_Check(value.ptr()) && !PyBool_Check(value.ptr()));
  if (!plain && !is_numpy(value, "floating") && !is_numpy(value, "integer")) {
    throw py::type_error(complaint(name, "float", type_name(value)));
  }
  const double number = PyFloat_AsDouble(value.ptr());
  if (number == -1.0 && PyErr_Occurred() != nullptr) {
    if (PyErr_ExceptionMatches(PyExc_OverflowError) == 0) throw py::error_already_set();
    PyErr_Clear();
    throw py::value_error(complaint(name, "a finite number", std::string(py::str(value))));
  }
  return number;
}

std::string text_argument(py::handle value, std::string_view name) {
  if (!py::isinstance<py::str>(value)) throw py::type_error(complaint(name, "str", type_name(value)));
  Py_ssize_t size = 0;
  const char* const text = PyUnicode_AsUTF8AndSize(value.ptr(), &size);
  if (text == nullptr) {  // lone surrogates
    PyErr_Clear();
    throw py::value_error(complaint(name, "text of Unicode characters", std::string(py::repr(value))));
  }
  return {text, static_cast<std::size_t>(size)};
}

py::tuple sequence_argument(py::handle value, std::string_view name, std::string_view items) {
  if (!py::isinstance<py::sequence>(value) || py::isinstance<py::str>(value)) {
    throw py::type_error(complaint(name, std::string("a sequence of ").append(items), type_name(value)));
  }
  PyObject* tuple = PySequence_Tuple(value.ptr());
  if (tuple == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::tuple>(tuple);
}

py::dict mapping_argument(py::handle value, std::string_view name) {
  if (!py::hasattr(value, "keys")) throw py::type_error(complaint(name, "a mapping", type_name(value)));
  PyObject* copy = PyDict_New();
  if (copy == nullptr) throw py::error_already_set();
  auto dict = py::reinterpret_steal<py::dict>(copy);
  if (PyDict_Update(copy, value.ptr()) != 0) throw py::error_already_set();
  return dict;
}

Signal signal_named(const std::string& name) {
  static constexpr std::pair<const char*, Signal> signals[] = {{"input_gate", Signal::input_gate},
                                                               {"forget_gate", Signal::forget_gate},
                                                               {"candidate", Signal::candidate},
                                                               {"output_gate", Signal::output_gate},
                                                               {"cell", Signal::cell},
                                                               {"hidden", Signal::hidden}};
  for (const auto& [text, signal] : signals) {
    if (name == text) return signal;
  }
  throw py::value_error(
      complaint("signal", "input_gate, forget_gate, candidate, output_gate, cell or hidden", "\"" + name + "\""));
}

}  // namespace latchwork::python
