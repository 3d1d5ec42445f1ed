#include "machine/cpu.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <fstream>
#include <memory>
#include <thread>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "latchwork/fork.hpp"

namespace latchwork {
namespace {

constexpr Index kilobyte = 1 << 10, megabyte = 1 << 20;

#if defined(__x86_64__)

// Three registers hold twelve letters, or fewer and zeros.
std::string letters(unsigned first, unsigned second, unsigned third) {
  char text[13] = {};
  std::memcpy(text, &first, 4);
  std::memcpy(text + 4, &second, 4);
  std::memcpy(text + 8, &third, 4);
  return text;
}

void ask_identity(Cpu& cpu) {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (__get_cpuid(0, &eax, &ebx, &ecx, &edx) == 0) return;
  cpu.maker = letters(ebx, edx, ecx);
  if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) == 0) return;
  const bool has_hypervisor = (ecx >> 31 & 1u) != 0;
  cpu.family = eax >> 8 & 0xF;
  cpu.model = eax >> 4 & 0xF;
  if (cpu.family == 6 || cpu.family == 15) cpu.model += (eax >> 16 & 0xF) << 4;
  if (cpu.family == 15) cpu.family += eax >> 20 & 0xFF;
  if (!has_hypervisor) return;
  __cpuid(0x40000000, eax, ebx, ecx, edx);
  cpu.hypervisor = letters(ebx, ecx, edx);
  if (cpu.hypervisor.empty()) cpu.hypervisor = "unknown";
}

Caches caches_of_cpuid(const std::string& maker) {
  const unsigned leaf = maker == "AuthenticAMD" || maker == "HygonGenuine" ? 0x8000001D : 4;
  Caches found;
  for (unsigned subleaf = 0; subleaf < 8; ++subleaf) {
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    if (__get_cpuid_count(leaf, subleaf, &eax, &ebx, &ecx, &edx) == 0 || (eax & 0x1F) == 0) break;
    const ListedCache listed = listed_cache(eax, ebx, ecx);
    if (listed.level > 0) found[static_cast<std::size_t>(listed.level - 1)] = listed.cache;
  }
  return found;
}

#else

void ask_identity(Cpu&) {}
Caches caches_of_cpuid(const std::string&) { return {}; }

#endif

// The first line of a file; empty if it cannot be read.
std::string line_of(const std::string& path) {
  std::string line;
  std::ifstream file(path);
  std::getline(file, line);
  return line;
}

// A number at the start of `text`, which it removes; -1 if there is none.
Index take_number(std::string& text) {
  std::size_t digits = 0;
  Index number = 0;
  while (digits < text.size() && digits < 9 && text[digits] >= '0' && text[digits] <= '9') {
    number = 10 * number + (text[digits++] - '0');
  }
  text.erase(0, digits);
  return digits == 0 ? -1 : number;
}

// "32K" or "8M"; -1 for anything else.
Index bytes_in(std::string text) {
  const Index number = take_number(text);
  if (number < 0) return -1;
  return text == "K" ? number * kilobyte : text == "M" ? number * megabyte : text.empty() ? number : -1;
}

// The number of CPUs in a list such as "0-3,8"; -1 if it is none.
Index cpus_in(std::string list) {
  Index count = 0;
  for (;;) {
    const Index first = take_number(list);
    Index last = first;
    if (!list.empty() && list.front() == '-') {
      list.erase(0, 1);
      last = take_number(list);
    }
    if (first < 0 || last < first) return -1;
    count += last - first + 1;
    if (list.empty()) return count;
    if (list.front() != ',') return -1;
    list.erase(0, 1);
  }
}

// Such as a Zen 2 or a Zen 3, which have 512 KB of L2 and a large L3 that is nearly as fast.
bool is_amd_with_small_l2(const Cpu& cpu) { return cpu.maker == "AuthenticAMD" && cpu.l2.bytes <= 512 * kilobyte; }

Cpu measured_cpu() {
  const NoFork no_fork;  // a child would wait for ever for locks of the C++ library's streams
  Cpu cpu;
  ask_identity(cpu);
  // CPUID comes first, because it also knows its caches where the system has no such files; but only the files know
  // which CPUs there are to share a cache.
  Caches found = caches_of_cpuid(cpu.maker);
  const Caches listed = caches_in_files("/sys/devices/system/cpu/cpu0/cache");
  const Index cpus = std::max<Index>(1, static_cast<Index>(std::thread::hardware_concurrency()));
  for (std::size_t level = 0; level < found.size(); ++level) {
    if (!found[level]) {
      found[level] = listed[level];
    } else if (listed[level]) {
      found[level]->cpus = listed[level]->cpus;
    } else {
      found[level]->cpus = std::min(found[level]->cpus, cpus);
    }
  }
  take_plausible(found, cpu);
  cpu.cache_use = cache_use_of(cpu);
  cpu.fast_weight_bytes = fast_weight_bytes_of(cpu);
  return cpu;
}

}  // namespace

