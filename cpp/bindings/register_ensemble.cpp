// Ensemble, its tape, stream and trainer, 32 and 64: LSTMs of one shape side by side.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "exclusive.hpp"
#include "latchwork/ensemble.hpp"
#include "options.hpp"
#include "parameters.hpp"
#include "register.hpp"

namespace latchwork::python {
namespace {

// Whether an array has an axis of members before these.
bool has_member_axis(py::handle object, const Shape& inner) {
  return py::isinstance<py::array>(object) &&
         py::reinterpret_borrow<py::array>(object).ndim() == static_cast<py::ssize_t>(inner.size()) + 1;
}

Shape with_members(Index members, Shape inner) {
  inner.insert(inner.begin(), Extent(members));
  return inner;
}

// An array with one item for each member, or, where T is const, one for all.
template <class T>
py::array member_array(py::handle object, std::string_view name, Index members, const Shape& inner) {
  const bool shared = std::is_const_v<T> && !has_member_axis(object, inner);
  return checked_array<T>(object, name, shared ? inner : with_members(members, inner));
}

template <class T>
MemberSequences<T> member_sequences(const py::array& array, std::string_view name, const Shape& inner) {
  const int first = array.ndim() > static_cast<py::ssize_t>(inner.size()) ? 1 : 0;
  MemberSequences<T> result{sequence<T>(array, name, first), 0};
  if (first == 1 && array.size() > 0) result.member_stride = stride_of<T>(array, name, 0);
  return result;
}

template <class T>
MemberSequences<T> member_sequences(py::handle object, std::string_view name, Index members, const Shape& inner) {
  return member_sequences<T>(member_array<T>(object, name, members, inner), name, inner);
}

// One pair (h, c) in a list, as a network of one LSTM has it, of all members; for const T to read (then one for all
// will do) and otherwise to write; None: none.
template <class T>
struct MemberStateArrays {
  MemberStates<T> states;

  template <class E>
  MemberStateArrays(const E& ensemble, Index rows, py::handle object, std::string_view name) {
    if (object.is_none()) return;
    const std::string label = std::string(name) + "[0]";
    pair_ = tuple_of(tuple_of(object, name, 1, "one (h, c)")[0], label, 2, "(h, c)");
    const LstmOptions& lstm = ensemble.options();
    std::tie(states.first.hidden, states.hidden_stride) =
        part(pair_[0], label + "[0]", ensemble.members(), {lstm.states(), rows, lstm.hidden_output_size()});
    std::tie(states.first.cell, states.cell_stride) =
        part(pair_[1], label + "[1]", ensemble.members(), {lstm.states(), rows, lstm.hidden_size});
  }

 private:
  static std::pair<T*, Index> part(py::handle object, const std::string& name, Index members, const Shape& inner) {
    const bool shared = std::is_const_v<T> && !has_member_axis(object, inner);
    if (shared) return {contiguous<T>(object, name, inner), 0};
    Index size = 1;
    for (const Extent& extent : inner) size *= extent.size;
    return {contiguous<T>(object, name, with_members(members, inner)), size};
  }

  py::tuple pair_;  // keeps the arrays alive while the GIL is released
};

// What forward, record and training steps take alike, checked.
template <class T>
struct EnsembleSequences {
  MemberSequences<const T> input;
  Batch batch;

  EnsembleSequences(const Ensemble<T>& ensemble, py::handle x, py::handle lengths, py::handle reset) {
    const Shape inner{Extent("T"), Extent("N"), ensemble.options().input_size};
    const py::array array = member_array<const T>(x, "x", ensemble.members(), inner);
    batch.steps = array.shape(array.ndim() - 3);
    batch.rows = array.shape(array.ndim() - 2);
    input = member_sequences<const T>(array, "x", inner);
    batch_arrays_.read(lengths, reset, batch);
  }

 private:
  BatchArrays batch_arrays_;
};

template <class T>
struct EnsembleTapeBinding {
  std::shared_ptr<const Ensemble<T>> ensemble;
  Index steps;
  Index rows;
  std::shared_ptr<EnsembleTape<T>> tape;
};

template <class T>
struct EnsembleStreamBinding {
  EnsembleStreamBinding(std::shared_ptr<const Ensemble<T>> owner, Index row_count, bool has_batch_axis)
      : ensemble(std::move(owner)), rows(row_count), batched(has_batch_axis) {
    const py::gil_scoped_release release;
    stream = ensemble->stream(rows);
  }

