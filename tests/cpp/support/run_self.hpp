#pragma once

#include <unistd.h>

#include <array>
#include <cstdio>
#include <string>

namespace latchwork::test {

// Runs the test case `name` of this program in a process of its own, with `environment` ("NAME=value NAME=value"), to
// test what a process decides only once. The test case is marked doctest::skip(), so that it runs only here. Returns
// the standard output of the process, and stores its exit status in `status`.
inline std::string run_self(const std::string& environment, const std::string& name, int& status) {
  std::array<char, 4096> path{};
  const ssize_t length = readlink("/proc/self/exe", path.data(), path.size() - 1);
  if (length <= 0) return "no /proc/self/exe";
  const std::string command = "env -u LATCHWORK_NUM_THREADS -u OMP_NUM_THREADS -u LATCHWORK_ISA " + environment +
                              " " LATCHWORK_EMULATOR " '" + path.data() + "' --no-skip --minimal '--test-case=" + name +
                              "'";
  std::FILE* pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return "no process";
  std::string output;
  std::array<char, 256> piece{};
  while (std::fgets(piece.data(), static_cast<int>(piece.size()), pipe) != nullptr) output += piece.data();
  status = pclose(pipe);
  return output;
}

}  // namespace latchwork::test
