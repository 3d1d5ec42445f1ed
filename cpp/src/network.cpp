#include "latchwork/network.hpp"

#include <algorithm>
#include <mutex>
#include <stdexcept>
#include <string>

#include "dispatch.hpp"
#include "float_state.hpp"
#include "last.hpp"
#include "linear.hpp"
#include "snapshot.hpp"
#include "stack.hpp"
#include "tape.hpp"
#include "weight_dropout.hpp"
#include "workspace.hpp"

namespace latchwork {

template <class T>
struct Network<T>::SnapshotCache {
  std::mutex mutex;
  std::shared_ptr<const Snapshot<T>> latest;
};

namespace {

Index module_output_size(const ModuleOptions& module, Index input_size) {
  if (const auto* embedding = std::get_if<EmbeddingOptions>(&module)) return embedding->size;
  if (const auto* lstm = std::get_if<LstmOptions>(&module)) return lstm->output_size();
  if (const auto* linear = std::get_if<LinearOptions>(&module)) return linear->output_size;
  return input_size;
}

Index module_input_size(const ModuleOptions& module) {
  if (const auto* lstm = std::get_if<LstmOptions>(&module)) return lstm->input_size;
  if (const auto* linear = std::get_if<LinearOptions>(&module)) return linear->input_size;
  return 1;
}

template <class T>
void check_input(const Network<T>& network, const Input<T>& input, const Batch& batch) {
  if (batch.steps < 0 || batch.rows < 0) throw std::invalid_argument("batch: expected sizes of 0 or more");
  if (batch.lengths != nullptr) {
    for (Index row = 0; row < batch.rows; ++row) {
      if (batch.lengths[row] < 0 || batch.lengths[row] > batch.steps) {
        throw std::invalid_argument("lengths: expected 0 to " + std::to_string(batch.steps) + ", got " +
                                    std::to_string(batch.lengths[row]) + " for row " + std::to_string(row));
      }
    }
  }
  if (!network.takes_tokens()) return;
  const Index vocabulary = std::get<EmbeddingOptions>(network.modules().front()).vocabulary;
  const Schedule schedule{batch, false};
  for (Index step = 0; step < batch.steps; ++step) {
    for (Index row = 0; row < batch.rows; ++row) {
      if (!schedule.active(step, row)) continue;
      const std::int64_t token = *input.tokens.at(step, row);
      if (token < 0 || token >= vocabulary) {
        throw std::invalid_argument("tokens: expected 0 to " + std::to_string(vocabulary - 1) + ", got " +
                                    std::to_string(token) + " at step " + std::to_string(step) + ", row " +
                                    std::to_string(row));
      }
    }
  }
}

// Runs the chain. With a recording everything that backward needs stays in its workspace.
template <class T>
class ChainForward {
 public:
  ChainForward(const Network<T>& network, const Snapshot<T>& snapshot, const Batch& batch, Workspace<T>& workspace)
      : network_(network), snapshot_(snapshot), batch_(batch), workspace_(workspace) {}

