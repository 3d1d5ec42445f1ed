#pragma once

#include "latchwork/export.hpp"
#include "latchwork/types.hpp"

// What scaling is fitted from: extents and sums of the columns of a table, in an order that depends on the table alone.
// NaN is a gap, which does not count.
namespace latchwork::detail {

// Of each column of (rows, columns): how many numbers it has, the least and the largest; without any, inf and -inf.
template <class T>
LATCHWORK_API void column_extents(const T* values, Index rows, Index columns, Index* counts, double* least,
                                  double* largest);

// Sums value / unit over each column or, where `means` is not null, the squares of the distances of value / unit to the
// means. The units are powers of two.
template <class T>
LATCHWORK_API void column_sums(const T* values, Index rows, Index columns, const double* units, const double* means,
                               double* sums);

}  // namespace latchwork::detail
