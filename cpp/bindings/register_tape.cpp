// Binds Tape32 and Tape64, which give the gradients and signals of one recording.
#include <memory>
#include <string>
#include <utility>

#include "options.hpp"
#include "register.hpp"

namespace latchwork::python {
namespace {

template <class T>
void backward(const TapeBinding<T>& self, const py::object& d_output, const py::object& d_end,
              const py::object& parameters, bool accumulate, const py::object& d_input, const py::object& d_start) {
  const Network<T>& network = *self.network;
  SequenceView<const T> d_output_view;
  if (!d_output.is_none()) {
    d_output_view =
        member_sequence<const T>(d_output, "d_output", network.members(), output_shape(network, self.steps, self.rows));
  }
  const StateArrays<const T> d_end_arrays(network, self.rows, d_end, "d_end");
  T* const parameter_data = contiguous<T>(parameters, "parameters", {network.parameter_count()});
  SequenceView<T> d_input_view;
  if (!d_input.is_none()) {
    if (network.takes_tokens()) throw py::value_error("d_input: expected None for tokens, got an array");
    d_input_view =
        member_sequence<T>(d_input, "d_input", network.members(), {self.steps, self.rows, network.input_size()});
  }
  const StateArrays<T> d_start_arrays(network, self.rows, d_start, "d_start");

  const GilRelease release;
  self.tape->backward(d_output_view, d_end_arrays.states, parameter_data, accumulate, d_input_view,
                      d_start_arrays.states);
}

template <class T>
void signal(const TapeBinding<T>& self, const py::object& lstm, const py::object& state, const std::string& name,
            const py::object& values) {
  const Index module = position_argument(lstm, "lstm", self.network->lstm_count());
  const LstmOptions& options = self.network->lstm(module);
  const Index layer = position_argument(state, "state", options.states());
  const Signal which = signal_named(name);
  const Index size = which == Signal::hidden ? options.hidden_output_size() : options.hidden_size;
  T* const data = contiguous<T>(values, "values", with_members(self.network->members(), {self.steps, self.rows, size}));

  const GilRelease release;
  self.tape->signal(module, layer, which, data);
}

py::object optional_seed(const std::optional<std::uint64_t>& seed) {
  if (!seed) return py::none();
  return py::int_(*seed);
}

template <class T>
void register_tape_class(py::module_& module, const char* name) {
  py::class_<TapeBinding<T>>(module, name, py::is_final())
      .def("backward", &backward<T>, py::arg("d_output"), py::arg("d_end"), py::arg("parameters"),
           py::arg("accumulate"), py::arg("d_input"), py::arg("d_start"))
      .def_property_readonly("mask_seed",
                             [](const TapeBinding<T>& self) { return optional_seed(self.tape->mask_seed()); })
      .def("signal", &signal<T>, py::arg("lstm"), py::arg("state"), py::arg("signal"), py::arg("values"));
}

}  // namespace

void register_tape(py::module_& module) {
  register_tape_class<float>(module, "Tape32");
  register_tape_class<double>(module, "Tape64");
}

}  // namespace latchwork::python
