#pragma once

#include <vector>

#include "machine/workspace.hpp"
#include "network/tape.hpp"
#include "weights/snapshot.hpp"

namespace latchwork {

// Features of what a module gives for an input of so many.
Index module_output_size(const ModuleOptions& module, Index input_size);

// Throws std::invalid_argument for a size or a length out of range.
void check_batch(const Batch& batch);

// Throws std::invalid_argument for a negative checkpoint.
void check_record_options(const RecordOptions& options);

// What is no padding; the rest of `to` stays as it is.
template <class T>
void copy_sequence(const Batch& batch, Index features, SequenceView<const T> from, SequenceView<T> to);

// Network::forward with weights and memory from elsewhere, unchecked. features: of the input.
template <class T>
void chain_forward(const std::vector<ModuleOptions>& modules, const Snapshot<T>& weights, const Input<T>& input,
                   Index features, const Batch& batch, const States<const T>& start, SequenceView<T> output,
                   const States<T>& end, Workspace<T>& workspace);

// Network::record likewise, of recording.batch and on its weights. The input must live as long as the recording.
template <class T>
void chain_record(typename Tape<T>::Recording& recording, const Input<T>& input, Index features,
                  const States<const T>& start, SequenceView<T> output, const States<T>& end);

}  // namespace latchwork
