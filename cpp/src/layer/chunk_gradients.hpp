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

// What a chunk adds to the gradients by the parameters and by the input. The recurrence back through its steps leaves
// the gradients by the gates here, at each step's and row's place; once it is done they are summed up.
template <class T>
class ChunkGradients {
 public:
  // positions: of the chunk in hand. gradients: of each block. row_parts: how many parts of the rows there are.
  ChunkGradients(const LayerBackwardCall<T>& call, const RecordedSegment<T>& segment, const ChunkPositions& positions,
                 const std::vector<LayerGradient<T>>& gradients, Index row_parts, Workspace<T>& workspace);

  // Points to where the recurrence leaves the gradients of a step and row.
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
  // From d_gates of a step and row to that of the step before, where every row has every step.
  Index step_stride(Index row) const { return positions_.step_stride(row) * panel_width_; }

  // Keeps the gradient by the start state that precedes a step.
  void keep_start(Index order, Index row, const T* d_hidden, const T* d_cell) const {
    T* const kept = d_start(order, row);
    std::copy_n(d_hidden, h_size_, kept);
    std::copy_n(d_cell, weights_.units, kept + h_size_);
  }

  // Looks up what the chunk in hand reads and writes, once its positions are known.
  void select();
  // Lays out, for one part's rows, what the gates' gradients are multiplied with.
  void pack_operands(const RowPart& part);

  // Once all parts have packed and the recurrence is through, each of so many sums adds something of its own to the
  // gradients: a panel of a block's weights, a panel of the gradient by the input, and what is left.
  Index sums() const { return weight_sums() + input_panels() + (has_others() ? 1 : 0); }
  void add_sum(Index number);
  // Adds the gradient by the start state of one row: after a restart always, else as far as the caller gave no start
  // state of his own.
  void add_start(Index row, bool restarts, const T* d_start_hidden, const T* d_start_cell) const;

 private:
  static std::size_t index(Index value) { return static_cast<std::size_t>(value); }
  T* d_start(Index order, Index row) const {
    return d_start_ + positions_.place(order, row) * (h_size_ + weights_.units);
  }
  const LayerGradient<T>& gradient_of(Index block_at_once) const {
    return gradients_[index(positions_.block(block_at_once))];
  }

  Index weight_sums() const { return positions_.blocks_at_once() * weights_.panels.count(); }
  Index input_panels() const { return call_.d_input.data == nullptr ? 0 : weights_.x_gradient.count(); }
  bool has_others() const { return projection_gradient_ || norm_ || weights_.learns_start; }
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
  bool norm_;                            // with layer norm
  Index packed_x_size_, packed_h_size_;  // of a block

  T* d_gates_;                // [block][panel][position][panel_width_], of which a compact panel takes the first
  T* packed_x_ = nullptr;     // by block, as pack_outer makes it; summed by token: none
  T* packed_h_;               // likewise
  T* d_projected_ = nullptr;  // with projection: by h, [block][position][P]
  // What variants need; see CellBackwardPointers.
  T *d_ih_, *d_hh_;                                              // as d_gates
  T *d_norm_ih_weight_ = nullptr, *d_norm_hh_weight_ = nullptr;  // as d_gates
  T* d_peephole_ = nullptr;                                      // [block][panel][position][(G - 1) U]
  T* d_norm_cell_ = nullptr;                                     // [block][position][2][padded]
  T* d_start_ = nullptr;                                         // [block][position][H or P, H]

  std::vector<Index> tokens_;                              // summed by token: the number of each position's, by block
  std::vector<const T*> x_rows_, h_rows_;                  // by row, see RowPart
  std::vector<const T*> exposed_rows_, d_projected_rows_;  // by place
  std::vector<const T*> d_gate_rows_;                      // of the whole chunk
  std::vector<T*> d_input_rows_;
  std::optional<WeightGradient<T>> projection_gradient_;
};

}  // namespace latchwork
