#pragma once

#include <type_traits>
#include <utility>
#include <vector>

#include "layer/cell_step.hpp"
#include "weights/snapshot.hpp"

namespace latchwork {

// What one time step backward reads and writes: for each row that takes part, a pointer. An array that a step has no
// use for is null.
template <class T>
struct CellBackwardPointers {
  const T** d_output;              // what the step's output adds to d_hidden; null: nothing
  const T **gates, **c, **c_prev;  // of the recording
  const T **hidden_dropout, **candidate_dropout, **hidden_zoneout, **cell_zoneout;  // factors, as in CellStepPointers
  const T **norm_ih, **norm_hh, **norm_scale;
  T** d_hidden;          // by h of this step; becomes that by h of the one before. H or P numbers, padded with zeros
  T** d_new_hidden;      // with hidden_zoneout: room for that by h before zoneout, padded with zeros
  T** d_dropped_hidden;  // with hidden_dropout: room for that by what R saw
  T** d_projected;       // with projection: that by h before zoneout, kept
  T** d_exposed;         // with projection: padded rows, room for that by o tanh(c)
  T** d_c;               // padded rows: by c of this step from later ones; becomes that by c of the one before
  T** d_gates;           // by the pre-activations
  T **d_ih, **d_hh;      // by W x and by R h: with layer norm apart, else d_gates
  // What each row adds to the gradients of these parameters.
  T **d_peephole, **d_norm_ih_weight, **d_norm_hh_weight;
  T** d_norm_cell;  // two padded rows one behind the other: weight, bias

  static constexpr Index arrays_read = 11, arrays_written = 13;

  // Calls task(array) for every array.
  template <class Task>
  void for_each_array(Task&& task) {
    for (const T*** array : {&d_output, &gates, &c, &c_prev, &hidden_dropout, &candidate_dropout, &hidden_zoneout,
                             &cell_zoneout, &norm_ih, &norm_hh, &norm_scale}) {
      task(*array);
    }
    for (T*** array : {&d_hidden, &d_new_hidden, &d_dropped_hidden, &d_projected, &d_exposed, &d_c, &d_gates, &d_ih,
                       &d_hh, &d_peephole, &d_norm_ih_weight, &d_norm_hh_weight, &d_norm_cell}) {
      task(*array);
    }
  }

  // The arrays from this row on.
  CellBackwardPointers from(Index row) const {
    CellBackwardPointers part = *this;
    part.for_each_array([row](auto& array) {
      if (array != nullptr) array += row;
    });
    return part;
  }
};

// The memory of the arrays, all of them wanted at first.
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

// cell_step() differentiated. `slots`: rows of one gate panel of d_gates. `room`: general_backward_room() numbers, null
// where the plain epilogue will do. Allocates nothing.
template <class T>
void cell_step_backward(const PackedLayer<T>& weights, const Kernels<T>& kernels, Index rows, Index slots,
                        const CellBackwardPointers<T>& pointers, T* room, Index number,
                        const UnitSplit& split) noexcept;

}  // namespace latchwork
