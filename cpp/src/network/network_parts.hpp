#pragma once

#include <deque>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "latchwork/batch.hpp"
#include "latchwork/network.hpp"
#include "machine/workspace.hpp"
#include "weights/snapshot.hpp"
#include "weights/snapshot_cache.hpp"

namespace latchwork::detail {

// Memory of finished calls for the next ones, apart for each piece of the members, so that threads neither wait for one
// another nor pass warm memory around.
template <class T>
class MemberWorkspaces {
 public:
  const std::shared_ptr<WorkspaceCache<T>>& first() const { return first_; }

  std::shared_ptr<WorkspaceCache<T>> of_piece(Index piece) {
    if (piece == 0) return first_;
    const std::lock_guard<std::mutex> lock(mutex_);
    while (static_cast<Index>(others_.size()) < piece) others_.push_back(std::make_shared<WorkspaceCache<T>>());
    return others_[static_cast<std::size_t>(piece - 1)];
  }

 private:
  std::shared_ptr<WorkspaceCache<T>> first_ = std::make_shared<WorkspaceCache<T>>();
  std::mutex mutex_;
  std::deque<std::shared_ptr<WorkspaceCache<T>>> others_;
};

// What a network, its copies, its tapes and its trainers share.
template <class T>
struct NetworkParts {
  // `begin`: where the first member's first parameter lies in the store; the members' lie `stride` apart.
  NetworkParts(std::vector<ModuleOptions> module_options, TensorNames names, Index member_count,
               std::shared_ptr<ParameterStore<T>> parameters, Index begin, Index stride);

  // One member's parameters in the store's, or in any buffer laid out alike.
  template <class P>
  P* of_member(P* parameters, Index member) const {
    return parameters + parameters_begin + member * member_stride;
  }
  Index module_begin(std::size_t module) const { return module_begins[module]; }
  Index module_size(std::size_t module) const { return module_begins[module + 1] - module_begins[module]; }
  // Multiply-adds of a forward pass over one member, roughly.
  Index work_of(const Batch& batch) const { return batch.steps * batch.rows * member_parameter_count; }

  std::vector<ModuleOptions> modules;
  std::vector<ParameterSpec> layout;  // of one member
  std::vector<Index> module_begins;   // in a member's parameters, and the end of the last
  Index member_parameter_count;
  Index members;
  std::shared_ptr<ParameterStore<T>> store;
  Index parameters_begin, member_stride;
  Index input_size, output_size;
  mutable SnapshotCache<T> snapshots;
  mutable MemberWorkspaces<T> workspaces;
};

// The weights of this moment, packed for the current instruction set. Only what a write has outdated is packed again.
template <class T>
std::shared_ptr<const Snapshot<T>> snapshot_of(const NetworkParts<T>& parts, bool with_backward);

// The weights of this moment for a recording with these options, one for each member. With weight dropout they are for
// this recording alone, already dropped.
template <class T>
std::shared_ptr<const Snapshot<T>> snapshot_of_recording(const NetworkParts<T>& parts,
                                                         std::span<const RecordOptions> options);

// Throws std::invalid_argument for a size, a length or a token out of range.
template <class T>
void check_input(const NetworkParts<T>& parts, const Input<T>& input, const Batch& batch);

// Throws std::invalid_argument where something that is written has no place for each member. A batch without rows
// or steps needs none.
template <class T>
void check_places(const NetworkParts<T>& parts, const char* name, const SequenceView<T>& written, const Batch& batch);
template <class T>
void check_places(const NetworkParts<T>& parts, const char* name, const States<T>& written, const Batch& batch);

}  // namespace latchwork::detail
