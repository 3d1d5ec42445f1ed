#pragma once

#include <cstddef>

namespace latchwork {

// Returns memory that is aligned to the cache line and not initialised. From 4 MB on it asks for huge pages: touching
// those for the first time costs about a third. Throws std::bad_alloc.
void* take_memory(std::size_t bytes);

// Frees memory that take_memory(bytes) returned.
void give_back_memory(void* memory, std::size_t bytes) noexcept;

}  // namespace latchwork
