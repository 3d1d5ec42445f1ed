#include "layer/chunk_gradients.hpp"

#include "layer/strategy.hpp"
#include "machine/parallel.hpp"

namespace latchwork {

template <class T>
ChunkGradients<T>::ChunkGradients(const LayerBackwardCall<T>& call, const RecordedSegment<T>& segment,
                                  const ChunkPositions& positions, const std::vector<LayerGradient<T>>& gradients,
                                  Index row_parts, Workspace<T>& workspace)
    : call_(call),
      weights_(*call.weights),
      kernels_(*call.kernels),
      schedule_(call.schedule),
      segment_(segment),
      positions_(positions),
      gradients_(gradients),
      h_size_(weights_.output_size()),
      panel_width_(weights_.panels.width()),
      peephole_width_(panel_width_ - kernels_.units),
      norm_(weights_.variant.norm_ih_weight != nullptr) {
  const Index blocks = positions.blocks_at_once(), capacity = positions.capacity(), places = positions.places();
  packed_x_size_ = capacity * round_up(weights_.input_size, kernels_.outer_block);
  packed_h_size_ = capacity * round_up(h_size_, kernels_.outer_block);
  const Index panels_size = places * weights_.panels.count() * panel_width_;
  d_gates_ = workspace.take(panels_size);
  if (call.tokens != nullptr) {
    tokens_.resize(index(places));
  } else if (call.parameter_gradients) {
    packed_x_ = workspace.take(blocks * packed_x_size_);
  }
  if (call.parameter_gradients) packed_h_ = workspace.take(blocks * packed_h_size_);
  for (auto* pointers : {&x_rows_, &h_rows_}) pointers->resize(index(positions.row_pointers(row_parts)));
  d_ih_ = d_hh_ = d_gates_;
  if (weights_.projection > 0) {
    d_projected_ = workspace.take(places * weights_.projection);
    projection_gradient_.emplace(kernels_, capacity, weights_.projection, weights_.units, workspace);
    for (auto* pointers : {&unprojected_rows_, &d_projected_rows_}) pointers->resize(index(places));
  }
  if (weights_.variant.peephole != nullptr) {
    d_peephole_ = workspace.take(places * weights_.panels.count() * peephole_width_);
  }
  if (norm_) {
    d_ih_ = workspace.take(panels_size);
    d_hh_ = workspace.take(panels_size);
    d_norm_ih_weight_ = workspace.take(panels_size);
    d_norm_hh_weight_ = workspace.take(panels_size);
    d_norm_cell_ = workspace.take(places * 2 * weights_.padded);
  }
  if (weights_.learns_start) d_start_ = workspace.take(places * (h_size_ + weights_.units));
  if (call_.d_input.data != nullptr) {
    d_gate_rows_.reserve(index(positions.most_steps() * positions.most_rows()));
    d_input_rows_.reserve(index(positions.most_steps() * positions.most_rows()));
  }
}

template <class T>
void ChunkGradients<T>::select() {
  if (call_.d_input.data == nullptr) return;
  d_gate_rows_.clear();
  d_input_rows_.clear();
  for (Index order = positions_.order_end() - 1; order >= positions_.order_begin(); --order) {
    const Index step = schedule_.step(order);
    for (Index row = positions_.row_begin(); row < positions_.row_end(); ++row) {
      if (!schedule_.active(step, row)) continue;
      d_gate_rows_.push_back(d_ih_ + positions_.place_in_panels(order, row, weights_.panels.count()) * panel_width_);
      d_input_rows_.push_back(call_.d_input.at(step, row));
    }
  }
}

template <class T>
void ChunkGradients<T>::pack_operands(const RowPart& part) {
  if (!call_.parameter_gradients) return;
  const LayerRecord<T>& record = segment_.record();
  const T** const x = x_rows_.data() + part.pointers;
  const T** const h = h_rows_.data() + part.pointers;
  for (Index block = 0; block < positions_.blocks_at_once(); ++block) {
    const Index row_begin = std::max(part.row_begin, positions_.row_begin(block));
    const Index row_end = std::min(part.row_end, positions_.row_begin(block + 1));
    if (row_begin >= row_end) continue;
    const Index count = positions_.count(block);
    for (Index order = positions_.order_end() - 1; order >= positions_.order_begin(); --order) {
      const Index step = schedule_.step(order);
      Index active = 0, first = 0;
      for (Index row = row_begin; row < row_end; ++row) {
        if (!schedule_.active(step, row)) continue;
        if (active == 0) first = positions_.position(order, row);
        if (call_.tokens == nullptr) {
          x[active] = call_.input.at(step, row);
        } else {
          tokens_[index(block * positions_.capacity() + first + active)] =
              call_.tokens->number(*call_.input.tokens.at(step, row));
        }
        h[active] = record.dropped_hidden == nullptr ? segment_.previous_hidden(step, row)
                                                     : record.dropped_hidden + segment_.slot(step, row) * h_size_;
        ++active;
      }
      if (call_.tokens == nullptr) {
        kernels_.pack_outer(x, active, weights_.input_size, packed_x_ + block * packed_x_size_, first, count);
      }
      kernels_.pack_outer(h, active, h_size_, packed_h_ + block * packed_h_size_, first, count);
    }
  }
}

template <class T>
void ChunkGradients<T>::add_sum(Index number) {
  if (number < weight_sums()) {
    const Index panels = weights_.panels.count();
    return add_weights(number / panels, number % panels);
  }
  if (number < weight_sums() + input_panels()) return add_input(number - weight_sums());
  if (!has_others()) return;
  if (projection_gradient_) add_projection();
  if (norm_) add_cell_norm();
  if (weights_.learns_start) add_starts();
}

template <class T>
void ChunkGradients<T>::add_input(Index panel) const {
  const auto rows = static_cast<Index>(d_gate_rows_.size());
  ProductArgs<T> args = product_of_gates(weights_.x_gradient, weights_.panels, positions_.capacity() * panel_width_,
                                         rows, d_gate_rows_.data(), d_input_rows_.data());
  args.accumulate = call_.accumulate_input;
  if (rows > 0) kernels_.product(args, panel, panel + 1);
}

template <class T>
void ChunkGradients<T>::add_weights(Index block, Index panel) const {
  const LayerGradient<T>& gradient = gradient_of(block);
  const Index count = positions_.count(block);
  if (count == 0) return;
  const Index panel_place = (block * weights_.panels.count() + panel) * positions_.capacity();
  const Index packed_place = panel_place * panel_width_;
  OuterArgs<T> args{};
  args.depth = count;
  args.registers = weights_.panels.registers_of(panel);
  args.b_stride = panel_width_;
  if (call_.tokens == nullptr) {
    args.b = d_ih_ + packed_place;
    args.columns = weights_.input_size;
    args.a = packed_x_ + block * packed_x_size_;
    args.c = gradient.x_weights + weights_.panels.begin(panel, weights_.input_size);
    kernels_.outer(args);
  } else {
    kernels_.scatter_rows(d_ih_ + packed_place, panel_width_, tokens_.data() + block * positions_.capacity(), count,
                          args.registers * kernels_.units,
                          gradient.by_token + panel * call_.tokens->count() * panel_width_, panel_width_);
  }
  args.b = d_hh_ + packed_place;
  args.columns = h_size_;
  args.a = packed_h_ + block * packed_h_size_;
  args.c = gradient.h_weights + weights_.panels.begin(panel, h_size_);
  kernels_.outer(args);
  const auto add_packed = [&](const T* rows, T* sum) {
    kernels_.add_rows(rows + packed_place, panel_width_, count, args.registers * kernels_.units,
                      sum + weights_.panels.first_column(panel));
  };
  add_packed(d_gates_, gradient.bias);
  if (gradient.peephole != nullptr) {
    kernels_.add_rows(d_peephole_ + panel_place * peephole_width_, peephole_width_, count, peephole_width_,
                      gradient.peephole + panel * peephole_width_);
  }
  if (norm_) {
    add_packed(d_norm_ih_weight_, gradient.norm_ih_weight);
    add_packed(d_norm_hh_weight_, gradient.norm_hh_weight);
  }
}

template <class T>
void ChunkGradients<T>::add_projection() {
  for (Index order = positions_.order_begin(); order < positions_.order_end(); ++order) {
    const Index step = schedule_.step(order);
    for (Index row = positions_.row_begin(); row < positions_.row_end(); ++row) {
      if (!schedule_.active(step, row)) continue;
      const Index place = positions_.place(order, row);
      unprojected_rows_[index(place)] =
          segment_.record().unprojected_hidden + segment_.slot(step, row) * weights_.units;
      d_projected_rows_[index(place)] = d_projected_ + place * weights_.projection;
    }
  }
  for (Index block = 0; block < positions_.blocks_at_once(); ++block) {
    const Index first = block * positions_.capacity();
    const Index count = positions_.count(block);
    projection_gradient_->pack(d_projected_rows_.data() + first, unprojected_rows_.data() + first, 0, count, count);
    projection_gradient_->add(count, gradient_of(block).projection);
  }
}

// The gradients with respect to weight and bias lie side by side in each row.
template <class T>
void ChunkGradients<T>::add_cell_norm() const {
  for (Index block = 0; block < positions_.blocks_at_once(); ++block) {
    const LayerGradient<T>& gradient = gradient_of(block);
    const T* d_norm = d_norm_cell_ + block * positions_.capacity() * 2 * weights_.padded;
    for (Index position = 0; position < positions_.count(block); ++position, d_norm += 2 * weights_.padded) {
      for (Index unit = 0; unit < weights_.padded; ++unit) {
        gradient.norm_cell_weight[unit] += d_norm[unit];
        gradient.norm_cell_bias[unit] += d_norm[weights_.padded + unit];
      }
    }
  }
}

template <class T>
void ChunkGradients<T>::add_starts() const {
  for (Index order = positions_.order_end() - 1; order >= positions_.order_begin(); --order) {
    const Index step = schedule_.step(order);
    for (Index row = positions_.row_begin(); row < positions_.row_end(); ++row) {
      if (!schedule_.active(step, row)) continue;
      const bool restarts = schedule_.restarts(step, row);
      if (!restarts && !schedule_.is_first(step, row)) continue;
      const T* const d_hidden = d_start(order, row);
      add_start(row, restarts, d_hidden, d_hidden + h_size_);
    }
  }
}

template <class T>
void ChunkGradients<T>::add_start(Index row, bool restarts, const T* d_start_hidden, const T* d_start_cell) const {
  if (!call_.parameter_gradients) return;
  const LayerRecord<T>& record = segment_.record();
  const LayerGradient<T>& gradient = gradients_[index(positions_.block_of(row))];
  if (restarts || record.start_hidden == nullptr) {
    for (Index unit = 0; unit < h_size_; ++unit) gradient.start_hidden[unit] += d_start_hidden[unit];
  }
  if (restarts || record.own_start_cell) {
    for (Index unit = 0; unit < weights_.units; ++unit) gradient.start_cell[unit] += d_start_cell[unit];
  }
}

template class ChunkGradients<float>;
template class ChunkGradients<double>;

}  // namespace latchwork
