#pragma once

#include <type_traits>
#include <utility>
#include <vector>

#include "layer/cell_step.hpp"
#include "weights/snapshot.hpp"

namespace latchwork {

// What one time step of the backward pass reads and writes: each array has a pointer for each row that takes part. An
// array that a step does not use is null. In these comments, d_a is the gradient with respect to a.
template <class T>
struct CellBackwardPointers {
  const T** d_output;  // added to d_hidden: the gradient with respect to the step's output; null: nothing is added
  const T **gates, **c, **c_prev;                                                   // from the recording
  const T **hidden_dropout, **candidate_dropout, **hidden_zoneout, **cell_zoneout;  // masks, as in CellStepPointers
  const T **norm_ih, **norm_hh, **norm_scale;
  T** d_hidden;              // h of this step; becomes that of h_prev. H or P numbers, padded with zeros
  T** d_new_hidden;          // with hidden_zoneout: h before zoneout, padded with zeros
  T** d_dropped_hidden;      // with hidden_dropout: the masked h_prev, which R saw
  T** d_projected;           // with projection: h before zoneout, kept for the gradient of W_hr
  T** d_unprojected_hidden;  // with projection: o tanh(c), padded rows
  T** d_c;                   // padded rows: c of this step, as far as it comes from later steps; becomes that of c_prev
  T** d_gates;               // the pre-activations
  T **d_ih, **d_hh;          // W x and R h_prev: separate with layer norm, else the same as d_gates
  // What each row adds to the gradients with respect to these parameters.
  T **d_peephole, **d_norm_ih_weight, **d_norm_hh_weight;
  T** d_norm_cell;  // two consecutive padded rows: weight, bias
  T** d_signals;    // see CellBackwardArgs

  static constexpr Index arrays_read = 11, arrays_written = 14;

  // Calls task(array) for every array.
  template <class Task>
  void for_each_array(Task&& task) {
    for (const T*** array : {&d_output, &gates, &c, &c_prev, &hidden_dropout, &candidate_dropout, &hidden_zoneout,
                             &cell_zoneout, &norm_ih, &norm_hh, &norm_scale}) {
      task(*array);
    }
    for (T*** array : {&d_hidden, &d_new_hidden, &d_dropped_hidden, &d_projected, &d_unprojected_hidden, &d_c, &d_gates,
                       &d_ih, &d_hh, &d_peephole, &d_norm_ih_weight, &d_norm_hh_weight, &d_norm_cell, &d_signals}) {
      task(*array);
    }
  }

  // The same arrays without the rows before this one.
  CellBackwardPointers from(Index row) const {
    CellBackwardPointers part = *this;
    part.for_each_array([row](auto& array) {
      if (array != nullptr) array += row;
    });
    return part;
  }
};

// Memory for the arrays. At first none of them is null.
template <class T>
class CellBackwardArrays {
 public:
  explicit CellBackwardArrays(Index rows)
      : read_(static_cast<std::size_t>(CellBackwardPointers<T>::arrays_read * rows)),
        written_(static_cast<std::size_t>(CellBackwardPointers<T>::arrays_written * rows)) {
    const T** read = read_.data();
    T** written = written_.data();
    pointers.for_each_array([&]<class Array>(Array& array) {
      if constexpr (std::is_same_v<Array, T**>) {
        array = std::exchange(written, written + rows);
      } else {
        array = std::exchange(read, read + rows);
      }
    });
  }
  CellBackwardArrays(const CellBackwardArrays&) = delete;
  CellBackwardArrays& operator=(const CellBackwardArrays&) = delete;

  CellBackwardPointers<T> pointers;

 private:
  std::vector<const T*> read_;
  std::vector<T*> written_;
};

// The gradient of cell_step(). `slots`: the number of rows that one gate panel of d_gates has. `room`:
// general_backward_room() numbers, or null if the plain epilogue suffices. Allocates nothing.
template <class T>
void cell_step_backward(const PackedLayer<T>& weights, const Kernels<T>& kernels, Index rows, Index slots,
                        const CellBackwardPointers<T>& pointers, T* room, Index number,
                        const UnitSplit& split) noexcept;

}  // namespace latchwork
