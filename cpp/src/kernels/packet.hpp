#pragma once

#include <Eigen/Core>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "latchwork/types.hpp"

// One SIMD register and the operations on it. This is the only file that uses Eigen::internal.
namespace latchwork::LATCHWORK_ISA {

namespace eigen = Eigen::internal;

template <class T>
using Packet = typename eigen::packet_traits<T>::type;

// U: how many numbers one register has.
template <class T>
inline constexpr int lanes = eigen::unpacket_traits<Packet<T>>::size;

// whole_panel_rows: how many rows (or columns) a tile has that is 4 registers wide, so that its accumulators, the
// broadcast factors and a weight fit into the registers. single_row_panels: how many panels a single row takes at once.
// half_panels: whether panels of weights that are 4 registers wide lie in two halves, which tiles of more rows take one
// after the other (see tile.hpp). With only 16 registers such a tile reads half as many weights for each multiply-add.
#if defined(EIGEN_VECTORIZE_AVX512) || defined(__aarch64__)
inline constexpr int whole_panel_rows = 6;
inline constexpr int single_row_panels = 4;
inline constexpr bool half_panels = false;
#elif defined(EIGEN_VECTORIZE_FMA)
inline constexpr int whole_panel_rows = 3;
inline constexpr int single_row_panels = 3;
inline constexpr bool half_panels = true;
#else
inline constexpr int whole_panel_rows = 2;
inline constexpr int single_row_panels = 2;
inline constexpr bool half_panels = false;
#endif

template <class T>
EIGEN_ALWAYS_INLINE Packet<T> load(const T* from) {
  return eigen::ploadu<Packet<T>>(from);
}
// Fetches into L1 without waiting; any address is allowed. This does not use eigen::prefetch, because gcc may not
// inline that function until it has found out that it computes nothing, and then drops the call.
template <class T>
EIGEN_ALWAYS_INLINE void fetch_into_l1(const T* from) {
  __builtin_prefetch(from, 0, 3);
}
// The same, into L2.
template <class T>
EIGEN_ALWAYS_INLINE void fetch_into_l2(const T* from) {
  __builtin_prefetch(from, 0, 2);
}
template <class T>
EIGEN_ALWAYS_INLINE void store(T* to, const Packet<T>& value) {
  eigen::pstoreu(to, value);
}
// Stores numbers that are not read again before the caches are full of other things: whole cache lines, aligned and one
// after another, go to memory without being read first. Other threads see them after end_stores_bypassing_cache().
template <class T>
EIGEN_ALWAYS_INLINE void store_bypassing_cache(T* to, const Packet<T>& value) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) {
    _mm512_stream_ps(to, value);
  } else {
    _mm512_stream_pd(to, value);
  }
#elif defined(__AVX__)
  if constexpr (sizeof(T) == 4) {
    _mm256_stream_ps(to, value);
  } else {
    _mm256_stream_pd(to, value);
  }
#elif defined(__SSE2__)
  if constexpr (sizeof(T) == 4) {
    _mm_stream_ps(to, value);
  } else {
    _mm_stream_pd(to, value);
  }
#else
  store(to, value);
#endif
}
EIGEN_ALWAYS_INLINE void end_stores_bypassing_cache() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}
template <class T>
EIGEN_ALWAYS_INLINE Packet<T> broadcast(T value) {
  return eigen::pset1<Packet<T>>(value);
}

