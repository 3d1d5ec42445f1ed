#pragma once

#include <cstdint>

#if defined(__SSE__) || defined(__x86_64__)
#include <immintrin.h>
#endif

namespace latchwork {

// An operation on a subnormal number costs up to 66 times as much as an ordinary one. While an object of this class
// exists, the thread that made it flushes subnormals to zero, rounds to nearest and traps no exception. Afterwards the
// floating-point state of the thread is what it was before, exception flags included.
class FlushToZero {
 public:
#if defined(__SSE__) || defined(__x86_64__)
  // Neither write happens if it would change nothing, as under a caller that flushes subnormals itself. The exception
  // flags are carried over, because writing a register in which the flags differ from the raised ones costs about 70 ns
  // on Intel CPUs.
  FlushToZero() noexcept : saved_(_mm_getcsr()) {
    if ((saved_ & ~flags) != control) _mm_setcsr(control | (saved_ & flags));
  }
  ~FlushToZero() {
    if (_mm_getcsr() != saved_) _mm_setcsr(saved_);
  }

 private:
  static constexpr unsigned flags = 0x3F;
  static constexpr unsigned control = 0x9FC0;  // flushes results and operands to zero, rounds to nearest, traps nothing
  unsigned saved_;
#elif defined(__aarch64__)
  FlushToZero() noexcept {
    asm volatile("mrs %0, fpcr" : "=r"(saved_));
    const std::uint64_t flush = 1u << 24;
    asm volatile("msr fpcr, %0" : : "r"(flush));
  }
  ~FlushToZero() { asm volatile("msr fpcr, %0" : : "r"(saved_)); }

 private:
  std::uint64_t saved_;
#else
  FlushToZero() noexcept {}
#endif

 public:
  FlushToZero(const FlushToZero&) = delete;
  FlushToZero& operator=(const FlushToZero&) = delete;
};

// While an object of this class exists, its thread computes as a thread does by default. For a call of the program's
// own code from within one of the library's.
class DefaultFloats {
 public:
#if defined(__SSE__) || defined(__x86_64__)
  DefaultFloats() noexcept : saved_(_mm_getcsr()) { _mm_setcsr(0x1F80); }
  ~DefaultFloats() { _mm_setcsr(saved_); }

 private:
  unsigned saved_;
#elif defined(__aarch64__)
  DefaultFloats() noexcept {
    asm volatile("mrs %0, fpcr" : "=r"(saved_));
    asm volatile("msr fpcr, %0" : : "r"(std::uint64_t{0}));
  }
  ~DefaultFloats() { asm volatile("msr fpcr, %0" : : "r"(saved_)); }

 private:
  std::uint64_t saved_;
#else
  DefaultFloats() noexcept {}
#endif

 public:
  DefaultFloats(const DefaultFloats&) = delete;
  DefaultFloats& operator=(const DefaultFloats&) = delete;
};

}  // namespace latchwork
