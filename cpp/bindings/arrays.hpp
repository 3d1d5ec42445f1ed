// Turns NumPy arrays into the core's views. Arrays are checked, and none is converted or copied silently.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "latchwork/network.hpp"

namespace latchwork::python {

namespace py = pybind11;

// One axis of an expected shape: a size, or a name for messages, which any size fits.
struct Extent {
  Extent(Index expected) : size(expected) {}  // NOLINT(google-explicit-constructor): shapes read as lists of sizes
  explicit Extent(const char* name) : symbol(name) {}

  Index size = -1;
  const char* symbol = nullptr;
};

// The axes of an expected shape. They lie in the object itself, because a call of a tiny network checks several shapes
// and would notice the allocations.
class Shape {
 public:
  Shape(std::initializer_list<Extent> extents) {
    for (const Extent& extent : extents) push_back(extent);
  }
  explicit Shape(const std::vector<Index>& sizes) {
    for (const Index size : sizes) push_back(size);
  }

  std::size_t size() const { return size_; }
  Extent* begin() { return extents_.data(); }
  Extent* end() { return begin() + size_; }
  const Extent* begin() const { return extents_.data(); }
  const Extent* end() const { return begin() + size_; }
  const Extent& front() const { return extents_[0]; }
  const Extent& back() const { return extents_[size_ - 1]; }
  void pop_back() { --size_; }
  void push_back(const Extent& extent) { extents_.at(size_++) = extent; }
  void push_front(const Extent& extent) {
    push_back(extent);
    std::rotate(begin(), end() - 1, end());
  }