namespace detail {

// This is not a function-local static: a child that is forked while another thread initialises one would wait for ever.
std::atomic<const Cpu*> known_cpu{nullptr};

const Cpu& ask_cpu() {
  auto measured = std::make_unique<const Cpu>(measured_cpu());
  const Cpu* known = nullptr;
  // If two threads ask at the same time, the first answer stands.
  return known_cpu.compare_exchange_strong(known, measured.get()) ? *measured.release() : *known;
}

}  // namespace detail

PretendedCpu::PretendedCpu(const Cpu& cpu) : before_(&this_cpu()) {
  detail::known_cpu.store(&cpu, std::memory_order_release);
}
PretendedCpu::~PretendedCpu() { detail::known_cpu.store(before_, std::memory_order_release); }

CacheUse cache_use_of(const Cpu& cpu) {
  CacheUse use;
  use.l1_bytes = cpu.l1_data.bytes;
  use.l2_bytes = cpu.l2.bytes;
  use.fetch_into_l2_from = cpu.l2.bytes / 5 * 6;
  // Measured on three CPUs. On one of Intel's with AMX (2 MB of L2) products of several rows gain 5 to 8 % from
  // fetching into L1 and L2. On an AMD Zen 3 (512 KB) fetching into L1 costs 5 to 20 % of a product, and on a Zen 4 (1
  // MB) up to 3 %, while fetching into L2 alone gains 1 % on average there, and 5 % if the weights fill L3. Only
  // Intel's CPUs fetch into L1, because where that is wrong it costs more than it gains where it is right.
  use.fetch_into_l1 = cpu.maker == "GenuineIntel";
  // On the Zen 3 fetching into L2 costs 4 to 9 % with weights of 2 MB, and gains 4 to 8 % with weights of 8 MB and
  // more.
  if (is_amd_with_small_l2(cpu)) use.fetch_into_l2_from = 8 * cpu.l2.bytes;
  return use;
}

Index fast_weight_bytes_of(const Cpu& cpu) {
  // On an Intel CPU with AMX, whose L3 is read at a sixth of the speed of L2, the limit is L2 (2 MB). On a Zen 4, whose
  // L3 is read at four fifths of it, weights of 6 MB are still read fast enough, but under AVX2 few rows gain from
  // limits that are lower. Intel's desktop CPUs with L2 of 256 KB, which were not measured, have a faster L3 than its
  // servers.
  if (cpu.maker == "GenuineIntel") return std::max<Index>(megabyte, cpu.l2.bytes / 20 * 19);
  constexpr Index least = 2'000'000;
  // On a Zen 3 with 32 MB of L3, batches with weights of 2 and 4 MB gained 2 to 4 % on two threads from a limit above
  // 4 MB, and lost nothing on one; with weights of 8 MB some gained 5 % and some lost 11 % from one above 8 MB.
  if (is_amd_with_small_l2(cpu)) return std::max(least, cpu.l3.bytes / 8);
  return least;
}

ListedCache listed_cache(unsigned eax, unsigned ebx, unsigned ecx) {
  const unsigned type = eax & 0x1F, level = eax >> 5 & 0x7;  // types: 1 data, 2 instructions, 3 both
  if ((type != 1 && type != 3) || level < 1 || level > 3) return {};
  const Index ways = (ebx >> 22) + 1, partitions = (ebx >> 12 & 0x3FF) + 1, line = (ebx & 0xFFF) + 1;
  const Index sets = static_cast<Index>(ecx) + 1, cpus = (eax >> 14 & 0xFFF) + 1;
  return {static_cast<int>(level), {ways * partitions * line * sets, cpus}};
}

Caches caches_in_files(const std::string& directory) {
  Caches found;
  for (int index = 0; index < 8; ++index) {
    const std::string place = directory + "/index" + std::to_string(index) + "/";
    const std::string type = line_of(place + "type");
    if (type.empty()) break;
    const std::string level = line_of(place + "level");
    if (type == "Instruction" || level.size() != 1 || level[0] < '1' || level[0] > '3') continue;
    const Index bytes = bytes_in(line_of(place + "size"));
    if (bytes < 0) continue;
    found[static_cast<std::size_t>(level[0] - '1')] = Cache{bytes, cpus_in(line_of(place + "shared_cpu_list"))};
  }
  return found;
}

void take_plausible(const Caches& found, Cpu& cpu) {
  const auto take = [](const std::optional<Cache>& cache, Index least, Index most, Cache& to) {
    if (cache && cache->bytes >= least && cache->bytes <= most) to = {cache->bytes, std::max<Index>(1, cache->cpus)};
  };
  take(found[0], 8 * kilobyte, megabyte, cpu.l1_data);
  take(found[1], 64 * kilobyte, 64 * megabyte, cpu.l2);
  take(found[2], 512 * kilobyte, 4096 * megabyte, cpu.l3);
}

}  // namespace latchwork
