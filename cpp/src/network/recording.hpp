#pragma once

#include <memory>
#include <vector>

#include "latchwork/tape.hpp"
#include "machine/workspace.hpp"
#include "network/network_parts.hpp"
#include "network/ordered_steps.hpp"
#include "network/reverse.hpp"
#include "network/stack.hpp"

namespace latchwork {

// What one module of the chain keeps for backward.
template <class T>
struct ModuleRecord {
  Batch batch;             // one step and no lengths if the module comes after Last
  bool backwards = false;  // whether a Reverse has turned the steps that the module reads
  RowSource<T> input;
  SequenceView<T> output;
  StackRecord<T> stack;  // used by an LSTM only
};

// What the forward pass of one member keeps for backward.
template <class T>
struct ChainRecord {
  RecordOptions options;
  Batch batch;
  std::shared_ptr<const ReversedBatch> reversed;  // null if no module is a Reverse
  std::vector<ModuleRecord<T>> modules;
  std::shared_ptr<Workspace<T>> workspace;  // may be shared with the records of other members
};

namespace detail {

template <class T>
struct Recording {
  std::shared_ptr<const NetworkParts<T>> network;
  std::shared_ptr<const Snapshot<T>> weights;
  Index work = 0;  // about how many multiply-adds a member's forward pass takes
  // Copies of what the caller may overwrite: the batch's arrays, the tokens, and input values that all members share.
  std::vector<Index> lengths;
  std::vector<std::uint8_t> reset;
  std::vector<std::int64_t> tokens;
  std::unique_ptr<Workspace<T>> shared_input;
  // If the batch had a skip mask, the recording is of the computed steps alone, and this says which they are.
  std::shared_ptr<const OrderedSteps> computed;
  std::unique_ptr<Workspace<T>> whole_memory;
  SequenceView<T> whole_output;  // (members, steps, rows, output size), skipped steps included; null: not kept
  std::vector<ChainRecord<T>> members;
};

}  // namespace detail
}  // namespace latchwork
