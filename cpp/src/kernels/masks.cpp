// Random masks of rows, and zoneout, which mixes a row with the one of the step before.
#include "kernels/cell.hpp"
#include "kernels/kernels.hpp"

namespace latchwork::LATCHWORK_ISA {

namespace {

// How many registers of counters go through the generator at the same time, to hide the latency of its multiplications.
constexpr int registers_at_once = word_lanes == 8 ? 4 : 2;
constexpr int side_by_side = registers_at_once * word_lanes;

// Philox4x32-10, as in random.hpp, for counters whose first word ascends. Each counter gives four numbers, two in a
// word.
[[gnu::noinline]] void philox_blocks(std::uint64_t seed, const std::uint32_t (&counter)[4], std::uint32_t first,
                                     std::uint64_t (&numbers)[2 * side_by_side]) {
  const Words factor0 = same_words(0xD2511F53), factor1 = same_words(0xCD9E8D57);
  Words word[4][registers_at_once];
#pragma GCC unroll 4
  for (int at = 0; at < registers_at_once; ++at) {
    const auto first_word = counter[0] + first + static_cast<std::uint32_t>(at * word_lanes);
    word[0][at] = add_words(same_words(first_word), ascending_words());
#pragma GCC unroll 4
    for (int other = 1; other < 4; ++other) word[other][at] = same_words(counter[other]);
  }
  auto key0 = static_cast<std::uint32_t>(seed);
  auto key1 = static_cast<std::uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const Words round_key0 = same_words(key0), round_key1 = same_words(key1);
#pragma GCC unroll 4
    for (int at = 0; at < registers_at_once; ++at) {
      const Words product0 = multiply_words(word[0][at], factor0);
      const Words product1 = multiply_words(word[2][at], factor1);
      word[0][at] = exclusive_or(exclusive_or(upper_half(product1), word[1][at]), round_key0);
      word[1][at] = product1;
      word[2][at] = exclusive_or(exclusive_or(upper_half(product0), word[3][at]), round_key1);
      word[3][at] = product0;
    }
    key0 += 0x9E3779B9;
    key1 += 0xBB67AE85;
  }
  std::uint64_t first_two[side_by_side], last_two[side_by_side];
#pragma GCC unroll 4
  for (int at = 0; at < registers_at_once; ++at) {
    store_words(first_two + at * word_lanes, join_halves(word[0][at], word[1][at]));
    store_words(last_two + at * word_lanes, join_halves(word[2][at], word[3][at]));
  }
  for (int at = 0; at < side_by_side; ++at) {
    numbers[2 * at] = first_two[at];
    numbers[2 * at + 1] = last_two[at];
  }
}

}  // namespace

template <class T>
void mask(const MaskArgs<T>& args) {
  // A uniform number has 24 bits, so it is below the probability exactly if those bits are below this integer.
  const double scaled = args.probability * 0x1p24;
  auto limit = static_cast<std::uint32_t>(scaled);
  if (static_cast<double>(limit) < scaled) ++limit;
  std::uint64_t numbers[2 * side_by_side];
  for (Index first = 0; first < args.size; first += 4 * side_by_side) {
    philox_blocks(args.seed, args.counter, static_cast<std::uint32_t>(first / 4), numbers);
    const Index count = args.size - first < 4 * side_by_side ? args.size - first : 4 * side_by_side;
    std::uint32_t words[4 * side_by_side];
    std::memcpy(words, numbers, sizeof numbers);
    for (Index at = 0; at < count; ++at) args.factors[first + at] = words[at] >> 8 < limit ? args.below : args.above;
  }
}

template <class T>
void zoneout(const T* z, const T* previous, Index size, T* values) {
  Index at = 0;
  for (; at + lanes<T> <= size; at += lanes<T>) {
    store(values + at, zoned_out<T>(load(z + at), load(previous + at), load(values + at)));
  }
  if (const Index left = size - at; left > 0) {
    const Packet<T> mixed =
        zoned_out<T>(load_part(z + at, left), load_part(previous + at, left), load_part(values + at, left));
    store_part(values + at, mixed, left);
  }
}

template void mask<float>(const MaskArgs<float>&);
template void mask<double>(const MaskArgs<double>&);
template void zoneout<float>(const float*, const float*, Index, float*);
template void zoneout<double>(const double*, const double*, Index, double*);

}  // namespace latchwork::LATCHWORK_ISA
