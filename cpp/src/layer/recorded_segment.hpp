#pragma once

#include <algorithm>
#include <memory>

#include "layer/layer.hpp"

namespace latchwork {

// The current segment of a layer's recording: where it keeps what the backward pass reads of each step. Without
// checkpoints there is one segment of all steps. With them each segment is computed again when it is selected.
template <class T>
class RecordedSegment {
 public:
  RecordedSegment(const LayerBackwardCall<T>& call, Workspace<T>& workspace)
      : weights_(*call.weights),
        schedule_(call.schedule),
        rows_(call.schedule.batch.rows),
        h_size_(weights_.output_size()),
        record_(*call.record),
        output_(call.output),
        cache_(workspace.cache()) {
    if (record_.has_checkpoints()) prepare_replay(call, workspace);
  }
  RecordedSegment(const RecordedSegment&) = delete;
  RecordedSegment& operator=(const RecordedSegment&) = delete;

  const LayerRecord<T>& record() const { return record_; }
  Index count() const { return record_.segments(schedule_.batch.steps); }

  void select(Index segment) {
    segment_ = segment;
    order_begin_ = segment * record_.segment_steps;
    order_end_ = std::min(order_begin_ + record_.segment_steps, schedule_.batch.steps);
    first_step_ = schedule_.first_step(order_begin_, order_end_);
    end_step_ = first_step_ + order_end_ - order_begin_;
    if (!record_.has_checkpoints()) return;
    Workspace<T> workspace(cache_);
    layer_replay(replay_, segment, workspace);
  }

  // The segment has the steps that are computed as number order_begin to order_end - 1.
  Index order_begin() const { return order_begin_; }
  Index order_end() const { return order_end_; }
  bool contains(Index step) const { return step >= first_step_ && step < end_step_; }
  // Where in the arrays of the recording the values of a step and row lie.
  Index slot(Index step, Index row) const { return (step - first_step_) * rows_ + row; }

  // The state h_prev or c_prev of a step.
  const T* previous_hidden(Index step, Index row) const {
    if (schedule_.restarts(step, row)) return weights_.start_hidden.data();
    if (schedule_.is_first(step, row)) {
      return record_.start_hidden == nullptr ? weights_.start_hidden.data() : record_.start_hidden + row * h_size_;
    }
    const Index previous = schedule_.previous(step);
    return contains(previous) ? output_.at(previous - first_step_, row)
                              : record_.segment_hidden + (segment_ * rows_ + row) * h_size_;
  }

  const T* previous_cell(Index step, Index row) const {
    if (schedule_.restarts(step, row)) return weights_.start_cell.data();
    if (schedule_.is_first(step, row)) return record_.segment_cell + row * weights_.padded;
    const Index previous = schedule_.previous(step);
    return contains(previous) ? record_.cell + slot(previous, row) * weights_.padded
                              : record_.segment_cell + (segment_ * rows_ + row) * weights_.padded;
  }

 private:
  // Takes memory for the steps of a segment, which the record of a call with checkpoints does not have.
  void prepare_replay(const LayerBackwardCall<T>& call, Workspace<T>& workspace) {
    take_steps(weights_, *call.kernels, call.masks, rows_, record_, workspace);
    const SequenceView<T> output = contiguous(workspace.take(record_.segment_steps * rows_ * h_size_), rows_, h_size_);
    output_ = {output.data, output.step_stride, output.row_stride};
    replay_.weights = &weights_;
    replay_.kernels = call.kernels;
    replay_.schedule = schedule_;
    replay_.input = call.input;
    replay_.masks = call.masks;
    replay_.output = output;
    replay_.record = &record_;
  }

  const PackedLayer<T>& weights_;
  const Schedule& schedule_;
  Index rows_, h_size_;
  LayerRecord<T> record_;
  SequenceView<const T> output_;  // h of the segment
  LayerCall<T> replay_;           // with checkpoints: the call that computes a segment again
  std::shared_ptr<WorkspaceCache<T>> cache_;
  Index segment_ = 0, order_begin_ = 0, order_end_ = 0;
  Index first_step_ = 0, end_step_ = 0;  // of the segment, in the order of the sequence
};

}  // namespace latchwork