  std::shared_ptr<const Ensemble<T>> ensemble;
  Index rows;
  bool batched;
  std::atomic_flag busy = ATOMIC_FLAG_INIT;
  std::unique_ptr<EnsembleStream<T>> stream;
};

template <class T>
std::shared_ptr<Ensemble<T>> make_ensemble(const py::object& members, const py::object& module,
                                           const py::object& seed) {
  const Index count = index_argument(members, "members");
  const std::vector<ModuleOptions> options = module_options(py::make_tuple(module));
  const auto* const lstm = std::get_if<LstmOptions>(&options.front());
  if (lstm == nullptr) throw py::value_error("module: expected kind \"lstm\", got another");
  const std::uint64_t seed_value = seed_argument(seed, "seed");
  const py::gil_scoped_release release;
  return std::make_shared<Ensemble<T>>(count, *lstm, seed_value);
}

template <class T>
void write(const Ensemble<T>& self, const py::dict& values) {
  struct Copy {
    const T* from;
    const ParameterSpec* to;
  };
  std::vector<Copy> copies;
  std::vector<py::object> kept;
  for (const auto& [key, value] : values) {
    const std::string name = py::isinstance<py::str>(key) ? py::cast<std::string>(key) : std::string();
    const auto spec = std::find_if(self.layout().begin(), self.layout().end(),
                                   [&](const ParameterSpec& known) { return known.name == name; });
    if (spec == self.layout().end()) {
      throw py::value_error(complaint("values", "names of this ensemble's parameters", std::string(py::repr(key))));
    }
    const Shape shape = with_members(self.members(), Shape(spec->shape.begin(), spec->shape.end()));
    copies.push_back({contiguous<const T>(value, spec->name, shape), &*spec});
    kept.push_back(py::reinterpret_borrow<py::object>(value));
  }

  const py::gil_scoped_release release;
  self.store()->write([&](T* parameters) {
    for (const Copy& copy : copies) {
      const Index size = copy.to->size();
      for (Index member = 0; member < self.members(); ++member) {
        // memmove: the source may be a view of these parameters.
        std::memmove(parameters + member * self.member_parameter_count() + copy.to->offset, copy.from + member * size,
                     static_cast<std::size_t>(size) * sizeof(T));
      }
    }
  });
}

template <class T>
MemberSequences<T> member_outputs(const Ensemble<T>& ensemble, const Batch& batch, py::handle output) {
  return member_sequences<T>(output, "output", ensemble.members(),
                             {batch.steps, batch.rows, ensemble.options().output_size()});
}

template <class T>
void forward(const Ensemble<T>& self, const py::object& x, const py::object& lengths, const py::object& reset,
             const py::object& start, const py::object& output, const py::object& end) {
  const EnsembleSequences<T> sequences(self, x, lengths, reset);
  const MemberStateArrays<const T> start_arrays(self, sequences.batch.rows, start, "start");
  const auto outputs = member_outputs(self, sequences.batch, output);
  const MemberStateArrays<T> end_arrays(self, sequences.batch.rows, end, "end");

  const py::gil_scoped_release release;
  self.forward(sequences.input, sequences.batch, start_arrays.states, outputs, end_arrays.states);
}

template <class T>
std::unique_ptr<EnsembleTapeBinding<T>> record(std::shared_ptr<Ensemble<T>> self, const py::object& x,
                                               const py::object& lengths, const py::object& reset,
                                               const py::object& start, const py::object& output, const py::object& end,
                                               bool training, const py::object& mask_seed,
                                               const py::object& checkpoint) {
  const EnsembleSequences<T> sequences(*self, x, lengths, reset);
  const auto [steps, rows] = std::pair(sequences.batch.steps, sequences.batch.rows);
  const MemberStateArrays<const T> start_arrays(*self, rows, start, "start");
  const auto outputs = member_outputs(*self, sequences.batch, output);
  const MemberStateArrays<T> end_arrays(*self, rows, end, "end");
  const RecordOptions options{training, seed_argument(mask_seed, "mask_seed"), size_argument(checkpoint, "checkpoint")};

  const py::gil_scoped_release release;
  auto tape = self->record(sequences.input, sequences.batch, start_arrays.states, outputs, end_arrays.states, options);
  return std::make_unique<EnsembleTapeBinding<T>>(
      EnsembleTapeBinding<T>{std::move(self), steps, rows, std::move(tape)});
}

template <class T>
void register_ensemble_class(py::module_& module, const char* name) {
  using Class = Ensemble<T>;
  py::class_<Class, std::shared_ptr<Class>>(module, name)
      .def(py::init(&make_ensemble<T>), py::arg("members"), py::arg("module"), py::arg("seed"))
      .def("layout", [](const Class& self) { return layout_list(self.layout()); })
      .def("view", [](const Class& self) { return parameter_view(self.store(), 0, self.parameter_count()); })
      .def("read", [](const Class& self) { return parameter_copy(*self.store(), 0, self.parameter_count()); })
      .def(
          "write", [](const Class& self, const py::object& values) { write(self, py::dict(values)); },
          py::arg("values"))
      .def_property_readonly("version", [](const Class& self) { return self.store()->version(); })
      .def_property_readonly("keeps_sequence", [](const Class&) { return true; })
      .def_property_readonly("input_size", [](const Class& self) { return self.options().input_size; })
      .def_property_readonly("output_size", [](const Class& self) { return self.options().output_size(); })
      .def("forward", &forward<T>, py::arg("x"), py::arg("lengths"), py::arg("reset"), py::arg("start"),
           py::arg("output"), py::arg("end"))
      .def("record", &record<T>, py::arg("x"), py::arg("lengths"), py::arg("reset"), py::arg("start"),
           py::arg("output"), py::arg("end"), py::arg("training"), py::arg("mask_seed"), py::arg("checkpoint"))
      .def(
          "stream",
          [](std::shared_ptr<Class> self, const py::object& batch) {
            const Index rows = batch.is_none() ? 1 : size_argument(batch, "batch");
            return std::make_unique<EnsembleStreamBinding<T>>(std::move(self), rows, !batch.is_none());
          },
          py::arg("batch"));
}

template <class T>
void backward(const EnsembleTapeBinding<T>& self, const py::object& d_output, const py::object& d_end,
              const py::object& parameters, bool accumulate, const py::object& d_input, const py::object& d_start) {
  const Ensemble<T>& ensemble = *self.ensemble;
  const LstmOptions& lstm = ensemble.options();
  MemberSequences<const T> d_outputs;
  if (!d_output.is_none()) {
    d_outputs = member_sequences<const T>(d_output, "d_output", ensemble.members(),
                                          {self.steps, self.rows, lstm.output_size()});
  }
  const MemberStateArrays<const T> d_end_arrays(ensemble, self.rows, d_end, "d_end");
  T* const parameter_data = contiguous<T>(parameters, "parameters", {ensemble.parameter_count()});
  MemberSequences<T> d_inputs;
  if (!d_input.is_none()) {
    d_inputs = member_sequences<T>(d_input, "d_input", ensemble.members(), {self.steps, self.rows, lstm.input_size});
  }
  const MemberStateArrays<T> d_start_arrays(ensemble, self.rows, d_start, "d_start");

  const py::gil_scoped_release release;
  self.tape->backward(d_outputs, d_end_arrays.states, parameter_data, accumulate, d_inputs, d_start_arrays.states);
}

template <class T>
void signal(const EnsembleTapeBinding<T>& self, const py::object& lstm, const py::object& state,
            const std::string& name, const py::object& values) {
  const Ensemble<T>& ensemble = *self.ensemble;
  const LstmOptions& options = ensemble.options();
  position_argument(lstm, "lstm", 1);
  const Index layer = position_argument(state, "state", options.states());
  const Signal which = signal_named(name);
  const Index size = which == Signal::hidden ? options.hidden_output_size() : options.hidden_size;
  T* const data = contiguous<T>(values, "values", {ensemble.members(), self.steps, self.rows, size});

  const py::gil_scoped_release release;
  self.tape->signal(layer, which, data);
}

template <class T>
void register_tape_class(py::module_& module, const char* name) {
  // A tape returns large pieces of memory, under a lock of its ensemble.
  py::class_<EnsembleTapeBinding<T>>(module, name, py::is_final(), py::release_gil_before_calling_cpp_dtor())
      .def("backward", &backward<T>, py::arg("d_output"), py::arg("d_end"), py::arg("parameters"),
           py::arg("accumulate"), py::arg("d_input"), py::arg("d_start"))
      .def("signal", &signal<T>, py::arg("lstm"), py::arg("state"), py::arg("signal"), py::arg("values"));
}

template <class T>
py::object stream_step(EnsembleStreamBinding<T>& self, const py::object& x, const py::object& out,
                       const py::object& reset) {
  const Turn turn(self.busy);
  const LstmOptions& lstm = self.ensemble->options();
  const Index members = self.ensemble->members();
  const auto shape_of = [&](Index features) {
    return self.batched ? Shape{self.rows, features} : Shape{Extent(features)};
  };
  const Shape inner = shape_of(lstm.input_size);
  const bool separate = has_member_axis(x, inner);
  const T* const values = contiguous<const T>(x, "x", separate ? with_members(members, inner) : inner);
  static constexpr std::uint8_t restart = 1;
  const std::uint8_t* restarts = nullptr;
  if (!reset.is_none() && self.batched) {
    restarts = reinterpret_cast<const std::uint8_t*>(contiguous<const bool>(reset, "reset", {self.rows}));
  } else if (!reset.is_none() && bool_argument(reset, "reset")) {
    restarts = &restart;
  }
  py::object output = out;
  if (output.is_none()) {
    output = self.batched ? new_array<T>({members, self.rows, lstm.output_size()})
                          : new_array<T>({members, lstm.output_size()});
  }
  T* const y = contiguous<T>(output, "out", with_members(members, shape_of(lstm.output_size())));

  const py::gil_scoped_release release;
  self.stream->step(values, separate ? self.rows * lstm.input_size : 0, y, restarts);
  return output;
}

template <class T>
py::list get_state(EnsembleStreamBinding<T>& self) {
  const LstmOptions& lstm = self.ensemble->options();
  const Index members = self.ensemble->members();
  const py::tuple pair = py::make_tuple(new_array<T>({members, lstm.states(), self.rows, lstm.hidden_output_size()}),
                                        new_array<T>({members, lstm.states(), self.rows, lstm.hidden_size}));
  py::list result;
  result.append(pair);
  const MemberStateArrays<T> arrays(*self.ensemble, self.rows, result, "state");
  const Turn turn(self.busy);
  self.stream->get_state(arrays.states);
  return result;
}

template <class T>
void register_stream_class(py::module_& module, const char* name) {
  using Class = EnsembleStreamBinding<T>;
  py::class_<Class>(module, name, py::is_final())
      .def_property_readonly("batch_size",
                             [](const Class& self) -> py::object {
                               if (!self.batched) return py::none();
                               return py::int_(self.rows);
                             })
      .def_property_readonly("input_size", [](const Class& self) { return self.ensemble->options().input_size; })
      .def_property_readonly("output_size", [](const Class& self) { return self.ensemble->options().output_size(); })
      .def("step", &stream_step<T>, py::arg("x"), py::arg("out") = py::none(), py::arg("reset") = py::none())
      .def("get_state", &get_state<T>)
      .def(
          "set_state",
          [](Class& self, const py::object& states) {
            if (states.is_none()) throw py::type_error(complaint("states", "one (h, c)", "None"));
            const MemberStateArrays<const T> arrays(*self.ensemble, self.rows, states, "states");
            const Turn turn(self.busy);
            self.stream->set_state(arrays.states);
          },
          py::arg("states"))
      .def("reset", [](Class& self) {
        const Turn turn(self.busy);
        self.stream->reset();
      });
}

template <class T>
struct EnsembleTrainerBinding {
  EnsembleTrainerBinding(const Ensemble<T>& ensemble, const Loss& loss, const OptimizerOptions& optimizer,
                         double max_norm, std::uint64_t seed)
      : takes_labels(loss.kind == LossKind::cross_entropy),
        quantiles(loss.kind == LossKind::quantile ? static_cast<Index>(loss.quantiles.size()) : 1),
        trainer(ensemble, loss, optimizer, max_norm, seed) {}

