#pragma once

#include <memory>
#include <vector>

#include "latchwork/network.hpp"
#include "latchwork/stream.hpp"
#include "latchwork/training.hpp"
#include "latchwork/types.hpp"

namespace latchwork {

template <class T>
struct EnsembleSnapshot;
template <class T>
class EnsembleTape;
template <class T>
class EnsembleStream;

// One sequence for each member of an ensemble, or with a stride of 0 the same for all.
template <class T>
struct MemberSequences {
  SequenceView<T> first;
  Index member_stride = 0;

  SequenceView<T> of(Index member) const {
    if (first.data == nullptr) return {};
    return {first.data + member * member_stride, first.step_stride, first.row_stride};
  }
};

// One state for each member, or with a stride of 0 the same for all. Null as in State.
template <class T>
struct MemberStates {
  State<T> first;
  Index hidden_stride = 0, cell_stride = 0;

  States<T> of(Index member) const {
    if (first.hidden == nullptr && first.cell == nullptr) return {};
    return {{first.hidden == nullptr ? nullptr : first.hidden + member * hidden_stride,
             first.cell == nullptr ? nullptr : first.cell + member * cell_stride}};
  }
};

// LSTMs of one shape and weights of their own, on one contiguous buffer of parameters, member behind member. Each gives
// the bits that it would give alone. Calls may run from many threads at once, also while another writes parameters: a
// call keeps the weights it began with.
template <class T>
class Ensemble {
 public:
  // Member m's parameters start as those of Network({options}, false, seed + m). Throws std::invalid_argument.
  Ensemble(Index members, const LstmOptions& options, std::uint64_t seed);

  Index members() const { return members_; }
  const LstmOptions& options() const { return first_.lstm(0); }
  // Of one member; offsets count from its first parameter.
  const std::vector<ParameterSpec>& layout() const { return first_.layout(); }
  Index member_parameter_count() const { return first_.parameter_count(); }
  Index parameter_count() const { return members_ * member_parameter_count(); }
  const std::shared_ptr<ParameterStore<T>>& store() const { return first_.store(); }
  Index parameters_begin() const { return first_.parameters_begin(); }

  // Member by member what Network::forward does; lengths and reset are those of all.
  void forward(const MemberSequences<const T>& input, const Batch& batch, const MemberStates<const T>& start,
               const MemberSequences<T>& output, const MemberStates<T>& end) const;

  // As Network::record, member m with the mask seed options.mask_seed + m.
  std::shared_ptr<EnsembleTape<T>> record(const MemberSequences<const T>& input, const Batch& batch,
                                          const MemberStates<const T>& start, const MemberSequences<T>& output,
                                          const MemberStates<T>& end, const RecordOptions& options) const;

  // Throws std::invalid_argument where a direction is reverse.
  std::unique_ptr<EnsembleStream<T>> stream(Index rows) const;

 private:
  template <class>
  friend class EnsembleTrainer;
  struct WorkspaceCaches;

  std::shared_ptr<const EnsembleSnapshot<T>> snapshot(bool with_backward) const;
  // options: of each member.
  std::shared_ptr<const EnsembleSnapshot<T>> snapshot_of_recording(const std::vector<RecordOptions>& options) const;
  void pack_members(const T* parameters, bool with_backward, const std::vector<RecordOptions>& options,
                    EnsembleSnapshot<T>& packed) const;
  // Calls task(workspace cache, begin, end) for pieces of the members, on several threads or, where the members are few
  // and large, in one piece, so that threads work inside each member. The task may throw.
  template <class Task>
  void for_pieces(Index member_work, Task&& task) const;
  // Multiply-adds of a pass over one member, roughly.
  Index work_of(const Batch& batch) const { return batch.steps * batch.rows * member_parameter_count(); }
  std::unique_ptr<typename Tape<T>::Recording> recording_of(Index member,
                                                            const std::shared_ptr<const EnsembleSnapshot<T>>& weights,
                                                            const RecordOptions& options,
                                                            std::shared_ptr<Workspace<T>> memory) const;

  Index members_;
  Network<T> first_;  // member 0
  std::shared_ptr<SnapshotCache<T, EnsembleSnapshot<T>>> snapshots_;
  std::shared_ptr<WorkspaceCaches> workspaces_;
};

// What one recording of an ensemble kept; see Tape.
template <class T>
class EnsembleTape {
 public:
  struct Recording;
  explicit EnsembleTape(std::unique_ptr<Recording> recording);
  ~EnsembleTape();
  EnsembleTape(const EnsembleTape&) = delete;
  EnsembleTape& operator=(const EnsembleTape&) = delete;

  // As Tape::backward. parameters: parameter_count() elements of the ensemble, member behind member. What is written
  // must have a place for each member.
  void backward(const MemberSequences<const T>& d_output, const MemberStates<const T>& d_end, T* parameters,
                bool accumulate, const MemberSequences<T>& d_input, const MemberStates<T>& d_start) const;

  // As Tape::signal, (members, steps, rows, size) contiguous.
  void signal(Index state, Signal signal, T* values) const;

 private:
  std::unique_ptr<Recording> recording_;
};

// One step after another of all members, on the weights of the moment of construction; see Stream.
template <class T>
class EnsembleStream {
 public:
  EnsembleStream(const Ensemble<T>& ensemble, std::vector<std::unique_ptr<Stream<T>>> members);

  // x (rows, input_size) for member m at x + m * member_stride; y (members, rows, output_size) contiguous. reset: of
  // all.
  void step(const T* x, Index member_stride, T* y, const std::uint8_t* reset = nullptr) noexcept;

  void get_state(const MemberStates<T>& state) const;
  void set_state(const MemberStates<const T>& state);
  void reset() noexcept;

 private:
  std::vector<std::unique_ptr<Stream<T>>> members_;
  Index step_work_;  // multiply-adds of one member, roughly
};

// Trains every member as a Trainer of its own would: loss, clipping and optimiser of each for itself, masks of seed +
// m.
template <class T>
class EnsembleTrainer {
 public:
  // As Trainer's.
  EnsembleTrainer(const Ensemble<T>& ensemble, Loss loss, const OptimizerOptions& optimizer, double max_norm,
                  std::uint64_t seed);

  // losses: of each member, before the update. `end` may alias `start`. Throws std::runtime_error naming the member
  // where a loss or a gradient is not finite; the parameters and the optimiser of every member are then as before.
  void step(const MemberSequences<const T>& input, const Batch& batch, const MemberStates<const T>& start,
            const MemberSequences<const T>& values, const MemberSequences<const std::int64_t>& labels,
            const MemberStates<T>& end, double* losses);

  // The losses alone, without dropout and without a tape.
  void evaluate(const MemberSequences<const T>& input, const Batch& batch, const MemberStates<const T>& start,
                const MemberSequences<const T>& values, const MemberSequences<const std::int64_t>& labels,
                const MemberStates<T>& end, double* losses) const;

  Optimizer<T>& optimizer() { return optimizer_; }
  const Ensemble<T>& ensemble() const { return ensemble_; }

 private:
  Ensemble<T> ensemble_;
  Loss loss_;
  Optimizer<T> optimizer_;
  double max_norm_;
  std::uint64_t seed_;
  // Kept from step to step for their memory.
  std::vector<T> gradient_;
  std::vector<T> end_;
};

}  // namespace latchwork
