// Binds Network32 and Network64, chains of modules with their parameters.
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

TensorNames names_argument(const py::object& names) {
  if (py::isinstance<py::str>(names)) {
    const auto text = py::cast<std::string>(names);
    if (text == "of_layer") return TensorNames::of_layer;
    if (text == "of_chain") return TensorNames::of_chain;
  }
  throw py::value_error(complaint("names", "of_layer or of_chain", std::string(py::repr(names))));
}

template <class T>
std::shared_ptr<Network<T>> make_network(const py::object& modules, const py::object& names, const py::object& seed,
                                         const py::object& members) {
  std::vector<ModuleOptions> options = module_options(modules);
  const std::uint64_t seed_value = seed_argument(seed, "seed");
  const Index member_count = index_argument(members, "members");
  const TensorNames tensor_names = names_argument(names);
  const GilRelease release;
  return std::make_shared<Network<T>>(std::move(options), tensor_names, seed_value, member_count);
}

template <class T>
std::shared_ptr<Network<T>> module_of(const Network<T>& self, const py::object& index) {
  return std::make_shared<Network<T>>(
      self.module(position_argument(index, "index", static_cast<Index>(self.modules().size()))));
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
    const Shape shape = with_members(self.members(), Shape(spec.shape));
    copies.push_back({contiguous<const T>(value, spec.name, shape), &spec});
    kept.push_back(py::reinterpret_borrow<py::object>(value));
  }

  const GilRelease release;
  self.store()->write([&](T* parameters) {
    for (const Copy& copy : copies) {
      const Index size = copy.to->size();
      T* const first = parameters + self.parameters_begin() + copy.to->offset;
      for (Index member = 0; member < self.members(); ++member) {
        // memmove, because the source may be a view of these parameters.
        std::memmove(first + member * self.member_stride(), copy.from + member * size,
                     static_cast<std::size_t>(size) * sizeof(T));
      }
    }
  });
}

template <class T>
void forward(const Network<T>& self, const py::object& x, const py::object& lengths, const py::object& reset,
             const py::object& start, const py::object& output, const py::object& end, const py::object& skip,
             bool zero_skipped) {
  const Sequences<T> sequences(self, x, lengths, reset, skip, zero_skipped);
  const Index rows = sequences.batch.rows;
  const StateArrays<const T> start_arrays(self, rows, start, "start");
  const auto output_view =
      member_sequence<T>(output, "output", self.members(), output_shape(self, sequences.batch.steps, rows));
  const StateArrays<T> end_arrays(self, rows, end, "end");

  const GilRelease release;
  self.forward(sequences.input, sequences.batch, start_arrays.states, output_view, end_arrays.states);
}

template <class T>
void forward_last_step(const Network<T>& self, const py::object& x, const py::object& lengths, const py::object& reset,
                       const py::object& start, const py::object& output, const py::object& end, const py::object& skip,
                       bool zero_skipped) {
  const Sequences<T> sequences(self, x, lengths, reset, skip, zero_skipped);
  const Index rows = sequences.batch.rows;
  const StateArrays<const T> start_arrays(self, rows, start, "start");
  const auto output_view = member_sequence<T>(output, "output", self.members(), {Index(1), rows, self.output_size()});
  const StateArrays<T> end_arrays(self, rows, end, "end");

  const GilRelease release;
  self.forward_last_step(sequences.input, sequences.batch, start_arrays.states, output_view, end_arrays.states);
}

template <class T>
std::unique_ptr<TapeBinding<T>> record(std::shared_ptr<Network<T>> self, const py::object& x, const py::object& lengths,
                                       const py::object& reset, const py::object& start, const py::object& output,
                                       const py::object& end, bool training, const py::object& mask_seed,
                                       const py::object& checkpoint, const py::object& first_row,
                                       const py::object& skip, bool zero_skipped, const py::object& gradient_blocks) {
  const Sequences<T> sequences(*self, x, lengths, reset, skip, zero_skipped);
  const auto [steps, rows] = std::pair(sequences.batch.steps, sequences.batch.rows);
  const StateArrays<const T> start_arrays(*self, rows, start, "start");
  const auto output_view = member_sequence<T>(output, "output", self->members(), output_shape(*self, steps, rows));
  const StateArrays<T> end_arrays(*self, rows, end, "end");
  RecordOptions options{training,
                        {},
                        size_argument(checkpoint, "checkpoint"),
                        size_argument(first_row, "first_row"),
                        index_argument(gradient_blocks, "gradient_blocks")};
  if (!mask_seed.is_none()) options.mask_seed = seed_argument(mask_seed, "mask_seed");

  std::shared_ptr<Tape<T>> tape;
  {
    const GilRelease release;
    tape = self->record(sequences.input, sequences.batch, start_arrays.states, output_view, end_arrays.states, options);
  }
  return std::make_unique<TapeBinding<T>>(std::move(self), steps, rows, std::move(tape));
}

template <class T>
std::unique_ptr<StreamBinding<T>> stream(std::shared_ptr<Network<T>> self, const py::object& batch, bool zero_skipped) {
  const Index rows = batch.is_none() ? 1 : size_argument(batch, "batch");
  auto made = std::make_unique<StreamBinding<T>>(std::move(self), rows, !batch.is_none());
  if (zero_skipped) made->skipped_output = SkippedOutput::zero;
  return made;
}