// The first `count` lanes, 0 <= count <= U, of memory or of a packet. The other lanes of a result are zero, other
// memory is not touched. The general versions go through memory; AVX-512 and AVX2 have masks.
template <class T>
EIGEN_ALWAYS_INLINE Packet<T> load_part(const T* from, Index count) {
  T numbers[lanes<T>] = {};
  std::memcpy(numbers, from, static_cast<std::size_t>(count) * sizeof(T));
  return load(numbers);
}
template <class T>
EIGEN_ALWAYS_INLINE void store_part(T* to, const Packet<T>& value, Index count) {
  T numbers[lanes<T>];
  store(numbers, value);
  std::memcpy(to, numbers, static_cast<std::size_t>(count) * sizeof(T));
}
template <class T>
EIGEN_ALWAYS_INLINE Packet<T> first_lanes(const Packet<T>& value, Index count) {
  T numbers[lanes<T>];
  store(numbers, value);
  return load_part(numbers, count);
}
#if defined(__AVX512F__)
EIGEN_ALWAYS_INLINE __mmask16 lane_mask(Index count) { return static_cast<__mmask16>((1u << count) - 1); }
template <>
EIGEN_ALWAYS_INLINE __m512 load_part<float>(const float* from, Index count) {
  return _mm512_maskz_loadu_ps(lane_mask(count), from);
}
template <>
EIGEN_ALWAYS_INLINE __m512d load_part<double>(const double* from, Index count) {
  return _mm512_maskz_loadu_pd(static_cast<__mmask8>(lane_mask(count)), from);
}
template <>
EIGEN_ALWAYS_INLINE void store_part<float>(float* to, const __m512& value, Index count) {
  _mm512_mask_storeu_ps(to, lane_mask(count), value);
}
template <>
EIGEN_ALWAYS_INLINE void store_part<double>(double* to, const __m512d& value, Index count) {
  _mm512_mask_storeu_pd(to, static_cast<__mmask8>(lane_mask(count)), value);
}
template <>
EIGEN_ALWAYS_INLINE __m512 first_lanes<float>(const __m512& value, Index count) {
  return _mm512_maskz_mov_ps(lane_mask(count), value);
}
template <>
EIGEN_ALWAYS_INLINE __m512d first_lanes<double>(const __m512d& value, Index count) {
  return _mm512_maskz_mov_pd(static_cast<__mmask8>(lane_mask(count)), value);
}
#elif defined(__AVX2__)
EIGEN_ALWAYS_INLINE __m256i float_lane_mask(Index count) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
EIGEN_ALWAYS_INLINE __m256i double_lane_mask(Index count) {
  return _mm256_cmpgt_epi64(_mm256_set1_epi64x(count), _mm256_setr_epi64x(0, 1, 2, 3));
}
template <>
EIGEN_ALWAYS_INLINE __m256 load_part<float>(const float* from, Index count) {
  return _mm256_maskload_ps(from, float_lane_mask(count));
}
template <>
EIGEN_ALWAYS_INLINE __m256d load_part<double>(const double* from, Index count) {
  return _mm256_maskload_pd(from, double_lane_mask(count));
}
template <>
EIGEN_ALWAYS_INLINE void store_part<float>(float* to, const __m256& value, Index count) {
  _mm256_maskstore_ps(to, float_lane_mask(count), value);
}
template <>
EIGEN_ALWAYS_INLINE void store_part<double>(double* to, const __m256d& value, Index count) {
  _mm256_maskstore_pd(to, double_lane_mask(count), value);
}
template <>
EIGEN_ALWAYS_INLINE __m256 first_lanes<float>(const __m256& value, Index count) {
  return _mm256_and_ps(value, _mm256_castsi256_ps(float_lane_mask(count)));
}
template <>
EIGEN_ALWAYS_INLINE __m256d first_lanes<double>(const __m256d& value, Index count) {
  return _mm256_and_pd(value, _mm256_castsi256_pd(double_lane_mask(count)));
}
#endif

// The lanes of `a` from lane `Shift` on, followed by the first lanes of `b`.
template <class T, int Shift>
EIGEN_ALWAYS_INLINE Packet<T> joined_lanes(const Packet<T>& a, [[maybe_unused]] const Packet<T>& b) {
  if constexpr (Shift == 0) {
    return a;
  } else {
#if defined(__AVX512F__)
    if constexpr (sizeof(T) == 4) {
      return _mm512_castsi512_ps(_mm512_alignr_epi32(_mm512_castps_si512(b), _mm512_castps_si512(a), Shift));
    } else {
      return _mm512_castsi512_pd(_mm512_alignr_epi64(_mm512_castpd_si512(b), _mm512_castpd_si512(a), Shift));
    }
#elif defined(__AVX2__)
    constexpr int bytes = Shift * static_cast<int>(sizeof(T));
    __m256i low, high;
    std::memcpy(&low, &a, sizeof low);
    std::memcpy(&high, &b, sizeof high);
    // The instruction only joins lanes within each half.
    const __m256i middle = _mm256_permute2x128_si256(low, high, 0x21);
    __m256i joined = middle;
    if constexpr (bytes < 16) joined = _mm256_alignr_epi8(middle, low, bytes);
    if constexpr (bytes > 16) joined = _mm256_alignr_epi8(high, middle, bytes - 16);
    Packet<T> result;
    std::memcpy(&result, &joined, sizeof result);
    return result;
#else
    T both[2 * lanes<T>];
    store(both, a);
    store(both + lanes<T>, b);
    return load(both + Shift);
#endif
  }
}

