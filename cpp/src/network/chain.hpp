#pragma once

#include <functional>

#include "machine/workspace.hpp"
#include "network/recording.hpp"
#include "weights/snapshot.hpp"

namespace latchwork {

// The modules of one member, and its weights.
template <class T>
struct Chain {
  Chain(const detail::NetworkParts<T>& parts, const Snapshot<T>& snapshot, Index member)
      : network(parts), weights(snapshot.members[static_cast<std::size_t>(member)]), kernels(*snapshot.kernels) {}

  const detail::NetworkParts<T>& network;
  const PackedChain<T>& weights;
  const Kernels<T>& kernels;
};

// Network::forward for one member, without its checks.
template <class T>
void chain_forward(const Chain<T>& chain, const Input<T>& input, const Batch& batch, const States<const T>& start,
                   SequenceView<T> output, const States<T>& end, Workspace<T>& workspace);

// The same for Network::forward_last_step.
template <class T>
void chain_forward_last_step(const Chain<T>& chain, const Input<T>& input, const Batch& batch,
                             const States<const T>& start, SequenceView<T> output, const States<T>& end,
                             Workspace<T>& workspace);

// Network::record for one member. The caller has set record.batch, record.options and record.workspace. The input must
// live as long as the record.
template <class T>
void chain_record(const Chain<T>& chain, const Input<T>& input, const States<const T>& start, SequenceView<T> output,
                  const States<T>& end, ChainRecord<T>& record);

// Tape::backward for one member. `ready`, unless it is empty, is called with each module whose gradient is complete.
template <class T>
void chain_backward(const Chain<T>& chain, const ChainRecord<T>& record, SequenceView<const T> d_output,
                    const States<const T>& d_end, T* parameters, bool accumulate, SequenceView<T> d_input,
                    const States<T>& d_start, Workspace<T>& workspace,
                    const std::function<void(std::size_t module)>& ready, const ChainSignals<T>& d_signals = {});

}  // namespace latchwork