 private:
  // Members, steps, rows, features.
  std::array<Extent, 4> extents_{0, 0, 0, 0};
  std::size_t size_ = 0;
};

template <class T>
constexpr const char* dtype_name() {
  if constexpr (std::is_same_v<T, float>) return "float32";
  if constexpr (std::is_same_v<T, double>) return "float64";
  if constexpr (std::is_same_v<T, bool>) return "bool";
  if constexpr (std::is_same_v<T, std::int64_t>) return "int64";
}

inline std::string complaint(std::string_view name, std::string_view expected, std::string_view got) {
  return std::string(name).append(": expected ").append(expected).append(", got ").append(got);
}

inline std::string tuple_text(const std::vector<std::string>& items) {
  std::string text = "(";
  for (std::size_t i = 0; i < items.size(); ++i) text.append(i > 0 ? ", " : "").append(items[i]);
  return text.append(items.size() == 1 ? ",)" : ")");
}

inline std::string shape_text(const Shape& shape) {
  std::vector<std::string> items;
  for (const Extent& extent : shape) {
    items.emplace_back(extent.symbol != nullptr ? extent.symbol : std::to_string(extent.size));
  }
  return tuple_text(items);
}

inline std::string shape_text(const py::array& array) {
  std::vector<std::string> items;
  for (py::ssize_t axis = 0; axis < array.ndim(); ++axis) items.push_back(std::to_string(array.shape(axis)));
  return tuple_text(items);
}

// Returns the object as an array if it has the dtype in native byte order, the shape and aligned elements and, unless T
// is const, is writeable. A wrong type, dtype or memory layout is a TypeError, all else a ValueError.
template <class T>
py::array checked_array(py::handle object, std::string_view name, const Shape& shape) {
  using Value = std::remove_const_t<T>;
  const auto expected = [] { return std::string("an array of ") + dtype_name<Value>(); };
  if (!py::isinstance<py::array>(object)) {
    throw py::type_error(complaint(name, expected(), Py_TYPE(object.ptr())->tp_name));
  }
  auto array = py::reinterpret_borrow<py::array>(object);

  const py::dtype dtype = array.dtype();
  constexpr char kind = std::is_floating_point_v<Value> ? 'f' : std::is_same_v<Value, bool> ? 'b' : 'i';
  const bool native = dtype.byteorder() == '=' || dtype.byteorder() == '|';
  if (dtype.kind() != kind || dtype.itemsize() != static_cast<py::ssize_t>(sizeof(Value)) || !native) {
    throw py::type_error(complaint(name, expected(), std::string(py::str(dtype))));
  }

  bool fits = static_cast<std::size_t>(array.ndim()) == shape.size();
  auto extent = shape.begin();
  for (py::ssize_t axis = 0; fits && axis < array.ndim(); ++axis, ++extent) {
    fits = extent->symbol != nullptr || array.shape(axis) == extent->size;
  }
  if (!fits) throw py::value_error(complaint(name, shape_text(shape), shape_text(array)));

  if ((array.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_) == 0) {
    throw py::type_error(complaint(name, "aligned elements", "an unaligned array"));
  }
  if (!std::is_const_v<T> && !array.writeable()) {
    throw py::value_error(complaint(name, "a writeable array", "a read-only one"));
  }
  return array;
}

template <class T>
T* data_of(const py::array& array) {
  return reinterpret_cast<T*>(py::detail::array_proxy(array.ptr())->data);
}

// The elements of a C-contiguous array.
template <class T>
T* contiguous(py::handle object, std::string_view name, const Shape& shape) {
  const py::array array = checked_array<T>(object, name, shape);
  if ((array.flags() & py::array::c_style) == 0) {
    throw py::type_error(complaint(name, "a C-contiguous array", "another memory layout"));
  }
  return data_of<T>(array);
}

// The stride along an axis, in elements; 0 if the axis has fewer than two.
template <class T>
Index stride_of(const py::array& array, std::string_view name, int axis) {
  constexpr auto item = static_cast<py::ssize_t>(sizeof(T));
  if (array.shape(axis) < 2) return 0;  // NumPy leaves such a stride undefined, and nothing uses it
  if (array.strides(axis) % item != 0)
    throw py::type_error(complaint(name, "strides that are multiples of the item size", "others"));
  return array.strides(axis) / item;
}

// A view of an array whose axes from `first` on are steps, rows and, if there is a third one, contiguous features.
template <class T>
SequenceView<T> sequence(const py::array& array, std::string_view name, int first = 0) {
  if (array.size() == 0) return {data_of<T>(array), 0, 0};
  constexpr auto item = static_cast<py::ssize_t>(sizeof(T));
  if (array.ndim() == first + 3 && array.shape(first + 2) > 1 && array.strides(first + 2) != item) {
    throw py::type_error(complaint(name, "contiguous features (last axis)", "another memory layout"));
  }
  return {data_of<T>(array), stride_of<T>(array, name, first), stride_of<T>(array, name, first + 1)};
}

// ---- Members. If a network has several, arrays have an axis of members in front. An array that is only read may lack
// it and is then shared by all members.

inline Shape with_members(Index members, Shape inner) {
  if (members > 1) inner.push_front(Extent(members));
  return inner;
}

inline bool has_member_axis(py::handle object, Index members, const Shape& inner) {
  return members > 1 && py::isinstance<py::array>(object) &&
         py::reinterpret_borrow<py::array>(object).ndim() == static_cast<py::ssize_t>(inner.size()) + 1;
}

// `inner` is the shape for one member.
template <class T>
py::array member_array(py::handle object, std::string_view name, Index members, const Shape& inner) {
  const bool shared = members == 1 || (std::is_const_v<T> && !has_member_axis(object, members, inner));
  if (shared) return checked_array<T>(object, name, inner);
  return checked_array<T>(object, name, with_members(members, inner));
}

// `rank` is the number of axes for one member.
template <class T>
SequenceView<T> member_sequence(const py::array& array, std::string_view name, std::size_t rank) {
  const int first = array.ndim() > static_cast<py::ssize_t>(rank) ? 1 : 0;
  SequenceView<T> view = sequence<T>(array, name, first);
  if (first == 1 && array.size() > 0) view.member_stride = stride_of<T>(array, name, 0);
  return view;
}

template <class T>
SequenceView<T> member_sequence(py::handle object, std::string_view name, Index members, const Shape& inner) {
  return member_sequence<T>(member_array<T>(object, name, members, inner), name, inner.size());
}

// The elements of a C-contiguous array, and the stride from one member to the next, which is 0 if they share it.
template <class T>
std::pair<T*, Index> member_elements(py::handle object, std::string_view name, Index members, const Shape& inner) {
  const bool shared = members == 1 || (std::is_const_v<T> && !has_member_axis(object, members, inner));
  if (shared) return {contiguous<T>(object, name, inner), 0};
  Index size = 1;
  for (const Extent& extent : inner) size *= extent.size;
  return {contiguous<T>(object, name, with_members(members, inner)), size};
}

// Copies what the view shows to contiguous memory, member by member and step by step, and lets the view show the copy.
// What the core checks and then relies on must be copied, because another thread could write to the caller's array
// between the check and the use, while the GIL is released.
template <class T>
std::vector<T> copied(SequenceView<const T>& view, Index members, Index steps, Index rows) {
  const Index copies = view.member_stride == 0 ? 1 : members;
  std::vector<T> copy;
  copy.reserve(static_cast<std::size_t>(copies * steps * rows));
  for (Index member = 0; member < copies; ++member) {
    const SequenceView<const T> values = view.of(member);
    for (Index step = 0; step < steps; ++step) {
      for (Index row = 0; row < rows; ++row) copy.push_back(*values.at(step, row));
    }
  }
  view = {copy.data(), rows, 1, copies == 1 ? 0 : steps * rows};
  return copy;
}

// The items of a sequence, which must be `size` items long.
inline py::tuple tuple_of(py::handle object, std::string_view name, Index size, std::string_view expected) {
  if (!py::isinstance<py::sequence>(object)) {
    throw py::type_error(complaint(name, expected, Py_TYPE(object.ptr())->tp_name));
  }
  py::tuple items(py::reinterpret_borrow<py::object>(object));
  if (static_cast<Index>(items.size()) != size) {
    throw py::value_error(complaint(name, expected, std::to_string(items.size()) + " items"));
  }
  return items;
}

// The states of a network's modules, which are read if T is const and written otherwise. None means no states.
template <class T>
struct StateArrays {
  States<T> states;
  std::vector<py::object> kept;  // kept alive here, because the caller's list may change while the GIL is released