// a * b + c, in one rounding if the instruction set has a fused multiply-add, otherwise in two. It is explicit because
// the compiler is told not to contract.
template <class P>
EIGEN_ALWAYS_INLINE P multiply_add(const P& a, const P& b, const P& c) {
  return eigen::pmadd(a, b, c);
}
// c = a * b + c, for the innermost loops of tiles that need every register: left to itself, gcc writes some of the
// results to the registers of a or b, and then runs out of registers and moves sums to memory and back.
template <class P>
EIGEN_ALWAYS_INLINE void multiply_add_in_place(const P& a, const P& b, P& c) {
#if defined(__AVX2__) && defined(__FMA__) && !defined(__AVX512F__)
  if constexpr (std::is_same_v<P, __m256>) {
    asm("vfmadd231ps %2, %1, %0" : "+x"(c) : "x"(a), "x"(b));
    return;
  } else if constexpr (std::is_same_v<P, __m256d>) {
    asm("vfmadd231pd %2, %1, %0" : "+x"(c) : "x"(a), "x"(b));
    return;
  }
#endif
  c = multiply_add(a, b, c);
}
template <class P>
EIGEN_ALWAYS_INLINE P add(const P& a, const P& b) {
  return eigen::padd(a, b);
}
template <class P>
EIGEN_ALWAYS_INLINE P subtract(const P& a, const P& b) {
  return eigen::psub(a, b);
}
template <class P>
EIGEN_ALWAYS_INLINE P multiply(const P& a, const P& b) {
  return eigen::pmul(a, b);
}
template <class P>
EIGEN_ALWAYS_INLINE P divide(const P& a, const P& b) {
  return eigen::pdiv(a, b);
}
template <class P>
EIGEN_ALWAYS_INLINE P magnitude(const P& a) {
  return eigen::pabs(a);
}
// -|a|
template <class T>
EIGEN_ALWAYS_INLINE Packet<T> negative_magnitude(const Packet<T>& a) {
  return eigen::por(a, broadcast(T(-0.0)));
}
// The larger and the smaller of two numbers; if `a` is NaN, so is the result.
template <class P>
EIGEN_ALWAYS_INLINE P at_least(const P& a, const P& bound) {
  return eigen::pmax(a, bound);
}
template <class P>
EIGEN_ALWAYS_INLINE P at_most(const P& a, const P& bound) {
  return eigen::pmin(a, bound);
}
// `magnitude`, which must not be negative, with the sign of `sign`.
template <class T>
EIGEN_ALWAYS_INLINE Packet<T> copy_sign(const Packet<T>& magnitude, const Packet<T>& sign) {
  return eigen::por(magnitude, eigen::pand(sign, broadcast(T(-0.0))));
}
// a < b ? yes : no; comparing with NaN gives `no`.
template <class P>
EIGEN_ALWAYS_INLINE P where_less(const P& a, const P& b, const P& yes, const P& no) {
  return eigen::pselect(eigen::pcmp_lt(a, b), yes, no);
}

#if defined(__AVX512F__)
// Eigen's version turns the mask of the comparison into a vector and back into a mask, which makes a sigmoid five times
// as slow.
EIGEN_ALWAYS_INLINE __m512 where_less(const __m512& a, const __m512& b, const __m512& yes, const __m512& no) {
  return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), no, yes);
}
EIGEN_ALWAYS_INLINE __m512d where_less(const __m512d& a, const __m512d& b, const __m512d& yes, const __m512d& no) {
  return _mm512_mask_blend_pd(_mm512_cmp_pd_mask(a, b, _CMP_LT_OQ), no, yes);
}
#endif

