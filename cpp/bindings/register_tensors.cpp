// Adds to Network32 and Network64 what latchwork.torch calls: runs and recordings on the memory of tensors that belong
// to another library, which are given by their addresses. Nothing here can check what lies there, so the caller has
// checked dtypes, shapes and memory layouts.
#include <pybind11/stl.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include "latchwork/threads.hpp"
#include "machine/parallel.hpp"
#include "machine/team.hpp"
#include "options.hpp"
#include "register.hpp"

namespace latchwork::python {
namespace {

using Address = std::uintptr_t;  // 0: no tensor
// The address of the first element, and the strides of steps and rows in elements.
using Sequence = std::tuple<Address, Index, Index>;
using Pair = std::pair<Address, Address>;             // h and c, each (layers times directions, rows, features)
using Sizes = std::pair<Index, Index>;                // steps and rows
using Masks = std::tuple<Address, Address, Address>;  // int64 lengths (rows,), bool resets and skips (steps, rows)

template <class T>
T* elements_at(Address address) {
  return reinterpret_cast<T*>(address);
}

template <class T>
SequenceView<T> view_of(const Sequence& sequence) {
  const auto& [address, step_stride, row_stride] = sequence;
  return {elements_at<T>(address), step_stride, row_stride};
}

template <class T>
States<T> states_of(const Pair& pair) {
  if (pair.first == 0 && pair.second == 0) return {};
  return {State<T>{elements_at<T>(pair.first), elements_at<T>(pair.second)}};
}

template <class T>
Tensors<T> tensors_of(const std::vector<Address>& addresses) {
  Tensors<T> tensors;
  tensors.reserve(addresses.size());
  for (const Address address : addresses) tensors.push_back(elements_at<const T>(address));
  return tensors;
}

// How many rows each step of a packed sequence has, in descending order. The steps of such a sequence follow one
// another in memory without padding.
using BatchSizes = std::vector<Index>;

// Copies a packed sequence to one of whole steps, or the other way round; what lies in padding is left as it is.
template <class T>
void pad_sequence(const BatchSizes& sizes, Index rows, Index features, const T* packed, T* padded) {
  for (const Index size : sizes) {
    std::copy_n(packed, size * features, padded);
    packed += size * features;
    padded += rows * features;
  }
}
template <class T>
void pack_sequence(const BatchSizes& sizes, const SequenceView<const T>& padded, Index features, T* packed) {
  for (std::size_t step = 0; step < sizes.size(); ++step) {
    for (Index row = 0; row < sizes[step]; ++row, packed += features) {
      std::copy_n(padded.at(static_cast<Index>(step), row), features, packed);
    }
  }
}

// Copies what a tape kept of the output, and writes zeros to padding.
template <class T>
void copy_output(const Batch& batch, Index features, const SequenceView<const T>& kept, const SequenceView<T>& output) {
  const auto is_whole = [&](Index row_stride, Index step_stride) {
    return row_stride == features && step_stride == batch.rows * features;
  };
  if (batch.lengths == nullptr && is_whole(kept.row_stride, kept.step_stride) &&
      is_whole(output.row_stride, output.step_stride)) {
    return void(std::copy_n(kept.data, batch.steps * batch.rows * features, output.data));
  }
  for (Index step = 0; step < batch.steps; ++step) {
    for (Index row = 0; row < batch.rows; ++row) {
      T* const to = output.at(step, row);
      if (batch.lengths != nullptr && step >= batch.lengths[row]) {
        std::fill_n(to, features, T(0));
      } else {
        std::copy_n(kept.at(step, row), features, to);
      }
    }
  }
}

// A batch with copies of its lengths and masks, made while the GIL is held.
struct TensorBatch {
  Batch batch;
  std::vector<Index> lengths;
  std::vector<std::uint8_t> reset, skip;
  BatchSizes sizes;  // of a packed sequence; empty: the sequence is not packed

  TensorBatch(const Sizes& steps_and_rows, const Masks& masks, Address batch_sizes) {
    std::tie(batch.steps, batch.rows) = steps_and_rows;
    const auto [length_address, reset_address, skip_address] = masks;
    if (batch_sizes != 0) {
      const auto* const begin = elements_at<const std::int64_t>(batch_sizes);
      sizes.assign(begin, begin + batch.steps);
      lengths.assign(static_cast<std::size_t>(batch.rows), 0);
      for (const Index size : sizes) {
        if (size < 1 || size > batch.rows) {
          throw py::value_error(complaint("batch_sizes", "1 to " + std::to_string(batch.rows), std::to_string(size)));
        }
        for (Index row = 0; row < size; ++row) ++lengths[static_cast<std::size_t>(row)];
      }
    } else if (length_address != 0) {
      const auto* const begin = elements_at<const std::int64_t>(length_address);
      lengths.assign(begin, begin + batch.rows);
    }
    if (!lengths.empty()) batch.lengths = lengths.data();
    copy_mask(reset_address, reset, batch.reset);
    copy_mask(skip_address, skip, batch.skip);
  }
  TensorBatch(const TensorBatch&) = delete;
  TensorBatch& operator=(const TensorBatch&) = delete;