  void run(RowSource<T> input, const States<const T>& start, SequenceView<T> output, const States<T>& end,
           typename Tape<T>::Recording* recording) {
    const std::vector<ModuleOptions>& modules = network_.modules();
    std::size_t lstm_index = 0;
    RowSource<T> source = input;
    for (std::size_t at = 0; at < modules.size(); ++at) {
      const bool last = at + 1 == modules.size();
      const Index features = module_output_size(modules[at], source.features);
      const PackedModule<T>& weights = snapshot_.modules[at];
      ModuleRecord<T>* record = nullptr;
      if (recording != nullptr) {
        record = &recording->modules[at];
        record->input = source;
        record->batch = batch_;
      }
      SequenceView<T> result;
      if (std::holds_alternative<EmbeddingOptions>(modules[at])) {
        source.table = weights.table.data();
        source.features = features;
        if (last) copy(source, output, features);
        continue;
      }
      if (const auto* lstm = std::get_if<LstmOptions>(&modules[at])) {
        const State<const T> own_start = start.empty() ? State<const T>{} : start[lstm_index];
        const State<T> own_end = end.empty() ? State<T>{} : end[lstm_index];
        ++lstm_index;
        StackCall<T> call{lstm, &weights, snapshot_.kernels, batch_, source, static_cast<Index>(at)};
        if (record != nullptr) {
          stack_record(call, own_start, own_end, recording->options, record->stack, workspace_);
          result = record->stack.result();
          if (last) copy(rows_of(result, features), output, features);
        } else {
          result = target(last, output, features);
          stack_forward(call, own_start, result, own_end, workspace_);
        }
      } else if (std::holds_alternative<LinearOptions>(modules[at])) {
        result = target(last && record == nullptr, output, features);
        linear_forward(LinearCall<T>{&weights.linear, snapshot_.kernels, batch_, source, result});
        if (last && record != nullptr) copy(rows_of(result, features), output, features);
      } else {
        const Schedule schedule{batch_, false};
        batch_.steps = 1;
        batch_.lengths = nullptr;
        batch_.reset = {};
        result = target(last, output, features);
        last_forward(last_columns(at == 0 ? nullptr : &modules[at - 1], features), schedule, source, result);
      }
      if (record != nullptr) record->output = result;
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
    for (Index step = 0; step < batch_.steps; ++step) {
      for (Index row = 0; row < batch_.rows; ++row) {
        if (schedule.active(step, row)) {
          std::copy_n(from.at(step, row), features, to.at(step, row));
        } else {
          std::fill_n(to.at(step, row), features, T(0));
        }
      }
    }
  }

  const Network<T>& network_;
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

// The recording's own copy of what the caller may overwrite.
template <class T>
Input<T> copy_input(const Input<T>& input, const Batch& batch, bool tokens, Index features,
                    typename Tape<T>::Recording& recording) {
  Input<T> copy;
  T* values = nullptr;
  const Schedule schedule{batch, false};
  if (tokens) {
    recording.tokens.assign(static_cast<std::size_t>(batch.steps * batch.rows), 0);
    copy.tokens = {recording.tokens.data(), batch.rows, 1};
  } else {
    values = recording.workspace.take(batch.steps * batch.rows * features);
    copy.values = {values, batch.rows * features, features};
  }
  for (Index step = 0; step < batch.steps; ++step) {
    for (Index row = 0; row < batch.rows; ++row) {
      if (!schedule.active(step, row)) continue;
      const Index slot = step * batch.rows + row;
      if (tokens) {
        recording.tokens[static_cast<std::size_t>(slot)] = *input.tokens.at(step, row);
      } else {
        std::copy_n(input.values.at(step, row), features, values + slot * features);
      }
    }
  }
  return copy;
}

}  // namespace

template <class T>
Network<T>::Network(std::vector<ModuleOptions> modules, bool numbered, std::uint64_t seed)
    : modules_(std::move(modules)) {
  validate(modules_);
  layout_ = parameter_layout(modules_, numbered);
  for (const ParameterSpec& spec : layout_) parameter_count_ += spec.size();
  store_ = std::make_shared<ParameterStore<T>>(parameter_count_);
  store_->write([&](T* parameters) { initialise_parameters(modules_, seed, parameters); });
  snapshots_ = std::make_shared<SnapshotCache>();
  workspaces_ = std::make_shared<WorkspaceCache<T>>();
}

template <class T>
Network<T>::Network(std::vector<ModuleOptions> modules, bool numbered, std::shared_ptr<ParameterStore<T>> store,
                    Index begin)
    : modules_(std::move(modules)),
      layout_(parameter_layout(modules_, numbered)),
      parameters_begin_(begin),
      store_(std::move(store)),
      snapshots_(std::make_shared<SnapshotCache>()),
      workspaces_(std::make_shared<WorkspaceCache<T>>()) {
  for (const ParameterSpec& spec : layout_) parameter_count_ += spec.size();
}

template <class T>
Network<T> Network<T>::module(Index index) const {
  if (index < 0 || index >= static_cast<Index>(modules_.size())) throw std::invalid_argument("index: no such module");
  const std::vector<ModuleOptions> before(modules_.begin(), modules_.begin() + index);
  Index begin = parameters_begin_;
  for (const ParameterSpec& spec : parameter_layout(before, false)) begin += spec.size();
  return Network({modules_[static_cast<std::size_t>(index)]}, false, store_, begin);
}

template <class T>
bool Network<T>::takes_tokens() const {
  return std::holds_alternative<EmbeddingOptions>(modules_.front());
}

template <class T>
Index Network<T>::input_size() const {
  for (const ModuleOptions& module : modules_) {
    if (!std::holds_alternative<LastOptions>(module)) return module_input_size(module);
  }
  return 1;
}

template <class T>
Index Network<T>::output_size() const {
  Index size = input_size();
  for (const ModuleOptions& module : modules_) size = module_output_size(module, size);
  return size;
}

template <class T>
bool Network<T>::keeps_sequence() const {
  return std::none_of(modules_.begin(), modules_.end(),
                      [](const ModuleOptions& module) { return std::holds_alternative<LastOptions>(module); });
}

template <class T>
Index Network<T>::lstm_count() const {
  return std::count_if(modules_.begin(), modules_.end(),
                       [](const ModuleOptions& module) { return std::holds_alternative<LstmOptions>(module); });
}

template <class T>
const LstmOptions& Network<T>::lstm(Index index) const {
  for (const ModuleOptions& module : modules_) {
    if (const auto* lstm = std::get_if<LstmOptions>(&module); lstm != nullptr && index-- == 0) return *lstm;
  }
  throw std::invalid_argument("index: no such LSTM");
}

template <class T>
std::shared_ptr<const Snapshot<T>> Network<T>::snapshot(bool with_backward) const {
  const Kernels<T>& kernels = kernels_of<T>(current_kernels());
  const std::lock_guard<std::mutex> lock(snapshots_->mutex);
  std::shared_ptr<const Snapshot<T>>& latest = snapshots_->latest;
  if (latest != nullptr && latest->version == store_->version() && latest->kernels == &kernels &&
      (latest->with_backward || !with_backward)) {
    return latest;
  }
  const FlushToZero flush;
  store_->read([&](const T* parameters) {
    const std::uint64_t version = store_->version();
    auto packed =
        std::make_shared<Snapshot<T>>(pack(modules_, layout_, parameters + parameters_begin_, kernels, with_backward));
    packed->version = version;
    latest = std::move(packed);
  });
  return latest;
}

template <class T>
std::shared_ptr<const Snapshot<T>> Network<T>::snapshot_of_recording(const RecordOptions& options) const {
  if (!drops_weights(modules_, options)) return snapshot(true);
  const FlushToZero flush;
  const Kernels<T>& kernels = kernels_of<T>(current_kernels());
  Workspace<T> workspace(workspaces_);
  T* dropped = workspace.take(parameter_count_);
  store_->read([&](const T* parameters) { std::copy_n(parameters + parameters_begin_, parameter_count_, dropped); });
  apply_weight_dropout(modules_, kernels, options, dropped);
  return std::make_shared<Snapshot<T>>(pack(modules_, layout_, dropped, kernels, true));
}

template <class T>
void Network<T>::forward(const Input<T>& input, const Batch& batch, const States<const T>& start,
                         SequenceView<T> output, const States<T>& end) const {
  check_input(*this, input, batch);
  const FlushToZero flush;
  const std::shared_ptr<const Snapshot<T>> weights = snapshot(false);
  Workspace<T> workspace(workspaces_);
  ChainForward<T>(*this, *weights, batch, workspace).run(source_of(input, input_size()), start, output, end, nullptr);
}

template <class T>
std::shared_ptr<Tape<T>> Network<T>::record(const Input<T>& input, const Batch& batch, const States<const T>& start,
                                            SequenceView<T> output, const States<T>& end,
                                            const RecordOptions& options) const {
  check_input(*this, input, batch);
  const FlushToZero flush;
  auto recording =
      std::make_unique<typename Tape<T>::Recording>(modules_, snapshot_of_recording(options), options, workspaces_);
  recording->batch = recording->own(batch);
  recording->modules.resize(modules_.size());
  const Input<T> own = copy_input(input, batch, takes_tokens(), input_size(), *recording);
  ChainForward<T>(*this, *recording->weights, recording->batch, recording->workspace)
      .run(source_of(own, input_size()), start, output, end, recording.get());
  return std::make_shared<Tape<T>>(std::move(recording));
}

template class Network<float>;
template class Network<double>;

}  // namespace latchwork
