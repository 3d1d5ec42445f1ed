#pragma once

#include <algorithm>
#include <array>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "layer/rows.hpp"
#include "machine/interrupt.hpp"
#include "machine/parallel.hpp"
#include "network/computed_steps.hpp"
#include "network/last.hpp"
#include "network/network_parts.hpp"
#include "network/ordered_steps.hpp"
#include "network/reverse.hpp"

// How calls with a skip mask run: the computed steps of each row are gathered into a ragged batch, and what comes out
// of it is scattered to the steps of the whole batch.
namespace latchwork::detail {

// Calls task(step, row) for every step and row of the whole batch. Threads share the work. Throws Interrupted.
template <class Task>
void for_each_step(const ComputedSteps& steps, Index features, Task&& task) {
  const Index slots = steps.steps() * steps.rows(), parts = number_parts(slots * features, slots);
  parallel(parts, [&](Index part) {
    for (Index slot = piece_begin(slots, parts, part); slot < piece_begin(slots, parts, part + 1); ++slot) {
      if (stops_after(features * work_of_moving)) return;
      task(slot / steps.rows(), slot % steps.rows());
    }
  });
  throw_if_stopped(0);
}

// How many sequences there are if the members' values lie this far apart: one that all members share, or one for each.
inline Index sequence_count(const ComputedSteps& steps, Index members, Index member_stride) {
  return steps.copies() == 1 && member_stride == 0 ? 1 : members;
}

// The number of elements of so many sequences of the computed steps.
inline Index computed_size(const ComputedSteps& steps, Index sequences, Index features) {
  return sequences * steps.batch().steps * steps.rows() * features;
}

template <class T>
SequenceView<T> computed_view(const ComputedSteps& steps, Index sequences, Index features, T* memory) {
  SequenceView<T> view = contiguous(memory, steps.rows(), features);
  view.member_stride = sequences == 1 ? 0 : computed_size(steps, 1, features);
  return view;
}

// Copies the computed steps to `memory`. Its padding is not written.
template <class T>
SequenceView<const T> gather(const ComputedSteps& steps, Index sequences, Index features,
                             const SequenceView<const T>& from, T* memory) {
  const SequenceView<T> all = computed_view(steps, sequences, features, memory);
  for (Index member = 0; member < sequences; ++member) {
    const SequenceView<const T> source = from.of(member);
    const SequenceView<T> target = all.of(member);
    for_each_step(steps, features, [&](Index step, Index row) {
      if (!steps.computed(member, step, row)) return;
      std::copy_n(source.at(step, row), features, target.at(steps.repeated(member, step, row, false), row));
    });
  }
  return read_only(all);
}

// Copies the computed steps back to their places, and writes zeros to all others.
template <class T>
void scatter(const ComputedSteps& steps, Index members, Index features, const SequenceView<T>& from,
             const SequenceView<T>& to) {
  for (Index member = 0; member < members; ++member) {
    const SequenceView<T> source = from.of(member), target = to.of(member);
    for_each_step(steps, features, [&](Index step, Index row) {
      if (steps.computed(member, step, row)) {
        std::copy_n(source.at(steps.repeated(member, step, row, false), row), features, target.at(step, row));
      } else {
        std::fill_n(target.at(step, row), features, T(0));
      }
    });
  }
}

// Columns of a chain's output. A skipped step repeats the computed step before it or, in `reverse` columns, after it.
struct RepeatedColumns {
  Index begin = 0, size = 0;
  bool reverse = false;
};

// The columns of a chain's output, if it is a sequence: those of one direction after those of the other. What keeps
// columns changes no direction, and a Reverse turns it.
template <class T>
std::array<RepeatedColumns, 2> output_columns(const NetworkParts<T>& parts) {
  std::size_t end = parts.modules.size();
  bool turned = false;
  LastColumns columns = last_columns(parts.modules, end, parts.output_size);
  while (end > 0 &&
         (keeps_columns(parts.modules[end - 1]) || std::holds_alternative<ReverseOptions>(parts.modules[end - 1]))) {
    turned = turned != std::holds_alternative<ReverseOptions>(parts.modules[end - 1]);
    columns = last_columns(parts.modules, --end, parts.output_size);
  }
  return {{{0, columns.forward, turned}, {columns.forward, columns.reverse, !turned}}};
}

// Writes the output of each step: the one that it repeats, or zero.
template <class T>
void scatter_output(const ComputedSteps& steps, const NetworkParts<T>& parts, const SequenceView<T>& from,
                    const SequenceView<T>& to) {
  const Index members = parts.members, features = parts.output_size;
  const std::array<RepeatedColumns, 2> columns = output_columns(parts);
  if (steps.skipped_output() == SkippedOutput::zero) return scatter(steps, members, features, from, to);
  for (Index member = 0; member < members; ++member) {
    const SequenceView<T> source = from.of(member), target = to.of(member);
    for_each_step(steps, features, [&](Index step, Index row) {
      for (const auto [begin, size, reverse] : columns) {
        const Index number = steps.repeated(member, step, row, reverse);
        if (number < 0 || steps.zeroes(member, step, row)) {
          std::fill_n(target.at(step, row) + begin, size, T(0));
        } else {
          std::copy_n(source.at(number, row) + begin, size, target.at(step, row) + begin);
        }
      }
    });
  }
}

// Turns the outputs of the rows' last computed steps into those of their last valid steps, which scatter_output() would
// write. Rows without a computed step are zero already.
template <class T>
void repeat_at_last_step(const ComputedSteps& steps, const NetworkParts<T>& parts, const SequenceView<T>& outputs) {
  const std::array<RepeatedColumns, 2> columns = output_columns(parts);
  for (Index member = 0; member < parts.members; ++member) {
    for (Index row = 0; row < steps.rows(); ++row) {
      const Index last = steps.last_step(member, row);
      if (last < 0 || steps.computed(member, last, row)) continue;
      T* const output = outputs.of(member).at(0, row);
      const bool repeats = steps.skipped_output() == SkippedOutput::repeat && !steps.zeroes(member, last, row);
      for (const auto [begin, size, reverse] : columns) {
        const bool repeated = repeats && !reverse && steps.repeated(member, last, row, false) >= 0;
        if (!repeated) std::fill_n(output + begin, size, T(0));
      }
    }
  }
}

// The gradient of scatter_output(): each computed step gets the sum over the steps that repeat it, steps ascending. The
// padding of `memory` is not written.
template <class T>
SequenceView<const T> gather_d_output(const ComputedSteps& steps, const NetworkParts<T>& network,
                                      const SequenceView<const T>& from, T* memory) {
  const Index features = network.output_size;
  const std::array<RepeatedColumns, 2> columns = output_columns(network);
  const Index sequences = sequence_count(steps, network.members, from.member_stride);
  if (steps.skipped_output() == SkippedOutput::zero) return gather(steps, sequences, features, from, memory);
  const SequenceView<T> all = computed_view(steps, sequences, features, memory);
  const Index parts = number_parts(steps.steps() * steps.rows() * features, steps.rows());
  for (Index member = 0; member < sequences; ++member) {
    const SequenceView<const T> source = from.of(member);
    const SequenceView<T> target = all.of(member);
    const auto add_row = [&](Index row, bool reverse, Index begin, Index size) {
      Index last = -1;  // the computed step that the sum so far is for
      for (Index step = 0; step < steps.steps(); ++step) {
        if (stops_after(size * work_of_moving)) return;
        const Index number = steps.repeated(member, step, row, reverse);
        if (number < 0 || steps.zeroes(member, step, row)) continue;
        const T* const d_output = source.at(step, row) + begin;
        T* const sum = target.at(number, row) + begin;
        if (number != last) {
          std::copy_n(d_output, size, sum);
        } else {
          for (Index at = 0; at < size; ++at) sum[at] += d_output[at];
        }
        last = number;
      }
    };
    parallel(parts, [&](Index part) {
      for (Index row = piece_begin(steps.rows(), parts, part); row < piece_begin(steps.rows(), parts, part + 1);
           ++row) {
        for (const auto [begin, size, reverse] : columns) add_row(row, reverse, begin, size);
      }
    });
    throw_if_stopped(0);
  }
  return read_only(all);
}

// The input of a call with a skip mask, and places for its output, as the ragged batch of the computed steps has them.
template <class T>
class SkippedCall {
 public:
  // The input and the batch are checked and must live as long as this.
  SkippedCall(const NetworkParts<T>& parts, const Input<T>& input, const Batch& batch)
      : parts_(parts), whole_(batch), memory_(parts.workspaces.first()) {
    if (has_reverse(parts.modules)) reversed_.emplace(batch, parts.members);
    steps_ = std::make_shared<const OrderedSteps>(batch, reversed_ ? &*reversed_ : nullptr, parts.members);
    const ComputedSteps& taken = steps_->of(false);
    input_ = {gathered(taken, input.values, parts.input_size), gathered(taken, input.tokens, 1)};
  }

