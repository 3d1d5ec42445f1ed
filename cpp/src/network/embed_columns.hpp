#pragma once

#include <algorithm>
#include <vector>

#include "latchwork/options.hpp"
#include "layer/rows.hpp"
#include "network/embedding.hpp"
#include "network/sequences.hpp"

namespace latchwork {

// Where an EmbedColumns finds the features that it keeps, the codes, and the tables.
class EmbeddedColumns {
 public:
  struct Table {
    Index column = 0;     // of the input
    Index count = 0;      // how many codes there are
    Index dim = 0;        // features of each row
    Index begin = 0;      // where in the memory of all tables this one starts
    Index to_column = 0;  // where in the output its row starts
  };

  explicit EmbeddedColumns(const EmbedColumnsOptions& options) : features_(options.features) {
    for (Index column = 0; column < features_; ++column) {
      if (std::find(options.columns.begin(), options.columns.end(), column) == options.columns.end()) {
        kept_.push_back(column);
      }
    }
    Index to = static_cast<Index>(kept_.size());
    for (std::size_t at = 0; at < options.columns.size(); ++at) {
      const Table& table = tables_.emplace_back(
          Table{options.columns[at], options.num_embeddings[at], options.embedding_dim[at], size_, to});
      size_ += table.count * table.dim;
      to += table.dim;
    }
  }

  const std::vector<Table>& tables() const { return tables_; }
  Index size() const { return size_; }  // of all tables together

  // A code as the number of a row. The input is checked before a call, but another thread may write to it meanwhile:
  // what is no code then stands for 0.
  template <class T>
  static Index row_of(T code, const Table& table) noexcept {
    return code >= T(0) && code < static_cast<T>(table.count) ? static_cast<Index>(code) : 0;
  }

  template <class T>
  void embed(const T* x, const T* tables, T* y) const noexcept {
    for (std::size_t at = 0; at < kept_.size(); ++at) y[at] = x[kept_[at]];
    for (const Table& table : tables_) {
      std::copy_n(tables + table.begin + row_of(x[table.column], table) * table.dim, table.dim, y + table.to_column);
    }
  }

  // The gradient with respect to x, which codes have none of.
  template <class T>
  void pass_back(const T* d_y, T* d_x) const noexcept {
    std::fill_n(d_x, features_, T(0));
    for (std::size_t at = 0; at < kept_.size(); ++at) d_x[kept_[at]] = d_y[at];
  }

 private:
  Index features_;
  std::vector<Index> kept_;
  std::vector<Table> tables_;
  Index size_ = 0;
};

// The module EmbedColumns for every step and row; zeros in padding.
template <class T>
void embed_columns_forward(const EmbedColumnsOptions& options, const T* tables, const Batch& batch,
                           const RowSource<T>& x, const SequenceView<T>& y) {
  const EmbeddedColumns columns(options);
  write_rows(batch, options.output_size(), y,
             [&](Index step, Index row, T* to) { columns.embed(x.at(step, row), tables, to); });
}

template <class T>
struct EmbedColumnsGradient {
  SequenceView<const T> d_output;  // null stands for zeros
  SequenceView<T> d_input;         // null if not wanted; zero in padding
  T* tables = nullptr;             // the gradients of the tables are added to this
};

template <class T>
void embed_columns_backward(const Kernels<T>& kernels, const EmbedColumnsOptions& options, const Batch& batch,
                            const RowBlocks& blocks, const RowSource<T>& x, const EmbedColumnsGradient<T>& gradient,
                            Workspace<T>& workspace) {
  const EmbeddedColumns columns(options);
  const SequenceView<const T>& d_output = gradient.d_output;
  if (gradient.d_input.data != nullptr) {
    write_rows(batch, options.features, gradient.d_input, [&](Index step, Index row, T* to) {
      if (d_output.data == nullptr) return void(std::fill_n(to, options.features, T(0)));
      columns.pass_back(d_output.at(step, row), to);
    });
  }
  if (d_output.data == nullptr || gradient.tables == nullptr) return;
  add_in_blocks(kernels, blocks, columns.size(), gradient.tables, workspace, [&](Index begin, Index end, T* sums) {
    for (const EmbeddedColumns::Table& table : columns.tables()) {
      SequenceView<const T> d_rows = d_output;
      d_rows.data += table.to_column;
      add_by_row(
          batch, begin, end,
          [&](Index step, Index row) { return EmbeddedColumns::row_of(x.at(step, row)[table.column], table); }, d_rows,
          table.dim, sums + table.begin);
    }
  });
}

}  // namespace latchwork
