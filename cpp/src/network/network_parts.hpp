#pragma once

#include <deque>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "latchwork/batch.hpp"
#include "latchwork/fork.hpp"
#include "latchwork/network.hpp"
#include "machine/workspace.hpp"
#include "network/codes.hpp"
#include "network/mask_counter.hpp"
#include "network/step_mask.hpp"
#include "weights/module_sizes.hpp"
#include "weights/snapshot.hpp"
#include "weights/snapshot_cache.hpp"

namespace latchwork::detail {

// Memory of finished calls, which later calls use again. Each piece of the members has a cache of its own, so that
// threads do not wait for one another and find their memory in their own CPU's caches.
template <class T>
class MemberWorkspaces {
 public:
  const std::shared_ptr<WorkspaceCache<T>>& first() const { return first_; }

  std::shared_ptr<WorkspaceCache<T>> of_piece(Index piece) {
    if (piece == 0) return first_;
    const std::lock_guard<ForkSafeMutex> lock(mutex_);
    while (static_cast<Index>(others_.size()) < piece) others_.push_back(std::make_shared<WorkspaceCache<T>>());
    return others_[static_cast<std::size_t>(piece - 1)];
  }

 private:
  std::shared_ptr<WorkspaceCache<T>> first_ = std::make_shared<WorkspaceCache<T>>();
  ForkSafeMutex mutex_{LockKind::piece_workspaces};
  std::deque<std::shared_ptr<WorkspaceCache<T>>> others_;
};

// What a network, its copies, its tapes and its trainers share.
template <class T>
struct NetworkParts {
  // `begin` is the place of the first member's first parameter in the store; those of the next members follow at
  // distances of `stride`.
  NetworkParts(std::vector<ModuleOptions> module_options, TensorNames tensor_names, Index member_count,
               std::shared_ptr<ParameterStore<T>> parameters, Index begin, Index stride);

  // The parameters of one member; `parameters` is the store's buffer or one with the same layout.
  template <class P>
  P* of_member(P* parameters, Index member) const {
    return parameters + parameters_begin + member * member_stride;
  }
  Index module_begin(std::size_t module) const { return module_begins[module]; }
  Index module_size(std::size_t module) const { return module_begins[module + 1] - module_begins[module]; }
  // The place among the modules of the LSTM that has this number among the LSTMs. Throws std::invalid_argument, naming
  // the argument, if there is none.
  std::size_t lstm_place(const char* argument, Index index) const;
  bool keeps_sequence() const;  // false after Last, Mean or Max
  // Whether the steps of the output are in the reverse of the order in which the chain takes them.
  bool output_is_backwards() const { return backwards_after(modules, modules.size()); }
  // About how many multiply-adds a forward pass of one member takes.
  Index work_of(const Batch& batch) const { return batch.steps * batch.rows * member_parameter_count; }

  std::vector<ModuleOptions> modules;
  TensorNames names;
  std::vector<ParameterSpec> layout;  // of one member
  std::vector<Index> module_begins;   // offsets in a member's parameters, and the offset of their end
  Index member_parameter_count;
  Index members;
  std::shared_ptr<ParameterStore<T>> store;
  Index parameters_begin, member_stride;
  Index input_size, output_size;
  std::vector<StateSize> state_sizes;
  CodeCheck<T> codes;
  StepMask<T> step_mask;
  // Shared with the networks of single modules.
  std::shared_ptr<MaskCounter> mask_counter = std::make_shared<MaskCounter>();
  mutable SnapshotCache<T> snapshots;
  mutable MemberWorkspaces<T> workspaces;
};

// The present weights, packed for the current instruction set. They are packed anew only if the parameters have been
// written since the last call, or if that call asked for other kernels or left out what backward needs. `tensors` that
// are not empty are first copied to the store, as far as they differ from it.
template <class T>
std::shared_ptr<const Snapshot<T>> snapshot_of(const NetworkParts<T>& parts, bool with_backward,
                                               const Tensors<T>& tensors = {});

// The present weights for a recording with these options, one for each member. With weight dropout the snapshot serves
// this recording alone, and its weights have the dropout applied.
template <class T>
std::shared_ptr<const Snapshot<T>> snapshot_of_recording(const NetworkParts<T>& parts,
                                                         std::span<const RecordOptions> options,
                                                         const Tensors<T>& tensors = {});

// Throws std::invalid_argument, naming the argument, unless index is 0 to count - 1.
void check_index(const char* argument, Index index, Index count);

// Throws std::invalid_argument if a length of one member is out of range; `of_member` says which member it is.
void check_lengths(const Batch& batch, const std::string& of_member);

// Throws std::invalid_argument if a size, a length, a token or a code is out of range.
template <class T>
void check_input(const NetworkParts<T>& parts, const Input<T>& input, const Batch& batch);

// Throws std::invalid_argument if a number is negative.
void check_gradient_blocks(Index count);
void check_record_options(const RecordOptions& options);

// Throws std::invalid_argument if there are tensors, but not one for each of the layout.
template <class T>
void check_tensors(const NetworkParts<T>& parts, const Tensors<T>& tensors);

// Throws std::invalid_argument if there are states, but not one for each module that has one.
template <class T, class Value>
void check_states(const NetworkParts<T>& parts, const char* name, const States<Value>& states);

// The same for a start state, and if a code that it carries is out of range. The batch's size must have been checked.
template <class T>
void check_start(const NetworkParts<T>& parts, const States<const T>& start, const Batch& batch);

// Throws std::invalid_argument if `written`, where results go, has no place for each state or member. A batch without
// rows or steps needs none.
template <class T>
void check_places(const NetworkParts<T>& parts, const char* name, const SequenceView<T>& written, const Batch& batch);
template <class T>
void check_places(const NetworkParts<T>& parts, const char* name, const States<T>& written, const Batch& batch);

}  // namespace latchwork::detail