  const std::shared_ptr<const OrderedSteps>& steps() const { return steps_; }
  const Batch& batch() const { return steps_->of(false).batch(); }
  const Input<T>& input() const { return input_; }
  // The batch with its skipped steps, in the order of the output's steps.
  const Batch& whole_output() const { return parts_.output_is_backwards() ? reversed_->batch() : whole_; }

  // The computed steps of what the call compares its output with.
  template <class Value>
  SequenceView<const Value> of_output(const SequenceView<const Value>& from, Index features) {
    return gathered(output_steps(), from, features);
  }

  // Where the call is to write its output instead of `output`.
  SequenceView<T> place_for(const SequenceView<T>& output) {
    if (output.data == nullptr || !parts_.keeps_sequence()) return output;
    output_ = output;
    const Index features = parts_.output_size;
    computed_output_ = computed_view(output_steps(), parts_.members, features,
                                     memory_.take(computed_size(output_steps(), parts_.members, features)));
    return computed_output_;
  }
  // Writes the output that place_for() was told, once the call has written the computed steps.
  void write_output() const {
    if (output_.data == nullptr) return;
    scatter_output(output_steps(), parts_, computed_output_, output_);
  }
  // Makes of each row's last computed step, which the call has written, the output at the row's last valid step.
  void write_last_step(const SequenceView<T>& output) const {
    if (output.data != nullptr) repeat_at_last_step(output_steps(), parts_, output);
  }