// The square root of one number.
EIGEN_ALWAYS_INLINE float square_root(float x) { return __builtin_sqrtf(x); }
EIGEN_ALWAYS_INLINE double square_root(double x) { return __builtin_sqrt(x); }

// The bits of each number, shifted left until the lowest bits of the mantissa are its exponent.
#if defined(__SSE2__)
EIGEN_ALWAYS_INLINE __m128 mantissa_to_exponent(const __m128& a) {
  return _mm_castsi128_ps(_mm_slli_epi32(_mm_castps_si128(a), 23));
}
EIGEN_ALWAYS_INLINE __m128d mantissa_to_exponent(const __m128d& a) {
  return _mm_castsi128_pd(_mm_slli_epi64(_mm_castpd_si128(a), 52));
}
#endif
#if defined(__AVX2__)
EIGEN_ALWAYS_INLINE __m256 mantissa_to_exponent(const __m256& a) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(a), 23));
}
EIGEN_ALWAYS_INLINE __m256d mantissa_to_exponent(const __m256d& a) {
  return _mm256_castsi256_pd(_mm256_slli_epi64(_mm256_castpd_si256(a), 52));
}
#endif
#if defined(__AVX512F__)
EIGEN_ALWAYS_INLINE __m512 mantissa_to_exponent(const __m512& a) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(a), 23));
}
EIGEN_ALWAYS_INLINE __m512d mantissa_to_exponent(const __m512d& a) {
  return _mm512_castsi512_pd(_mm512_slli_epi64(_mm512_castpd_si512(a), 52));
}
#endif
#if defined(__aarch64__)
EIGEN_ALWAYS_INLINE float32x4_t mantissa_to_exponent(const float32x4_t& a) {
  return vreinterpretq_f32_u32(vshlq_n_u32(vreinterpretq_u32_f32(a), 23));
}
EIGEN_ALWAYS_INLINE float64x2_t mantissa_to_exponent(const float64x2_t& a) {
  return vreinterpretq_f64_u64(vshlq_n_u64(vreinterpretq_u64_f64(a), 52));
}
#endif
EIGEN_ALWAYS_INLINE float mantissa_to_exponent(const float& a) {
  std::uint32_t bits;
  std::memcpy(&bits, &a, sizeof bits);
  bits <<= 23;
  float result;
  std::memcpy(&result, &bits, sizeof bits);
  return result;
}
EIGEN_ALWAYS_INLINE double mantissa_to_exponent(const double& a) {
  std::uint64_t bits;
  std::memcpy(&bits, &a, sizeof bits);
  bits <<= 52;
  double result;
  std::memcpy(&result, &bits, sizeof bits);
  return result;
}

// ---- Integers, for the generator of random masks: lanes of 64 bits of which the lower halves are used.

