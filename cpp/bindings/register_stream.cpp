// Binds Stream32 and Stream64, with as little work as possible between Python and the core's step.
#include <algorithm>
#include <cstring>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <variant>

#include "exclusive.hpp"
#include "latchwork/threads.hpp"
#include "options.hpp"
#include "register.hpp"

namespace latchwork::python {

namespace {

// A step keeps the GIL up to this many rows times parameters, because releasing and taking the GIL costs as much as a
// whole step of a small network. Only a step that releases it wakes the threads that share it, so this is less than the
// smallest step that threads share.
constexpr Index largest_work_with_gil = 70'000;

}  // namespace

template <class T>
StreamBinding<T>::StreamBinding(std::shared_ptr<const Network<T>> owner, Index row_count, bool has_batch_axis)
    : network(std::move(owner)),
      rows(row_count),
      batched(has_batch_axis),
      members(network->members()),
      input_size(network->input_size()),
      output_size(network->output_size()),
      embeds_columns(
          std::any_of(network->modules().begin(), network->modules().end(),
                      [](const ModuleOptions& module) { return std::holds_alternative<EmbedColumnsOptions>(module); })),
      vocabulary(network->takes_tokens() ? std::get<EmbeddingOptions>(network->modules().front()).num_embeddings : 0),
      releases_gil(rows > 0 && network->parameter_count() > largest_work_with_gil / rows),
      dtype(py::dtype::of<T>()),
      mask_dtype(py::dtype::of<bool>()),
      tokens(static_cast<std::size_t>(vocabulary > 0 ? members * rows : 0)) {
  const GilRelease release;
  stream = network->stream(rows);
  resets.reserve(static_cast<std::size_t>(members * rows));
  skips.reserve(static_cast<std::size_t>(members * rows));
}

namespace {

// Wakes the other threads that share a large step, if the previous step was less than a millisecond ago.
template <class T>
class SharedStep {
 public:
  explicit SharedStep(StreamBinding<T>& self) : self_(self.stream->is_shared() ? &self : nullptr) {
    if (self_ == nullptr) return;
    const auto pause = std::chrono::steady_clock::now() - self_->last_shared_step;
    if (pause < std::chrono::milliseconds(1)) wake_threads();
  }
  ~SharedStep() {
    if (self_ != nullptr) self_->last_shared_step = std::chrono::steady_clock::now();
  }
  SharedStep(const SharedStep&) = delete;
  SharedStep& operator=(const SharedStep&) = delete;

