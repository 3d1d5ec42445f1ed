#pragma once

#include <algorithm>
#include <cstddef>

#include "kernels/table.hpp"
#include "machine/buffer.hpp"

// Packed weights: what a matrix looks like in panels (see kernels/table.hpp), and the panels themselves.
namespace latchwork {

// How a row of a matrix is cut into panels: one number of each column, panel by panel. Every panel is as many SIMD
// registers wide as the others but the last, which may take fewer. All sizes count numbers.
class PanelShape {
 public:
  PanelShape() = default;

  // Column panels of a matrix with so many columns.
  static constexpr PanelShape of_columns(Index columns, Index register_size) {
    const Index needed = (columns + register_size - 1) / register_size;
    return {columns, (needed + column_registers - 1) / column_registers, column_registers,
            needed == 0 ? 0 : (needed - 1) % column_registers + 1, register_size};
  }
  // Gate panels. Products take them for column panels of a matrix that has as many columns as a packed row has numbers.
  static constexpr PanelShape of_gates(const GateShape& gates, Index register_size) {
    const Index count = (gates.units + register_size - 1) / register_size;
    const Index row_size = ((count - 1) * gates.gates + gates.last_registers) * register_size;
    return {row_size, count, gates.gates, gates.last_registers, register_size};
  }

  constexpr Index columns() const { return columns_; }
  constexpr Index count() const { return count_; }
  constexpr Index registers() const { return registers_; }  // of a panel
  constexpr Index last_registers() const { return last_registers_; }
  constexpr Index registers_of(Index panel) const { return panel + 1 == count_ ? last_registers_ : registers_; }
  constexpr Index register_size() const { return register_size_; }
  constexpr Index width() const { return width_; }        // of a row of the widest panel there is
  constexpr Index row_size() const { return row_size_; }  // of a row of all panels

  // The column that a panel begins with.
  constexpr Index first_column(Index panel) const { return panel * registers_ * register_size_; }
  // Where a panel begins in panels of so many rows.
  constexpr Index begin(Index panel, Index depth) const { return first_column(panel) * depth; }
  // The panels from the begin of one piece to that of the next: pieces have nearly as many columns as one another,
  // although the last panel may be narrower than the rest.
  constexpr Index piece_begin(Index pieces, Index piece) const {
    const Index full = registers_ * register_size_;
    return piece == pieces ? count_ : (columns_ * piece / pieces + full / 2) / full;
  }

 private:
  static constexpr Index column_registers = 4;  // V

  constexpr PanelShape(Index columns, Index count, Index registers, Index last_registers, Index register_size)
      : columns_(columns),
        count_(count),
        registers_(registers),
        last_registers_(last_registers),
        register_size_(register_size),
        width_((count > 1 ? registers : last_registers) * register_size),
        row_size_(count == 0 ? 0 : ((count - 1) * registers + last_registers) * register_size) {}

  Index columns_ = 0;
  Index count_ = 0;
  Index registers_ = 0, last_registers_ = 0;
  Index register_size_ = 0;
  Index width_ = 0, row_size_ = 0;
};

// What a packed weight is stored as.
enum class WeightFormat { float32, float64 };

constexpr Index bytes_of(WeightFormat format) { return format == WeightFormat::float32 ? 4 : 8; }

// The format that keeps every number of type T as it is.
template <class T>
constexpr WeightFormat format_of = sizeof(T) == 4 ? WeightFormat::float32 : WeightFormat::float64;

// A weight matrix in panels, for products in T: `depth` rows of them.
template <class T>
class WeightPanels {
 public:
  // Room for so many rows, whose numbers are undefined. Keeps the memory where the size stays.
  void resize(const PanelShape& shape, Index depth) {
    shape_ = shape;
    depth_ = depth;
    memory_.resize(shape.row_size() * depth * bytes_of(format_));
  }
  void clear() { resize({}, 0); }

  const PanelShape& shape() const { return shape_; }
  Index columns() const { return shape_.columns(); }
  Index count() const { return shape_.count(); }
  Index depth() const { return depth_; }
  WeightFormat format() const { return format_; }
  Index bytes() const { return memory_.size(); }

  T* data() { return reinterpret_cast<T*>(memory_.data()); }
  const T* data() const { return reinterpret_cast<const T*>(memory_.data()); }

 private:
  PanelShape shape_;
  Index depth_ = 0;
  WeightFormat format_ = format_of<T>;
  Buffer<std::byte> memory_;
};

// The product of so many contiguous rows of numbers with a weight.
template <class T>
ProductArgs<T> product_of(const WeightPanels<T>& panels, Index rows, const T* const* a, T* const* y) {
  ProductArgs<T> args{};
  args.rows = rows;
  args.columns = panels.columns();
  args.a = a;
  args.depth = panels.depth();
  args.a_block = panels.depth();
  args.weights = panels.data();
  args.y = y;
  args.panel_registers = panels.shape().registers();
  return args;
}

}  // namespace latchwork
