#include "latchwork/isa.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <iostream>
#include <stdexcept>
#include <string>

#include "built_isas.hpp"
#include "machine/dispatch.hpp"
#include "support/run_self.hpp"

namespace latchwork::test {
namespace {

// Restores the instruction set at the end of its scope.
class KeepIsa {
 public:
  ~KeepIsa() { set_isa(before_); }

 private:
  std::string before_ = current_isa();
};

std::string names(const std::vector<std::string>& isas) {
  std::string text;
  for (const auto& isa : isas) text += (text.empty() ? "'" : ", '") + isa + "'";
  return text;
}

}  // namespace

TEST_CASE("available instruction sets are those built that this CPU has, slowest first") {
  const auto isas = available_isas();
  REQUIRE(!isas.empty());
#if defined(__x86_64__)
  // What the compiler's own check of CPUID and XGETBV says.
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vl");
  std::vector<std::string> expected;
#define LATCHWORK_EXPECT(isa) \
  if (const std::string name = #isa; name == "avx512" ? avx512 : name != "avx2" || avx2) expected.push_back(name);
  LATCHWORK_EACH_ISA(LATCHWORK_EXPECT)
#undef LATCHWORK_EXPECT
  CHECK(isas == expected);
#endif
}

TEST_CASE("set_isa chooses the table of kernels") {
  const KeepIsa keep;
  for (const auto& isa : available_isas()) {
    set_isa(isa);
    CHECK(current_isa() == isa);
    const KernelTable& table = current_kernels();
    CHECK(table.name == isa);
    CHECK(&kernels_of<float>(table) == &table.float32);
    CHECK(&kernels_of<double>(table) == &table.float64);
    CHECK(table.float32.units == 2 * table.float64.units);
  }
}

TEST_CASE("set_isa refuses what is not available, and keeps the current one") {
  const std::string before = current_isa();
  const std::string expected = "name: expected one of " + names(available_isas()) + ", got 'sse9'";
  CHECK_THROWS_WITH_AS(set_isa("sse9"), expected.c_str(), std::invalid_argument);
  CHECK_THROWS_AS(set_isa(""), std::invalid_argument);
  CHECK(current_isa() == before);
}

TEST_CASE("report the instruction set" * doctest::skip()) {
  try {
    const std::string isa = current_isa();
    std::cout << "isa=" << isa << std::endl;
  } catch (const std::invalid_argument& error) {
    std::cout << error.what() << std::endl;
  }
}

TEST_CASE("LATCHWORK_ISA at the first use") {
  const auto report = [](const std::string& environment) {
    int status = -1;
    return run_self(environment, "report the instruction set", status);
  };
  const auto isas = available_isas();
  CHECK(report("") == "isa=" + isas.back() + "\n");
  CHECK(report("LATCHWORK_ISA=") == "isa=" + isas.back() + "\n");
  for (const auto& isa : isas) CHECK(report("LATCHWORK_ISA=" + isa) == "isa=" + isa + "\n");
  CHECK(report("LATCHWORK_ISA=AVX2") == "LATCHWORK_ISA: expected one of " + names(isas) + ", got 'AVX2'\n");
}

}  // namespace latchwork::test
