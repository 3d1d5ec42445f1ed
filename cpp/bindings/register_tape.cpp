// Binds Tape32 and Tape64, which give the gradients and signals of one recording.
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "options.hpp"
#include "register.hpp"

namespace latchwork::python {
namespace {

constexpr std::size_t signal_count = std::tuple_size_v<SignalArrays<float>>;

// Reads where the gradients with respect to the signals go: for each LSTM and each of its layers and directions one
// array for each signal. None: they are not wanted. Appends what must be kept alive to `kept`.
template <class T>
ChainSignals<T> signal_arrays(const TapeBinding<T>& self, const py::object& d_signals, std::vector<py::object>& kept) {
  ChainSignals<T> all;
  if (d_signals.is_none()) return all;
  const Network<T>& network = *self.network;
  const py::tuple modules = tuple_of(d_signals, "d_signals", network.lstm_count(), "one list for each LSTM");
  for (Index module = 0; module < network.lstm_count(); ++module) {
    const LstmOptions& lstm = network.lstm(module);
    const std::string name = "d_signals[" + std::to_string(module) + "]";
    const py::tuple states = tuple_of(modules[static_cast<std::size_t>(module)], name, lstm.states(),
                                      "one list for each layer and direction");
    std::vector<SignalArrays<T>>& of_module = all.emplace_back();
    for (const py::handle& state : states) {
      const py::tuple items = tuple_of(state, name, static_cast<Index>(signal_count), "one array for each signal");
      SignalArrays<T>& arrays = of_module.emplace_back();
      for (std::size_t signal = 0; signal < signal_count; ++signal) {
        const bool hidden = static_cast<Signal>(signal) == Signal::hidden;
        const Index size = hidden ? lstm.hidden_output_size() : lstm.hidden_size;
        arrays[signal] =
            contiguous<T>(items[signal], name, with_members(network.members(), {self.steps, self.rows, size}));
      }
      kept.push_back(items);
    }
  }
  return all;
}

template <class T>
void backward(const TapeBinding<T>& self, const py::object& d_output, const py::object& d_end,
              const py::object& parameters, bool accumulate, const py::object& d_input, const py::object& d_start,
              const py::object& d_signals) {
  const Network<T>& network = *self.network;
  SequenceView<const T> d_output_view;
  if (!d_output.is_none()) {
    d_output_view =
        member_sequence<const T>(d_output, "d_output", network.members(), output_shape(network, self.steps, self.rows));
  }
  const StateArrays<const T> d_end_arrays(network, self.rows, d_end, "d_end");
  T* const parameter_data =
      parameters.is_none() ? nullptr : contiguous<T>(parameters, "parameters", {network.parameter_count()});
  SequenceView<T> d_input_view;
  if (!d_input.is_none()) {
    if (network.takes_tokens()) throw py::value_error("d_input: expected None for tokens, got an array");
    d_input_view =
        member_sequence<T>(d_input, "d_input", network.members(), {self.steps, self.rows, network.input_size()});
  }
  const StateArrays<T> d_start_arrays(network, self.rows, d_start, "d_start");
  std::vector<py::object> kept;
  const ChainSignals<T> signals = signal_arrays(self, d_signals, kept);

  const GilRelease release;
  self.tape->backward(d_output_view, d_end_arrays.states, parameter_data, accumulate, d_input_view,
                      d_start_arrays.states, {}, signals);
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
           py::arg("accumulate"), py::arg("d_input"), py::arg("d_start"), py::arg("d_signals") = py::none())
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
