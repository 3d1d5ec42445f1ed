// How many threads are used: what the environment says, and what the program sets.
#include <algorithm>
#include <atomic>
#include <charconv>
#include <cstdlib>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>

#include "latchwork/threads.hpp"
#include "machine/cpu_count.hpp"

namespace latchwork {
namespace {

constexpr Index max_threads = 1024;

std::optional<Index> parse_thread_count(std::string_view text) {
  constexpr std::string_view blanks = " \t\r\n";
  const std::size_t begin = text.find_first_not_of(blanks);
  if (begin == std::string_view::npos) return std::nullopt;
  text = text.substr(begin, text.find_last_not_of(blanks) - begin + 1);
  Index count = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), count);
  if (error != std::errc() || end != text.data() + text.size() || count < 1 || count > max_threads) return std::nullopt;
  return count;
}

Index default_threads() {
  if (const char* latchwork = std::getenv("LATCHWORK_NUM_THREADS"); latchwork != nullptr && *latchwork != '\0') {
    if (const auto count = parse_thread_count(latchwork)) return *count;
    throw std::invalid_argument("LATCHWORK_NUM_THREADS: expected an integer from 1 to " + std::to_string(max_threads) +
                                ", got '" + latchwork + "'");
  }
  if (const char* openmp = std::getenv("OMP_NUM_THREADS")) {
    // OpenMP allows one count for each level of nested parallelism; only the outermost matters here.
    const std::string_view list(openmp);
    if (const auto count = parse_thread_count(list.substr(0, list.find(',')))) return *count;
  }
  return std::min(usable_cpus(), max_threads);
}

// 0 until the first use.
std::atomic<Index> wanted_threads{0};

constinit thread_local Index thread_limit = max_threads;

}  // namespace

Index num_threads() {
  Index threads = wanted_threads.load(std::memory_order_relaxed);
  if (threads == 0) {
    const Index chosen = default_threads();
    if (wanted_threads.compare_exchange_strong(threads, chosen)) threads = chosen;
  }
  return std::min(threads, thread_limit);
}

void set_num_threads(Index count) {
  if (count < 1 || count > max_threads) {
    throw std::invalid_argument("count: expected an integer from 1 to " + std::to_string(max_threads) + ", got " +
                                std::to_string(count));
  }
  wanted_threads.store(count, std::memory_order_relaxed);
}

ThreadLimit::ThreadLimit(Index count) : before_(thread_limit) {
  if (count < 1) {
    throw std::invalid_argument("threads: expected at least 1, got " + std::to_string(count));
  }
  thread_limit = std::min(thread_limit, count);
}

ThreadLimit::~ThreadLimit() { thread_limit = before_; }

}  // namespace latchwork
