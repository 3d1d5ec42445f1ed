#pragma once

#include <cstddef>

namespace latchwork {

// Memory aligned to the cache line, not initialised; from 4 MB on to huge pages, whose first touch costs about a third.
// Throws std::bad_alloc.
void* take_memory(std::size_t bytes);

// Takes the `bytes` of take_memory() back.
void give_back_memory(void* memory, std::size_t bytes) noexcept;

}  // namespace latchwork
