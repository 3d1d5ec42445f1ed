#pragma once

#include <string>
#include <vector>

namespace latchwork {

// Instruction sets are named "baseline" (x86-64-v2, or the compiler's default elsewhere), "avx2" and "avx512".

// Under avx512, networks of which no layer has more than 8 units (float; double: 4) use AVX2's registers: they are
// sooner done, and give the same bits.
//
// Those that were compiled in and that this CPU and operating system can run, slowest first.
std::vector<std::string> available_isas();

// The one that new snapshots of weights are packed for. At load: LATCHWORK_ISA if set, else the last available one.
// Throws std::invalid_argument where LATCHWORK_ISA names none that is available.
std::string current_isa();

// Throws std::invalid_argument for a name that is not available here. Calls under way keep theirs.
void set_isa(const std::string& name);

}  // namespace latchwork
