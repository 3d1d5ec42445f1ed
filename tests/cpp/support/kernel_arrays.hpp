#pragma once

#include "machine/buffer.hpp"
#include "support/kernels.hpp"
#include "support/support.hpp"

namespace latchwork::test {

inline constexpr Index odd_sizes[] = {1, 7, 17, 31, 100};

// Rows in reverse order and apart from each other, as a caller may have them, each followed by a guard that must stay
// as it is.
template <class T>
class Rows {
 public:
  Rows(Index count, Index size, T fill = T(0)) : size_(size), stride_(size + guard), values_(count * stride_) {
    std::fill_n(values_.data(), count * stride_, sentinel);
    for (Index row = 0; row < count; ++row) {
      pointers_.push_back(values_.data() + (count - 1 - row) * stride_);
      std::fill_n(pointers_.back(), size, fill);
    }
  }
  Rows(const std::vector<double>& values, Index size) : Rows(static_cast<Index>(values.size()) / size, size) {
    for (std::size_t k = 0; k < values.size(); ++k) {
      const auto place = static_cast<Index>(k);
      pointers_[static_cast<std::size_t>(place / size)][place % size] = static_cast<T>(values[k]);
    }
  }

  T* operator[](Index row) const { return pointers_[static_cast<std::size_t>(row)]; }
  T* const* pointers() const { return pointers_.data(); }
  std::vector<T> all() const {
    std::vector<T> values;
    for (const T* row : pointers_) values.insert(values.end(), row, row + size_);
    return values;
  }
  bool guards_hold() const {
    for (const T* row : pointers_) {
      for (Index k = size_; k < stride_; ++k) {
        if (row[k] != sentinel) return false;
      }
    }
    return true;
  }

 private:
  static constexpr Index guard = 19;
  static constexpr T sentinel = T(-12345);
  Index size_, stride_;
  Buffer<T> values_;
  std::vector<T*> pointers_;
};

template <class T>
Buffer<T> buffer_of(const std::vector<T>& values) {
  Buffer<T> buffer(static_cast<Index>(values.size()));
  std::copy(values.begin(), values.end(), buffer.data());
  return buffer;
}

// The layout of panels and packed rows, written a second time from its description in table.hpp.
template <class T>
struct Layout {
  explicit Layout(const Kernels<T>& kernels, Index gate_count = 4) : lanes(kernels.units), gates(gate_count) {}

  Index padded(Index size) const { return (size + lanes - 1) / lanes * lanes; }
  Index panels(Index units) const { return padded(units) / lanes; }
  Index column_panels(Index columns) const { return (columns + 4 * lanes - 1) / (4 * lanes); }
  Index packed(Index gate, Index unit) const { return (unit / lanes * gates + gate) * lanes + unit % lanes; }
  Index gate_element(Index gate, Index unit, Index k, Index k_size) const {
    return unit / lanes * gates * lanes * k_size + place_in_panel<T>(gate * lanes + unit % lanes, gates, k, k_size);
  }
  Index gate_gradient_element(Index gate, Index unit, Index k, Index k_size) const {
    return ((unit / lanes * k_size + k) * gates + gate) * lanes + unit % lanes;
  }
  Index column_gradient_element(Index column, Index k, Index columns, Index k_size) const {
    const Index first = column / (4 * lanes) * 4 * lanes;
    return first * k_size + k * std::min(4 * lanes, padded(columns - first)) + column - first;
  }
  Index column_element(Index column, Index k, Index columns, Index k_size) const {
    const Index first = column / (4 * lanes) * 4 * lanes;
    const Index registers = std::min<Index>(4, padded(columns - first) / lanes);
    return first * k_size + place_in_panel<T>(column - first, registers, k, k_size);
  }

  Index lanes, gates;
};

template <class T>
constexpr double tolerance = sizeof(T) == 4 ? 2e-6 : 4e-15;

}  // namespace latchwork::test
