#pragma once

#include <memory>
#include <vector>

#include "latchwork/tape.hpp"
#include "machine/workspace.hpp"
#include "network/network_parts.hpp"
#include "network/stack.hpp"

namespace latchwork {

// What one module of the chain keeps.
template <class T>
struct ModuleRecord {
  Batch batch;  // after Last one step and no lengths
  RowSource<T> input;
  SequenceView<T> output;
  StackRecord<T> stack;  // LSTM
};

// What one member's run through the chain keeps.
template <class T>
struct ChainRecord {
  RecordOptions options;
  Batch batch;
  std::vector<ModuleRecord<T>> modules;
  std::shared_ptr<Workspace<T>> workspace;  // which other records may use too
};

namespace detail {

template <class T>
struct Recording {
  std::shared_ptr<const NetworkParts<T>> network;
  std::shared_ptr<const Snapshot<T>> weights;
  Index work = 0;  // multiply-adds of a member's forward pass, roughly
  // Copies of what the caller may overwrite: the batch's arrays, and the input of all members if they share it.
  std::vector<Index> lengths;
  std::vector<std::uint8_t> reset;
  std::vector<std::int64_t> tokens;
  std::unique_ptr<Workspace<T>> shared_input;
  std::vector<ChainRecord<T>> members;
};

}  // namespace detail
}  // namespace latchwork
