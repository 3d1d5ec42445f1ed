#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "latchwork/ensemble.hpp"
#include "layer/strategy.hpp"
#include "machine/parallel.hpp"
#include "machine/workspace.hpp"
#include "network/tape.hpp"
#include "weights/snapshot.hpp"

// How an ensemble's members share memory and threads.
namespace latchwork {

// The weights of one moment of all members; see Snapshot.
template <class T>
struct EnsembleSnapshot {
  const Kernels<T>* kernels = nullptr;
  std::uint64_t version = 0;
  bool with_backward = false;
  std::vector<Snapshot<T>> members;
};

// Memory for each piece of the members, so that threads neither wait for one another nor pass warm memory around.
template <class T>
struct Ensemble<T>::WorkspaceCaches {
  std::shared_ptr<WorkspaceCache<T>> of_part(Index part) {
    const std::lock_guard<std::mutex> lock(mutex);
    while (static_cast<Index>(caches.size()) <= part) caches.push_back(std::make_shared<WorkspaceCache<T>>());
    return caches[static_cast<std::size_t>(part)];
  }

  std::mutex mutex;
  std::vector<std::shared_ptr<WorkspaceCache<T>>> caches;
};

template <class T>
template <class Task>
void Ensemble<T>::for_pieces(Index member_work, Task&& task) const {
  const Index parts = member_parts(members_, member_work);
  parallel_or_throw(parts, [&](Index part) {
    task(workspaces_->of_part(part), piece_begin(members_, parts, part), piece_begin(members_, parts, part + 1));
  });
}

}  // namespace latchwork