 private:
  StreamBinding<T>* self_;
};

// The shape, for one member, of an array that a step takes or returns.
template <class T>
Shape step_shape(const StreamBinding<T>& self, std::initializer_list<Extent> features) {
  Shape shape(features);
  if (self.batched) shape.push_front(Extent(self.rows));
  return shape;
}

// Marks what a step of a small network seldom needs, so that its code does not lie in the way of the rest.
#if defined(__GNUC__)
#define LATCHWORK_RARE [[gnu::noinline, gnu::cold]]
#else
#define LATCHWORK_RARE
#endif

template <class T>
LATCHWORK_RARE T* unusual_step_values(const StreamBinding<std::remove_const_t<T>>& self, PyObject* object,
                                      const char* name, Index features) {
  return contiguous<T>(object, name, step_shape(self, {features}));
}

// The numbers of one step of a network with one member. The usual argument is recognised by a few comparisons; for any
// other, the full checks say what is wrong with it, or find that it is usable.
template <class T>
T* step_values(const StreamBinding<std::remove_const_t<T>>& self, PyObject* object, const char* name, Index features) {
  using Api = py::detail::npy_api;
  constexpr int layout =
      Api::NPY_ARRAY_C_CONTIGUOUS_ | Api::NPY_ARRAY_ALIGNED_ | (std::is_const_v<T> ? 0 : Api::NPY_ARRAY_WRITEABLE_);
  if (Py_IS_TYPE(object, Api::get().PyArray_Type_)) {
    const auto* const array = py::detail::array_proxy(object);
    if (array->descr == self.dtype.ptr() && (array->flags & layout) == layout && array->nd == (self.batched ? 2 : 1) &&
        array->dimensions[array->nd - 1] == features && (!self.batched || array->dimensions[0] == self.rows)) {
      return reinterpret_cast<T*>(array->data);
    }
  }
  return unusual_step_values<T>(self, object, name, features);
}

// Whether a step leaves a row out for every member that reads the token at this place.
template <class T>
bool is_skipped(const StreamBinding<T>& self, const StepSkip& skip, Index token_stride, Index place) {
  if (skip.rows == nullptr) return false;
  const Index row = self.rows == 0 ? 0 : place % self.rows;
  const Index first = token_stride == 0 ? 0 : place / self.rows, last = token_stride == 0 ? self.members - 1 : first;
  for (Index member = first; member <= last; ++member) {
    if (skip.rows[member * skip.member_stride + row] == 0) return false;
  }
  return true;
}

// Checks the tokens of a step and copies them. Returns the stride from one member's tokens to the next's.
template <class T>
Index take_tokens(StreamBinding<T>& self, py::handle x, const StepSkip& skip) {
  const auto check = [&](std::int64_t token) {
    if (token < 0 || token >= self.vocabulary) {
      throw py::value_error(
          complaint("x", "tokens from 0 to " + std::to_string(self.vocabulary - 1), std::to_string(token)));
    }
    return token;
  };
  const Shape inner = step_shape(self, {});
  if (inner.size() == 0 && !has_member_axis(x, self.members, inner)) {
    const Index token = index_argument(x, "x");
    self.tokens[0] = is_skipped(self, skip, 0, 0) ? 0 : check(token);
    return 0;
  }
  const auto [given, stride] = member_elements<const std::int64_t>(x, "x", self.members, inner);
  const Index count = (stride == 0 ? 1 : self.members) * self.rows;
  for (Index at = 0; at < count; ++at) {
    self.tokens[static_cast<std::size_t>(at)] = is_skipped(self, skip, stride, at) ? 0 : check(given[at]);
  }
  return stride;
}

// A mask of a step as an array of numbers. What NumPy does not read as such is read as the masks of a call are.
py::array array_of_mask(PyObject* mask, const char* name) {
  if (PyObject* const array = py::detail::npy_api::get().PyArray_FromAny_(mask, nullptr, 0, 0, 0, nullptr)) {
    auto given = py::reinterpret_steal<py::array>(array);
    if (std::string_view("biuf").find(given.dtype().kind()) != std::string_view::npos) return given;
  }
  PyErr_Clear();
  const py::object read = py::module_::import("latchwork._arrays").attr("mask_numbers");
  return py::array(call_python(read, py::make_tuple(name, py::handle(mask))));
}

void check_mask_shape(const py::array& given, const char* name, const Shape& shape) {
  bool fits = static_cast<std::size_t>(given.ndim()) == shape.size();
  auto extent = shape.begin();
  for (py::ssize_t axis = 0; fits && axis < given.ndim(); ++axis, ++extent) fits = given.shape(axis) == extent->size;
  if (!fits) throw py::value_error(complaint(name, shape_text(shape), shape_text(given)));
}

template <class Number>
bool read_numbers_as_mask(const py::array& given, const char* name, std::uint8_t* marks) {
  const auto dtype = given.dtype();
  const char kind = std::is_same_v<Number, bool>       ? 'b'
                    : std::is_floating_point_v<Number> ? 'f'
                    : std::is_signed_v<Number>         ? 'i'
                                                       : 'u';
  const bool native = dtype.byteorder() == '=' || dtype.byteorder() == '|';
  if (dtype.kind() != kind || dtype.itemsize() != static_cast<py::ssize_t>(sizeof(Number)) || !native) return false;
  const py::ssize_t inner = given.ndim() == 0 ? 1 : given.shape(given.ndim() - 1);
  const py::ssize_t inner_stride = given.ndim() == 0 ? 0 : given.strides(given.ndim() - 1);
  const py::ssize_t outer_stride = given.ndim() == 2 ? given.strides(0) : 0;
  for (py::ssize_t at = 0; at < given.size(); ++at) {
    Number number;
    std::memcpy(&number, data_of<const char>(given) + at / inner * outer_stride + at % inner * inner_stride,
                sizeof(Number));
    if (!(number == Number(0) || number == Number(1))) {
      throw py::value_error(complaint(name, "0 or 1", std::string(py::str(given.attr("flat")[py::int_(at)]))));
    }
    marks[at] = number == Number(1);
  }
  return true;
}

// Reads a mask whose shape fits, but which is not of the usual form. Nothing is allocated for the dtypes that masks
// usually have.
void read_mask(const py::array& given, const char* name, std::uint8_t* marks) {
  if (given.size() == 0 || read_numbers_as_mask<bool>(given, name, marks) ||
      read_numbers_as_mask<float>(given, name, marks) || read_numbers_as_mask<double>(given, name, marks) ||
      read_numbers_as_mask<std::uint8_t>(given, name, marks) || read_numbers_as_mask<std::int8_t>(given, name, marks) ||
      read_numbers_as_mask<std::int32_t>(given, name, marks) ||
      read_numbers_as_mask<std::int64_t>(given, name, marks)) {
    return;
  }
  const auto converted = py::array_t<double, py::array::forcecast>::ensure(given);
  if (!converted) throw py::error_already_set();
  read_numbers_as_mask<double>(converted, name, marks);
}

// The elements of a mask that is a contiguous array of bool of the right shape, which are read where they are; null for
// any other.
template <class T>
const std::uint8_t* usual_mask(const StreamBinding<T>& self, PyObject* mask, Index& stride) {
  using Api = py::detail::npy_api;
  if (!self.batched || !Py_IS_TYPE(mask, Api::get().PyArray_Type_)) return nullptr;
  const auto* const array = py::detail::array_proxy(mask);
  const bool of_members = array->nd == 2 && self.members > 1 && array->dimensions[0] == self.members;
  if (array->descr != self.mask_dtype.ptr() || (array->flags & Api::NPY_ARRAY_C_CONTIGUOUS_) == 0 ||
      !(array->nd == 1 || of_members) || array->dimensions[array->nd - 1] != self.rows) {
    return nullptr;
  }
  stride = of_members ? self.rows : 0;
  return reinterpret_cast<const std::uint8_t*>(array->data);
}

// Reads one truth value, or one for each row, or one for each member and row. Sets `stride` to the stride from one
// member's values to the next's.
template <class T>
LATCHWORK_RARE const std::uint8_t* step_mask(const StreamBinding<T>& self, PyObject* mask, const char* name,
                                             std::vector<std::uint8_t>& marks, Index& stride) {
  static constexpr std::uint8_t marked = 1;
  if (PyBool_Check(mask) && !self.batched) return mask == Py_True ? &marked : nullptr;
  if (const std::uint8_t* const usual = usual_mask(self, mask, stride)) return usual;
  const py::array given = array_of_mask(mask, name);
  const Shape inner = step_shape(self, {});
  const bool shared = !has_member_axis(given, self.members, inner);
  check_mask_shape(given, name, shared ? inner : with_members(self.members, inner));
  marks.resize(static_cast<std::size_t>(given.size()));
  read_mask(given, name, marks.data());
  stride = shared ? 0 : self.rows;
  return marks.data();
}

template <class T>
py::object new_output(const StreamBinding<T>& self) {
  const auto& api = py::detail::npy_api::get();
  Py_intptr_t shape[3];
  int rank = 0;
  if (self.members > 1) shape[rank++] = self.members;
  if (self.batched) shape[rank++] = self.rows;
  shape[rank++] = self.output_size;
  PyObject* const array = api.PyArray_NewFromDescr_(api.PyArray_Type_, self.dtype.inc_ref().ptr(), rank, shape, nullptr,
                                                    nullptr, 0, nullptr);
  if (array == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(array);
}

// Tokens, or values of several members or with codes among them.
template <class T>
LATCHWORK_RARE const T* unusual_values(StreamBinding<T>& self, PyObject* x, const StepSkip& skip,
                                       StepStrides& strides) {
  if (self.vocabulary > 0) {
    strides.x = take_tokens(self, x, skip);
    return nullptr;
  }
  const auto [values, stride] = member_elements<const T>(x, "x", self.members, step_shape(self, {self.input_size}));
  strides.x = stride;
  try {
    self.stream->check_step(values, strides, skip);
  } catch (const std::invalid_argument& error) {
    throw py::value_error(error.what());
  }
  return values;
}

template <class T>
LATCHWORK_RARE T* output_of_members(const StreamBinding<T>& self, const py::object& output) {
  return contiguous<T>(output, "out", with_members(self.members, step_shape(self, {self.output_size})));
}

template <class T>
void run_step(StreamBinding<T>& self, const T* values, T* y, const std::uint8_t* restarts, const StepStrides& strides,
              const StepSkip& skip) {
  if (self.vocabulary > 0) {
    self.stream->step(self.tokens.data(), y, restarts, strides, skip);
  } else {
    self.stream->step(values, y, restarts, strides, skip);
  }
}

template <class T>
py::object step(StreamBinding<T>& self, PyObject* x, PyObject* out, PyObject* reset, PyObject* skip) {
  const StreamEntry entry(self.busy);
  StepStrides strides;
  StepSkip skipped;
  if (skip != nullptr && skip != Py_None) {
    skipped.rows = step_mask(self, skip, "skip", self.skips, skipped.member_stride);
    skipped.output = self.skipped_output;
  }
  const bool usual = self.vocabulary == 0 && self.members == 1 && !self.embeds_columns;
  const T* const values =
      usual ? step_values<const T>(self, x, "x", self.input_size) : unusual_values(self, x, skipped, strides);
  const std::uint8_t* const restarts =
      reset == nullptr || reset == Py_None ? nullptr : step_mask(self, reset, "reset", self.resets, strides.reset);
  py::object output = out == nullptr || out == Py_None ? new_output(self) : py::reinterpret_borrow<py::object>(out);
  T* const y =
      self.members == 1 ? step_values<T>(self, output.ptr(), "out", self.output_size) : output_of_members(self, output);
  if (self.releases_gil) {
    const GilRelease release;
    const std::lock_guard<ForkSafeMutex> whole(self.in_step);
    const SharedStep<T> shared(self);
    run_step(self, values, y, restarts, strides, skipped);
  } else {
    run_step(self, values, y, restarts, strides, skipped);
  }
  return output;
}

// Borrowed references to x, out, reset and skip of one call.
struct StepArguments {
  static constexpr Py_ssize_t count = 4;
  static constexpr const char* names[count] = {"x", "out", "reset", "skip"};
  PyObject* values[count] = {nullptr, nullptr, nullptr, nullptr};

  StepArguments(PyObject* const* arguments, Py_ssize_t positional, PyObject* keywords) {
    if (positional > count) {
      throw py::type_error("step() takes at most 4 arguments, got " + std::to_string(positional));
    }
    for (Py_ssize_t i = 0; i < positional; ++i) values[i] = arguments[i];
    const Py_ssize_t named = keywords == nullptr ? 0 : PyTuple_GET_SIZE(keywords);
    for (Py_ssize_t i = 0; i < named; ++i) {
      PyObject* const keyword = PyTuple_GET_ITEM(keywords, i);
      Py_ssize_t slot = 0;
      while (slot < count && PyUnicode_CompareWithASCIIString(keyword, names[slot]) != 0) ++slot;
      if (slot == count) throw py::type_error("step() got an unexpected keyword argument " + text(keyword));
      if (values[slot] != nullptr) throw py::type_error("step() got multiple values for argument " + text(keyword));
      values[slot] = arguments[positional + i];
    }
    if (values[0] == nullptr) throw py::type_error("step() is missing its argument x");
  }

 private:
  static std::string text(PyObject* keyword) { return py::repr(keyword); }
};

// step() with the signature by which CPython calls methods directly. pybind11's dispatch would take longer than a whole
// step of a small network.
template <class T>
[[gnu::hot]] PyObject* call_step(PyObject* self, PyObject* const* arguments, Py_ssize_t positional,
                                 PyObject* keywords) noexcept {
  try {
    // CPython has checked the class of self, but __new__ without __init__ makes an instance that holds no stream.
    void* const binding = reinterpret_cast<py::detail::instance*>(self)->get_value_and_holder().value_ptr();
    if (binding == nullptr) throw py::type_error("streams are made by Network.stream()");
    const StepArguments step_arguments(arguments, positional, keywords);
    return step(*static_cast<StreamBinding<T>*>(binding), step_arguments.values[0], step_arguments.values[1],
                step_arguments.values[2], step_arguments.values[3])
        .release()
        .ptr();
  } catch (py::error_already_set& error) {
    error.restore();
  } catch (const py::builtin_exception& error) {
    error.set_error();
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
  }
  return nullptr;
}

template <class T>
void add_step(const py::object& type) {
  // Static, because CPython keeps a pointer to the definition.
  static PyMethodDef definition = {
      "step", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(&call_step<T>)), METH_FASTCALL | METH_KEYWORDS,
      "step($self, x, out=None, reset=None, skip=None)\n--\n\nThe output of the next step."};
  PyObject* const method = PyDescr_NewMethod(reinterpret_cast<PyTypeObject*>(type.ptr()), &definition);
  if (method == nullptr) throw py::error_already_set();
  type.attr("step") = py::reinterpret_steal<py::object>(method);
}

template <class T>
py::list get_state(StreamBinding<T>& self) {
  py::list result;
  for (const StateSize& one : self.network->state_sizes()) {
    const auto new_states = [&](Index size) {
      std::vector<py::ssize_t> shape{one.count, self.rows, size};
      if (self.members > 1) shape.insert(shape.begin(), self.members);
      return new_array<T>(shape);
    };
    result.append(py::make_tuple(new_states(one.hidden), new_states(one.cell)));
  }
  const StateArrays<T> arrays(*self.network, self.rows, result, "state");
  const StreamEntry entry(self.busy);
  self.stream->get_state(arrays.states);
  return result;
}

template <class T>
void set_state(StreamBinding<T>& self, const py::object& states) {
  if (states.is_none()) throw py::type_error(complaint("states", "one pair for each module that has a state", "None"));
  const StateArrays<const T> arrays(*self.network, self.rows, states, "states");
  const StreamEntry entry(self.busy);
  self.stream->check_state(arrays.states);
  self.stream->set_state(arrays.states);
}

template <class T>
void reset(StreamBinding<T>& self) {
  const StreamEntry entry(self.busy);
  self.stream->reset();
}

template <class T>
void refresh(StreamBinding<T>& self) {
  const StreamEntry entry(self.busy);
  const GilRelease release;
  const std::lock_guard<ForkSafeMutex> whole(self.in_step);
  self.stream->refresh();
}

template <class T>
void register_stream_class(py::module_& module, const char* name) {
  using Class = StreamBinding<T>;
  py::class_<Class> type(module, name, py::is_final());
  type.def_property_readonly("batch_size",
                             [](const Class& self) -> py::object {
                               if (!self.batched) return py::none();
                               return py::int_(self.rows);
                             })
      .def_readonly("input_size", &Class::input_size)
      .def_readonly("output_size", &Class::output_size)
      .def("get_state", &get_state<T>)
      .def("set_state", &set_state<T>, py::arg("states"))
      .def("reset", &reset<T>)
      .def("refresh", &refresh<T>);
  add_step<T>(type);
}

}  // namespace

template struct StreamBinding<float>;
template struct StreamBinding<double>;

void register_stream(py::module_& module) {
  register_stream_class<float>(module, "Stream32");
  register_stream_class<double>(module, "Stream64");
}

}  // namespace latchwork::python
