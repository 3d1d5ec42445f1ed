// The extension module latchwork._core. It offers what python/latchwork/_core.pyi describes, and uses the public
// headers of the core and, for the numbers that Python needs, two of its own.
#include "interrupts.hpp"
#include "register.hpp"

// A free-threaded Python turns the GIL on for this module. The module's classes can be called from several threads at
// once, but it reads NumPy arrays and mappings on the assumption that no other thread changes their shape meanwhile.
PYBIND11_MODULE(_core, module) {
  using namespace latchwork::python;
  module.doc() = "The C++ core of Latchwork.";
  // pybind11 looks up NumPy's functions at the first use. That takes 0.2 ms, which the first call is spared.
  pybind11::detail::npy_api::get();
  hear_signals();
  register_machine(module);
  register_numbers(module);
  register_options(module);
  register_tape(module);
  register_stream(module);
  register_network(module);
  register_tensors(module);
  register_training(module);
}
