#include "network/chain.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "layer/strategy.hpp"
#include "machine/parallel.hpp"
#include "network/last.hpp"
#include "network/linear.hpp"
#include "network/stack.hpp"

namespace latchwork {

namespace {

// Runs the chain. With a recording everything that backward needs stays in its workspace.
template <class T>
class ChainForward {
 public:
  ChainForward(const std::vector<ModuleOptions>& modules, const Snapshot<T>& snapshot, const Batch& batch,
               Workspace<T>& workspace)
      : modules_(modules), snapshot_(snapshot), batch_(batch), workspace_(workspace) {}

  void run(RowSource<T> input, const States<const T>& start, SequenceView<T> output, const States<T>& end,
           typename Tape<T>::Recording* recording) {
    std::size_t lstm_index = 0;
    RowSource<T> source = input;
    for (std::size_t at = 0; at < modules_.size(); ++at) {
      const bool last = at + 1 == modules_.size();
      const Index features = module_output_size(modules_[at], source.features);
      const PackedModule<T>& weights = snapshot_.modules[at];
      ModuleRecord<T>* record = nullptr;
      if (recording != nullptr) {
        record = &recording->modules[at];
        record->input = source;
        record->batch = batch_;
      }
      SequenceView<T> result;
      if (std::holds_alternative<EmbeddingOptions>(modules_[at])) {
        source.table = weights.table.data();
        source.vocabulary = weights.table.size() / features;
        source.features = features;
        if (!last) continue;
        result = target(record == nullptr, output, features);
        copy(source, result, features);
      } else if (const auto* lstm = std::get_if<LstmOptions>(&modules_[at])) {
        const State<const T> own_start = start.empty() ? State<const T>{} : start[lstm_index];
        const State<T> own_end = end.empty() ? State<T>{} : end[lstm_index];
        ++lstm_index;
        StackCall<T> call{lstm, &weights, snapshot_.kernels, batch_, source, static_cast<Index>(at)};
        if (record != nullptr) {
          const bool in_place = last && recording->options.checkpoint > 0;
          result = stack_record(call, own_start, in_place ? output : SequenceView<T>{}, own_end, recording->options,
                                record->stack, workspace_);
        } else {
          result = target(last, output, features);
          stack_forward(call, own_start, result, own_end, workspace_);
        }
      } else if (std::holds_alternative<LinearOptions>(modules_[at])) {
        result = target(last && record == nullptr, output, features);
        linear_forward(LinearCall<T>{&weights.linear, snapshot_.kernels, batch_, source, result});
      } else {
        const Schedule schedule{batch_, false};
        batch_.steps = 1;
        batch_.lengths = nullptr;
        batch_.reset = {};
        result = target(last && record == nullptr, output, features);
        last_forward(last_columns(at == 0 ? nullptr : &modules_[at - 1], features), schedule, source, result);
      }
      if (record != nullptr) {
        record->output = result;
        if (last && result.data != output.data) copy(rows_of(result, features), output, features);
      }
      source = rows_of(result, features);
    }
  }

 private:
  static RowSource<T> rows_of(SequenceView<T> view, Index features) {
    RowSource<T> source;
    source.values = {view.data, view.step_stride, view.row_stride};
    source.features = features;
    return source;
  }

  SequenceView<T> target(bool into_output, SequenceView<T> output, Index features) {
    if (into_output && output.data != nullptr) return output;
    return contiguous(workspace_.take(batch_.steps * batch_.rows * features), batch_.rows, features);
  }

  void copy(const RowSource<T>& from, SequenceView<T> to, Index features) const {
    if (to.data == nullptr) return;
    const Schedule schedule{batch_, false};
    const Index slots = batch_.steps * batch_.rows, parts = number_parts(slots * features, slots);
    parallel(parts, [&](Index part) {
      for (Index slot = piece_begin(slots, parts, part); slot < piece_begin(slots, parts, part + 1); ++slot) {
        const Index step = slot / batch_.rows, row = slot % batch_.rows;
        if (schedule.active(step, row)) {
          std::copy_n(from.at(step, row), features, to.at(step, row));
        } else {
          std::fill_n(to.at(step, row), features, T(0));
        }
      }
    });
  }

