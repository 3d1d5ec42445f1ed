// The forward pass through the modules of one member.
#include <algorithm>
#include <limits>

#include "machine/interrupt.hpp"
#include "machine/parallel.hpp"
#include "network/activation.hpp"
#include "network/chain.hpp"
#include "network/dropout.hpp"
#include "network/embed_columns.hpp"
#include "network/impute.hpp"
#include "network/input_skip.hpp"
#include "network/last.hpp"
#include "network/linear.hpp"
#include "network/merging.hpp"
#include "network/pooling.hpp"
#include "network/reverse.hpp"
#include "network/scale.hpp"
#include "network/sequences.hpp"
#include "network/sort.hpp"
#include "network/stack.hpp"
#include "weights/module_sizes.hpp"

namespace latchwork {

namespace {

// Runs the chain. With a recording, everything that backward needs stays in the workspace.
template <class T>
class ChainForward {
 public:
  ChainForward(const Chain<T>& chain, const Batch& batch, Workspace<T>& workspace)
      : modules_(chain.network.modules),
        weights_(chain.weights),
        kernels_(chain.kernels),
        batch_(batch),
        end_reset_(batch.end_reset),
        workspace_(workspace) {}

  // Leaves each row's last valid step alone once no module with a state and no Reverse needs the others.
  void only_last_step() {
    last_step_after_ = modules_.size();
    while (last_step_after_ > 0 && !module_state_size(modules_[last_step_after_ - 1]) &&
           !std::holds_alternative<ReverseOptions>(modules_[last_step_after_ - 1])) {
      --last_step_after_;
    }
    const bool tokens = std::holds_alternative<EmbeddingOptions>(modules_.front());
    if (last_step_after_ == 0 && tokens) last_step_after_ = 1;
  }

  void run(RowSource<T> input, const States<const T>& start, SequenceView<T> output, const States<T>& end,
           ChainRecord<T>* recording) {
    std::size_t state_index = 0;
    RowSource<T> source = input, network_input = input;
    for (std::size_t at = 0; at < modules_.size(); ++at) {
      if (at == last_step_after_) take_last_steps(source, network_input);
      const bool last = at + 1 == modules_.size() && last_step_after_ != modules_.size();
      const bool merged_later = merges_in_last(modules_, at);
      const Index features = merged_later ? std::get<LstmOptions>(modules_[at]).joined_size() : width(at, source);
      const PackedModule<T>& weights = weights_[at];
      ModuleRecord<T>* record = nullptr;
      if (recording != nullptr) {
        record = &recording->modules[at];
        record->input = source;
        record->batch = batch_;
        record->backwards = backwards_;
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
        const State<const T> lstm_start = start.empty() ? State<const T>{} : start[state_index];
        const State<T> lstm_end = end.empty() ? State<T>{} : end[state_index];
        ++state_index;
        StackCall<T> call{lstm, &weights, &kernels_, batch_, source, static_cast<Index>(at)};
        call.merged_later = merged_later;
        call.backwards = backwards_;
        call.end_reset = end_reset_;
        if (record != nullptr) {
          const bool in_place = last && recording->options.checkpoint > 0;
          result = stack_record(call, lstm_start, in_place ? output : SequenceView<T>{}, lstm_end, recording->options,
                                record->stack, workspace_);
        } else {
          result = target(last, output, features);
          stack_forward(call, lstm_start, result, lstm_end, workspace_);
        }
      } else if (std::holds_alternative<LinearOptions>(modules_[at])) {
        result = target(last && record == nullptr, output, features);
        linear_forward(LinearCall<T>{&weights.linear, &kernels_, batch_, source, result});
      } else if (const auto* dropout = std::get_if<DropoutOptions>(&modules_[at])) {
        const DropoutMask mask = record == nullptr ? DropoutMask{} : mask_of(*dropout, recording->options, at);
        if (mask.probability == 0.0 && !last) continue;
        result = target(record == nullptr, output, features);
        if (mask.probability > 0.0) {
          dropout_module(kernels_, mask, batch_, source, result);
        } else {
          copy(source, result, features);
        }
      } else if (std::holds_alternative<MaskOptions>(modules_[at])) {
        // The steps that it masks are no part of the batch any more.
        if (!last) continue;
        result = target(record == nullptr, output, features);
        copy(source, result, features);
      } else if (const auto* skip = std::get_if<InputSkipOptions>(&modules_[at])) {
        result = target(last && record == nullptr, output, features);
        input_skip_forward(*skip, batch_, network_input, source, result);
      } else if (std::holds_alternative<ReverseOptions>(modules_[at])) {
        result = target(last && record == nullptr, output, features);
        reverse_forward(batch_, source, result);
        turn();
      } else if (pooling_name(modules_[at]) == nullptr) {
        result = target(last && record == nullptr, output, features);
        const bool has_state = module_state_size(modules_[at]).has_value();
        run_features(at, source, has_state && !start.empty() ? start[state_index] : State<const T>{}, result,
                     has_state && !end.empty() ? end[state_index] : State<T>{});
        state_index += has_state ? 1 : 0;
      } else {
        const Schedule schedule{batch_, false};
        batch_.steps = 1;
        batch_.lengths = nullptr;
        batch_.reset = {};
        batch_.end_reset = nullptr;
        result = target(last && record == nullptr, output, features);
        if (std::holds_alternative<LastOptions>(modules_[at])) {
          run_last(at, schedule, source, result);
        } else {
          const bool mean = std::holds_alternative<MeanOptions>(modules_[at]);
          pool_forward(mean ? Pooling::mean : Pooling::max, schedule, backwards_, source, result);
        }
      }
      if (record != nullptr) {
        record->output = result;
        if (last && result.data != output.data) copy(rows_of(read_only(result), features), output, features);
      }
      source = rows_of(read_only(result), features);
      throw_if_stopped(0);
    }
    if (last_step_after_ == modules_.size()) {
      take_last_steps(source, network_input);
      copy(source, output, source.features);
    }
    if (recording != nullptr) recording->reversed = reversed_;
  }

