#include "machine/cpu_count.hpp"

#include <algorithm>
#include <atomic>
#include <fstream>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#endif

#include "latchwork/fork.hpp"

namespace latchwork {
namespace {

// The number of CPUs in the affinity mask of the calling thread.
Index affinity_cpus() {
#if defined(__linux__)
  // The mask has room for 16384 CPUs, because the kernel refuses a mask smaller than its own.
  cpu_set_t mask[16];
  if (sched_getaffinity(0, sizeof(mask), mask) == 0) return std::max<Index>(1, CPU_COUNT_S(sizeof(mask), mask));
#endif
  return std::max<Index>(1, static_cast<Index>(std::thread::hardware_concurrency()));
}

// The CPU quota of one control group, rounded up to whole CPUs: although the group is held up for a part of each period
// then, two threads do more than one. Measured on two CPUs with a quota of 1.05, 1.1, 1.25 and 1.5: two threads
// took 1.00, 1.05, 1.24 and 1.53 times as many training steps a second (T = 50, N = 64, H = 128) as one thread, read
// 0.97, 0.99, 1.13 and 1.40 times as many such batches, and 0.98, 1.03, 1.04 and 1.48 times as many sequences of one
// row (H = 512), for which the threads meet at each step. Version 2 of control groups keeps it in the file cpu.max
// ("max 100000" if there is no quota), version 1 in two files (-1 if there is none).
Index control_group_quota(const std::string& directory) {
  double quota = 0;
  double period = 0;
  if (std::ifstream file(directory + "/cpu.max"); file) {
    file >> quota >> period;
  } else {
    std::ifstream(directory + "/cpu.cfs_quota_us") >> quota;
    std::ifstream(directory + "/cpu.cfs_period_us") >> period;
  }
  if (!(quota > 0 && period > 0 && quota / period < 1e6)) return no_cpu_limit;
  const auto full_cpus = static_cast<Index>(quota / period);
  return full_cpus + (static_cast<double>(full_cpus) * period < quota ? 1 : 0);
}

Index container_cpus() {
  // This is not a function-local static: a child that is forked while another thread initialises one would wait for
  // ever.
  static std::atomic<Index> known{0};
  Index limit = known.load(std::memory_order_relaxed);
  if (limit == 0) {
    const NoFork no_fork;  // the child would wait for ever for locks of the C++ library's streams
    limit = control_group_cpus("/proc/self/cgroup", "/sys/fs/cgroup");
    known.store(limit, std::memory_order_relaxed);
  }
  return limit;
}

}  // namespace

Index control_group_cpus(const std::string& membership, const std::string& mount) {
  Index limit = no_cpu_limit;
  std::ifstream file(membership);
  for (std::string line; std::getline(file, line);) {  // hierarchy:controllers:path
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    std::string hierarchy = mount;
    if (!controllers.empty()) {
      if (("," + controllers + ",").find(",cpu,") == std::string::npos) continue;
      hierarchy += "/" + controllers;
    }
    // Inside a container the named group may not exist; the search upwards then still finds the group of the container.
    std::string path = line.substr(second + 1);
    for (;;) {
      limit = std::min(limit, control_group_quota(hierarchy + path));
      const std::size_t slash = path.rfind('/');
      if (slash == std::string::npos) break;
      path.resize(slash);
    }
  }
  return limit;
}

#if defined(__linux__)
OffThisCpu::OffThisCpu(std::thread& thread) : thread_(thread) {
  const int here = sched_getcpu();
  if (here < 0 || sched_getaffinity(0, sizeof(cpus_), cpus_) != 0) return;
  CPU_CLR_S(static_cast<std::size_t>(here), sizeof(cpus_), cpus_);
  moved_ = CPU_COUNT_S(sizeof(cpus_), cpus_) > 0 &&
           pthread_setaffinity_np(thread_.native_handle(), sizeof(cpus_), cpus_) == 0;
  CPU_SET_S(static_cast<std::size_t>(here), sizeof(cpus_), cpus_);
}
OffThisCpu::~OffThisCpu() {
  if (moved_) pthread_setaffinity_np(thread_.native_handle(), sizeof(cpus_), cpus_);
}
#else
OffThisCpu::OffThisCpu(std::thread& thread) : thread_(thread) {}
OffThisCpu::~OffThisCpu() = default;
#endif

Index usable_cpus() { return std::min(affinity_cpus(), container_cpus()); }

}  // namespace latchwork
