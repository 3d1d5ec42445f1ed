// How threads share the chunks of a sequence backward.
#include "layer/chunk_tasks.hpp"

#include <doctest/doctest.h>

#include <chrono>
#include <deque>
#include <thread>

#include "latchwork/threads.hpp"
#include "support/support.hpp"

namespace latchwork::test {
namespace {

// Takes part in every task, and counts the tasks that came too early or too late.
class Diary {
 public:
  explicit Diary(const ChunkTasks::Sizes& sizes)
      : sizes_(sizes),
        passed_(static_cast<std::size_t>(sizes.chains)),
        chain_busy_(static_cast<std::size_t>(sizes.chains)),
        summed_(static_cast<std::size_t>(sizes.sums)),
        chunks_(static_cast<std::size_t>(sizes.chunks)) {}

  void select(Index chunk) {
    expect(selected_.load() == chunk);
    // A thread that still worked on the previous chunk in the same buffer would see this chunk's numbers.
    if (chunk >= sizes_.buffers) expect(of(chunk - sizes_.buffers).finished.load() == sizes_.packs + sizes_.sums);
    ++selected_;
  }
  void step(Index chunk, Index chain) {
    const auto at = static_cast<std::size_t>(chain);
    expect(selected_.load() > chunk && selected_.load() <= chunk + sizes_.buffers);
    expect(!chain_busy_[at].exchange(true));
    expect(passed_[at].load() == chunk);
    linger();
    ++passed_[at];
    ++of(chunk).stepped;
    chain_busy_[at] = false;
  }
  void pack(Index chunk, Index) {
    expect(selected_.load() > chunk && selected_.load() <= chunk + sizes_.buffers);
    linger();
    ++of(chunk).packed;
    ++of(chunk).finished;
  }
  void sum(Index chunk, Index number) {
    expect(of(chunk).stepped.load() == sizes_.chains && of(chunk).packed.load() == sizes_.packs);
    expect(selected_.load() <= chunk + sizes_.buffers);
    std::atomic<Index>& summed = summed_[static_cast<std::size_t>(number)];
    expect(summed.load() == chunk);
    linger();
    expect(summed++ == chunk);
    ++of(chunk).finished;
  }

  Index mistakes() const { return mistakes_; }
  bool complete() const {
    bool all = selected_ == sizes_.chunks;
    for (const Chunk& chunk : chunks_) {
      all = all && chunk.stepped == sizes_.chains && chunk.packed == sizes_.packs &&
            chunk.finished == sizes_.packs + sizes_.sums;
    }
    return all;
  }

 private:
  struct Chunk {
    std::atomic<Index> stepped{0}, packed{0}, finished{0};
  };

  Chunk& of(Index chunk) { return chunks_[static_cast<std::size_t>(chunk)]; }
  void expect(bool right) {
    if (!right) ++mistakes_;
  }
  // Waits now and then, long enough for other threads to overtake.
  void linger() {
    if (++calls_ % 7 == 0) std::this_thread::sleep_for(std::chrono::microseconds(20));
  }

  ChunkTasks::Sizes sizes_;
  std::atomic<Index> mistakes_{0}, selected_{0}, calls_{0};
  std::deque<std::atomic<Index>> passed_;
  std::deque<std::atomic<bool>> chain_busy_;
  std::deque<std::atomic<Index>> summed_;
  std::deque<Chunk> chunks_;
};

template <class Task>
void for_each_size(Task&& task) {
  for (const Index chunks : {0, 1, 2, 9}) {
    for (const Index buffers : {1, 2, 3}) {
      for (const Index chains : {1, 2, 4}) {
        for (const Index sums : {1, 5}) {
          const ChunkTasks::Sizes sizes{chunks, buffers, chains, chains, sums, 1};
          CAPTURE(chunks);
          CAPTURE(buffers);
          CAPTURE(chains);
          CAPTURE(sums);
          task(sizes);
        }
      }
    }
  }
}

}  // namespace

TEST_CASE("chunk tasks: each comes in its turn, for any number of threads") {
  for (const Index threads : {1, 2, 3, 7}) {
    CAPTURE(threads);
    for_each_size([&](const ChunkTasks::Sizes& sizes) {
      ChunkTasks tasks(sizes);
      Diary diary(sizes);
      std::vector<std::thread> others;
      for (Index thread = 1; thread < threads; ++thread) others.emplace_back([&, thread] { tasks.run(thread, diary); });
      tasks.run(0, diary);
      for (std::thread& other : others) other.join();
      CHECK(diary.mistakes() == 0);
      CHECK(diary.complete());
    });
  }
}

TEST_CASE("chunk tasks: one thread does all if the others never come, or come when all is done") {
  for (const Index thread : {0, 1, 5}) {
    CAPTURE(thread);
    for_each_size([&](const ChunkTasks::Sizes& sizes) {
      ChunkTasks tasks(sizes);
      Diary diary(sizes);
      tasks.run(thread, diary);
      CHECK(diary.mistakes() == 0);
      CHECK(diary.complete());
      tasks.run(thread + 1, diary);
      CHECK(diary.mistakes() == 0);
    });
  }
}

}  // namespace latchwork::test
