// Binds the core's own random numbers, elementary functions and sums of columns, for what Python computes itself:
// NumPy's differ from one CPU or version to the next.
#include <algorithm>
#include <string>
#include <vector>

#include "arrays.hpp"
#include "gil.hpp"
#include "machine/mathematics.hpp"
#include "machine/random.hpp"
#include "options.hpp"
#include "register.hpp"
#include "training/columns.hpp"

namespace latchwork::python {
namespace {

// The last word of the counter, which keeps these numbers apart from those that other parts of the library draw with
// the same seed.
constexpr std::uint32_t drawn_by_python = 0x64726177;

// Numbers `first` to first + count - 1 of the endless sequence of random 32-bit numbers that belongs to the seed.
py::array_t<std::uint32_t> random_words(const py::object& seed, const py::object& first, const py::object& count) {
  const std::uint64_t key = seed_argument(seed, "seed");
  const Index begin = size_argument(first, "first"), size = size_argument(count, "count");
  py::array_t<std::uint32_t> words(size);
  std::uint32_t* const to = words.mutable_data();
  std::array<std::uint32_t, 4> block{};
  for (Index at = 0; at < size; ++at) {
    const auto number = static_cast<std::uint64_t>(begin + at);
    if (at == 0 || number % 4 == 0) {
      const std::uint64_t counter = number / 4;
      block = philox(
          key, {static_cast<std::uint32_t>(counter), static_cast<std::uint32_t>(counter >> 32), 0, drawn_by_python});
    }
    to[at] = block[number % 4];
  }
  return words;
}

// The function of each element of a C-contiguous array of float64, in a new array of the same shape.
template <double (*function)(double)>
py::array_t<double> of_each(const py::array_t<double, py::array::c_style | py::array::forcecast>& values) {
  py::array_t<double> results(std::vector<py::ssize_t>(values.shape(), values.shape() + values.ndim()));
  std::transform(values.data(), values.data() + values.size(), results.mutable_data(), function);
  return results;
}

template <class T>
using Table = py::array_t<T, py::array::c_style>;
using Numbers = py::array_t<double, py::array::c_style | py::array::forcecast>;

template <class T>
py::tuple column_extents(const Table<T>& values) {
  if (values.ndim() != 2) throw py::value_error("values: expected (rows, columns)");
  const Index rows = values.shape(0), columns = values.shape(1);
  py::array_t<Index> counts(columns);
  Numbers least(columns), largest(columns);
  Index* const to_counts = counts.mutable_data();
  double* const to_least = least.mutable_data();
  double* const to_largest = largest.mutable_data();
  {
    const GilRelease release;
    detail::column_extents(values.data(), rows, columns, to_counts, to_least, to_largest);
  }
  return py::make_tuple(counts, least, largest);
}

template <class T>
Numbers column_sums(const Table<T>& values, const Numbers& units, const py::object& means) {
  if (values.ndim() != 2) throw py::value_error("values: expected (rows, columns)");
  const Index rows = values.shape(0), columns = values.shape(1);
  const Numbers of_mean = means.is_none() ? Numbers(columns) : means.cast<Numbers>();
  if (units.size() != columns || of_mean.size() != columns) {
    throw py::value_error("units, means: expected one for each column");
  }
  Numbers sums(columns);
  double* const to = sums.mutable_data();
  const double* const from = means.is_none() ? nullptr : of_mean.data();
  {
    const GilRelease release;
    detail::column_sums(values.data(), rows, columns, units.data(), from, to);
  }
  return sums;
}

template <class T>
void register_columns(py::module_& module) {
  module.def("column_extents", &column_extents<T>, py::arg("values").noconvert());
  module.def("column_sums", &column_sums<T>, py::arg("values").noconvert(), py::arg("units"), py::arg("means"));
}

}  // namespace

void register_numbers(py::module_& module) {
  module.def("random_words", &random_words, py::arg("seed"), py::arg("first"), py::arg("count"));
  module.def("exp", &of_each<mathematics::exp>, py::arg("values"));
  module.def("log", &of_each<mathematics::log>, py::arg("values"));
  register_columns<float>(module);
  register_columns<double>(module);
}

}  // namespace latchwork::python