 private:
  // Runs a module that computes the features of each step from those of that step and, with an Impute, from its state.
  void run_features(std::size_t at, const RowSource<T>& source, const State<const T>& start,
                    const SequenceView<T>& result, const State<T>& end) {
    const PackedModule<T>& weights = weights_[at];
    if (std::holds_alternative<ScaleOptions>(modules_[at])) {
      scale_forward(weights, batch_, source, result);
    } else if (const auto* impute = std::get_if<ImputeOptions>(&modules_[at])) {
      impute_forward(Imputer<T>(*impute, weights), batch_, source, start, result, end, workspace_);
    } else if (const auto* embed = std::get_if<EmbedColumnsOptions>(&modules_[at])) {
      embed_columns_forward(*embed, weights.table.data(), batch_, source, result);
    } else if (std::holds_alternative<ActivationOptions>(modules_[at])) {
      activation_forward(kernels_, weights.activation, batch_, source, result);
    } else {
      sort_forward(std::get<SortOptions>(modules_[at]).group, batch_, source, result);
    }
  }

  // The number of features that a module returns; a Last that merges reads those of both directions side by side.
  Index width(std::size_t at, const RowSource<T>& source) const {
    const auto* merging = merging_before_last(modules_, at);
    return merging == nullptr ? module_output_size(modules_[at], source.features) : merging->output_size();
  }

  void run_last(std::size_t at, const Schedule& schedule, const RowSource<T>& source, const SequenceView<T>& result) {
    const LastColumns columns = last_columns(modules_, at, source.features);
    const auto* merging = merging_before_last(modules_, at);
    if (merging == nullptr) return last_forward(columns, schedule, source, result);
    const SequenceView<T> joined =
        contiguous(workspace_.take(batch_.rows * source.features), batch_.rows, source.features);
    last_forward(columns, schedule, source, joined);
    merge_forward(*merging, batch_, read_only(joined), result);
  }

  // Goes over to the other order of the steps.
  void turn() {
    if (reversed_ == nullptr) {
      in_order_ = batch_;
      reversed_ = std::make_shared<const ReversedBatch>(batch_, 1);
    }
    backwards_ = !backwards_;
    batch_ = backwards_ ? reversed_->batch() : in_order_;
  }

