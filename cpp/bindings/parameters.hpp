// A model's parameters as NumPy arrays.
#pragma once

#include <algorithm>
#include <memory>
#include <vector>

#include "arrays.hpp"
#include "latchwork/parameters.hpp"

namespace latchwork::python {

// (name, shape, offset) of each tensor.
inline py::list layout_list(const std::vector<ParameterSpec>& layout) {
  py::list entries;
  for (const ParameterSpec& spec : layout) {
    py::tuple shape(spec.shape.size());
    for (std::size_t axis = 0; axis < spec.shape.size(); ++axis) shape[axis] = spec.shape[axis];
    entries.append(py::make_tuple(spec.name, shape, spec.offset));
  }
  return entries;
}

// Read-only, keeps the store alive.
template <class T>
py::array parameter_view(const std::shared_ptr<ParameterStore<T>>& store, Index begin, Index count) {
  using Store = std::shared_ptr<ParameterStore<T>>;
  auto owner = std::make_unique<Store>(store);
  const T* const data = (*owner)->data() + begin;
  const py::capsule base(owner.get(), [](void* held) { delete static_cast<Store*>(held); });
  owner.release();
  py::array array(py::dtype::of<T>(), std::vector<py::ssize_t>{count}, data, base);
  py::detail::array_proxy(array.ptr())->flags &= ~py::detail::npy_api::NPY_ARRAY_WRITEABLE_;
  return array;
}

// As of one moment.
template <class T>
py::array parameter_copy(const ParameterStore<T>& store, Index begin, Index count) {
  py::array array = new_array<T>({count});
  T* const copy = data_of<T>(array);
  const py::gil_scoped_release release;
  store.read([&](const T* parameters) { std::copy_n(parameters + begin, count, copy); });
  return array;
}

}  // namespace latchwork::python
