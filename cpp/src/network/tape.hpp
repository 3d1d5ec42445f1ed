#pragma once

#include <vector>

#include "latchwork/tape.hpp"
#include "machine/workspace.hpp"
#include "network/stack.hpp"
#include "weights/snapshot.hpp"

namespace latchwork {

// What one module of the chain keeps.
template <class T>
struct ModuleRecord {
  Batch batch;  // after Last one step and no lengths
  RowSource<T> input;
  SequenceView<T> output;
  StackRecord<T> stack;  // LSTM
};

template <class T>
struct Tape<T>::Recording {
  Recording(std::shared_ptr<const std::vector<ModuleOptions>> module_options,
            std::shared_ptr<const Snapshot<T>> snapshot, const RecordOptions& record_options,
            std::shared_ptr<Workspace<T>> memory)
      : chain(std::move(module_options)),
        weights(std::move(snapshot)),
        options(record_options),
        workspace(std::move(memory)) {}

  // The batch with its arrays copied.
  Batch own(const Batch& from) {
    Batch copy = from;
    if (from.lengths != nullptr) {
      lengths.assign(from.lengths, from.lengths + from.rows);
      copy.lengths = lengths.data();
    }
    if (from.reset.data != nullptr) {
      reset.resize(static_cast<std::size_t>(from.steps * from.rows));
      for (Index step = 0; step < from.steps; ++step) {
        for (Index row = 0; row < from.rows; ++row) {
          reset[static_cast<std::size_t>(step * from.rows + row)] = *from.reset.at(step, row);
        }
      }
      copy.reset = {reset.data(), from.rows, 1};
    }
    return copy;
  }

  Index parameter_count() const {
    Index count = 0;
    for (const ParameterSpec& spec : parameter_layout(*chain, false)) count += spec.size();
    return count;
  }

  std::shared_ptr<const std::vector<ModuleOptions>> chain;
  std::shared_ptr<const Snapshot<T>> weights;
  RecordOptions options;
  Batch batch;
  std::vector<Index> lengths;
  std::vector<std::uint8_t> reset;
  std::vector<std::int64_t> tokens;
  std::vector<ModuleRecord<T>> modules;
  std::shared_ptr<Workspace<T>> workspace;  // that other recordings may use too
};

}  // namespace latchwork
