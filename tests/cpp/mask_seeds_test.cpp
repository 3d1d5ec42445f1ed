// Recordings act as in training, and a network has mask seeds of its own for those that are given none.
#include <doctest/doctest.h>

#include <set>

#include "latchwork/network.hpp"
#include "machine/parallel.hpp"
#include "support/support.hpp"

namespace latchwork::test {
namespace {

Network<float> dropping(std::uint64_t seed, Index members = 1) {
  LstmOptions lstm;
  lstm.input_size = 3;
  lstm.hidden_size = 9;
  lstm.num_layers = 2;
  lstm.dropout = 0.5;
  return Network<float>({lstm, LinearOptions{9, 2}}, TensorNames::of_chain, seed, members);
}

struct Recorded {
  std::vector<float> output = std::vector<float>(8);
  std::optional<std::uint64_t> seed;
};

const std::vector<float> x = converted<float>(Random(1).numbers(12));

Batch batch() {
  Batch batch;
  batch.steps = 4;
  batch.rows = 1;
  return batch;
}

Recorded record(const Network<float>& network, const RecordOptions& options = {}) {
  Recorded recorded;
  recorded.seed =
      network.record({{x.data(), 3, 3}, {}}, batch(), {}, {recorded.output.data(), 2, 2}, {}, options)->mask_seed();
  return recorded;
}

}  // namespace

TEST_CASE("mask seeds: a recording acts as in training, and with new masks each time, unless it is told otherwise") {
  const Network<float> network = dropping(5);
  std::vector<float> called(8);
  network.forward({{x.data(), 3, 3}, {}}, batch(), {}, {called.data(), 2, 2}, {});
  const Recorded first = record(network), second = record(network);
  REQUIRE(first.seed.has_value());
  CHECK(first.seed != second.seed);
  CHECK(first.output != called);
  CHECK(first.output != second.output);
  CHECK(same_bits(record(network, {true, first.seed}).output, first.output));
  CHECK(record(network, {true, 3}).seed == 3u);

  const MaskSeeds before = network.mask_seeds();
  CHECK(same_bits(record(network, {false}).output, called));
  CHECK(!record(network, {false}).seed.has_value());
  CHECK(record(network, {false, 3}).seed == 3u);
  CHECK(network.mask_seeds() == before);
}

TEST_CASE("mask seeds: they follow from the network's seed, and go on where they are set to") {
  const Network<float> network = dropping(5), same = dropping(5), other = dropping(6);
  CHECK(network.mask_seeds() == MaskSeeds{5, 0});
  std::vector<std::uint64_t> seeds;
  for (int k = 0; k < 3; ++k) {
    seeds.push_back(*record(network).seed);
    CHECK(*record(same).seed == seeds.back());
    CHECK(*record(other).seed != seeds.back());
  }
  CHECK(network.mask_seeds() == MaskSeeds{5, 3});
  network.set_mask_seeds({5, 1});
  CHECK(network.next_mask_seed() == seeds[1]);
  CHECK(*record(network).seed == seeds[2]);
}

TEST_CASE("mask seeds: a module shares its network's, members and stacks continue them") {
  const Network<float> network = dropping(5, 2);
  network.next_mask_seed();
  CHECK(network.module(0).mask_seeds() == MaskSeeds{5, 1});
  network.module(1).next_mask_seed();
  CHECK(network.mask_seeds() == MaskSeeds{5, 2});
  const Network<float> member = network.member(1), joined = Network<float>::stack({network, dropping(7)});
  CHECK(member.mask_seeds() == MaskSeeds{5, 2});
  CHECK(joined.mask_seeds() == MaskSeeds{5, 2});
  member.next_mask_seed();
  joined.next_mask_seed();
  CHECK(network.mask_seeds() == MaskSeeds{5, 2});
}

TEST_CASE("mask seeds: threads draw different ones") {
  const ThreadCount threads(3);
  const Network<float> network = dropping(5);
  std::vector<std::uint64_t> seeds(600);
  parallel(6, [&](Index part) {
    for (Index k = part * 100; k < part * 100 + 100; ++k) seeds[static_cast<std::size_t>(k)] = network.next_mask_seed();
  });
  CHECK(std::set<std::uint64_t>(seeds.begin(), seeds.end()).size() == 600);
  CHECK(network.mask_seeds() == MaskSeeds{5, 600});
}

}  // namespace latchwork::test