  StateArrays(const Network<std::remove_const_t<T>>& network, Index rows, py::handle object, std::string_view name) {
    if (object.is_none()) return;
    const std::vector<StateSize>& sizes = network.state_sizes();
    const py::tuple modules =
        tuple_of(object, name, static_cast<Index>(sizes.size()), "one pair for each module that has a state");
    for (std::size_t index = 0; index < sizes.size(); ++index) {
      const StateSize& size = sizes[index];
      const std::string label = std::string(name) + "[" + std::to_string(index) + "]";
      const py::tuple pair = tuple_of(modules[index], label, 2, "(h, c)");
      const auto [hidden, hidden_stride] =
          member_elements<T>(pair[0], label + "[0]", network.members(), {size.count, rows, size.hidden});
      const auto [cell, cell_stride] =
          member_elements<T>(pair[1], label + "[1]", network.members(), {size.count, rows, size.cell});
      states.push_back({hidden, cell, hidden_stride, cell_stride});
      kept.push_back(pair);
    }
  }
};

// Copies of a batch's lengths and masks.
class BatchArrays {
 public:
  BatchArrays() = default;
  BatchArrays(const BatchArrays&) = delete;
  BatchArrays& operator=(const BatchArrays&) = delete;

  // Fills in the lengths and masks of `batch`, whose sizes are set.
  void read(Index members, py::handle lengths, py::handle reset, py::handle skip, Batch& batch) {
    if (!lengths.is_none()) {
      const auto [elements, stride] = member_elements<const std::int64_t>(lengths, "lengths", members, {batch.rows});
      lengths_.assign(elements, elements + (stride == 0 ? 1 : members) * batch.rows);
      batch.lengths = lengths_.data();
      batch.lengths_member_stride = stride;
    }
    if (!reset.is_none()) reset_ = read_mask(members, reset, "reset", batch, batch.reset);
    if (!skip.is_none()) skip_ = read_mask(members, skip, "skip", batch, batch.skip);
  }

 private:
  // Lets `mask` show a copy of the array, which is returned.
  static std::vector<std::uint8_t> read_mask(Index members, py::handle object, std::string_view name,
                                             const Batch& batch, SequenceView<const std::uint8_t>& mask) {
    const auto view = member_sequence<const bool>(object, name, members, {batch.steps, batch.rows});
    mask = {reinterpret_cast<const std::uint8_t*>(view.data), view.step_stride, view.row_stride, view.member_stride};
    return copied(mask, members, batch.steps, batch.rows);
  }

  std::vector<Index> lengths_;
  std::vector<std::uint8_t> reset_, skip_;
};

// The checked arguments that forward, record and training steps have in common.
template <class T>
struct Sequences {
  Input<T> input;
  Batch batch;

  Sequences(const Network<T>& network, py::handle x, py::handle lengths, py::handle reset, py::handle skip,
            bool zero_skipped = false) {
    const Index members = network.members();
    Shape inner{Extent("T"), Extent("N")};
    if (network.takes_tokens()) {
      const py::array array = member_array<const std::int64_t>(x, "x", members, inner);
      set_size(array, inner.size());
      input.tokens = member_sequence<const std::int64_t>(array, "x", inner.size());
      tokens_ = copied(input.tokens, members, batch.steps, batch.rows);
    } else {
      inner.push_back(network.input_size());
      const py::array array = member_array<const T>(x, "x", members, inner);
      set_size(array, inner.size());
      input.values = member_sequence<const T>(array, "x", inner.size());
    }
    batch_arrays_.read(members, lengths, reset, skip, batch);
    if (zero_skipped) batch.skipped_output = SkippedOutput::zero;
  }
  Sequences(const Sequences&) = delete;
  Sequences& operator=(const Sequences&) = delete;

 private:
  // `rank` is the number of axes for one member.
  void set_size(const py::array& x, std::size_t rank) {
    const py::ssize_t first = x.ndim() - static_cast<py::ssize_t>(rank);
    batch.steps = x.shape(first);
    batch.rows = x.shape(first + 1);
  }

  std::vector<std::int64_t> tokens_;
  BatchArrays batch_arrays_;
};

// The shape of one member's output for an input of `steps` and `rows`.
template <class T>
Shape output_shape(const Network<T>& network, Index steps, Index rows) {
  return {network.keeps_sequence() ? steps : 1, rows, network.output_size()};
}

template <class T>
py::array new_array(const std::vector<py::ssize_t>& shape) {
  return py::array(py::dtype::of<T>(), shape);
}

}  // namespace latchwork::python
