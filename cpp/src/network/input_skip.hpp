#pragma once

#include <algorithm>
#include <vector>

#include "latchwork/options.hpp"
#include "layer/rows.hpp"
#include "network/sequences.hpp"

namespace latchwork {

// Adds the factor times the first features of the network's input to those of one step.
template <class T>
void input_skip_row(const InputSkipOptions& skip, const T* input, const T* x, Index features, T* y) noexcept {
  const T factor = static_cast<T>(skip.factor);
  for (Index at = 0; at < skip.features; ++at) y[at] = x[at] + factor * input[at];
  std::copy_n(x + skip.features, features - skip.features, y + skip.features);
}

// The module InputSkip for every step and row; zeros in padding.
template <class T>
void input_skip_forward(const InputSkipOptions& skip, const Batch& batch, const RowSource<T>& input,
                        const RowSource<T>& x, const SequenceView<T>& y) {
  write_rows(batch, x.features, y, [&](Index step, Index row, T* to) {
    input_skip_row(skip, input.at(step, row), x.at(step, row), x.features, to);
  });
}

// The InputSkips of a chain and the gradients of their outputs, which belong to the network's input too.
template <class T>
class InputSkipGradients {
 public:
  // `d_y`, unless it is null, must live as long as this.
  void take(const InputSkipOptions& skip, const SequenceView<const T>& d_y) {
    if (d_y.data != nullptr) gradients_.push_back({&skip, d_y});
  }

  // Adds them to the gradient of the network's input, the last module's first.
  void add_to(const Batch& batch, const SequenceView<T>& d_input) const {
    const Schedule schedule{batch, false};
    const Index parts = number_parts(batch.steps * batch.rows, batch.rows);
    for (const auto& [skip, d_y] : gradients_) {
      const T factor = static_cast<T>(skip->factor);
      parallel(parts, [&, skip = skip, d_y = d_y](Index part) {
        for (Index row = piece_begin(batch.rows, parts, part); row < piece_begin(batch.rows, parts, part + 1); ++row) {
          for (Index step = 0; step < schedule.length(row); ++step) {
            if (stops_after(skip->features * work_of_moving)) return;
            T* const to = d_input.at(step, row);
            const T* const from = d_y.at(step, row);
            for (Index at = 0; at < skip->features; ++at) to[at] += factor * from[at];
          }
        }
      });
    }
  }

 private:
  struct OfOne {
    const InputSkipOptions* skip;
    SequenceView<const T> d_y;
  };
  std::vector<OfOne> gradients_;
};

}  // namespace latchwork