  std::mutex mutex;
  const bool takes_labels;
  const Index quantiles;
  EnsembleTrainer<T> trainer;
};

// The arguments of a mini-batch; labels are copied, because the core checks them before it uses them.
template <class T>
struct TrainingArrays {
  EnsembleSequences<T> sequences;
  MemberStateArrays<const T> start;
  MemberStateArrays<T> end;
  MemberSequences<const T> values;
  MemberSequences<const std::int64_t> labels;
  py::array losses;

  TrainingArrays(const EnsembleTrainerBinding<T>& self, const py::object& x, const py::object& lengths,
                 const py::object& reset, const py::object& start_state, const py::object& target,
                 const py::object& end_state)
      : sequences(self.trainer.ensemble(), x, lengths, reset),
        start(self.trainer.ensemble(), sequences.batch.rows, start_state, "start"),
        end(self.trainer.ensemble(), sequences.batch.rows, end_state, "end"),
        losses(new_array<double>({self.trainer.ensemble().members()})) {
    const Ensemble<T>& ensemble = self.trainer.ensemble();
    const auto [steps, rows] = std::pair(sequences.batch.steps, sequences.batch.rows);
    if (!self.takes_labels) {
      values = member_sequences<const T>(target, "target", ensemble.members(),
                                         {steps, rows, ensemble.options().output_size() / self.quantiles});
      return;
    }
    labels = member_sequences<const std::int64_t>(target, "target", ensemble.members(), {steps, rows});
    const bool shared = labels.member_stride == 0;
    for (Index member = 0; member < (shared ? 1 : ensemble.members()); ++member) {
      SequenceView<const std::int64_t> own = labels.of(member);
      const std::vector<std::int64_t> copy = copied(own, steps, rows);
      labels_.insert(labels_.end(), copy.begin(), copy.end());
    }
    labels = {{labels_.data(), rows, 1}, shared ? 0 : steps * rows};
  }
  TrainingArrays(const TrainingArrays&) = delete;
  TrainingArrays& operator=(const TrainingArrays&) = delete;