#if defined(__AVX512F__)
using Words = __m512i;
EIGEN_ALWAYS_INLINE Words same_words(std::uint32_t value) { return _mm512_set1_epi64(value); }
EIGEN_ALWAYS_INLINE Words ascending_words() { return _mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0); }
EIGEN_ALWAYS_INLINE Words add_words(const Words& a, const Words& b) { return _mm512_add_epi64(a, b); }
EIGEN_ALWAYS_INLINE Words exclusive_or(const Words& a, const Words& b) { return _mm512_xor_si512(a, b); }
EIGEN_ALWAYS_INLINE Words upper_half(const Words& a) { return _mm512_srli_epi64(a, 32); }
// The products of the lower halves, with all 64 bits.
EIGEN_ALWAYS_INLINE Words multiply_words(const Words& a, const Words& b) { return _mm512_mul_epu32(a, b); }
// The lower half of each lane is that of `low`, the upper half is the lower half of `high`.
EIGEN_ALWAYS_INLINE Words join_halves(const Words& low, const Words& high) {
  return _mm512_mask_shuffle_epi32(low, 0xAAAA, high, _MM_PERM_CCAA);
}
EIGEN_ALWAYS_INLINE void store_words(std::uint64_t* to, const Words& a) { _mm512_storeu_si512(to, a); }
#elif defined(__AVX2__)
using Words = __m256i;
EIGEN_ALWAYS_INLINE Words same_words(std::uint32_t value) { return _mm256_set1_epi64x(value); }
EIGEN_ALWAYS_INLINE Words ascending_words() { return _mm256_set_epi64x(3, 2, 1, 0); }
EIGEN_ALWAYS_INLINE Words add_words(const Words& a, const Words& b) { return _mm256_add_epi64(a, b); }
EIGEN_ALWAYS_INLINE Words exclusive_or(const Words& a, const Words& b) { return _mm256_xor_si256(a, b); }
EIGEN_ALWAYS_INLINE Words upper_half(const Words& a) { return _mm256_srli_epi64(a, 32); }
EIGEN_ALWAYS_INLINE Words multiply_words(const Words& a, const Words& b) { return _mm256_mul_epu32(a, b); }
EIGEN_ALWAYS_INLINE Words join_halves(const Words& low, const Words& high) {
  return _mm256_blend_epi32(low, _mm256_slli_epi64(high, 32), 0xAA);
}
EIGEN_ALWAYS_INLINE void store_words(std::uint64_t* to, const Words& a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), a);
}
#elif defined(__SSE2__)
using Words = __m128i;
EIGEN_ALWAYS_INLINE Words same_words(std::uint32_t value) { return _mm_set1_epi64x(value); }
EIGEN_ALWAYS_INLINE Words ascending_words() { return _mm_set_epi64x(1, 0); }
EIGEN_ALWAYS_INLINE Words add_words(const Words& a, const Words& b) { return _mm_add_epi64(a, b); }
EIGEN_ALWAYS_INLINE Words exclusive_or(const Words& a, const Words& b) { return _mm_xor_si128(a, b); }
EIGEN_ALWAYS_INLINE Words upper_half(const Words& a) { return _mm_srli_epi64(a, 32); }
EIGEN_ALWAYS_INLINE Words multiply_words(const Words& a, const Words& b) { return _mm_mul_epu32(a, b); }
EIGEN_ALWAYS_INLINE Words join_halves(const Words& low, const Words& high) {
  return _mm_or_si128(_mm_srli_epi64(_mm_slli_epi64(low, 32), 32), _mm_slli_epi64(high, 32));
}
EIGEN_ALWAYS_INLINE void store_words(std::uint64_t* to, const Words& a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), a);
}
#else
using Words = std::uint64_t;
EIGEN_ALWAYS_INLINE Words same_words(std::uint32_t value) { return value; }
EIGEN_ALWAYS_INLINE Words ascending_words() { return 0; }
EIGEN_ALWAYS_INLINE Words add_words(const Words& a, const Words& b) { return a + b; }
EIGEN_ALWAYS_INLINE Words exclusive_or(const Words& a, const Words& b) { return a ^ b; }
EIGEN_ALWAYS_INLINE Words upper_half(const Words& a) { return a >> 32; }
EIGEN_ALWAYS_INLINE Words multiply_words(const Words& a, const Words& b) { return (a & 0xFFFFFFFF) * (b & 0xFFFFFFFF); }
EIGEN_ALWAYS_INLINE Words join_halves(const Words& low, const Words& high) { return (low & 0xFFFFFFFF) | high << 32; }
EIGEN_ALWAYS_INLINE void store_words(std::uint64_t* to, const Words& a) { *to = a; }
#endif
inline constexpr int word_lanes = sizeof(Words) / 8;

// Transposes U registers as a U x U matrix.
template <class T>
EIGEN_ALWAYS_INLINE void transpose(Packet<T> (&rows)[lanes<T>]) {
  if constexpr (lanes<T> > 1) {
    eigen::PacketBlock<Packet<T>, lanes<T>> block;
    for (int row = 0; row < lanes<T>; ++row) block.packet[row] = rows[row];
    eigen::ptranspose(block);
    for (int row = 0; row < lanes<T>; ++row) rows[row] = block.packet[row];
  }
}

}  // namespace latchwork::LATCHWORK_ISA
