#pragma once

#if defined(__linux__)
#include <sched.h>
#endif

#include <limits>
#include <string>
#include <thread>

#include "latchwork/types.hpp"

// How many CPUs this process may use.
namespace latchwork {

// The least of the affinity mask of the calling thread and the container's limit. At least 1. The limit is read once.
Index usable_cpus();

inline constexpr Index no_cpu_limit = std::numeric_limits<Index>::max();

// The least CPU quota, rounded up to whole CPUs, of the control groups that the file `membership` (/proc/self/cgroup)
// names and of those around them, in the file system at `mount`.
Index control_group_cpus(const std::string& membership, const std::string& mount);

// While it lives `thread`, which is to be woken, may run on the caller's CPUs except the one that the caller is on,
// where there are others; afterwards on all of them, so that the system can move it if the caller moves.
class OffThisCpu {
 public:
  explicit OffThisCpu(std::thread& thread);
  ~OffThisCpu();
  OffThisCpu(const OffThisCpu&) = delete;
  OffThisCpu& operator=(const OffThisCpu&) = delete;

 private:
  std::thread& thread_;
#if defined(__linux__)
  bool moved_ = false;
  cpu_set_t cpus_[16];  // the caller's; room for 16384: the kernel refuses a mask smaller than its own
#endif
};

}  // namespace latchwork
