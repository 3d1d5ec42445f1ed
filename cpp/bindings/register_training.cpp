// Binds optimisers and trainers, and what clipping a gradient needs: its norm, a check for NaN and infinity, the scale.
#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "exclusive.hpp"
#include "latchwork/training.hpp"
#include "options.hpp"
#include "register.hpp"

namespace latchwork::python {
namespace {

template <class T>
struct OptimizerBinding {
  OptimizerBinding(const OptimizerOptions& options, Index parameter_count)
      : size(parameter_count), optimizer(options, parameter_count) {}

  OneAtATime alone;
  const Index size;
  Optimizer<T> optimizer;
};

template <class T>
std::unique_ptr<OptimizerBinding<T>> make_optimizer(const py::object& options, const py::object& size) {
  const OptimizerOptions parsed = optimizer_options(options);
  return std::make_unique<OptimizerBinding<T>>(parsed, size_argument(size, "size"));
}

template <class T>
void optimizer_step(OptimizerBinding<T>& self, const Network<T>& network, const py::object& gradient,
                    double gradient_scale) {
  if (network.parameter_count() != self.size) {
    throw py::value_error(
        complaint("network", std::to_string(self.size) + " parameters", std::to_string(network.parameter_count())));
  }
  const T* const data = contiguous<const T>(gradient, "gradient", {self.size});
  const std::vector<double> scales(static_cast<std::size_t>(network.members()), gradient_scale);
  self.alone([&] {
    network.store()->write([&](T* parameters) {
      self.optimizer.step(parameters + network.parameters_begin(), network.member_stride(), data, scales);
    });
  });
}

template <class T>
py::list optimizer_buffers(OptimizerBinding<T>& self) {
  const std::vector<std::vector<T>> buffers = self.alone([&] { return self.optimizer.buffers(); });
  py::list arrays;
  for (const std::vector<T>& buffer : buffers) {
    const py::array array = new_array<T>({static_cast<py::ssize_t>(buffer.size())});
    std::copy(buffer.begin(), buffer.end(), data_of<T>(array));
    arrays.append(array);
  }
  return arrays;
}

template <class T>
void optimizer_restore(OptimizerBinding<T>& self, const py::object& steps, const py::sequence& buffers) {
  const Index step_count = size_argument(steps, "steps");
  std::vector<std::vector<T>> copies;
  for (const py::handle buffer : py::tuple(buffers)) {
    const std::string name = "buffers[" + std::to_string(copies.size()) + "]";
    const T* const data = contiguous<const T>(buffer, name, {self.size});
    copies.emplace_back(data, data + self.size);
  }
  self.alone([&] { self.optimizer.restore(step_count, std::move(copies)); });
}

template <class T>
void register_optimizer(py::module_& module, const char* name) {
  using Class = OptimizerBinding<T>;
  py::class_<Class>(module, name)
      .def(py::init(&make_optimizer<T>), py::arg("options"), py::arg("size"))
      .def_property(
          "lr", [](Class& self) { return self.alone([&] { return self.optimizer.options().lr; }); },
          [](Class& self, const py::object& value) {
            const double lr = float_argument(value, "lr");
            self.alone([&] { self.optimizer.set_lr(lr); });
          })
      .def_property_readonly("steps", [](Class& self) { return self.alone([&] { return self.optimizer.steps(); }); })
      .def("step", &optimizer_step<T>, py::arg("network"), py::arg("gradient"), py::arg("gradient_scale"))
      .def("buffers", &optimizer_buffers<T>)
      .def("restore", &optimizer_restore<T>, py::arg("steps"), py::arg("buffers"));
}

template <class T>
struct TrainerBinding {
  TrainerBinding(const Network<T>& network, const Loss& loss, const OptimizerOptions& optimizer, double clip_norm,
                 std::uint64_t seed)
      : takes_labels(loss.kind == LossKind::cross_entropy),
        quantiles(loss.kind == LossKind::quantile ? static_cast<Index>(loss.quantiles.size()) : 1),
        trainer(network, loss, optimizer, clip_norm, seed) {}

  OneAtATime alone;
  const bool takes_labels;
  const Index quantiles;
  Trainer<T> trainer;
};

template <class T>
std::unique_ptr<TrainerBinding<T>> make_trainer(const Network<T>& network, const py::object& loss,
                                                const py::object& optimizer, const py::object& clip_norm,
                                                const py::object& seed) {
  return std::make_unique<TrainerBinding<T>>(network, loss_options(loss), optimizer_options(optimizer),
                                             float_argument(clip_norm, "clip_norm"), seed_argument(seed, "seed"));
}

// The target of a mini-batch; labels are copied, because the core checks them before it uses them.
template <class T>
struct TargetArray {
  Target<T> target;