template <class T>
void register_network_class(py::module_& module, const char* name) {
  using Class = Network<T>;
  py::class_<Class, std::shared_ptr<Class>>(module, name)
      .def(py::init(&make_network<T>), py::arg("modules"), py::arg("names"), py::arg("seed"), py::arg("members"))
      .def("module", &module_of<T>, py::arg("index"))
      .def("layout", [](const Class& self) { return layout_list(self.layout()); })
      .def("view", &parameter_view<T>)
      .def("read", &parameter_copy<T>)
      .def(
          "write", [](const Class& self, const py::object& values) { write(self, py::dict(values)); },
          py::arg("values"))
      .def_property_readonly("version", [](const Class& self) { return self.store()->version(); })
      .def_property(
          "mask_seeds",
          [](const Class& self) { return py::make_tuple(self.mask_seeds().key, self.mask_seeds().count); },
          [](const Class& self, const std::pair<std::uint64_t, std::uint64_t>& seeds) {
            self.set_mask_seeds({seeds.first, seeds.second});
          })
      .def("next_mask_seed", &Class::next_mask_seed)
      .def_property_readonly("members", &Class::members)
      .def_property_readonly("parameters_begin", &Class::parameters_begin)
      .def_property_readonly("takes_tokens", &Class::takes_tokens)
      .def_property_readonly("keeps_sequence", &Class::keeps_sequence)
      .def_property_readonly("takes_missing", &Class::takes_missing)
      .def_property_readonly("state_sizes",
                             [](const Class& self) {
                               py::list sizes;
                               for (const StateSize& size : self.state_sizes()) {
                                 sizes.append(py::make_tuple(size.count, size.hidden, size.cell));
                               }
                               return sizes;
                             })
      .def_property_readonly("input_size", &Class::input_size)
      .def_property_readonly("output_size", &Class::output_size)
      .def("forward", &forward<T>, py::arg("x"), py::arg("lengths"), py::arg("reset"), py::arg("start"),
           py::arg("output"), py::arg("end"), py::arg("skip") = py::none(), py::arg("zero_skipped") = false)
      .def("forward_last_step", &forward_last_step<T>, py::arg("x"), py::arg("lengths"), py::arg("reset"),
           py::arg("start"), py::arg("output"), py::arg("end"), py::arg("skip") = py::none(),
           py::arg("zero_skipped") = false)
      .def("record", &record<T>, py::arg("x"), py::arg("lengths"), py::arg("reset"), py::arg("start"),
           py::arg("output"), py::arg("end"), py::arg("training"), py::arg("mask_seed"), py::arg("checkpoint"),
           py::arg("first_row"), py::arg("skip") = py::none(), py::arg("zero_skipped") = false,
           py::arg("gradient_blocks") = 0)
      .def("stream", &stream<T>, py::arg("batch"), py::arg("zero_skipped") = false);
}

bool is_double(const py::object& x) {
  return py::isinstance<py::array>(x) && py::reinterpret_borrow<py::array>(x).itemsize() == 8;
}

// float32 or float64, as `x` is.
template <class T>
py::array pooled(const py::object& module, const py::object& x, const py::object& lengths) {
  const ModuleOptions options = module_options(py::make_tuple(module)).front();
  const py::array array = checked_array<const T>(x, "x", {Extent("T"), Extent("N"), Extent("features")});
  const SequenceView<const T> view = sequence<const T>(array, "x");
  Batch batch;
  batch.steps = array.shape(0);
  batch.rows = array.shape(1);
  BatchArrays batch_arrays;
  batch_arrays.read(1, lengths, py::none(), py::none(), batch);
  const Index features = array.shape(2);
  py::array output = new_array<T>({array.shape(1), array.shape(2)});
  T* const data = data_of<T>(output);

  const GilRelease release;
  pool<T>(options, view, batch, features, {data, batch.rows * features, features});
  return output;
}

py::array pooled_sequence(const py::object& module, const py::object& x, const py::object& lengths) {
  return is_double(x) ? pooled<double>(module, x, lengths) : pooled<float>(module, x, lengths);
}

// float32 or float64, as `x` is.
template <class T>
py::array activated(const ModuleOptions& module, const py::object& x) {
  const T* const from = contiguous<const T>(x, "x", {Extent("rows"), Extent("features")});
  const auto array = py::reinterpret_borrow<py::array>(x);
  const Index rows = array.shape(0), features = array.shape(1);
  py::array output = new_array<T>({array.shape(0), array.shape(1)});
  T* const to = data_of<T>(output);

  const GilRelease release;
  activate<T>(module, from, rows, features, to);
  return output;
}

py::array activated_rows(const py::object& module, const py::object& x) {
  const ModuleOptions options = module_options(py::make_tuple(module)).front();
  return is_double(x) ? activated<double>(options, x) : activated<float>(options, x);
}

}  // namespace

void register_network(py::module_& module) {
  register_network_class<float>(module, "Network32");
  register_network_class<double>(module, "Network64");
  module.def("activated", &activated_rows, py::arg("module"), py::arg("x"));
  module.def("pooled", &pooled_sequence, py::arg("module"), py::arg("x"), py::arg("lengths"));
}

}  // namespace latchwork::python
