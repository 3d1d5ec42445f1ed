// The ends of the blocks of rows in which gradients are summed. They decide the bits of gradients.
#include "layer/row_blocks.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <numeric>

#include "support/support.hpp"

namespace latchwork::test {
namespace {

PackedLayer<float> layer_of(Index gates, Index inputs, Index units, Index projection = 0) {
  PackedLayer<float> layer;
  layer.gates = gates;
  layer.input_size = inputs;
  layer.units = units;
  layer.projection = projection;
  return layer;
}

RowBlocks blocks_of(Index steps, Index rows, const std::vector<Index>* lengths = nullptr,
                    const PackedLayer<float>& layer = layer_of(4, 3, 17)) {
  Schedule schedule;
  schedule.batch.steps = steps;
  schedule.batch.rows = rows;
  if (lengths != nullptr) schedule.batch.lengths = lengths->data();
  return row_blocks(schedule, layer, 0);
}

Index count(Index steps, Index rows, const PackedLayer<float>& layer) {
  return blocks_of(steps, rows, nullptr, layer).count();
}

Index rows_with_steps(const std::vector<Index>& lengths, Index begin, Index end) {
  return end - begin - std::count(lengths.begin() + begin, lengths.begin() + end, 0);
}

// The block of each row that has steps.
std::vector<Index> assignment(const RowBlocks& blocks, const std::vector<Index>& lengths) {
  std::vector<Index> block_of;
  for (Index block = 0; block < blocks.count(); ++block) {
    block_of.insert(block_of.end(),
                    static_cast<std::size_t>(rows_with_steps(lengths, blocks.begin_of(block), blocks.end_of(block))),
                    block);
  }
  return block_of;
}

}  // namespace

TEST_CASE("row blocks: there are 1, 2, 4, 8 or 16, and each starts when its share of the steps has passed") {
  Random random(91);
  for (int round = 0; round < 400; ++round) {
    const Index rows = random.between(1, 700), steps = random.between(1, 60);
    const bool ragged = random.chance(0.7);
    const double empty = random.chance(0.5) ? 0.0 : 0.4;
    std::vector<Index> lengths;
    for (Index row = 0; row < rows; ++row) {
      lengths.push_back(random.chance(empty) ? 0 : ragged ? random.between(1, steps) : steps);
    }
    const RowBlocks blocks = blocks_of(steps, rows, &lengths);
    CAPTURE(round);
    const Index working = rows_with_steps(lengths, 0, rows);
    const Index total = std::accumulate(lengths.begin(), lengths.end(), Index{0});
    Index expected = 1;
    for (const Index more : {2, 4, 8, 16}) {
      if (working / more >= 16 && total / more >= 256) expected = more;
    }
    CHECK(blocks.count() == expected);
    CHECK(blocks.begin_of(0) == 0);
    CHECK(blocks.end_of(blocks.count() - 1) == rows);
    Index most_rows = 0;
    for (Index block = 0; block < blocks.count(); ++block) {
      const auto passed = [&](Index end) {
        return std::accumulate(lengths.begin(), lengths.begin() + end, Index{0}) * expected;
      };
      const Index begin = blocks.begin_of(block);
      CHECK(passed(begin) >= block * total);
      CHECK((begin == 0 || passed(begin - 1) < block * total));
      most_rows = std::max(most_rows, blocks.rows_of(block));
    }
    CHECK(blocks.most_rows() == most_rows);
  }
}

TEST_CASE("row blocks: rows without steps and padding move no row with steps into another block") {
  Random random(92);
  for (int round = 0; round < 200; ++round) {
    const Index rows = random.between(1, 300), steps = random.between(10, 40);
    const bool ragged = random.chance(0.5);
    std::vector<Index> lengths, with_empty;
    const auto add_empty = [&] {
      with_empty.insert(with_empty.end(), static_cast<std::size_t>(random.chance(0.3) ? random.between(1, 90) : 0), 0);
    };
    for (Index row = 0; row < rows; ++row) {
      lengths.push_back(ragged ? random.between(1, steps) : steps);
      add_empty();
      with_empty.push_back(lengths.back());
    }
    add_empty();
    CAPTURE(round);
    const std::vector<Index> expected = assignment(blocks_of(steps, rows, &lengths), lengths);
    CHECK(assignment(blocks_of(steps + 70, rows, &lengths), lengths) == expected);
    CHECK(assignment(blocks_of(steps, static_cast<Index>(with_empty.size()), &with_empty), with_empty) == expected);
    if (!ragged) CHECK(blocks_of(steps, rows).begin == blocks_of(steps, rows, &lengths).begin);
  }
}

TEST_CASE("row blocks: there is one if the rows or steps are few or the layer is large") {
  const PackedLayer<float> small = layer_of(4, 3, 17);
  CHECK(count(40, 0, small) == 1);
  CHECK(count(1000, 31, small) == 1);
  CHECK(count(1000, 32, small) == 2);
  CHECK(count(15, 32, small) == 1);
  CHECK(count(16, 32, small) == 2);
  CHECK(count(0, 500, small) == 1);
  CHECK(count(365, 256, small) == 16);
  CHECK(count(365, 5000, small) == 16);
  CHECK(blocks_of(24, 67).begin == std::vector<Index>{0, 17, 34, 51, 67});
  CHECK(row_blocks(Schedule{{5, 3, nullptr, {}, 0}}, 8).begin == std::vector<Index>{0, 1, 1, 2, 2, 2, 3, 3, 3});

  CHECK(count(100, 64, layer_of(4, 1, 249)) == 4);
  CHECK(count(100, 64, layer_of(4, 1, 250)) == 1);
  CHECK(count(100, 64, layer_of(3, 1, 250)) == 4);
  CHECK(count(100, 64, layer_of(4, 240, 250)) == 1);
  CHECK(count(100, 64, layer_of(4, 1, 250, 249)) == 4);
}

}  // namespace latchwork::test
