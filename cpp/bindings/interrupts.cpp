#include "interrupts.hpp"

#include <atomic>
#include <exception>
#include <utility>

#include "gil.hpp"
#include "latchwork/interrupt.hpp"

namespace latchwork::python {
namespace {

namespace py = pybind11;

// The thread on which Python runs signal handlers. In a child, that is the thread that forked.
std::atomic<unsigned long> main_thread{0};

// What a signal handler raised, until the call that it interrupted has come back to Python.
std::exception_ptr raised;

// What the core asks about ten times a second, without the GIL.
bool is_interrupted() {
  if (PyThread_get_thread_ident() != main_thread.load(std::memory_order_relaxed)) return false;
  const GilAcquire acquire;
  if (call_or_stay([] { return PyErr_CheckSignals(); }) == 0) return false;
  raised = std::make_exception_ptr(py::error_already_set());
  return true;
}

void translate(std::exception_ptr thrown) {
  try {
    if (thrown) std::rethrow_exception(thrown);
  } catch (const Interrupted& interrupted) {
    try {
      if (const std::exception_ptr error = std::exchange(raised, nullptr)) std::rethrow_exception(error);
      PyErr_SetString(PyExc_RuntimeError, interrupted.what());
    } catch (py::error_already_set& error) {
      error.restore();
    }
  }
}

}  // namespace

void hear_signals() {
  main_thread = py::module_::import("threading").attr("main_thread")().attr("ident").cast<unsigned long>();
  const py::cpp_function follow([] { main_thread = PyThread_get_thread_ident(); });
  py::module_::import("os").attr("register_at_fork")(py::arg("after_in_child") = follow);
  py::register_local_exception_translator(&translate);
  set_interrupt_check(&is_interrupted);
}

}  // namespace latchwork::python
