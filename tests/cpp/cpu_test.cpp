// What the CPU is, and that no bit depends on it.
#include "machine/cpu.hpp"

#include <doctest/doctest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "layer/strategy.hpp"
#include "support/row_problems.hpp"

namespace latchwork::test {
namespace {

// A folder of files that describe caches, which is removed at the end of its scope.
class CacheFiles {
 public:
  CacheFiles() {
    std::string pattern = (std::filesystem::temp_directory_path() / "latchwork_XXXXXX").string();
    REQUIRE(mkdtemp(pattern.data()) != nullptr);
    root_ = pattern;
  }
  ~CacheFiles() { std::filesystem::remove_all(root_); }

  void add(int index, const char* level, const char* type, const char* size, const char* cpus) const {
    const std::filesystem::path place = root_ / ("index" + std::to_string(index));
    std::filesystem::create_directories(place);
    std::ofstream(place / "level") << level << "\n";
    std::ofstream(place / "type") << type << "\n";
    std::ofstream(place / "size") << size << "\n";
    std::ofstream(place / "shared_cpu_list") << cpus << "\n";
  }
  Caches read() const { return caches_in_files(root_.string()); }

 private:
  std::filesystem::path root_;
};

// A CPU of this maker with caches of these sizes.
Cpu cpu_with(const char* maker, Index l1_bytes, Index l2_bytes) {
  Cpu cpu;
  cpu.maker = maker;
  cpu.l1_data.bytes = l1_bytes;
  cpu.l2.bytes = l2_bytes;
  cpu.cache_use = cache_use_of(cpu);
  cpu.fast_weight_bytes = fast_weight_bytes_of(cpu);
  return cpu;
}

}  // namespace

TEST_CASE("a subleaf of CPUID says how large a cache is and who shares it") {
  // Words of an Intel CPU with 48 KB of L1 (12 ways, 64 sets) and 2 MB of L2 (16 ways, 2048 sets).
  const ListedCache l1 = listed_cache(0x04004121, 0x02C0003F, 0x3F);
  CHECK(l1.level == 1);
  CHECK(l1.cache.bytes == 49'152);
  CHECK(l1.cache.cpus == 2);
  const ListedCache l2 = listed_cache(0x04004143, 0x03C0003F, 0x7FF);
  CHECK(l2.level == 2);
  CHECK(l2.cache.bytes == 2'097'152);
  // 32 MB of L3 (16 ways, 32768 sets) that 16 threads of an AMD CPU share.
  const ListedCache l3 = listed_cache(0x0003C163, 0x03C0003F, 0x7FFF);
  CHECK(l3.level == 3);
  CHECK(l3.cache.bytes == 33'554'432);
  CHECK(l3.cache.cpus == 16);
  CHECK(listed_cache(0x04004122, 0x01C0003F, 0x3F).level == 0);  // instructions
  CHECK(listed_cache(0x04004183, 0x01C0003F, 0x3F).level == 0);  // a fourth level
  CHECK(listed_cache(0, 0, 0).level == 0);                       // no more caches
}

TEST_CASE("the system's files say how large a cache is and who shares it") {
  const CacheFiles files;
  for (const auto& cache : files.read()) CHECK(!cache);
  files.add(0, "1", "Data", "48K", "0");
  files.add(1, "1", "Instruction", "64K", "0");
  files.add(2, "2", "Unified", "2M", "0,32");
  files.add(3, "3", "Unified", "107520K", "0-15,32-47,63");
  const Caches found = files.read();
  REQUIRE((found[0] && found[1] && found[2]));
  CHECK(found[0]->bytes == 49'152);
  CHECK(found[0]->cpus == 1);
  CHECK(found[1]->bytes == 2'097'152);
  CHECK(found[1]->cpus == 2);
  CHECK(found[2]->bytes == 110'100'480);
  CHECK(found[2]->cpus == 33);
}

TEST_CASE("files that make no sense say nothing") {
  const CacheFiles files;
  files.add(0, "1", "Data", "", "0");
  files.add(1, "2", "Unified", "large", "0");
  files.add(2, "x", "Unified", "1024K", "0");
  files.add(3, "7", "Unified", "1024K", "0");
  for (const auto& cache : files.read()) CHECK(!cache);
  for (const char* list : {"", "x", "3-1", "0-", "-1", "0,,1", "0-3x"}) {
    files.add(4, "3", "Unified", "8192K", list);
    REQUIRE(files.read()[2]);
    CHECK(files.read()[2]->bytes == 8'388'608);
    CHECK(files.read()[2]->cpus < 1);
  }
}

TEST_CASE("absurd caches are not believed") {
  const Cpu standard;
  Cpu cpu;
  take_plausible({Cache{1, 1}, Cache{0, 1}, Cache{Index{1} << 50, 1}}, cpu);
  CHECK(cpu.l1_data.bytes == standard.l1_data.bytes);
  CHECK(cpu.l2.bytes == standard.l2.bytes);
  CHECK(cpu.l3.bytes == standard.l3.bytes);
  take_plausible({std::nullopt, Cache{262'144, -1}, std::nullopt}, cpu);
  CHECK(cpu.l1_data.bytes == standard.l1_data.bytes);
  CHECK(cpu.l2.bytes == 262'144);
  CHECK(cpu.l2.cpus == 1);
}

TEST_CASE("this CPU has caches, each larger than the one before, and is asked once") {
  const Cpu& cpu = this_cpu();
  CHECK(&cpu == &this_cpu());
  CHECK(cpu.l1_data.bytes < cpu.l2.bytes);
  CHECK(cpu.l1_data.cpus <= cpu.l2.cpus);
  CHECK(cpu.cache_use.l1_bytes == cpu.l1_data.bytes);
  CHECK(cpu.cache_use.l2_bytes == cpu.l2.bytes);
#if defined(__x86_64__)
  CHECK(cpu.maker.size() == 12);
  CHECK(cpu.family > 0);
#endif
}

TEST_CASE("an unknown CPU and one of AMD's do not fetch into L1, one of Intel's does") {
  CHECK(!cpu_with("", 32'768, 524'288).cache_use.fetch_into_l1);
  CHECK(!cpu_with("AuthenticAMD", 32'768, 524'288).cache_use.fetch_into_l1);
  CHECK(cpu_with("GenuineIntel", 49'152, 2'097'152).cache_use.fetch_into_l1);
}

TEST_CASE(
    "weights are fetched into L2 if they exceed it, and on a CPU of AMD's with a small one if they exceed it by far") {
  CHECK(cpu_with("", 32'768, 524'288).cache_use.fetch_into_l2_from == 524'288 / 5 * 6);
  CHECK(cpu_with("GenuineIntel", 32'768, 524'288).cache_use.fetch_into_l2_from == 524'288 / 5 * 6);
  CHECK(cpu_with("AuthenticAMD", 32'768, 1'048'576).cache_use.fetch_into_l2_from == 1'048'576 / 5 * 6);
  CHECK(cpu_with("AuthenticAMD", 32'768, 524'288).cache_use.fetch_into_l2_from == 8 * 524'288);
}

TEST_CASE("only a CPU of AMD's with a small L2 reads weights of an eighth of its L3 fast") {
  const auto fast_weights = [](const char* maker, Index l2_bytes, Index l3_bytes) {
    Cpu cpu = cpu_with(maker, 32'768, l2_bytes);
    cpu.l3.bytes = l3_bytes;
    return fast_weight_bytes_of(cpu);
  };
  CHECK(fast_weights("AuthenticAMD", 524'288, 32 << 20) == 4 << 20);
  CHECK(fast_weights("AuthenticAMD", 524'288, 4 << 20) == 2'000'000);
  CHECK(fast_weights("AuthenticAMD", 1'048'576, 32 << 20) == 2'000'000);
  CHECK(fast_weights("", 524'288, 32 << 20) == 2'000'000);
  CHECK(fast_weights("GenuineIntel", 524'288, 32 << 20) == 1'048'576);
}

TEST_CASE("W x is computed ahead of more rows and steps if a thread's weights are beyond L3") {
  PackedLayer<float> layer;
  layer.input_size = 100;
  layer.x_weights.resize(PanelShape::of_columns(400, 8), 100);
  layer.h_weights.resize(PanelShape::of_columns(400, 8), 100);
  const Index bytes = layer.x_weights.bytes() + layer.h_weights.bytes();
  Cpu cpu = cpu_with("AuthenticAMD", 32'768, 524'288);
  cpu.fast_weight_bytes = bytes - 1;
  cpu.l3.bytes = 3 * (bytes - 1);
  {
    const PretendedCpu pretended(cpu);
    CHECK(project_ahead_steps(layer, 4, 1000, 1) == 96);
    CHECK(project_ahead_steps(layer, 4, 50, 1) == 50);
    CHECK(project_ahead_steps(layer, 4, 1000, 2) == 16);
    CHECK(project_ahead_steps(layer, 64, 1000, 1) == 6);
    CHECK(project_ahead_steps(layer, 65, 1000, 1) == 0);
    CHECK(project_ahead_steps(layer, 16, 1000, 2) == 4);
    CHECK(project_ahead_steps(layer, 17, 1000, 2) == 0);
  }
  cpu.l3.bytes = 3 * bytes;
  {
    const PretendedCpu pretended(cpu);
    CHECK(project_ahead_steps(layer, 4, 1000, 1) == 16);
  }
  cpu.fast_weight_bytes = bytes;
  cpu.l3.bytes = 0;
  const PretendedCpu pretended(cpu);
  CHECK(project_ahead_steps(layer, 3, 1000, 1) == 21);
  CHECK(project_ahead_steps(layer, 4, 1000, 1) == 0);
}

TEST_CASE("while another CPU is pretended, it is this one") {
  const Cpu& own = this_cpu();
  {
    const Cpu other = cpu_with("GenuineIntel", 1, 2);
    const PretendedCpu pretended(other);
    CHECK(&this_cpu() == &other);
  }
  CHECK(&this_cpu() == &own);
}

TEST_CASE_TEMPLATE("bits: results and gradients do not depend on the CPU's caches and maker", T, float, double) {
  std::vector<Cpu> cpus;
  for (const char* maker : {"", "AuthenticAMD", "GenuineIntel"}) {
    for (const Index bytes : {Index{1}, Index{4096}, Index{1} << 40}) cpus.push_back(cpu_with(maker, bytes, 4 * bytes));
  }
  cpus.push_back(cpu_with("GenuineIntel", 16'384, 1));
  cpus.back().cache_use.fetch_into_l2_from = Index{1} << 50;
  cpus.back().fast_weight_bytes = 0;
  cpus.back().l3.bytes = 0;

  std::vector<LstmOptions> shapes(3);
  // Deep panels, which small caches take in pieces.
  shapes[0].input_size = 530;
  shapes[0].hidden_size = 36;
  shapes[1].input_size = 20;
  shapes[1].hidden_size = 68;
  shapes[1].direction = Direction::both;
  shapes[1].num_layers = 2;
  shapes[2].input_size = 40;
  shapes[2].hidden_size = 52;
  shapes[2].peephole = true;
  shapes[2].proj_size = 37;
  for_each_isa([&] {
    Random random(53);
    for (const LstmOptions& options : shapes) {
      CAPTURE(options.hidden_size);
      for (const Index rows : {1, 4, 15}) {
        CAPTURE(rows);
        const Problem problem = random_problem(random, options, 9, rows, true, false, false);
        const Network<T> network = network_of<T>(problem);
        std::vector<Index> all(static_cast<std::size_t>(rows));
        std::iota(all.begin(), all.end(), 0);
        const RowResults<T> expected(network, problem);
        CHECK(expected.finite());
        for (const Cpu& cpu : cpus) {
          CAPTURE(cpu.maker);
          CAPTURE(cpu.l2.bytes);
          const PretendedCpu pretended(cpu);
          for (const Index count : {1, 2}) {
            const ThreadCount threads(count);
            const RowResults<T> results(network, problem);
            CHECK(results.equals(expected, all));
            CHECK(same_bits(results.gradients.parameters, expected.gradients.parameters));
          }
        }
      }
    }
  });
}

}  // namespace latchwork::test
