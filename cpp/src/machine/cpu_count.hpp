#pragma once

#if defined(__linux__)
#include <sched.h>
#endif

#include <limits>
#include <string>
#include <thread>

#include "latchwork/types.hpp"

// Counts the CPUs that this process may use.
namespace latchwork {

// The number of CPUs in the affinity mask of the calling thread or the container's limit, whichever is smaller; at
// least 1. The limit is read once.
Index usable_cpus();

inline constexpr Index no_cpu_limit = std::numeric_limits<Index>::max();

// The smallest CPU quota, rounded up to whole CPUs, among the control groups that the file `membership`
// (/proc/self/cgroup) names and the groups that enclose them, in the file system at `mount`.
Index control_group_cpus(const std::string& membership, const std::string& mount);

// While an object of this class exists, `thread`, which is about to be woken, may run on all of the caller's CPUs
// except the one that the caller is on, if there are others. Afterwards `thread` may run on all of them again, so that
// the system can move it if the caller moves.
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
  cpu_set_t cpus_[16];  // those of the caller; room for 16384, because the kernel refuses a smaller mask than its own
#endif
};

}  // namespace latchwork
