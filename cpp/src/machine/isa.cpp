#include "latchwork/isa.hpp"

#include <atomic>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <string_view>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "built_isas.hpp"
#include "machine/cpu.hpp"
#include "machine/dispatch.hpp"

namespace latchwork {

#define LATCHWORK_DECLARE(isa)      \
  namespace isa_##isa {             \
    extern const KernelTable table; \
  }
LATCHWORK_EACH_ISA(LATCHWORK_DECLARE)
#undef LATCHWORK_DECLARE

namespace {

#define LATCHWORK_TABLE(isa) &isa_##isa::table,
constexpr const KernelTable* built[] = {LATCHWORK_EACH_ISA(LATCHWORK_TABLE)};
#undef LATCHWORK_TABLE

#if defined(__x86_64__)

struct Registers {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
};

Registers cpuid(unsigned leaf) {
  Registers registers;
  // All registers stay zero if the CPU lacks the leaf.
  __get_cpuid_count(leaf, 0, &registers.eax, &registers.ebx, &registers.ecx, &registers.edx);
  return registers;
}

constexpr bool has(unsigned word, std::initializer_list<int> bits) {
  for (int bit : bits) {
    if ((word >> bit & 1u) == 0) return false;
  }
  return true;
}

// XCR0: the registers that the operating system saves. Call this only if CPUID reports OSXSAVE.
unsigned saved_registers() {
  unsigned low = 0;
  unsigned high = 0;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low;
}

// The x86-64 level of this CPU under this operating system, as the psABI defines the levels.
int measured_level() {
  const Registers basic = cpuid(1);
  const Registers extended = cpuid(7);
  const Registers amd = cpuid(0x80000001);
  // SSE3, SSSE3, CMPXCHG16B, SSE4.1, SSE4.2, POPCNT; LAHF
  if (!has(basic.ecx, {0, 9, 13, 19, 20, 23}) || !has(amd.ecx, {0})) return 1;
  // FMA, MOVBE, OSXSAVE, AVX, F16C; BMI1, AVX2, BMI2; LZCNT; SSE and AVX state
  if (!has(basic.ecx, {12, 22, 27, 28, 29}) || !has(extended.ebx, {3, 5, 8}) || !has(amd.ecx, {5})) return 2;
  const unsigned saved = saved_registers();
  if (!has(saved, {1, 2})) return 2;
  // AVX-512 F, DQ, CD, BW, VL; opmask, upper halves, upper registers
  if (!has(extended.ebx, {16, 17, 28, 30, 31}) || !has(saved, {5, 6, 7})) return 3;
  return 4;
}

// The same, measured once: on a virtual machine each question to the CPU takes some ten microseconds.
int x86_64_level() {
  static std::atomic<int> known{0};
  int level = known.load(std::memory_order_relaxed);
  if (level == 0) known.store(level = measured_level(), std::memory_order_relaxed);
  return level;
}

bool runs_here(std::string_view isa) {
  const int level = x86_64_level();
  return level >= (isa == "avx512" ? 4 : isa == "avx2" ? 3 : 2);
}

#else

bool runs_here(std::string_view) { return true; }

#endif

std::vector<const KernelTable*> available_tables() {
  std::vector<const KernelTable*> tables;
  for (const KernelTable* table : built) {
    if (runs_here(table->name)) tables.push_back(table);
  }
  if (tables.empty()) {
    std::string names;
    for (const KernelTable* table : built) names += std::string(names.empty() ? "" : ", ") + table->name;
    throw std::runtime_error("latchwork was built for " + names + ", none of which this CPU can run; build it with " +
                             "others in LATCHWORK_ISAS (baseline is x86-64-v2)");
  }
  return tables;
}

// `source` is the argument or the variable that the name came from.
const KernelTable* find_table(const std::string& name, const char* source) {
  std::string names;
  for (const KernelTable* table : available_tables()) {
    if (name == table->name) return table;
    names += (names.empty() ? "'" : ", '") + std::string(table->name) + "'";
  }
  throw std::invalid_argument(std::string(source) + ": expected one of " + names + ", got '" + name + "'");
}

const KernelTable* default_table() {
  const char* name = std::getenv("LATCHWORK_ISA");
  if (name != nullptr && *name != '\0') return find_table(name, "LATCHWORK_ISA");
  return available_tables().back();
}

std::atomic<const KernelTable*> current{nullptr};  // null until the first use

}  // namespace

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (const KernelTable* table : available_tables()) names.emplace_back(table->name);
  return names;
}

std::string current_isa() { return current_kernels().name; }

void set_isa(const std::string& name) { current.store(find_table(name, "name"), std::memory_order_release); }

const KernelTable& current_kernels() {
  const KernelTable* table = current.load(std::memory_order_acquire);
  if (table == nullptr) {
    const KernelTable* chosen = default_table();
    this_cpu();  // so that no step of a stream has to ask
    if (current.compare_exchange_strong(table, chosen)) table = chosen;
  }
  return *table;
}

const KernelTable& narrower_kernels() {
  const KernelTable& table = current_kernels();
  if (std::string_view(table.name) != "avx512") return table;
  for (const KernelTable* other : built) {
    if (std::string_view(other->name) == "avx2") return *other;
  }
  return table;
}

Index activation_number(std::string_view name) {
  const KernelTable& table = current_kernels();
  for (Index number = 0; number < table.activation_count; ++number) {
    if (table.activations[number].name == name) return number;
  }
  return -1;
}

const ActivationInfo& activation_info(Index number) { return current_kernels().activations[number]; }

}  // namespace latchwork
