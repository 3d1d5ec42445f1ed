// The memory that calls take from a cache and give back to it.
#include "machine/workspace.hpp"

#include <doctest/doctest.h>

#include <limits>
#include <new>
#include <vector>

#include "support/support.hpp"

namespace latchwork::test {
namespace {

using Cache = WorkspaceCache<float>;

// The number of floats in `count` megabytes.
constexpr Index mb(Index count) { return count * (Index{1} << 18); }

// Takes memory as a recording of `steps` steps and backward over it do. Returns the addresses.
std::vector<float*> training_step(const std::shared_ptr<Cache>& cache, Index steps) {
  std::vector<float*> taken;
  Workspace<float> recording(cache);
  for (const Index size : {16 * steps, 128 * steps, 512 * steps, 128 * steps}) taken.push_back(recording.take(size));
  Workspace<float> backward(cache);
  for (const Index size : {mb(1), mb(5), 64 * steps, Index{5000}}) taken.push_back(backward.take(size));
  return taken;
}

// Takes and gives back memory at random, and checks that nobody else has written to what it holds.
class Borrower {
 public:
  explicit Borrower(std::uint64_t seed) : random_(seed), cache_(std::make_shared<Cache>()) {}

  void borrow(Index size) {
    if (lent_.empty() || random_.chance(0.3)) lent_.push_back({std::make_unique<Workspace<float>>(cache_), {}});
    Call& call = lent_[static_cast<std::size_t>(random_.between(0, static_cast<Index>(lent_.size()) - 1))];
    float* const values = call.workspace->take(size);
    values[0] = values[size - 1] = ++mark_;
    call.taken.push_back({values, size, mark_});
    lent_size_ += size;
    most_ = std::max(most_, lent_size_);
  }

  void give_back() {
    if (lent_.empty()) return;
    const auto at = lent_.begin() + random_.between(0, static_cast<Index>(lent_.size()) - 1);
    for (const Taken& taken : at->taken) {
      CHECK(taken.values[0] == taken.mark);
      CHECK(taken.values[taken.size - 1] == taken.mark);
      lent_size_ -= taken.size;
    }
    lent_.erase(at);
  }

  Random& random() { return random_; }
  Index held() const { return cache_->held(); }
  Index lent() const { return lent_size_; }
  Index most() const { return most_; }

 private:
  struct Taken {
    float* values;
    Index size;
    float mark;
  };
  struct Call {
    std::unique_ptr<Workspace<float>> workspace;
    std::vector<Taken> taken;
  };

  Random random_;
  std::shared_ptr<Cache> cache_;
  std::vector<Call> lent_;
  float mark_ = 0.0f;
  Index lent_size_ = 0;
  Index most_ = 0;
};

}  // namespace

TEST_CASE("workspace: holds no more than 1.1 times the most that was lent at once, and 4 MB") {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    CAPTURE(seed);
    Borrower borrower(seed);
    for (Index round = 0; round < 400; ++round) {
      if (borrower.random().chance(0.15)) {
        borrower.give_back();
      } else {
        borrower.borrow(borrower.random().between(1, mb(borrower.random().chance(0.2) ? 20 : 1)));
      }
      REQUIRE(borrower.held() >= borrower.lent());
      REQUIRE(borrower.held() <= borrower.most() + borrower.most() / 10 + mb(4));
    }
    CHECK(borrower.most() > mb(40));
  }
}

TEST_CASE("workspace: steps of varying length hold what the longest needs") {
  Random random(5);
  const auto cache = std::make_shared<Cache>();
  const auto longest = std::make_shared<Cache>();
  training_step(longest, 30000);
  for (Index round = 0; round < 100; ++round) training_step(cache, random.between(5000, 30000));
  CHECK(cache->held() <= longest->held() + longest->held() / 10 + mb(4));
}

TEST_CASE("workspace: the same calls again take the same memory") {
  for (const Index steps : {10, 1000, 30000}) {
    CAPTURE(steps);
    const auto cache = std::make_shared<Cache>();
    const std::vector<float*> first = training_step(cache, steps);
    CHECK(training_step(cache, steps) == first);
    // This also holds after calls of other sizes.
    training_step(cache, 2 * steps);
    training_step(cache, steps / 2);
    training_step(cache, steps);
    const std::vector<float*> second = training_step(cache, steps);
    const Index held = cache->held();
    for (Index round = 0; round < 5; ++round) training_step(cache, steps);
    CHECK(training_step(cache, steps) == second);
    CHECK(cache->held() == held);
  }
}

TEST_CASE("workspace: lends the smallest buffer that is large enough") {
  const auto cache = std::make_shared<Cache>();
  const auto take = [&](const std::vector<Index>& sizes) {
    Workspace<float> workspace(cache);
    std::vector<float*> taken;
    for (const Index size : sizes) taken.push_back(workspace.take(size));
    return taken;
  };
  const std::vector<float*> buffers = take({1000, 600, 800, 1200});
  CHECK(take({700, 500, 900}) == std::vector<float*>{buffers[2], buffers[1], buffers[0]});
  CHECK(cache->held() == 3600);
}

TEST_CASE("workspace: a request that cannot be met loses nothing") {
  const auto cache = std::make_shared<Cache>();
  const std::vector<float*> before = training_step(cache, 10000);
  const Index held = cache->held();
  {
    Workspace<float> workspace(cache);
    float* const first = workspace.take(5000);
    CHECK_THROWS_AS(workspace.take(std::numeric_limits<Index>::max() / 4), std::bad_alloc);
    CHECK(workspace.take(5000) != first);
  }
  CHECK(cache->held() <= held + 5000);
  CHECK(training_step(cache, 10000) == before);
  // Memory that could not be had does not count as lent, so it does not raise the bound on what the cache holds.
  for (Index steps = 1000; steps <= 20000; steps += 1000) training_step(cache, steps);
  const auto longest = std::make_shared<Cache>();
  training_step(longest, 20000);
  CHECK(cache->held() <= longest->held() + longest->held() / 10 + mb(4));
}

}  // namespace latchwork::test
