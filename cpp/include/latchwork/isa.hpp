#pragma once

#include <string>
#include <vector>

#include "latchwork/export.hpp"
#include "latchwork/types.hpp"

namespace latchwork {

// Instruction sets are named "baseline" (x86-64-v2, or the compiler's default elsewhere), "avx2" and "avx512".

// Under avx512, a network in which no layer has more than 8 units (float) or 4 units (double) uses the registers of
// AVX2, which are faster for layers this small and give the same results bit for bit.

// The instruction sets that were compiled in and that this CPU and operating system can run, slowest first.
LATCHWORK_API std::vector<std::string> available_isas();

// The instruction set for which weights are packed from now on. When the library is loaded, this is the one that the
// variable LATCHWORK_ISA names if it is set, otherwise the last available one. Throws std::invalid_argument if
// LATCHWORK_ISA names none that is available.
LATCHWORK_API std::string current_isa();

// Chooses the instruction set for weights that are packed from now on; calls under way keep theirs. Throws
// std::invalid_argument for a name that is not available here.
LATCHWORK_API void set_isa(const std::string& name);

}  // namespace latchwork
