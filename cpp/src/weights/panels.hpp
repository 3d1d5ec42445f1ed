#pragma once

#include <algorithm>
#include <cstddef>

#include "kernels/table.hpp"
#include "machine/buffer.hpp"
#include "machine/cpu.hpp"

// Packed weights: how a matrix is laid out in panels (see kernels/table.hpp), and the panels themselves.
namespace latchwork {

// How each row of a matrix is cut into panels: the numbers of the row lie panel by panel. All panels are the same
// number of SIMD registers wide, except the last, which may be narrower. All sizes count numbers.
class PanelShape {
 public:
  PanelShape() = default;

  // The shape of the column panels of a matrix with `columns` columns.
  static constexpr PanelShape of_columns(Index columns, Index register_size) {
    const Index needed = (columns + register_size - 1) / register_size;
    return {columns, (needed + column_registers - 1) / column_registers, column_registers,
            needed == 0 ? 0 : (needed - 1) % column_registers + 1, register_size};
  }
  // The shape of gate panels. To a product they are column panels of a matrix with as many columns as a packed row has
  // numbers.
  static constexpr PanelShape of_gates(const GateShape& gates, Index register_size) {
    const Index count = (gates.units + register_size - 1) / register_size;
    const Index row_size = ((count - 1) * gates.gates + gates.last_registers) * register_size;
    return {row_size, count, gates.gates, gates.last_registers, register_size};
  }

  constexpr Index columns() const { return columns_; }
  constexpr Index count() const { return count_; }
  constexpr Index registers() const { return registers_; }  // of every panel but the last
  constexpr Index last_registers() const { return last_registers_; }
  constexpr Index registers_of(Index panel) const { return panel + 1 == count_ ? last_registers_ : registers_; }
  constexpr Index register_size() const { return register_size_; }
  constexpr Index width() const { return width_; }        // of a row of the widest panel
  constexpr Index row_size() const { return row_size_; }  // of a row of all panels

  // The first column of a panel.
  constexpr Index first_column(Index panel) const { return panel * registers_ * register_size_; }
  // Where a panel starts in the memory of panels with `depth` rows.
  constexpr Index begin(Index panel, Index depth) const { return first_column(panel) * depth; }
  // Cuts the panels into pieces; returns the first panel of piece `piece`, which follows the last panel of the piece
  // before it. All pieces have nearly the same number of columns, although the last panel may be narrower than the
  // others.
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

// The number format in which packed weights are stored.
enum class WeightFormat { float32, float64 };

constexpr Index bytes_of(WeightFormat format) { return format == WeightFormat::float32 ? 4 : 8; }

// The format that stores every number of type T exactly.
template <class T>
constexpr WeightFormat format_of = sizeof(T) == 4 ? WeightFormat::float32 : WeightFormat::float64;

// A weight matrix in panels, for products in type T. It has `depth` rows.
template <class T>
class WeightPanels {
 public:
  // Makes room for `depth` rows, whose numbers are undefined. Keeps the memory if its size stays the same.
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

// The arguments for the product of `rows` contiguous rows of numbers with a weight.
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
  args.caches = &this_cpu().cache_use;
  return args;
}

// The same for rows of gradients with respect to gates, which lie in gate panels of the shape `gates`, `panel_stride`
// numbers apart. `panels` are those of pack_gate_rows.
template <class T>
ProductArgs<T> product_of_gates(const WeightPanels<T>& panels, const PanelShape& gates, Index panel_stride, Index rows,
                                const T* const* a, T* const* y) {
  ProductArgs<T> args = product_of(panels, rows, a, y);
  args.a_block = gates.registers() * gates.register_size();
  args.a_block_stride = panel_stride;
  args.a_gates = gates.registers();
  args.a_gate_stride = gates.register_size();
  args.a_last_gate_stride = gates.last_registers() * gates.register_size() / gates.registers();
  return args;
}

}  // namespace latchwork
