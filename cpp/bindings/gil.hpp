// Gives the GIL back and takes it again, also while the interpreter is ending. pybind11's own classes are not used for
// that: a program would abort if it ended while another thread is in a call.
#pragma once

#include <pybind11/pybind11.h>

#include <chrono>
#include <exception>
#include <thread>

namespace latchwork::python {

// Once the interpreter is ending, CPython takes a thread away that asks for the GIL. Up to 3.13 it does so by
// pthread_exit(), which unwinds the stack like an exception that everybody must pass on. That would end the process in
// the first destructor that it comes from, and would run the destructors of Python objects without the GIL on its way.
// So what may be such a request is called here; a thread that is to go stays here for ever instead, as it does from
// Python 3.14 on, and ends with the process.
template <class Request>
auto call_or_stay(Request&& request) {
  try {
    return request();
  } catch (const std::exception&) {
    throw;
  } catch (...) {
    for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
  }
}

// While an object of this class exists, its thread does not have the GIL, which it had before.
class GilRelease {
 public:
  GilRelease() : state_(PyEval_SaveThread()) {}
  ~GilRelease() {
    call_or_stay([this] { PyEval_RestoreThread(state_); });
  }
  GilRelease(const GilRelease&) = delete;
  GilRelease& operator=(const GilRelease&) = delete;

 private:
  PyThreadState* state_;
};

// While an object of this class exists, its thread has the GIL, whether or not it had it before.
class GilAcquire {
 public:
  GilAcquire() : state_(call_or_stay([] { return PyGILState_Ensure(); })) {}
  ~GilAcquire() { PyGILState_Release(state_); }
  GilAcquire(const GilAcquire&) = delete;
  GilAcquire& operator=(const GilAcquire&) = delete;

 private:
  PyGILState_STATE state_;
};

// Calls a Python function from a thread that has given the GIL back. Its code gives the GIL to other threads now and
// then, so the thread may be taken away in there.
inline pybind11::object call_python(const pybind11::object& function, const pybind11::tuple& arguments) {
  PyObject* const result = call_or_stay([&] { return PyObject_CallObject(function.ptr(), arguments.ptr()); });
  if (result == nullptr) throw pybind11::error_already_set();
  return pybind11::reinterpret_steal<pybind11::object>(result);
}

}  // namespace latchwork::python
