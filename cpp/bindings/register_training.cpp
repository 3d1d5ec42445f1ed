// Binds optimisers and trainers, and what clipping a gradient needs: its norm, a check for NaN and infinity, the scale.
#include <pybind11/stl.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "exclusive.hpp"
#include "latchwork/training.hpp"
#include "machine/mathematics.hpp"
#include "options.hpp"
#include "register.hpp"

namespace latchwork::python {
namespace {

template <class T>
struct OptimizerBinding {
  OptimizerBinding(const OptimizerOptions& options, std::vector<Network<T>> targets)
      : optimizer(options, std::move(targets)) {
    for (const Network<T>& target : optimizer.targets()) size += target.parameter_count();
  }

  OneAtATime alone;
  Index size = 0;  // of all targets
  Optimizer<T> optimizer;
};

template <class T>
std::shared_ptr<OptimizerBinding<T>> make_optimizer(const py::object& options, const py::object& targets) {
  std::vector<Network<T>> networks;
  for (const py::handle target : sequence_argument(targets, "targets", "networks")) {
    networks.push_back(py::cast<const Network<T>&>(target));
  }
  return std::make_shared<OptimizerBinding<T>>(optimizer_options(options), std::move(networks));
}

// `gradients` has a pair for each target: an array with the gradients of all members of a network, and where in those
// of one member the target's begin.
template <class T>
void optimizer_step(OptimizerBinding<T>& self, const py::object& gradients, bool check_finite) {
  const std::vector<Network<T>>& targets = self.optimizer.targets();
  const py::tuple pairs = tuple_of(gradients, "gradients", static_cast<Index>(targets.size()), "one for each target");
  std::vector<TargetGradients<T>> places;
  for (const py::handle each : pairs) {
    const std::string name = "gradients[" + std::to_string(places.size()) + "]";
    const py::tuple pair = tuple_of(each, name, 2, "(values, offset)");
    const Network<T>& target = targets[places.size()];
    const Index size = checked_array<const T>(pair[0], name, {Extent("size")}).shape(0) / target.members();
    const Index offset = size_argument(pair[1], name);
    if (offset > size || target.member_parameter_count() > size - offset) {
      throw py::value_error(complaint(name,
                                      std::to_string(target.member_parameter_count()) + " numbers from the offset",
                                      std::to_string(size - std::min(offset, size))));
    }
    places.push_back({contiguous<const T>(pair[0], name, {size * target.members()}) + offset, size});
  }
  self.alone([&] { self.optimizer.step(places, check_finite); });
}

std::vector<std::int64_t> steps_argument(const py::object& steps) {
  std::vector<std::int64_t> counts;
  for (const py::handle count : sequence_argument(steps, "steps", "int")) {
    counts.push_back(size_argument(count, "steps"));
  }
  return counts;
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
void optimizer_restore(OptimizerBinding<T>& self, const py::object& options, const py::object& steps,
                       const py::sequence& buffers) {
  const OptimizerOptions parsed = optimizer_options(options);
  std::vector<std::int64_t> counts = steps_argument(steps);
  std::vector<std::vector<T>> copies;
  for (const py::handle buffer : py::tuple(buffers)) {
    const std::string name = "buffers[" + std::to_string(copies.size()) + "]";
    const T* const data = contiguous<const T>(buffer, name, {self.size});
    copies.emplace_back(data, data + self.size);
  }
  self.alone([&] { self.optimizer.restore(parsed, std::move(counts), std::move(copies)); });
}

template <class T>
void register_optimizer(py::module_& module, const char* name) {
  using Class = OptimizerBinding<T>;
  py::class_<Class, std::shared_ptr<Class>>(module, name)
      .def(py::init(&make_optimizer<T>), py::arg("options"), py::arg("targets"))
      .def_property(
          "lr", [](Class& self) { return self.alone([&] { return self.optimizer.options().lr; }); },
          [](Class& self, const py::object& value) {
            const double lr = float_argument(value, "lr");
            self.alone([&] { self.optimizer.set_lr(lr); });
          })
      .def_property_readonly("steps", [](Class& self) { return self.alone([&] { return self.optimizer.steps(); }); })
      .def("step", &optimizer_step<T>, py::arg("gradients"), py::arg("check_finite"))
      .def("buffers", &optimizer_buffers<T>)
      .def("restore", &optimizer_restore<T>, py::arg("options"), py::arg("steps"), py::arg("buffers"));
}

template <class T>
struct TrainerBinding {
  // Without a loss the program computes one itself.
  TrainerBinding(const Network<T>& network, const std::optional<Loss>& chosen,
                 const std::vector<std::shared_ptr<OptimizerBinding<T>>>& optimizers, double clip_norm,
                 std::uint64_t seed, Index gradient_blocks)
      : loss(chosen),
        trainer(network, chosen.value_or(Loss{}), cores_of(optimizers), clip_norm, seed, gradient_blocks) {
    for (const auto& optimizer : optimizers) locks.push_back(&optimizer->alone);
    locks.push_back(&own_lock);
    std::sort(locks.begin(), locks.end());
  }

  // Lets one call at a time into the trainer and its optimizers.
  template <class Work>
  auto alone(Work&& work) {
    return OneAtATime::together(locks, std::forward<Work>(work));
  }

  // Each keeps the whole binding of its optimizer alive.
  static std::vector<std::shared_ptr<Optimizer<T>>> cores_of(
      const std::vector<std::shared_ptr<OptimizerBinding<T>>>& optimizers) {
    std::vector<std::shared_ptr<Optimizer<T>>> cores;
    for (const auto& optimizer : optimizers) cores.emplace_back(optimizer, &optimizer->optimizer);
    return cores;
  }

  OneAtATime own_lock;
  std::vector<OneAtATime*> locks;
  const std::optional<Loss> loss;
  Trainer<T> trainer;
};

template <class T>
std::unique_ptr<TrainerBinding<T>> make_trainer(const Network<T>& network, const py::object& loss,
                                                const std::vector<std::shared_ptr<OptimizerBinding<T>>>& optimizers,
                                                const py::object& clip_norm, const py::object& seed,
                                                const py::object& gradient_blocks) {
  std::optional<Loss> chosen;
  if (!loss.is_none()) chosen = loss_options(loss);
  return std::make_unique<TrainerBinding<T>>(network, chosen, optimizers, float_argument(clip_norm, "clip_norm"),
                                             seed_argument(seed, "seed"),
                                             index_argument(gradient_blocks, "gradient_blocks"));
}

// The target of a loss, with weights or None. Labels are copied, because the core checks them before it uses them.
template <class T>
struct TargetArray {
  Target<T> target;

  // `output` is the shape of one member's output.
  TargetArray(const Loss& loss, Index members, const Shape& output, const py::object& object,
              const py::object& weight_object) {
    const Index steps = output.front().size, rows = output.begin()[1].size;
    const Index features = output.back().size / outputs_per_target(loss);
    const bool labels = loss.kind == LossKind::cross_entropy;
    if (labels) {
      target.labels = member_sequence<const std::int64_t>(object, "target", members, {steps, rows});
      labels_ = copied(target.labels, members, steps, rows);
    } else {
      target.values = member_sequence<const T>(object, "target", members, {steps, rows, features});
    }
    if (weight_object.is_none()) return;
    const py::array weights =
        member_array<const T>(weight_object, "weights", members, {steps, rows, Extent("features")});
    target.weight_features = weights.shape(weights.ndim() - 1);
    if (target.weight_features != 1 && (labels || target.weight_features != features)) {
      throw py::value_error(complaint("weights",
                                      labels ? "1 feature" : "1 or " + std::to_string(features) + " features",
                                      std::to_string(target.weight_features)));
    }
    target.weights = member_sequence<const T>(weights, "weights", 3);
  }
  // A loss that Python computes: object(output) returns the losses of the members, float64 (M,), and the gradient, in
  // the shape of the output, (M, T, N, features).
  TargetArray(Index members, Index features, const py::object& object) {
    custom_ = [object, members, features](SequenceView<const T> output, Index steps, Index rows,
                                          SequenceView<T> d_output) {
      const GilAcquire acquire;
      const Index size = members * steps * rows * features;
      const py::array values = new_array<T>({members, steps, rows, features});
      std::copy_n(output.data, size, data_of<T>(values));
      const py::tuple result = tuple_of(call_python(object, py::make_tuple(values)), "loss", 2, "(loss, d_output)");
      const double* const losses = contiguous<const double>(result[0], "loss", {members});
      std::copy_n(contiguous<const T>(result[1], "d_output", {members, steps, rows, features}), size, d_output.data);
      return std::vector<double>(losses, losses + members);
    };
    target.custom = &custom_;
  }
  TargetArray(const TargetArray&) = delete;
  TargetArray& operator=(const TargetArray&) = delete;

 private:
  std::vector<std::int64_t> labels_;
  CustomLoss<T> custom_;
};

template <class T>
TargetArray<T> target_array(const TrainerBinding<T>& self, const Batch& batch, const py::object& target,
                            const py::object& weights) {
  const Network<T>& network = self.trainer.network();
  if (!self.loss) return TargetArray<T>(network.members(), network.output_size(), target);
  return TargetArray<T>(*self.loss, network.members(), output_shape(network, batch.steps, batch.rows), target, weights);
}

// The checked parts of a mini-batch.
template <class T>
struct BatchArguments {
  BatchArguments(const TrainerBinding<T>& self, const py::object& x, const py::object& lengths, const py::object& reset,
                 const py::object& start_states, const py::object& targets, const py::object& weights,
                 const py::object& end_states, const py::object& skip)
      : sequences(self.trainer.network(), x, lengths, reset, skip),
        start(self.trainer.network(), sequences.batch.rows, start_states, "start"),
        target_arrays(target_array(self, sequences.batch, targets, weights)),
        end(self.trainer.network(), sequences.batch.rows, end_states, "end") {}

  Sequences<T> sequences;
  StateArrays<const T> start;
  TargetArray<T> target_arrays;
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
                        const py::object& weights, const py::object& end, const py::object& skip) {
  const BatchArguments<T> batch(self, x, lengths, reset, start, target, weights, end, skip);
  return losses_object(self.alone([&] {
    return self.trainer.step(batch.sequences.input, batch.sequences.batch, batch.start.states,
                             batch.target_arrays.target, batch.end.states);
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
                            const py::object& weights, const py::object& end, const py::object& skip,
                            const py::object& first_row, const py::object& ready) {
  auto& binding = self.cast<TrainerBinding<T>&>();
  const BatchArguments<T> batch(binding, x, lengths, reset, start, target, weights, end, skip);
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
                                    batch.target_arrays.target, batch.end.states, first, tell);
  }));
}

// Changes nothing in the trainer, so it may run during a step of another thread.
template <class T>
py::object trainer_evaluate(const TrainerBinding<T>& self, const py::object& x, const py::object& lengths,
                            const py::object& reset, const py::object& start, const py::object& target,
                            const py::object& weights, const py::object& end, const py::object& skip) {
  const BatchArguments<T> batch(self, x, lengths, reset, start, target, weights, end, skip);
  std::vector<double> losses;
  {
    const GilRelease release;
    losses = self.trainer.evaluate(batch.sequences.input, batch.sequences.batch, batch.start.states,
                                   batch.target_arrays.target, batch.end.states);
  }
  return losses_object(losses);
}

// The losses of all members and the gradient with respect to the output, (T, N, features) or (M, T, N, features).
template <class T>
py::tuple loss_of(const Loss& loss, const py::object& output, const py::object& target, const py::object& weights,
                  const py::object& lengths, Index members) {
  const py::array array =
      member_array<const T>(output, "output", members, {Extent("T"), Extent("N"), Extent("features")});
  const auto size = [&](py::ssize_t axis) { return array.shape(array.ndim() - 3 + axis); };
  Batch batch;
  batch.steps = size(0);
  batch.rows = size(1);
  const Index features = size(2);
  validate(loss, features);
  const auto view = member_sequence<const T>(array, "output", 3);
  BatchArrays batch_arrays;
  batch_arrays.read(members, lengths, py::none(), py::none(), batch);
  const TargetArray<T> targets(loss, members, {batch.steps, batch.rows, features}, target, weights);
  py::array gradient = new_array<T>({array.shape(), array.shape() + array.ndim()});
  const auto d_output = member_sequence<T>(gradient, "d_output", 3);
  std::vector<double> losses(static_cast<std::size_t>(members));
  {
    const GilRelease release;
    for (Index member = 0; member < members; ++member) {
      check_target(loss, features, batch.of(member), targets.target.of(member));
    }
    for (Index member = 0; member < members; ++member) {
      losses[static_cast<std::size_t>(member)] = loss_and_gradient(loss, view.of(member), features, batch.of(member),
                                                                   targets.target.of(member), d_output.of(member))
                                                     .mean;
    }
  }
  return py::make_tuple(losses_object(losses), gradient);
}

py::tuple loss_of_object(const py::object& loss, const py::object& output, const py::object& target,
                         const py::object& weights, const py::object& lengths, const py::object& members) {
  const Loss options = loss_options(loss);
  const Index count = index_argument(members, "members");
  if (count < 1) throw py::value_error(complaint("members", "at least 1", std::to_string(count)));
  const bool single = py::isinstance<py::array>(output) &&
                      py::reinterpret_borrow<py::array>(output).dtype().itemsize() == sizeof(float);
  return single ? loss_of<float>(options, output, target, weights, lengths, count)
                : loss_of<double>(options, output, target, weights, lengths, count);
}

template <class T>
void register_trainer(py::module_& module, const char* name) {
  using Class = TrainerBinding<T>;
  py::class_<Class>(module, name)
      .def(py::init(&make_trainer<T>), py::arg("network"), py::arg("loss"), py::arg("optimizers"), py::arg("clip_norm"),
           py::arg("seed"), py::arg("gradient_blocks"))
      .def("step", &trainer_step<T>, py::arg("x"), py::arg("lengths"), py::arg("reset"), py::arg("start"),
           py::arg("target"), py::arg("weights"), py::arg("end"), py::arg("skip"))
      .def("gradient", &trainer_gradient<T>, py::arg("x"), py::arg("lengths"), py::arg("reset"), py::arg("start"),
           py::arg("target"), py::arg("weights"), py::arg("end"), py::arg("skip"), py::arg("first_row"),
           py::arg("ready"))
      .def_property_readonly("gradients", &trainer_gradients<T>)
      .def_property_readonly("gradient_norms",
                             [](Class& self) { return self.alone([&] { return self.trainer.gradient_norms(); }); })
      .def("apply", [](Class& self) { self.alone([&] { self.trainer.apply(); }); })
      .def("evaluate", &trainer_evaluate<T>, py::arg("x"), py::arg("lengths"), py::arg("reset"), py::arg("start"),
           py::arg("target"), py::arg("weights"), py::arg("end"), py::arg("skip"))
      .def_property_readonly("steps", [](Class& self) { return self.alone([&] { return self.trainer.steps(); }); })
      .def_property_readonly("seed", [](Class& self) { return self.alone([&] { return self.trainer.seed(); }); })
      .def_property(
          "checkpoint", [](Class& self) { return self.alone([&] { return self.trainer.checkpoint(); }); },
          [](Class& self, const py::object& value) {
            const Index checkpoint = index_argument(value, "checkpoint");
            self.alone([&] { self.trainer.set_checkpoint(checkpoint); });
          })
      .def(
          "restore",
          [](Class& self, const py::object& seed, const py::object& steps) {
            const std::uint64_t number = seed_argument(seed, "seed");
            std::vector<std::int64_t> counts = steps_argument(steps);
            self.alone([&] { self.trainer.restore(number, std::move(counts)); });
          },
          py::arg("seed"), py::arg("steps"));
}

// Adds the sums of squares of `pieces` consecutive pieces of equal size.
template <class T>
void add_squares(const py::handle& gradient, Index pieces, std::vector<std::vector<double>>& sums) {
  const py::array array = checked_array<const T>(gradient, "gradients", {Extent("size")});
  const T* const data = contiguous<const T>(gradient, "gradients", {array.shape(0)});
  if (pieces < 1 || array.shape(0) % pieces != 0) {
    throw py::value_error(complaint("pieces", "a number that divides the size", std::to_string(pieces)));
  }
  const Index size = array.shape(0) / pieces;
  const GilRelease release;
  for (Index piece = 0; piece < pieces; ++piece) {
    sums[static_cast<std::size_t>(piece)].push_back(sum_of_squares(data + piece * size, size));
  }
}

// The norms of pieces that consist of one piece of each array.
py::array gradient_norms(const py::object& gradients, const py::object& pieces) {
  const Index count = index_argument(pieces, "pieces");
  std::vector<std::vector<double>> sums(static_cast<std::size_t>(std::max<Index>(count, 0)));
  for (const py::handle gradient : sequence_argument(gradients, "gradients", "arrays")) {
    const bool single = py::isinstance<py::array>(gradient) &&
                        py::reinterpret_borrow<py::array>(gradient).dtype().itemsize() == sizeof(float);
    single ? add_squares<float>(gradient, count, sums) : add_squares<double>(gradient, count, sums);
  }
  py::array norms = new_array<double>({count});
  for (std::size_t piece = 0; piece < sums.size(); ++piece) {
    data_of<double>(norms)[piece] = joined_norm(std::move(sums[piece]));
  }
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
  module.def("loss_and_gradient", &loss_of_object, py::arg("loss"), py::arg("output"), py::arg("target"),
             py::arg("weights"), py::arg("lengths"), py::arg("members"));
  module.def(
      "outputs_per_target", [](const py::object& loss) { return outputs_per_target(loss_options(loss)); },
      py::arg("loss"));
  module.def("gradient_norms", &gradient_norms, py::arg("gradients"), py::arg("pieces"));
  module.def("all_finite", &is_finite_object, py::arg("values"));
  // The core's own functions, for whatever Python computes that decides weights.
  module.def("cos", &mathematics::cos, py::arg("x"));
  module.def("pow", &mathematics::pow, py::arg("base"), py::arg("exponent"));
  module.def("clip_scale", py::vectorize(clip_scale), py::arg("norm"), py::arg("clip_norm"));
}

}  // namespace latchwork::python