 private:
  std::vector<std::int64_t> labels_;
};

template <class T>
py::array trainer_step(EnsembleTrainerBinding<T>& self, const py::object& x, const py::object& lengths,
                       const py::object& reset, const py::object& start, const py::object& target,
                       const py::object& end) {
  const TrainingArrays<T> arrays(self, x, lengths, reset, start, target, end);
  double* const losses = data_of<double>(arrays.losses);
  exclusively(self.mutex, [&] {
    self.trainer.step(arrays.sequences.input, arrays.sequences.batch, arrays.start.states, arrays.values, arrays.labels,
                      arrays.end.states, losses);
  });
  return arrays.losses;
}

// Changes nothing in the trainer, so it may run beside a step.
template <class T>
py::array trainer_evaluate(const EnsembleTrainerBinding<T>& self, const py::object& x, const py::object& lengths,
                           const py::object& reset, const py::object& start, const py::object& target,
                           const py::object& end) {
  const TrainingArrays<T> arrays(self, x, lengths, reset, start, target, end);
  double* const losses = data_of<double>(arrays.losses);
  {
    const py::gil_scoped_release release;
    self.trainer.evaluate(arrays.sequences.input, arrays.sequences.batch, arrays.start.states, arrays.values,
                          arrays.labels, arrays.end.states, losses);
  }
  return arrays.losses;
}

template <class T>
void register_trainer_class(py::module_& module, const char* name) {
  using Class = EnsembleTrainerBinding<T>;
  py::class_<Class>(module, name)
      .def(py::init([](const Ensemble<T>& ensemble, const py::object& loss, const py::object& optimizer,
                       double max_norm, const py::object& seed) {
             return std::make_unique<Class>(ensemble, loss_options(loss), optimizer_options(optimizer), max_norm,
                                            seed_argument(seed, "seed"));
           }),
           py::arg("ensemble"), py::arg("loss"), py::arg("optimizer"), py::arg("max_norm"), py::arg("seed"))
      .def("step", &trainer_step<T>, py::arg("x"), py::arg("lengths"), py::arg("reset"), py::arg("start"),
           py::arg("target"), py::arg("end"))
      .def("evaluate", &trainer_evaluate<T>, py::arg("x"), py::arg("lengths"), py::arg("reset"), py::arg("start"),
           py::arg("target"), py::arg("end"))
      .def_property(
          "lr",
          [](Class& self) { return exclusively(self.mutex, [&] { return self.trainer.optimizer().options().lr; }); },
          [](Class& self, double lr) { exclusively(self.mutex, [&] { self.trainer.optimizer().set_lr(lr); }); })
      .def_property_readonly("steps", [](Class& self) {
        return exclusively(self.mutex, [&] { return self.trainer.optimizer().steps(); });
      });
}

}  // namespace

void register_ensemble(py::module_& module) {
  register_ensemble_class<float>(module, "Ensemble32");
  register_ensemble_class<double>(module, "Ensemble64");
  register_tape_class<float>(module, "EnsembleTape32");
  register_tape_class<double>(module, "EnsembleTape64");
  register_stream_class<float>(module, "EnsembleStream32");
  register_stream_class<double>(module, "EnsembleStream64");
  register_trainer_class<float>(module, "EnsembleTrainer32");
  register_trainer_class<double>(module, "EnsembleTrainer64");
}

}  // namespace latchwork::python
