// Binds instruction sets, threads, and information about the build.
#include <string>
#include <vector>

#include "build_config.hpp"
#include "gil.hpp"
#include "latchwork/isa.hpp"
#include "latchwork/threads.hpp"
#include "latchwork/version.hpp"
#include "machine/cpu.hpp"
#include "options.hpp"
#include "register.hpp"

namespace latchwork::python {
namespace {

py::list strings(const std::vector<std::string>& items) {
  py::list list;
  for (const std::string& item : items) list.append(item);
  return list;
}

py::dict build_info() {
  py::dict info;
  info["version"] = latchwork::version;
  info["compiler"] = compiler;
  info["flags"] = common_flags;
  for (const auto& [isa, flags] : isa_flags) info[py::str(std::string("flags_") + isa)] = flags;
  info["eigen"] = eigen_version;
  info["pybind11"] = PYBIND11_TOSTRING(PYBIND11_VERSION_MAJOR) "." PYBIND11_TOSTRING(
      PYBIND11_VERSION_MINOR) "." PYBIND11_TOSTRING(PYBIND11_VERSION_MICRO);
  return info;
}

py::dict cache_info(const Cache& cache) {
  py::dict info;
  info["bytes"] = cache.bytes;
  info["shared_by"] = cache.cpus;
  return info;
}

py::dict cpu() {
  const Cpu& cpu = this_cpu();
  py::dict caches;
  caches["l1d"] = cache_info(cpu.l1_data);
  caches["l2"] = cache_info(cpu.l2);
  caches["l3"] = cache_info(cpu.l3);
  py::dict info;
  info["maker"] = cpu.maker;
  info["family"] = cpu.family;
  info["model"] = cpu.model;
  info["hypervisor"] = cpu.hypervisor;
  info["caches"] = caches;
  return info;
}

}  // namespace

void register_machine(py::module_& module) {
  module.def("available_isas", [] { return strings(available_isas()); });
  module.def("current_isa", &current_isa);
  module.def("set_isa", &set_isa, py::arg("name"));
  module.def("get_num_threads", &num_threads);
  module.def(
      "set_num_threads", [](const py::object& count) { set_num_threads(index_argument(count, "count")); },
      py::arg("count"));
  module.def("cpu", &cpu);
  module.def("build_info", &build_info);
}

}  // namespace latchwork::python