 private:
  void copy_mask(Address address, std::vector<std::uint8_t>& copy, SequenceView<const std::uint8_t>& mask) const {
    if (address == 0) return;
    const auto* const begin = elements_at<const std::uint8_t>(address);
    copy.assign(begin, begin + batch.steps * batch.rows);
    mask = {copy.data(), batch.rows, 1};
  }
};

// Memory for a padded sequence; what lies in it at first means nothing.
template <class T>
std::unique_ptr<T[]> padded_memory(const Batch& batch, Index features) {
  return std::unique_ptr<T[]>(new T[static_cast<std::size_t>(batch.steps * batch.rows * features)]);
}

template <class T>
SequenceView<T> whole_steps(T* memory, const Batch& batch, Index features) {
  return {memory, batch.rows * features, features};
}

// The input as the core takes it: a packed one is copied into `memory`.
template <class T>
Input<T> input_of(const Sequence& x, const TensorBatch& given, Index features, std::unique_ptr<T[]>& memory) {
  const auto view = view_of<const T>(x);
  if (given.sizes.empty()) return {view, {}};
  memory = padded_memory<T>(given.batch, features);
  pad_sequence(given.sizes, given.batch.rows, features, view.data, memory.get());
  return {whole_steps<const T>(memory.get(), given.batch, features), {}};
}

// Calls body() without the GIL. It uses at most `threads` threads: PyTorch's, if its team function is known and if the
// work, in multiply-adds, is enough to ask all of them for it.
template <class Body>
void call_on_threads(Index threads, Index work, Body&& body) {
  const GilRelease release;
  const ThreadLimit limit(threads);
  if (work / threads < smallest_parallel_work / 2) return body();
  run_in_team(threads, body);
}

// The multiply-adds of a call, roughly.
template <class T>
Index work_of(const Network<T>& network, const Batch& batch) {
  return batch.steps * batch.rows * network.member_parameter_count();
}

template <class T>
void run_tensors(const Network<T>& self, const std::vector<Address>& parameters, const Sizes& sizes, const Sequence& x,
                 const Masks& masks, Address batch_sizes, const Pair& start, const Sequence& output, const Pair& end,
                 Index threads) {
  const TensorBatch given(sizes, masks, batch_sizes);
  call_on_threads(threads, work_of(self, given.batch), [&] {
    std::unique_ptr<T[]> x_memory, output_memory;
    const Input<T> input = input_of(x, given, self.input_size(), x_memory);
    auto output_view = view_of<T>(output);
    if (!given.sizes.empty()) {
      output_memory = padded_memory<T>(given.batch, self.output_size());
      output_view = whole_steps(output_memory.get(), given.batch, self.output_size());
    }
    self.forward(input, given.batch, states_of<const T>(start), output_view, states_of<T>(end),
                 tensors_of<T>(parameters));
    if (!given.sizes.empty())
      pack_sequence(given.sizes, read_only(output_view), self.output_size(), elements_at<T>(std::get<0>(output)));
  });
}

// A tape, and what gives the shapes of the arguments of backward.
template <class T>
struct TensorTape {
  std::shared_ptr<Tape<T>> tape;
  Batch batch;  // without masks
  BatchSizes sizes;
  Index input_size, output_size;
  Index work;              // of the forward pass
  std::uint8_t place = 0;  // its address is what backward finds the tape by
};

// The tapes that are alive, by the addresses of their places. Used under the GIL only.
template <class T>
std::unordered_map<Address, const std::shared_ptr<TensorTape<T>>*>& living_tapes() {
  // Never destroyed, because a tensor may live longer than this library's other variables.
  static auto& tapes = *new std::unordered_map<Address, const std::shared_ptr<TensorTape<T>>*>;
  return tapes;
}

// An array of one number that keeps the tape alive, and by whose address backward finds it.
template <class T>
py::array owner_of(std::shared_ptr<TensorTape<T>> tape) {
  using Held = std::shared_ptr<TensorTape<T>>;
  auto owner = std::make_unique<Held>(std::move(tape));
  Held* const held = owner.get();
  std::uint8_t* const place = &(*held)->place;
  const py::capsule base(held, [](void* kept) {
    const std::unique_ptr<Held> released(static_cast<Held*>(kept));
    living_tapes<T>().erase(reinterpret_cast<Address>(&(*released)->place));
    // The tape returns large pieces of memory to its network under a lock.
    const GilRelease release;
    released->reset();
  });
  owner.release();
  living_tapes<T>().emplace(reinterpret_cast<Address>(place), held);
  return py::array(py::dtype::of<std::uint8_t>(), {py::ssize_t(1)}, {py::ssize_t(1)}, place, base);
}

template <class T>
py::array record_tensors(const std::shared_ptr<Network<T>>& self, const std::vector<Address>& parameters,
                         const Sizes& sizes, const Sequence& x, const Masks& masks, Address batch_sizes,
                         const Pair& start, const Sequence& output, const Pair& end, Index threads,
                         const py::object& mask_seed, Index checkpoint) {
  TensorBatch given(sizes, masks, batch_sizes);
  RecordOptions options;
  options.training = !mask_seed.is_none();
  if (options.training) options.mask_seed = seed_argument(mask_seed, "mask_seed");
  options.checkpoint = checkpoint;
  auto result = std::make_shared<TensorTape<T>>();
  call_on_threads(threads, work_of(*self, given.batch), [&] {
    const Batch& batch = given.batch;
    const Index features = self->output_size();
    std::unique_ptr<T[]> x_memory, output_memory;
    const Input<T> input = input_of(x, given, self->input_size(), x_memory);
    const auto output_view = view_of<T>(output);
    // With checkpoints the tape keeps no output, and does not read the one that is written. Otherwise it keeps its own,
    // so that the caller's may be changed before backward.
    SequenceView<T> written;
    if (checkpoint > 0) {
      written = output_view;
      if (!given.sizes.empty()) {
        output_memory = padded_memory<T>(batch, features);
        written = whole_steps(output_memory.get(), batch, features);
      }
    }
    result->tape = self->record(input, batch, states_of<const T>(start), written, states_of<T>(end), options,
                                tensors_of<T>(parameters));
    const SequenceView<const T> kept = checkpoint > 0 ? read_only(written) : result->tape->output();
    if (!given.sizes.empty()) {
      pack_sequence(given.sizes, kept, features, output_view.data);
    } else if (checkpoint == 0 && output_view.data != nullptr) {
      copy_output(batch, features, kept, output_view);
    }
    result->batch.steps = batch.steps;
    result->batch.rows = batch.rows;
    result->sizes = std::move(given.sizes);
    result->input_size = self->input_size();
    result->output_size = features;
    result->work = work_of(*self, batch);
  });
  return owner_of<T>(std::move(result));
}

template <class T>
bool backward_tensors(Address place, const Sequence& d_output, const Pair& d_end, Address parameters,
                      const Sequence& d_input, const Pair& d_start, Index threads) {
  const auto found = living_tapes<T>().find(place);
  if (found == living_tapes<T>().end()) return false;
  const std::shared_ptr<TensorTape<T>> tape = *found->second;
  call_on_threads(threads, tape->work, [&] {
    std::unique_ptr<T[]> d_output_memory, d_input_memory;
    auto d_output_view = view_of<const T>(d_output);
    auto d_input_view = view_of<T>(d_input);
    if (!tape->sizes.empty()) {
      if (d_output_view.data != nullptr) {
        d_output_memory = padded_memory<T>(tape->batch, tape->output_size);
        pad_sequence(tape->sizes, tape->batch.rows, tape->output_size, d_output_view.data, d_output_memory.get());
        d_output_view = whole_steps<const T>(d_output_memory.get(), tape->batch, tape->output_size);
      }
      if (d_input_view.data != nullptr) {
        d_input_memory = padded_memory<T>(tape->batch, tape->input_size);
        d_input_view = whole_steps(d_input_memory.get(), tape->batch, tape->input_size);
      }
    }
    tape->tape->backward(d_output_view, states_of<const T>(d_end), elements_at<T>(parameters), false, d_input_view,
                         states_of<T>(d_start));
    if (!tape->sizes.empty() && d_input_view.data != nullptr) {
      pack_sequence(tape->sizes, read_only(d_input_view), tape->input_size, elements_at<T>(std::get<0>(d_input)));
    }
  });
  return true;
}

template <class T>
void register_tensor_calls(py::module_& module, const char* network) {
  py::class_<Network<T>, std::shared_ptr<Network<T>>>(py::object(module.attr(network)))
      .def("run_tensors", &run_tensors<T>, py::arg("parameters"), py::arg("sizes"), py::arg("x"), py::arg("masks"),
           py::arg("batch_sizes"), py::arg("start"), py::arg("output"), py::arg("end"), py::arg("threads"))
      .def("record_tensors", &record_tensors<T>, py::arg("parameters"), py::arg("sizes"), py::arg("x"),
           py::arg("masks"), py::arg("batch_sizes"), py::arg("start"), py::arg("output"), py::arg("end"),
           py::arg("threads"), py::arg("mask_seed"), py::arg("checkpoint"))
      .def_static("backward_tensors", &backward_tensors<T>, py::arg("place"), py::arg("d_output"), py::arg("d_end"),
                  py::arg("parameters"), py::arg("d_input"), py::arg("d_start"), py::arg("threads"));
}

}  // namespace

void register_tensors(py::module_& module) {
  module.def(
      "set_team_function", [](Address function) { set_team_function(reinterpret_cast<TeamFunction>(function)); },
      py::arg("function"));
  register_tensor_calls<float>(module, "Network32");
  register_tensor_calls<double>(module, "Network64");
}

}  // namespace latchwork::python
