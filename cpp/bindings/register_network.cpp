// Network32 and Network64: a chain of modules and its parameters.
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "options.hpp"
#include "parameters.hpp"
#include "register.hpp"

namespace latchwork::python {
namespace {

template <class T>
std::shared_ptr<Network<T>> make_network(const py::object& modules, bool numbered, const py::object& seed) {
  std::vector<ModuleOptions> options = module_options(modules);
  const std::uint64_t seed_value = seed_argument(seed, "seed");
  const py::gil_scoped_release release;
  return std::make_shared<Network<T>>(std::move(options), numbered, seed_value);
}

template <class T>
std::shared_ptr<Network<T>> module_of(const Network<T>& self, const py::object& index) {
  const Index position = index_argument(index, "index");
  const auto count = static_cast<Index>(self.modules().size());
  if (position < 0 || position >= count) {
    throw py::value_error(
        complaint("index", "an int from 0 to " + std::to_string(count - 1), std::to_string(position)));
  }
  return std::make_shared<Network<T>>(self.module(position));
}

template <class T>
void write(const Network<T>& self, const py::dict& values) {
  std::map<std::string, const ParameterSpec*> specs;
  for (const ParameterSpec& spec : self.layout()) specs.emplace(spec.name, &spec);

  struct Copy {
    const T* from;
    const ParameterSpec* to;
  };
  std::vector<Copy> copies;
  std::vector<py::object> kept;
  for (const auto& [key, value] : values) {
    const auto found = py::isinstance<py::str>(key) ? specs.find(py::cast<std::string>(key)) : specs.end();
    if (found == specs.end()) {
      throw py::value_error(complaint("values", "names of this network's parameters", std::string(py::repr(key))));
    }
    const ParameterSpec& spec = *found->second;
    copies.push_back({contiguous<const T>(value, spec.name, Shape(spec.shape.begin(), spec.shape.end())), &spec});
    kept.push_back(py::reinterpret_borrow<py::object>(value));
  }

  const py::gil_scoped_release release;
  self.store()->write([&](T* parameters) {
    for (const Copy& copy : copies) {
      // memmove: the source may be a view of these parameters.
      std::memmove(parameters + self.parameters_begin() + copy.to->offset, copy.from,
                   static_cast<std::size_t>(copy.to->size()) * sizeof(T));
    }
  });
}

template <class T>
void forward(const Network<T>& self, const py::object& x, const py::object& lengths, const py::object& reset,
             const py::object& start, const py::object& output, const py::object& end) {
  const Sequences<T> sequences(self, x, lengths, reset);
  const Index rows = sequences.batch.rows;
  const StateArrays<const T> start_arrays(self, rows, start, "start");
  const auto output_view =
      sequence<T>(output, "output", {output_steps(self, sequences.batch.steps), rows, self.output_size()});
  const StateArrays<T> end_arrays(self, rows, end, "end");

  const py::gil_scoped_release release;
  self.forward(sequences.input, sequences.batch, start_arrays.states, output_view, end_arrays.states);
}

template <class T>
std::unique_ptr<TapeBinding<T>> record(std::shared_ptr<Network<T>> self, const py::object& x, const py::object& lengths,
                                       const py::object& reset, const py::object& start, const py::object& output,
                                       const py::object& end, bool training, const py::object& mask_seed,
                                       const py::object& checkpoint) {
  const Sequences<T> sequences(*self, x, lengths, reset);
  const auto [steps, rows] = std::pair(sequences.batch.steps, sequences.batch.rows);
  const StateArrays<const T> start_arrays(*self, rows, start, "start");
  const auto output_view = sequence<T>(output, "output", {output_steps(*self, steps), rows, self->output_size()});
  const StateArrays<T> end_arrays(*self, rows, end, "end");
  const RecordOptions options{training, seed_argument(mask_seed, "mask_seed"), size_argument(checkpoint, "checkpoint")};

  const py::gil_scoped_release release;
  auto tape =
      self->record(sequences.input, sequences.batch, start_arrays.states, output_view, end_arrays.states, options);
  return std::make_unique<TapeBinding<T>>(TapeBinding<T>{std::move(self), steps, rows, std::move(tape)});
}

template <class T>
std::unique_ptr<StreamBinding<T>> stream(std::shared_ptr<Network<T>> self, const py::object& batch) {
  const Index rows = batch.is_none() ? 1 : size_argument(batch, "batch");
  return std::make_unique<StreamBinding<T>>(std::move(self), rows, !batch.is_none());
}

template <class T>
void register_network_class(py::module_& module, const char* name) {
  using Class = Network<T>;
  py::class_<Class, std::shared_ptr<Class>>(module, name)
      .def(py::init(&make_network<T>), py::arg("modules"), py::arg("numbered"), py::arg("seed"))
      .def("module", &module_of<T>, py::arg("index"))
      .def("layout", [](const Class& self) { return layout_list(self.layout()); })
      .def("view",
           [](const Class& self) {
             return parameter_view(self.store(), self.parameters_begin(), self.parameter_count());
           })
      .def("read",
           [](const Class& self) {
             return parameter_copy(*self.store(), self.parameters_begin(), self.parameter_count());
           })
      .def(
          "write", [](const Class& self, const py::object& values) { write(self, py::dict(values)); },
          py::arg("values"))
      .def_property_readonly("version", [](const Class& self) { return self.store()->version(); })
      .def_property_readonly("takes_tokens", &Class::takes_tokens)
      .def_property_readonly("keeps_sequence", &Class::keeps_sequence)
      .def_property_readonly("input_size", &Class::input_size)
      .def_property_readonly("output_size", &Class::output_size)
      .def("forward", &forward<T>, py::arg("x"), py::arg("lengths"), py::arg("reset"), py::arg("start"),
           py::arg("output"), py::arg("end"))
      .def("record", &record<T>, py::arg("x"), py::arg("lengths"), py::arg("reset"), py::arg("start"),
           py::arg("output"), py::arg("end"), py::arg("training"), py::arg("mask_seed"), py::arg("checkpoint"))
      .def("stream", &stream<T>, py::arg("batch"));
}

}  // namespace

void register_network(py::module_& module) {
  register_network_class<float>(module, "Network32");
  register_network_class<double>(module, "Network64");
}

}  // namespace latchwork::python
