#pragma once

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

// Lets `thread` run on the caller's CPUs except the one that the caller is on, where there are others.
void keep_off_this_cpu(std::thread& thread);

}  // namespace latchwork
