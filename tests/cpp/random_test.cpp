#include "machine/random.hpp"

#include <doctest/doctest.h>

namespace latchwork::test {

using Words = std::array<std::uint32_t, 4>;

TEST_CASE("Philox4x32-10 gives the known answers of Random123") {
  CHECK(philox(0, {0, 0, 0, 0}) == Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  CHECK(philox(0xffffffffffffffff, {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}) ==
        Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(philox(0x299f31d0a4093822, {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}) ==
        Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("uniform numbers lie in [0, 1) and are exact in float") {
  CHECK(uniform(0) == 0.0);
  CHECK(uniform(0xffffffff) == 1.0 - 0x1p-24);
  CHECK(uniform(0x80000000) == 0.5);
  for (std::uint32_t i = 0; i < 1000; ++i) {
    const double value = uniform(philox(1, {i, 0, 0, 0})[0]);
    CHECK(static_cast<double>(static_cast<float>(value)) == value);
  }
}

}  // namespace latchwork::test
