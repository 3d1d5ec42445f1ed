// The functions that register the parts of the extension module, and the objects that one part makes and another binds.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <vector>

#include "arrays.hpp"
#include "latchwork/network.hpp"
#include "latchwork/stream.hpp"

namespace latchwork::python {

void register_machine(py::module_& module);
void register_options(py::module_& module);
void register_tape(py::module_& module);
void register_stream(py::module_& module);
void register_network(py::module_& module);
void register_training(py::module_& module);

// A tape, with what gives the shapes of the arguments of backward().
template <class T>
struct TapeBinding {
  std::shared_ptr<const Network<T>> network;
  Index steps;
  Index rows;
  std::shared_ptr<Tape<T>> tape;
};

// A stream, its shapes, and a flag that is set while a thread is in a call.
template <class T>
struct StreamBinding {
  // A stream without a batch axis has one row.
  StreamBinding(std::shared_ptr<const Network<T>> owner, Index row_count, bool has_batch_axis);

  std::shared_ptr<const Network<T>> network;
  Index rows;
  bool batched;
  Index members;
  Index input_size;
  Index output_size;
  Index vocabulary;  // 0 if the stream takes values
  bool releases_gil;
  py::dtype dtype;
  std::vector<std::int64_t> tokens;  // the checked tokens of a step
  std::vector<std::uint8_t> resets;  // the checked reset mask of a step
  std::atomic_flag busy = ATOMIC_FLAG_INIT;
  std::unique_ptr<Stream<T>> stream;
  std::chrono::steady_clock::time_point last_shared_step;
};

}  // namespace latchwork::python
