// The functions that register the parts of the extension module, and the objects that one part makes and another binds.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "arrays.hpp"
#include "gil.hpp"
#include "latchwork/fork.hpp"
#include "latchwork/network.hpp"
#include "latchwork/stream.hpp"

namespace latchwork::python {

void register_machine(py::module_& module);
void register_numbers(py::module_& module);
void register_options(py::module_& module);
void register_tape(py::module_& module);
void register_stream(py::module_& module);
void register_network(py::module_& module);
void register_tensors(py::module_& module);
void register_training(py::module_& module);

// A tape, with what gives the shapes of the arguments of backward().
template <class T>
struct TapeBinding {
  TapeBinding(std::shared_ptr<const Network<T>> owner, Index step_count, Index row_count,
              std::shared_ptr<Tape<T>> recorded)
      : network(std::move(owner)), steps(step_count), rows(row_count), tape(std::move(recorded)) {}
  // The tape returns large pieces of memory to its network under a lock, so the GIL is released for it.
  ~TapeBinding() {
    const GilRelease release;
    tape.reset();
  }
  TapeBinding(const TapeBinding&) = delete;
  TapeBinding& operator=(const TapeBinding&) = delete;

  std::shared_ptr<const Network<T>> network;
  Index steps;
  Index rows;
  std::shared_ptr<Tape<T>> tape;
};

// A stream, its shapes, and whether a thread is in a call.
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
  bool embeds_columns;
  Index vocabulary;  // 0 if the stream takes values
  bool releases_gil;
  py::dtype dtype, mask_dtype;
  std::vector<std::int64_t> tokens;  // the checked tokens of a step
  // The checked masks of a step.
  std::vector<std::uint8_t> resets, skips;
  SkippedOutput skipped_output = SkippedOutput::repeat;
  std::atomic<unsigned> busy{0};            // see StreamEntry
  ForkSafeMutex in_step{LockKind::stream};  // held by what releases the GIL, for which a fork waits
  std::unique_ptr<Stream<T>> stream;
  std::chrono::steady_clock::time_point last_shared_step;
};

}  // namespace latchwork::python
