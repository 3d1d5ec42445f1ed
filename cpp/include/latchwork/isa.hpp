#pragma once

#include <string>
#include <vector>

namespace latchwork {

// Instruction sets are named "baseline" (x86-64-v2, or the compiler's default elsewhere), "avx2" and "avx512".

// Those that were compiled in and that this CPU and operating system can run, slowest first.
std::vector<std::string> available_isas();

// Under avx512 networks whose LSTMs have at most 8 units (float; double: 4) use AVX2's registers, which are sooner done
// and give the same bits.

// The one that new snapshots of weights are packed for. At load: LATCHWORK_ISA if set, else the last available one.
// Throws std::invalid_argument where LATCHWORK_ISA names none that is available.
std::string current_isa();

// Throws std::invalid_argument for a name that is not available here. Calls under way keep theirs.
void set_isa(const std::string& name);

}  // namespace latchwork
