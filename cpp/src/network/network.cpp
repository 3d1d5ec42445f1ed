#include "latchwork/network.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "machine/dispatch.hpp"
#include "machine/float_state.hpp"
#include "machine/workspace.hpp"
#include "network/chain.hpp"
#include "network/tape.hpp"
#include "weights/snapshot.hpp"
#include "weights/snapshot_cache.hpp"
#include "weights/weight_dropout.hpp"

namespace latchwork {

namespace {

Index module_input_size(const ModuleOptions& module) {
  if (const auto* lstm = std::get_if<LstmOptions>(&module)) return lstm->input_size;
  if (const auto* linear = std::get_if<LinearOptions>(&module)) return linear->in_features;
  return 1;
}

template <class T>
void check_input(const Network<T>& network, const Input<T>& input, const Batch& batch) {
  check_batch(batch);
  if (!network.takes_tokens()) return;
  const Index vocabulary = std::get<EmbeddingOptions>(network.modules().front()).num_embeddings;
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

// The recording's own copy of what the caller may overwrite.
template <class T>
Input<T> copy_input(const Input<T>& input, const Batch& batch, bool tokens, Index features,
                    typename Tape<T>::Recording& recording) {
  Input<T> copy;
  if (tokens) {
    recording.tokens.assign(static_cast<std::size_t>(batch.steps * batch.rows), 0);
    const SequenceView<std::int64_t> to{recording.tokens.data(), batch.rows, 1};
    copy_sequence<std::int64_t>(batch, 1, input.tokens, to);
    copy.tokens = {to.data, to.step_stride, to.row_stride};
  } else {
    T* const values = recording.workspace->take(batch.steps * batch.rows * features);
    const SequenceView<T> to = contiguous(values, batch.rows, features);
    copy_sequence<T>(batch, features, input.values, to);
    copy.values = {to.data, to.step_stride, to.row_stride};
  }
  return copy;
}

}  // namespace

template <class T>
Network<T>::Network(std::vector<ModuleOptions> modules, bool numbered, std::uint64_t seed)
    : modules_(std::make_shared<std::vector<ModuleOptions>>(std::move(modules))) {
  validate(*modules_);
  layout_ = parameter_layout(*modules_, numbered);
  for (const ParameterSpec& spec : layout_) parameter_count_ += spec.size();
  store_ = std::make_shared<ParameterStore<T>>(parameter_count_);
  store_->write([&](T* parameters) { initialise_parameters(*modules_, seed, parameters); });
  snapshots_ = std::make_shared<SnapshotCache<T, Snapshot<T>>>();
  workspaces_ = std::make_shared<WorkspaceCache<T>>();
}

template <class T>
Network<T>::Network(std::vector<ModuleOptions> modules, bool numbered, std::shared_ptr<ParameterStore<T>> store,
                    Index begin)
    : modules_(std::make_shared<std::vector<ModuleOptions>>(std::move(modules))),
      layout_(parameter_layout(*modules_, numbered)),
      parameters_begin_(begin),
      store_(std::move(store)),
      snapshots_(std::make_shared<SnapshotCache<T, Snapshot<T>>>()),
      workspaces_(std::make_shared<WorkspaceCache<T>>()) {
  for (const ParameterSpec& spec : layout_) parameter_count_ += spec.size();
}

template <class T>
Network<T> Network<T>::module(Index index) const {
  if (index < 0 || index >= static_cast<Index>(modules_->size())) throw std::invalid_argument("index: no such module");
  const std::vector<ModuleOptions> before(modules_->begin(), modules_->begin() + index);
  Index begin = parameters_begin_;
  for (const ParameterSpec& spec : parameter_layout(before, false)) begin += spec.size();
  return Network({(*modules_)[static_cast<std::size_t>(index)]}, false, store_, begin);
}

template <class T>
bool Network<T>::takes_tokens() const {
  return std::holds_alternative<EmbeddingOptions>(modules_->front());
}

template <class T>
Index Network<T>::input_size() const {
  for (const ModuleOptions& module : *modules_) {
    if (!std::holds_alternative<LastOptions>(module)) return module_input_size(module);
  }
  return 1;
}

template <class T>
Index Network<T>::output_size() const {
  Index size = input_size();
  for (const ModuleOptions& module : *modules_) size = module_output_size(module, size);
  return size;
}

template <class T>
bool Network<T>::keeps_sequence() const {
  return std::none_of(modules_->begin(), modules_->end(),
                      [](const ModuleOptions& module) { return std::holds_alternative<LastOptions>(module); });
}

template <class T>
Index Network<T>::lstm_count() const {
  return std::count_if(modules_->begin(), modules_->end(),
                       [](const ModuleOptions& module) { return std::holds_alternative<LstmOptions>(module); });
}

template <class T>
const LstmOptions& Network<T>::lstm(Index index) const {
  for (const ModuleOptions& module : *modules_) {
    if (const auto* lstm = std::get_if<LstmOptions>(&module); lstm != nullptr && index-- == 0) return *lstm;
  }
  throw std::invalid_argument("index: no such LSTM");
}

template <class T>
std::shared_ptr<const Snapshot<T>> Network<T>::snapshot(bool with_backward) const {
  const Kernels<T>& kernels = kernels_for<T>(*modules_);
  return snapshots_->latest(*store_, kernels, with_backward, [&](const T* parameters, Snapshot<T>& packed) {
    const FlushToZero flush;
    pack(*modules_, layout_, parameters + parameters_begin_, kernels, with_backward, packed);
  });
}

template <class T>
std::shared_ptr<const Snapshot<T>> Network<T>::snapshot_of_recording(const RecordOptions& options) const {
  if (!drops_weights(*modules_, options)) return snapshot(true);
  const FlushToZero flush;
  const Kernels<T>& kernels = kernels_for<T>(*modules_);
  Workspace<T> workspace(workspaces_);
  T* dropped = workspace.take(parameter_count_);
  store_->read([&](const T* parameters) { std::copy_n(parameters + parameters_begin_, parameter_count_, dropped); });
  apply_weight_dropout(*modules_, kernels, options, dropped);
  return snapshots_->of_recording(
      *store_, [&](Snapshot<T>& packed) { pack(*modules_, layout_, dropped, kernels, true, packed); });
}

template <class T>
void Network<T>::forward(const Input<T>& input, const Batch& batch, const States<const T>& start,
                         SequenceView<T> output, const States<T>& end) const {
  check_input(*this, input, batch);
  const FlushToZero flush;
  const std::shared_ptr<const Snapshot<T>> weights = snapshot(false);
  Workspace<T> workspace(workspaces_);
  chain_forward(*modules_, *weights, input, input_size(), batch, start, output, end, workspace);
}

template <class T>
std::shared_ptr<Tape<T>> Network<T>::record(const Input<T>& input, const Batch& batch, const States<const T>& start,
                                            SequenceView<T> output, const States<T>& end,
                                            const RecordOptions& options) const {
  check_input(*this, input, batch);
  check_record_options(options);
  const FlushToZero flush;
  auto recording = std::make_unique<typename Tape<T>::Recording>(modules_, snapshot_of_recording(options), options,
                                                                 std::make_shared<Workspace<T>>(workspaces_));
  recording->batch = recording->own(batch);
  const Input<T> own = copy_input(input, batch, takes_tokens(), input_size(), *recording);
  chain_record<T>(*recording, own, input_size(), start, output, end);
  return std::make_shared<Tape<T>>(std::move(recording));
}

template class Network<float>;
template class Network<double>;

}  // namespace latchwork
