// A model's parameters as NumPy arrays.
#pragma once

#include <algorithm>
#include <memory>
#include <vector>

#include "arrays.hpp"
#include "gil.hpp"
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

// (parameters,) if there is one member, (members, parameters) if there are several.
template <class T>
std::vector<py::ssize_t> parameters_shape(const Network<T>& network) {
  if (network.members() == 1) return {network.member_parameter_count()};
  return {network.members(), network.member_parameter_count()};
}

// A read-only view of the parameters, which keeps their store alive.
template <class T>
py::array parameter_view(const Network<T>& network) {
  using Store = std::shared_ptr<ParameterStore<T>>;
  constexpr auto item = static_cast<py::ssize_t>(sizeof(T));
  auto owner = std::make_unique<Store>(network.store());
  const T* const data = (*owner)->data() + network.parameters_begin();
  const py::capsule base(owner.get(), [](void* held) { delete static_cast<Store*>(held); });
  owner.release();
  std::vector<py::ssize_t> strides{item};
  if (network.members() > 1) strides.insert(strides.begin(), network.member_stride() * item);
  py::array array(py::dtype::of<T>(), parameters_shape(network), strides, data, base);
  py::detail::array_proxy(array.ptr())->flags &= ~py::detail::npy_api::NPY_ARRAY_WRITEABLE_;
  return array;
}

// A copy of the parameters, taken while no other thread can write them.
template <class T>
py::array parameter_copy(const Network<T>& network) {
  py::array array(py::dtype::of<T>(), parameters_shape(network));
  T* copy = data_of<T>(array);
  const GilRelease release;
  network.store()->read([&](const T* parameters) {
    for (Index member = 0; member < network.members(); ++member) {
      copy = std::copy_n(parameters + network.parameters_begin() + member * network.member_stride(),
                         network.member_parameter_count(), copy);
    }
  });
  return array;
}

}  // namespace latchwork::python