  TargetArray(const TrainerBinding<T>& self, const Batch& batch, py::handle object) {
    const Network<T>& network = self.trainer.network();
    Shape shape = output_shape(network, batch.steps, batch.rows);
    const Index features = shape.back().size / self.quantiles;
    shape.pop_back();
    if (self.takes_labels) {
      const Index steps = shape.front().size;
      target.labels = member_sequence<const std::int64_t>(object, "target", network.members(), shape);
      labels_ = copied(target.labels, network.members(), steps, batch.rows);
    } else {
      shape.push_back(features);
      target.values = member_sequence<const T>(object, "target", network.members(), shape);
    }
  }
  TargetArray(const TargetArray&) = delete;
  TargetArray& operator=(const TargetArray&) = delete;

 private:
  std::vector<std::int64_t> labels_;
};

// The checked parts of a mini-batch.
template <class T>
struct BatchArguments {
  BatchArguments(const TrainerBinding<T>& self, const py::object& x, const py::object& lengths, const py::object& reset,
                 const py::object& start_states, const py::object& targets, const py::object& end_states,
                 const py::object& skip)
      : sequences(self.trainer.network(), x, lengths, reset, skip),
        start(self.trainer.network(), sequences.batch.rows, start_states, "start"),
        target(self, sequences.batch, targets),
        end(self.trainer.network(), sequences.batch.rows, end_states, "end") {}

