#pragma once

#include <array>
#include <atomic>
#include <optional>
#include <string>

#include "kernels/table.hpp"
#include "latchwork/export.hpp"

// What the machine's CPU is: its caches, its maker and its family. Only the speed of the library depends on it, no bit
// of any result.
namespace latchwork {

struct Cache {
  Index bytes = 0;
  Index cpus = 1;  // how many CPUs (hardware threads) share it
};

struct Cpu {
  std::string maker;  // as CPUID spells it, such as "GenuineIntel"; empty: unknown, as on machines other than x86
  Index family = 0, model = 0;  // with the extended parts; 0: unknown
  std::string hypervisor;       // as CPUID spells it, such as "KVMKVMKVM"; empty: none that says so
  // Small ones, which most CPUs of the last ten years have, stand for caches that neither CPUID nor the system knows.
  Cache l1_data{32 << 10}, l2{512 << 10}, l3{8 << 20};
  CacheUse cache_use;                   // cache_use_of() the members above
  Index fast_weight_bytes = 2'000'000;  // fast_weight_bytes_of() them
};

namespace detail {
// Null until the CPU has been asked. What it points to is never freed, because threads may compute until the end.
LATCHWORK_API extern std::atomic<const Cpu*> known_cpu;
LATCHWORK_API const Cpu& ask_cpu();
}  // namespace detail

// The CPU that this process runs on. It is asked when the library chooses its kernels, and only then.
inline const Cpu& this_cpu() {
  const Cpu* cpu = detail::known_cpu.load(std::memory_order_acquire);
  return cpu != nullptr ? *cpu : detail::ask_cpu();
}

// How the kernels read their weights on a CPU with this maker, this family and these caches.
CacheUse cache_use_of(const Cpu& cpu);

// How many bytes of weights a thread can read in each step nearly as fast as from L2.
Index fast_weight_bytes_of(const Cpu& cpu);

// For tests: while an object of this class exists, this_cpu() is `cpu`.
class PretendedCpu {
 public:
  explicit PretendedCpu(const Cpu& cpu);
  ~PretendedCpu();
  PretendedCpu(const PretendedCpu&) = delete;
  PretendedCpu& operator=(const PretendedCpu&) = delete;

 private:
  const Cpu* before_;
};

// L1 for data, L2 and L3; nothing for a cache that is not known.
using Caches = std::array<std::optional<Cache>, 3>;

// What the files in `directory` (/sys/devices/system/cpu/cpu0/cache) say of the caches.
Caches caches_in_files(const std::string& directory);

// One subleaf of the CPUID leaf that lists caches: 4 or, at AMD, 0x8000001D. Its level is 1 to 3; 0: no cache for data,
// or no such cache.
struct ListedCache {
  int level = 0;
  Cache cache;
};
ListedCache listed_cache(unsigned eax, unsigned ebx, unsigned ecx);

// Puts the caches of `found` into `cpu` that are not absurd, as those that some hypervisors make up are.
void take_plausible(const Caches& found, Cpu& cpu);

}  // namespace latchwork
