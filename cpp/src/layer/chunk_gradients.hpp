#pragma once

#include <algorithm>
#include <optional>
#include <vector>

#include "layer/cell_step_backward.hpp"
#include "layer/chunk_positions.hpp"
#include "layer/layer.hpp"
#include "layer/recorded_segment.hpp"
#include "layer/weight_gradient.hpp"

namespace latchwork {

// What a chunk adds to the gradients with respect to the parameters and the input. The backward recurrence goes through
// the steps of the chunk and stores here the gradients with respect to the gates, at the place of each step and row.
// When it is done, they are summed.
template <class T>
class ChunkGradients {
 public:
  // positions: of the current chunk. gradients: the sums, one for each block. row_parts: into how many parts the rows
  // are split.
  ChunkGradients(const LayerBackwardCall<T>& call, const RecordedSegment<T>& segment, const ChunkPositions& positions,
                 const std::vector<LayerGradient<T>>& gradients, Index row_parts, Workspace<T>& workspace);

  // Sets element `at` of the arrays to where the recurrence stores the gradients of a step and row.
  void point(const CellBackwardPointers<T>& pointers, Index at, Index order, Index row) const {
    const Index panel_place = positions_.place_in_panels(order, row, weights_.panels.count());
    const Index packed_place = panel_place * panel_width_;
    pointers.d_gates[at] = d_gates_ + packed_place;
    pointers.d_hh[at] = d_hh_ + packed_place;
    if (d_projected_ != nullptr) {
      pointers.d_projected[at] = d_projected_ + positions_.place(order, row) * weights_.projection;
    }
    if (d_peephole_ != nullptr) pointers.d_peephole[at] = d_peephole_ + panel_place * peephole_width_;
    if (!norm_) return;
    pointers.d_ih[at] = d_ih_ + packed_place;
    pointers.d_norm_ih_weight[at] = d_norm_ih_weight_ + packed_place;
    pointers.d_norm_hh_weight[at] = d_norm_hh_weight_ + packed_place;
    pointers.d_norm_cell[at] = d_norm_cell_ + positions_.place(order, row) * 2 * weights_.padded;
  }
  // The distance from d_gates of a step and row to that of the step before, if every row has every step.
  Index step_stride(Index row) const { return positions_.step_stride(row) * panel_width_; }

  // Keeps the gradient with respect to the start state that precedes a step.
  void keep_start(Index order, Index row, const T* d_hidden, const T* d_cell) const {
    T* const d_start_hidden = d_start(order, row);
    std::copy_n(d_hidden, h_size_, d_start_hidden);
    std::copy_n(d_cell, weights_.units, d_start_hidden + h_size_);
  }

  // Looks up what the current chunk reads and writes. To be called once its positions are known.
  void select();
  // Packs the factors of the gates' gradients, x and h_prev, for the rows of one part.
  void pack_operands(const RowPart& part);

  // When all parts are packed and the recurrence is done, the chunk is added to the gradients in sums() independent
  // tasks: one for each panel of the weights of each block, one for each panel of the gradient with respect to the
  // input, and one for everything else.
  // There is at least one such task, if need be with nothing to do, because it is what waits for the recurrence.
  Index sums() const { return std::max<Index>(1, weight_sums() + input_panels() + (has_others() ? 1 : 0)); }
  void add_sum(Index number);
  // Adds the gradient with respect to the layer's own start state for one row. After a restart the row started from it;
  // otherwise it did so only as far as the caller gave no start state.
  void add_start(Index row, bool restarts, const T* d_start_hidden, const T* d_start_cell) const;

 private:
  static std::size_t index(Index value) { return static_cast<std::size_t>(value); }
  T* d_start(Index order, Index row) const {
    return d_start_ + positions_.place(order, row) * (h_size_ + weights_.units);
  }
  const LayerGradient<T>& gradient_of(Index block_at_once) const {
    return gradients_[index(positions_.block(block_at_once))];
  }

  Index weight_sums() const {
    return call_.parameter_gradients ? positions_.blocks_at_once() * weights_.panels.count() : 0;
  }
  Index input_panels() const { return call_.d_input.data == nullptr ? 0 : weights_.x_gradient.count(); }
  bool has_others() const {
    return call_.parameter_gradients && (projection_gradient_ || norm_ || weights_.learns_start);
  }
  void add_weights(Index block, Index panel) const;
  void add_input(Index panel) const;
  void add_projection();
  void add_cell_norm() const;
  void add_starts() const;

  const LayerBackwardCall<T>& call_;
  const PackedLayer<T>& weights_;
  const Kernels<T>& kernels_;
  const Schedule& schedule_;
  const RecordedSegment<T>& segment_;
  const ChunkPositions& positions_;
  const std::vector<LayerGradient<T>>& gradients_;
  Index h_size_;  // H or P
  Index panel_width_, peephole_width_;
  bool norm_;                            // whether there is layer norm
  Index packed_x_size_, packed_h_size_;  // numbers in a block

  T* d_gates_;  // [block][panel][position][panel_width_]; a compact panel only uses the first numbers of a row
  T* packed_x_ = nullptr;     // by block, as pack_outer makes it; null if summed by token
  T* packed_h_;               // likewise
  T* d_projected_ = nullptr;  // with projection: of h, [block][position][P]
  // Arrays that only variants need; see CellBackwardPointers.
  T *d_ih_, *d_hh_;                                              // as d_gates
  T *d_norm_ih_weight_ = nullptr, *d_norm_hh_weight_ = nullptr;  // as d_gates
  T* d_peephole_ = nullptr;                                      // [block][panel][position][(G - 1) U]
  T* d_norm_cell_ = nullptr;                                     // [block][position][2][padded]
  T* d_start_ = nullptr;                                         // [block][position][H or P, H]

  std::vector<Index> tokens_;              // if summed by token: the number of each position's token, by block
  std::vector<const T*> x_rows_, h_rows_;  // by row, see RowPart
  std::vector<const T*> unprojected_rows_, d_projected_rows_;  // by place in the chunk
  std::vector<const T*> d_gate_rows_;                          // of the whole chunk
  std::vector<T*> d_input_rows_;
  std::optional<WeightGradient<T>> projection_gradient_;
};

}  // namespace latchwork
