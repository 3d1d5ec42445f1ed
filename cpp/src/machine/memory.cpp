#include "machine/memory.hpp"

#include <cstdint>
#include <cstdlib>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#if defined(__SANITIZE_ADDRESS__)
#define LATCHWORK_ADDRESS_SANITIZER
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define LATCHWORK_ADDRESS_SANITIZER
#endif
#endif

namespace latchwork {
namespace {

constexpr std::size_t huge_page = std::size_t{2} << 20;
constexpr std::size_t large = 2 * huge_page;
[[maybe_unused]] constexpr std::size_t many_pages = std::size_t{64} << 10;

constexpr std::size_t round_up(std::size_t size, std::size_t unit) { return (size + unit - 1) / unit * unit; }

void* allocate(std::size_t alignment, std::size_t bytes) {
  void* const memory = std::aligned_alloc(alignment, round_up(bytes, alignment));
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

#if defined(__linux__)

// Touching all pages at once takes half as long as one page fault after another. A system that does not know this
// request ignores it.
void touch_pages([[maybe_unused]] void* memory, [[maybe_unused]] std::size_t bytes) {
#if defined(MADV_POPULATE_WRITE)
  constexpr std::uintptr_t page = 4096;
  const auto address = reinterpret_cast<std::uintptr_t>(memory);
  const std::uintptr_t begin = (address + page - 1) / page * page, end = (address + bytes) / page * page;
  madvise(reinterpret_cast<void*>(begin), end - begin, MADV_POPULATE_WRITE);
#endif
}

#endif

#if defined(__linux__) && !defined(LATCHWORK_ADDRESS_SANITIZER)

// A separate mapping goes back to the system in one piece. malloc, in contrast, takes large blocks from its heap once
// it has seen some of them freed, and leaves holes there. AddressSanitizer only watches the ends of blocks that malloc
// returns, so the mapping is not used with it.
constexpr std::size_t largest_page = std::size_t{64} << 10;  // the largest page of Linux on any CPU

void* map(std::size_t bytes) {
  const std::size_t size = round_up(bytes, largest_page);
  void* const mapping = mmap(nullptr, size + huge_page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping == MAP_FAILED) throw std::bad_alloc();
  auto* const begin = static_cast<char*>(mapping);
  const std::size_t before = -reinterpret_cast<std::uintptr_t>(mapping) % huge_page;
  char* const memory = begin + before;
  if (before > 0) munmap(begin, before);
  munmap(memory + size, huge_page - before);
  madvise(memory, size, MADV_HUGEPAGE);
  return memory;
}

void unmap(void* memory, std::size_t bytes) noexcept { munmap(memory, round_up(bytes, largest_page)); }

#else

void* map(std::size_t bytes) {
  void* const memory = allocate(huge_page, bytes);
#if defined(__linux__)
  madvise(memory, bytes, MADV_HUGEPAGE);
#endif
  return memory;
}

void unmap(void* memory, std::size_t) noexcept { std::free(memory); }

#endif

}  // namespace

void* take_memory(std::size_t bytes) {
  if (bytes >= large) return map(bytes);
  void* const memory = allocate(64, bytes);
#if defined(__linux__)
  if (bytes >= many_pages) touch_pages(memory, bytes);
#endif
  return memory;
}

void give_back_memory(void* memory, std::size_t bytes) noexcept {
  if (bytes >= large) {
    unmap(memory, bytes);
  } else {
    std::free(memory);
  }
}

}  // namespace latchwork