  // Turns both into the last valid step of each row, as a batch of one step in which rows of length 0 are padding.
  void take_last_steps(RowSource<T>& source, RowSource<T>& network_input) {
    const Schedule schedule{batch_, false};
    const bool reads_input = std::any_of(modules_.begin(), modules_.end(), [](const ModuleOptions& module) {
      return std::holds_alternative<InputSkipOptions>(module);
    });
    if (reads_input) network_input = last_steps(schedule, network_input);
    source = last_steps(schedule, source);
    last_step_lengths_.clear();
    for (Index row = 0; row < batch_.rows; ++row) last_step_lengths_.push_back(schedule.length(row) > 0 ? 1 : 0);
    batch_.steps = 1;
    batch_.lengths = last_step_lengths_.data();
    batch_.reset = {};
    batch_.end_reset = nullptr;
  }

  RowSource<T> last_steps(const Schedule& schedule, const RowSource<T>& source) {
    const SequenceView<T> steps =
        contiguous(workspace_.take(batch_.rows * source.features), batch_.rows, source.features);
    last_forward({source.features, 0}, schedule, source, steps);
    return rows_of(read_only(steps), source.features);
  }

  SequenceView<T> target(bool into_output, SequenceView<T> output, Index features) {
    if (into_output && output.data != nullptr) return output;
    return contiguous(workspace_.take(batch_.steps * batch_.rows * features), batch_.rows, features);
  }

  void copy(const RowSource<T>& from, SequenceView<T> to, Index features) const {
    if (to.data == nullptr) return;
    write_rows(batch_, features, to,
               [&](Index step, Index row, T* values) { std::copy_n(from.at(step, row), features, values); });
  }

  const std::vector<ModuleOptions>& modules_;
  const PackedChain<T>& weights_;
  const Kernels<T>& kernels_;
  Batch batch_;
  const std::uint8_t* end_reset_;                  // that of the batch in the order in which the chain takes it
  bool backwards_ = false;                         // whether the steps are in the other order
  std::shared_ptr<const ReversedBatch> reversed_;  // the batch in the other order, once there is a Reverse,
  Batch in_order_;                                 // and in the first one
  Workspace<T>& workspace_;
  // The number of modules after which only the last step of each row is computed.
  std::size_t last_step_after_ = std::numeric_limits<std::size_t>::max();
  std::vector<Index> last_step_lengths_;
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

template <class T>
void chain_forward(const Chain<T>& chain, const Input<T>& input, const Batch& batch, const States<const T>& start,
                   SequenceView<T> output, const States<T>& end, Workspace<T>& workspace) {
  ChainForward<T>(chain, batch, workspace).run(source_of(input, chain.network.input_size), start, output, end, nullptr);
}

template <class T>
void chain_forward_last_step(const Chain<T>& chain, const Input<T>& input, const Batch& batch,
                             const States<const T>& start, SequenceView<T> output, const States<T>& end,
                             Workspace<T>& workspace) {
  ChainForward<T> forward(chain, batch, workspace);
  forward.only_last_step();
  forward.run(source_of(input, chain.network.input_size), start, output, end, nullptr);
}

template <class T>
void chain_record(const Chain<T>& chain, const Input<T>& input, const States<const T>& start, SequenceView<T> output,
                  const States<T>& end, ChainRecord<T>& record) {
  record.modules.resize(chain.network.modules.size());
  ChainForward<T>(chain, record.batch, *record.workspace)
      .run(source_of(input, chain.network.input_size), start, output, end, &record);
}

#define LATCHWORK_INSTANTIATE(T)                                                                                   \
  template void chain_forward<T>(const Chain<T>&, const Input<T>&, const Batch&, const States<const T>&,           \
                                 SequenceView<T>, const States<T>&, Workspace<T>&);                                \
  template void chain_forward_last_step<T>(const Chain<T>&, const Input<T>&, const Batch&, const States<const T>&, \
                                           SequenceView<T>, const States<T>&, Workspace<T>&);                      \
  template void chain_record<T>(const Chain<T>&, const Input<T>&, const States<const T>&, SequenceView<T>,         \
                                const States<T>&, ChainRecord<T>&);
LATCHWORK_INSTANTIATE(float)
LATCHWORK_INSTANTIATE(double)
#undef LATCHWORK_INSTANTIATE

}  // namespace latchwork
