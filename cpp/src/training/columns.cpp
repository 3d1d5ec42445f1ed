#include "training/columns.hpp"

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

namespace latchwork::detail {
namespace {

// Each block of so many rows is one chain of additions for each column, and the blocks' sums are joined in a tree.
constexpr Index rows_of_block = 256;

// The sums of all blocks so far: one of 2^k blocks for each bit of their number, the largest first.
class BlockSums {
 public:
  explicit BlockSums(Index columns) : columns_(static_cast<std::size_t>(columns)) {}

  void add(const std::vector<double>& block) {
    levels_.push_back(block);
    for (Index number = ++blocks_; number % 2 == 0; number /= 2) join_last();
  }

  void total(double* sums) {
    while (levels_.size() > 1) join_last();
    std::fill_n(sums, columns_, 0.0);
    if (!levels_.empty()) std::copy(levels_.front().begin(), levels_.front().end(), sums);
  }

 private:
  void join_last() {
    const std::vector<double> last = std::move(levels_.back());
    levels_.pop_back();
    for (std::size_t column = 0; column < columns_; ++column) levels_.back()[column] += last[column];
  }

  std::size_t columns_;
  Index blocks_ = 0;
  std::vector<std::vector<double>> levels_;
};

}  // namespace

template <class T>
void column_extents(const T* values, Index rows, Index columns, Index* counts, double* least, double* largest) {
  constexpr T infinity = std::numeric_limits<T>::infinity();
  const auto size = static_cast<std::size_t>(columns);
  std::vector<T> low(size, infinity), high(size, -infinity);
  std::vector<Index> gaps(size, 0);
  for (Index row = 0; row < rows; ++row) {
    const T* const of_row = values + row * columns;
    // Comparisons with NaN are false, so that a gap leaves both as they are.
    for (std::size_t column = 0; column < size; ++column) {
      const T value = of_row[column];
      low[column] = value < low[column] ? value : low[column];
      high[column] = value > high[column] ? value : high[column];
      gaps[column] += value != value ? 1 : 0;
    }
  }
  for (std::size_t column = 0; column < size; ++column) {
    counts[column] = rows - gaps[column];
    least[column] = static_cast<double>(low[column]);
    largest[column] = static_cast<double>(high[column]);
  }
}

template <class T>
void column_sums(const T* values, Index rows, Index columns, const double* units, const double* means, double* sums) {
  const auto size = static_cast<std::size_t>(columns);
  std::vector<double> factors(size), block(size);
  for (std::size_t column = 0; column < size; ++column) factors[column] = 1.0 / units[column];
  BlockSums all(columns);
  for (Index begin = 0; begin < rows; begin += rows_of_block) {
    std::fill(block.begin(), block.end(), 0.0);
    for (Index row = begin; row < std::min(begin + rows_of_block, rows); ++row) {
      const T* const of_row = values + row * columns;
      for (std::size_t column = 0; column < size; ++column) {
        const double value = static_cast<double>(of_row[column]) * factors[column];
        const double distance = value - (means == nullptr ? 0.0 : means[column]);
        const double summand = means == nullptr ? value : distance * distance;
        block[column] += value != value ? 0.0 : summand;
      }
    }
    all.add(block);
  }
  all.total(sums);
}

template void column_extents(const float*, Index, Index, Index*, double*, double*);
template void column_extents(const double*, Index, Index, Index*, double*, double*);
template void column_sums(const float*, Index, Index, const double*, const double*, double*);
template void column_sums(const double*, Index, Index, const double*, const double*, double*);

}  // namespace latchwork::detail