  const std::vector<ModuleOptions>& modules_;
  const Snapshot<T>& snapshot_;
  Batch batch_;
  Workspace<T>& workspace_;
};

template <class T>
RowSource<T> source_of(const Input<T>& input, Index features) {
  RowSource<T> source;
  source.values = input.values;
  source.tokens = input.tokens;
  source.features = features;
  return source;
}

}  // namespace

Index module_output_size(const ModuleOptions& module, Index input_size) {
  if (const auto* embedding = std::get_if<EmbeddingOptions>(&module)) return embedding->embedding_dim;
  if (const auto* lstm = std::get_if<LstmOptions>(&module)) return lstm->output_size();
  if (const auto* linear = std::get_if<LinearOptions>(&module)) return linear->out_features;
  return input_size;
}

void check_batch(const Batch& batch) {
  if (batch.steps < 0 || batch.rows < 0) throw std::invalid_argument("batch: expected sizes of 0 or more");
  if (batch.lengths == nullptr) return;
  for (Index row = 0; row < batch.rows; ++row) {
    if (batch.lengths[row] < 0 || batch.lengths[row] > batch.steps) {
      throw std::invalid_argument("lengths: expected 0 to " + std::to_string(batch.steps) + ", got " +
                                  std::to_string(batch.lengths[row]) + " for row " + std::to_string(row));
    }
  }
}

void check_record_options(const RecordOptions& options) {
  if (options.checkpoint >= 0) return;
  throw std::invalid_argument("checkpoint: expected 0 or more, got " + std::to_string(options.checkpoint));
}

template <class T>
void copy_sequence(const Batch& batch, Index features, SequenceView<const T> from, SequenceView<T> to) {
  const Schedule schedule{batch, false};
  for (Index step = 0; step < batch.steps; ++step) {
    for (Index row = 0; row < batch.rows; ++row) {
      if (schedule.active(step, row)) std::copy_n(from.at(step, row), features, to.at(step, row));
    }
  }
}

template <class T>
void chain_forward(const std::vector<ModuleOptions>& modules, const Snapshot<T>& weights, const Input<T>& input,
                   Index features, const Batch& batch, const States<const T>& start, SequenceView<T> output,
                   const States<T>& end, Workspace<T>& workspace) {
  ChainForward<T>(modules, weights, batch, workspace).run(source_of(input, features), start, output, end, nullptr);
}

template <class T>
void chain_record(typename Tape<T>::Recording& recording, const Input<T>& input, Index features,
                  const States<const T>& start, SequenceView<T> output, const States<T>& end) {
  recording.modules.resize(recording.chain->size());
  ChainForward<T>(*recording.chain, *recording.weights, recording.batch, *recording.workspace)
      .run(source_of(input, features), start, output, end, &recording);
}

#define LATCHWORK_INSTANTIATE(T)                                                                                      \
  template void copy_sequence<T>(const Batch&, Index, SequenceView<const T>, SequenceView<T>);                        \
  template void chain_forward<T>(const std::vector<ModuleOptions>&, const Snapshot<T>&, const Input<T>&, Index,       \
                                 const Batch&, const States<const T>&, SequenceView<T>, const States<T>&,             \
                                 Workspace<T>&);                                                                      \
  template void chain_record<T>(Tape<T>::Recording&, const Input<T>&, Index, const States<const T>&, SequenceView<T>, \
                                const States<T>&);
template void copy_sequence<std::int64_t>(const Batch&, Index, SequenceView<const std::int64_t>,
                                          SequenceView<std::int64_t>);
LATCHWORK_INSTANTIATE(float)
LATCHWORK_INSTANTIATE(double)
#undef LATCHWORK_INSTANTIATE

}  // namespace latchwork