 private:
  const ComputedSteps& output_steps() const { return steps_->of(parts_.output_is_backwards()); }

  SequenceView<const T> gathered(const ComputedSteps& steps, const SequenceView<const T>& from, Index features) {
    if (from.data == nullptr) return {};
    const Index sequences = sequence_count(steps, parts_.members, from.member_stride);
    return gather(steps, sequences, features, from, memory_.take(computed_size(steps, sequences, features)));
  }
  SequenceView<const std::int64_t> gathered(const ComputedSteps& steps, const SequenceView<const std::int64_t>& from,
                                            Index features) {
    if (from.data == nullptr) return {};
    const Index sequences = sequence_count(steps, parts_.members, from.member_stride);
    auto& memory = integers_.emplace_back(static_cast<std::size_t>(computed_size(steps, sequences, features)));
    return gather(steps, sequences, features, from, memory.data());
  }

  const LongCall long_call_;
  const NetworkParts<T>& parts_;
  const Batch whole_;
  std::optional<ReversedBatch> reversed_;  // the whole batch, if there is a Reverse
  std::shared_ptr<const OrderedSteps> steps_;
  Workspace<T> memory_;
  std::deque<std::vector<std::int64_t>> integers_;
  Input<T> input_;
  SequenceView<T> output_, computed_output_;  // null if the call writes the output itself
};

}  // namespace latchwork::detail
