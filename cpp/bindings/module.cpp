// The extension module latchwork._core: what python/latchwork/_core.pyi says, on the public headers of the core.
#include "register.hpp"

// Free-threaded Python takes the GIL back for this module. Its classes stand concurrent calls, but NumPy arrays and
// mappings are read here on the understanding that no other thread reshapes them meanwhile.
PYBIND11_MODULE(_core, module) {
  using namespace latchwork::python;
  module.doc() = "The C++ core of Latchwork.";
  register_machine(module);
  register_tape(module);
  register_stream(module);
  register_network(module);
  register_ensemble(module);
  register_training(module);
}
