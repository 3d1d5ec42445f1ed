#pragma once

#include <algorithm>
#include <functional>

#include "machine/float_state.hpp"
#include "machine/parallel.hpp"
#include "network/network_parts.hpp"

// How the members of a network share the threads.
namespace latchwork::detail {

// A member with at least this many multiply-adds keeps all threads busy without much waiting for each other.
inline constexpr Index large_member_work = 20 * smallest_parallel_work;

// The number of pieces into which threads split the members, which take `member_work` multiply-adds each. 1 means that
// the members run one after another and all threads work inside each, which pays if members are large and too few to
// keep all threads busy to the end.
inline Index member_pieces(Index members, Index member_work) {
  const Index threads = num_threads();
  if (members * member_work < smallest_parallel_work) return 1;
  const Index rounds = (members + threads - 1) / threads;
  const bool evenly = 8 * members >= 7 * rounds * threads;
  return evenly || member_work < large_member_work ? std::min(threads, members) : 1;
}

// Splits the members into pieces and calls task(workspace cache, first member, end of the members) for each piece. The
// task may throw.
template <class T, class Task>
void for_member_pieces(const NetworkParts<T>& parts, Index member_work, Task&& task) {
  if (parts.members == 1) return task(parts.workspaces.first(), Index(0), Index(1));
  const Index pieces = member_pieces(parts.members, member_work);
  parallel_or_throw(pieces, [&](Index piece) {
    task(parts.workspaces.of_piece(piece), piece_begin(parts.members, pieces, piece),
         piece_begin(parts.members, pieces, piece + 1));
  });
}

// The states of one member. They are written to `storage`, unless there is only one member, whose states are `states`.
template <class T, class S>
const States<S>& member_states(const NetworkParts<T>& parts, const States<S>& states, Index member,
                               States<S>& storage) {
  if (states.empty() || parts.members == 1) return states;
  storage = states_of(states, member);
  return storage;
}

// Calls `ready` when the gradients of modules are complete. With one member it is called for each module as soon as its
// gradient is; with several members it is called for all modules at the end.
template <class T>
class ReadyModules {
 public:
  // `parameters` holds the gradients of all members; null: they are not wanted, and `ready` is never called.
  ReadyModules(const NetworkParts<T>& parts, const ModuleReady<T>& ready, T* parameters)
      : parts_(parts), ready_(ready), parameters_(parameters) {}

  // What chain_backward() is to call; empty if there is nothing to tell yet.
  std::function<void(std::size_t module)> meanwhile() const {
    if (!ready_ || parameters_ == nullptr || parts_.members > 1) return {};
    return [this](std::size_t module) { tell(module, 0); };
  }
  // To be called once the backward pass of all members is over.
  void afterwards() const {
    if (!ready_ || parameters_ == nullptr || parts_.members == 1) return;
    for (std::size_t module = parts_.modules.size(); module-- > 0;) {
      for (Index member = 0; parts_.module_size(module) > 0 && member < parts_.members; ++member) tell(module, member);
    }
  }

 private:
  void tell(std::size_t module, Index member) const {
    T* const gradient = parameters_ + member * parts_.member_parameter_count + parts_.module_begin(module);
    const DefaultFloats floats;
    ready_(static_cast<Index>(module), member, gradient, parts_.module_size(module));
  }

  const NetworkParts<T>& parts_;
  const ModuleReady<T>& ready_;
  T* parameters_;
};

}  // namespace latchwork::detail
