#pragma once

#include <memory>
#include <vector>

#include "latchwork/options.hpp"
#include "latchwork/parameters.hpp"
#include "latchwork/types.hpp"

namespace latchwork {

template <class T>
class Tape;
template <class T>
class Stream;
template <class T>
struct Snapshot;
template <class T, class Packed>
class SnapshotCache;
template <class T>
class WorkspaceCache;
template <class T>
class Workspace;
template <class T>
class Ensemble;

// Features of one step and row are contiguous; steps and rows may lie anywhere. Strides count elements and may be
// negative.
template <class T>
struct SequenceView {
  T* data = nullptr;
  Index step_stride = 0;
  Index row_stride = 0;

  T* at(Index step, Index row) const { return data + step * step_stride + row * row_stride; }
};

// What goes in: values (features of the first module each), or tokens where the first module is an Embedding.
template <class T>
struct Input {
  SequenceView<const T> values;
  SequenceView<const std::int64_t> tokens;
};

struct Batch {
  Index steps = 0;
  Index rows = 0;
  const Index* lengths = nullptr;  // (rows,), each 0 to steps; null: all steps
  // Non-zero: before this step the row's state becomes the layer's own start state. Null: never.
  SequenceView<const std::uint8_t> reset;
};

// The state of one LSTM module, contiguous: hidden (states, rows, H or P), cell (states, rows, H).
// As a start state null means the module's own (zeros, or the trained one); as a result null means not wanted.
template <class T>
struct State {
  T* hidden = nullptr;
  T* cell = nullptr;
};

template <class T>
using States = std::vector<State<T>>;  // one for each LSTM module of the chain, or empty: as if all were null

struct RecordOptions {
  bool training = false;        // dropout and zoneout act
  std::uint64_t mask_seed = 0;  // the masks of two recordings with equal seeds are equal
  // k above 0: of an LSTM only every k-th state is kept, and backward computes the steps between again. Same bits.
  Index checkpoint = 0;
};

// A chain of modules on one contiguous buffer of parameters. Calls may run from many threads at once, also while
// another writes parameters: a call keeps the weights it began with.
template <class T>
class Network {
 public:
  // Throws std::invalid_argument, see validate(). Parameters start as PyTorch's do.
  Network(std::vector<ModuleOptions> modules, bool numbered, std::uint64_t seed);

  // Module `index` alone, on the same parameters: a write through one is seen by the other.
  Network module(Index index) const;

  const std::vector<ModuleOptions>& modules() const { return *modules_; }
  // Offsets count from parameters_begin() in the store.
  const std::vector<ParameterSpec>& layout() const { return layout_; }
  Index parameter_count() const { return parameter_count_; }
  const std::shared_ptr<ParameterStore<T>>& store() const { return store_; }
  Index parameters_begin() const { return parameters_begin_; }

  bool takes_tokens() const;
  Index input_size() const;     // features of one step; 1 for tokens
  Index output_size() const;    // features of one step of the output
  bool keeps_sequence() const;  // false after Last: the output then has one step
  Index lstm_count() const;
  const LstmOptions& lstm(Index index) const;  // of the LSTM modules, in order

  // Outputs in padding are zero; a state of a row of length 0 is passed through. `output` and `end` may be null.
  // Throws std::invalid_argument for a length or a token out of range, before any computation.
  void forward(const Input<T>& input, const Batch& batch, const States<const T>& start, SequenceView<T> output,
               const States<T>& end) const;

  // forward() that also keeps what backward and traces need. The tape copies the input. Throws std::invalid_argument
  // also for a negative checkpoint.
  std::shared_ptr<Tape<T>> record(const Input<T>& input, const Batch& batch, const States<const T>& start,
                                  SequenceView<T> output, const States<T>& end, const RecordOptions& options) const;

  // Throws std::invalid_argument where a direction is reverse.
  std::unique_ptr<Stream<T>> stream(Index rows) const;

  // The weights of this moment, packed for the current instruction set; packs only what a write has outdated.
  std::shared_ptr<const Snapshot<T>> snapshot(bool with_backward) const;

 private:
  friend class Ensemble<T>;

  Network(std::vector<ModuleOptions> modules, bool numbered, std::shared_ptr<ParameterStore<T>> store, Index begin);

  // With weight dropout one for this recording alone, its weights already dropped.
  std::shared_ptr<const Snapshot<T>> snapshot_of_recording(const RecordOptions& options) const;

  std::shared_ptr<const std::vector<ModuleOptions>> modules_;  // shared with tapes
  std::vector<ParameterSpec> layout_;
  Index parameter_count_ = 0;
  Index parameters_begin_ = 0;
  std::shared_ptr<ParameterStore<T>> store_;
  std::shared_ptr<SnapshotCache<T, Snapshot<T>>> snapshots_;
  std::shared_ptr<WorkspaceCache<T>> workspaces_;  // memory of finished tapes, for the next ones
};

// What a trace shows of one layer and direction.
enum class Signal { input_gate, forget_gate, candidate, output_gate, cell, hidden };

// What one recording kept. Immutable: backward may be called again, and from several threads.
template <class T>
class Tape {
 public:
  struct Recording;
  explicit Tape(std::unique_ptr<Recording> recording);
  ~Tape();
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;

  // The output, where a call asked for none. It lasts as long as the tape; numbers in padding mean nothing. Throws
  // std::invalid_argument where the recording has checkpoints.
  SequenceView<const T> output() const;

  // Gradients of a loss whose gradient by the output is d_output, and by the end states d_end (empty: zeros).
  // parameters: parameter_count() elements, overwritten, or added to where `accumulate`. d_input and d_start are
  // overwritten; null or empty: not wanted. d_input in padding becomes zero.
  void backward(SequenceView<const T> d_output, const States<const T>& d_end, T* parameters, bool accumulate,
                SequenceView<T> d_input, const States<T>& d_start) const;

  // Writes (steps, rows, H) contiguous, or (steps, rows, P) for the hidden state under projection; zeros in padding.
  // `state` counts layers times directions of LSTM module `lstm`. The forget gate of a cell that has none of its own is
  // 1, or 1 minus the input gate. Throws std::invalid_argument where the recording has checkpoints.
  void signal(Index lstm, Index state, Signal signal, T* values) const;

 private:
  std::unique_ptr<Recording> recording_;
};

}  // namespace latchwork
