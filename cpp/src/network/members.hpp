#pragma once

#include <algorithm>
#include <functional>

#include "machine/parallel.hpp"
#include "network/network_parts.hpp"

// How the members of a network share the threads.
namespace latchwork::detail {

// From this many multiply-adds on all threads can work inside one member without waiting much for each other.
inline constexpr Index large_member_work = 20 * smallest_parallel_work;

// Into how many pieces threads split the members, of `member_work` multiply-adds each. 1: all threads work inside one
// member after another, which pays if members are large and too few to keep all threads busy to the end.
inline Index member_pieces(Index members, Index member_work) {
  const Index threads = num_threads();
  if (members * member_work < smallest_parallel_work) return 1;
  const Index rounds = (members + threads - 1) / threads;
  const bool evenly = 8 * members >= 7 * rounds * threads;
  return evenly || member_work < large_member_work ? std::min(threads, members) : 1;
}

// Calls task(workspace cache, begin, end) for pieces of the members. The task may throw.
template <class T, class Task>
void for_member_pieces(const NetworkParts<T>& parts, Index member_work, Task&& task) {
  if (parts.members == 1) return task(parts.workspaces.first(), Index(0), Index(1));
  const Index pieces = member_pieces(parts.members, member_work);
  parallel_or_throw(pieces, [&](Index piece) {
    task(parts.workspaces.of_piece(piece), piece_begin(parts.members, pieces, piece),
         piece_begin(parts.members, pieces, piece + 1));
  });
}

// One member's own states, in `own` unless there is only one member.
template <class T, class S>
const States<S>& member_states(const NetworkParts<T>& parts, const States<S>& states, Index member, States<S>& own) {
  if (states.empty() || parts.members == 1) return states;
  own = states_of(states, member);
  return own;
}

// Who tells `ready` that the gradients of modules are complete: those of the only member one by one as they are, those
// of several members once all are.
template <class T>
class ReadyModules {
 public:
  // parameters: the gradients of all members.
  ReadyModules(const NetworkParts<T>& parts, const ModuleReady<T>& ready, T* parameters)
      : parts_(parts), ready_(ready), parameters_(parameters) {}

  // For chain_backward().
  std::function<void(std::size_t module)> meanwhile() const {
    if (!ready_ || parts_.members > 1) return {};
    return [this](std::size_t module) { tell(module, 0); };
  }
  // Once all members are through.
  void afterwards() const {
    if (!ready_ || parts_.members == 1) return;
    for (std::size_t module = parts_.modules.size(); module-- > 0;) {
      for (Index member = 0; parts_.module_size(module) > 0 && member < parts_.members; ++member) tell(module, member);
    }
  }

 private:
  void tell(std::size_t module, Index member) const {
    T* const gradient = parameters_ + member * parts_.member_parameter_count + parts_.module_begin(module);
    ready_(static_cast<Index>(module), member, gradient, parts_.module_size(module));
  }

  const NetworkParts<T>& parts_;
  const ModuleReady<T>& ready_;
  T* parameters_;
};

}  // namespace latchwork::detail
