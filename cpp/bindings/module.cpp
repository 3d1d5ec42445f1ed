// The extension module latchwork._core: what python/latchwork/_core.pyi says, on the public headers of the core.
#include "register.hpp"

// Free-threaded Python takes the GIL back for this module. Its classes stand concurrent calls, but NumPy arrays and
// mappings are read here on the understanding that no other thread reshapes them meanwhile.
PYBIND11_MODULE(_core, module) {
  using namespace latchwork::python;
  module.doc() = "The C++ core of Latchwork.";
  // pybind11 looks NumPy's functions up at the first use, which would cost the first call 0.2 ms.
  pybind11::detail::npy_api::get();
  register_machine(module);
  register_options(module);
  register_tape(module);
  register_stream(module);
  register_network(module);
  register_training(module);
}