  Sequences<T> sequences;
  StateArrays<const T> start;
  TargetArray<T> target;
  StateArrays<T> end;
};

// A float if there is one member, an array if there are several.
py::object losses_object(const std::vector<double>& losses) {
  if (losses.size() == 1) return py::float_(losses.front());
  py::array array = new_array<double>({static_cast<py::ssize_t>(losses.size())});
  std::copy(losses.begin(), losses.end(), data_of<double>(array));
  return array;
}

template <class T>
py::object trainer_step(TrainerBinding<T>& self, const py::object& x, const py::object& lengths,
                        const py::object& reset, const py::object& start, const py::object& target,
                        const py::object& end, const py::object& skip) {
  const BatchArguments<T> batch(self, x, lengths, reset, start, target, end, skip);
  return losses_object(self.alone([&] {
    return self.trainer.step(batch.sequences.input, batch.sequences.batch, batch.start.states, batch.target.target,
                             batch.end.states);
  }));
}

// A view of the trainer's gradients, which keeps the trainer alive.
template <class T>
py::array trainer_gradients(const py::object& self) {
  auto& binding = self.cast<TrainerBinding<T>&>();
  return py::array(py::dtype::of<T>(), std::vector<py::ssize_t>{binding.trainer.network().parameter_count()},
                   binding.trainer.gradients(), self);
}

// `ready` is None, or is called with (module, member, their part of the gradients) once a module's gradient is
// complete.
template <class T>
py::object trainer_gradient(const py::object& self, const py::object& x, const py::object& lengths,
                            const py::object& reset, const py::object& start, const py::object& target,
                            const py::object& end, const py::object& skip, const py::object& first_row,
                            const py::object& ready) {
  auto& binding = self.cast<TrainerBinding<T>&>();
  const BatchArguments<T> batch(binding, x, lengths, reset, start, target, end, skip);
  const Index first = index_argument(first_row, "first_row");
  ModuleReady<T> tell;
  if (!ready.is_none()) {
    tell = [&](Index module, Index member, T* gradient, Index count) {
      const GilAcquire acquire;
      const py::array values(py::dtype::of<T>(), std::vector<py::ssize_t>{count}, gradient, self);
      call_python(ready, py::make_tuple(module, member, values));
    };
  }
  return losses_object(binding.alone([&] {
    return binding.trainer.gradient(batch.sequences.input, batch.sequences.batch, batch.start.states,
                                    batch.target.target, batch.end.states, first, tell);
  }));
}

// Changes nothing in the trainer, so it may run during a step of another thread.
template <class T>
py::object trainer_evaluate(const TrainerBinding<T>& self, const py::object& x, const py::object& lengths,
                            const py::object& reset, const py::object& start, const py::object& target,
                            const py::object& end, const py::object& skip) {
  const BatchArguments<T> batch(self, x, lengths, reset, start, target, end, skip);
  std::vector<double> losses;
  {
    const GilRelease release;
    losses = self.trainer.evaluate(batch.sequences.input, batch.sequences.batch, batch.start.states,
                                   batch.target.target, batch.end.states);
  }
  return losses_object(losses);
}

template <class T>
void register_trainer(py::module_& module, const char* name) {
  using Class = TrainerBinding<T>;
  py::class_<Class>(module, name)
      .def(py::init(&make_trainer<T>), py::arg("network"), py::arg("loss"), py::arg("optimizer"), py::arg("clip_norm"),
           py::arg("seed"))
      .def("step", &trainer_step<T>, py::arg("x"), py::arg("lengths"), py::arg("reset"), py::arg("start"),
           py::arg("target"), py::arg("end"), py::arg("skip"))
      .def("gradient", &trainer_gradient<T>, py::arg("x"), py::arg("lengths"), py::arg("reset"), py::arg("start"),
           py::arg("target"), py::arg("end"), py::arg("skip"), py::arg("first_row"), py::arg("ready"))
      .def_property_readonly("gradients", &trainer_gradients<T>)
      .def("apply", [](Class& self) { self.alone([&] { self.trainer.apply(); }); })
      .def("evaluate", &trainer_evaluate<T>, py::arg("x"), py::arg("lengths"), py::arg("reset"), py::arg("start"),
           py::arg("target"), py::arg("end"), py::arg("skip"))
      .def_property(
          "lr", [](Class& self) { return self.alone([&] { return self.trainer.optimizer().options().lr; }); },
          [](Class& self, const py::object& value) {
            const double lr = float_argument(value, "lr");
            self.alone([&] { self.trainer.optimizer().set_lr(lr); });
          })
      .def_property_readonly("steps",
                             [](Class& self) { return self.alone([&] { return self.trainer.optimizer().steps(); }); });
}

// The norms of `pieces` consecutive pieces of equal size.
template <class T>
py::array norms_of(const py::object& gradient, Index pieces) {
  const py::array array = checked_array<const T>(gradient, "gradient", {Extent("size")});
  const T* const data = contiguous<const T>(gradient, "gradient", {array.shape(0)});
  if (pieces < 1 || array.shape(0) % pieces != 0) {
    throw py::value_error(complaint("pieces", "a number that divides the size", std::to_string(pieces)));
  }
  const Index size = array.shape(0) / pieces;
  py::array norms = new_array<double>({pieces});
  double* const values = data_of<double>(norms);
  const GilRelease release;
  for (Index piece = 0; piece < pieces; ++piece) values[piece] = gradient_norm(data + piece * size, size);
  return norms;
}

template <class T>
bool is_finite(const py::array& values) {
  const auto size = static_cast<Index>(values.size());
  // A few numbers are checked faster than the GIL is released and taken again.
  constexpr Index smallest_to_release = 4096;
  if (size < smallest_to_release) return all_finite(data_of<T>(values), size);
  const GilRelease release;
  return all_finite(data_of<T>(values), size);
}

bool is_finite_object(const py::object& object) {
  const auto is_contiguous_array_of = [&](auto number) {
    using Array = py::array_t<decltype(number), py::array::c_style>;
    return py::isinstance<Array>(object) &&
           (py::detail::array_proxy(object.ptr())->flags & py::detail::npy_api::NPY_ARRAY_ALIGNED_) != 0;
  };
  if (is_contiguous_array_of(float())) return is_finite<float>(object);
  if (is_contiguous_array_of(double())) return is_finite<double>(object);
  throw py::type_error(
      complaint("values", "a C-contiguous array of float32 or float64", Py_TYPE(object.ptr())->tp_name));
}

}  // namespace

void register_training(py::module_& module) {
  register_optimizer<float>(module, "Optimizer32");
  register_optimizer<double>(module, "Optimizer64");
  register_trainer<float>(module, "Trainer32");
  register_trainer<double>(module, "Trainer64");
  module.def(
      "gradient_norms",
      [](const py::object& gradient, const py::object& pieces) {
        const bool single = py::isinstance<py::array>(gradient) &&
                            py::reinterpret_borrow<py::array>(gradient).dtype().itemsize() == sizeof(float);
        const Index count = index_argument(pieces, "pieces");
        return single ? norms_of<float>(gradient, count) : norms_of<double>(gradient, count);
      },
      py::arg("gradient"), py::arg("pieces"));
  module.def("all_finite", &is_finite_object, py::arg("values"));
  module.def("clip_scale", py::vectorize(clip_scale), py::arg("norm"), py::arg("clip_norm"));
}

}  // namespace latchwork::python
