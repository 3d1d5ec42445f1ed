#pragma once

#include <memory>
#include <vector>

#include "latchwork/batch.hpp"
#include "latchwork/options.hpp"
#include "latchwork/parameters.hpp"
#include "latchwork/stream.hpp"
#include "latchwork/tape.hpp"
#include "latchwork/types.hpp"

namespace latchwork {

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

}  // namespace latchwork
