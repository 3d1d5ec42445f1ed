#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "latchwork/types.hpp"
#include "machine/parallel.hpp"

namespace latchwork {

// How threads share the chunks of a sequence without meeting. Chains, each of its own rows, go back through one chunk
// after the other; once all have passed a chunk, what it adds to the gradients is summed in many small tasks, by
// whoever is free, while the chains go on. The chunks take turns in a few buffers.
//
// Nobody waits for what nobody has begun, so it ends however many of the threads ever come. The sums of one number are
// added chunk after chunk, so neither threads nor buffers change a bit.
class ChunkTasks {
 public:
  struct Sizes {
    Index chunks;
    Index buffers;
    Index chains;
    Index packs;  // tasks of a chunk that need not wait for the chains
    Index sums;   // tasks of a chunk that do
  };

  explicit ChunkTasks(const Sizes& sizes)
      : sizes_(sizes),
        tasks_(sizes.packs + sizes.sums),
        chains_(std::make_unique<Chain[]>(static_cast<std::size_t>(sizes.chains))),
        buffers_(std::make_unique<Buffer[]>(static_cast<std::size_t>(sizes.buffers))),
        summed_(std::make_unique<std::atomic<Index>[]>(static_cast<std::size_t>(sizes.sums))) {}

  // What one of the threads does, until nothing is left to begin. Work has select(chunk), which comes first, then
  // step(chunk, chain) and pack(chunk, number), and then sum(chunk, number).
  template <class Work>
  void run(Index thread, Work& work) {
    if (thread < sizes_.chains) take_chain(thread, thread);
    for (Index idle = 0; next_task_.load(std::memory_order_acquire) < sizes_.chunks * tasks_; ++idle) {
      if (step_own_chain(thread, work) || run_next_task(work)) {
        idle = 0;
      } else if (idle > patience) {
        for (Index chain = 0; chain < sizes_.chains && !take_chain(chain, thread);) ++chain;
        rest(idle);
      }
    }
  }

 private:
  // So long a thread that has begun at all needs to take its own chain.
  static constexpr Index patience = 2000;
  static constexpr Index nobody = -1;

  struct alignas(64) Chain {
    std::atomic<Index> owner{nobody};
    Index passed = 0;  // chunks; its owner's
  };
  // How often, by all chunks so far that had the buffer.
  struct alignas(64) Buffer {
    std::atomic<Index> stepped{0}, packed{0}, finished{0};
  };

  Buffer& buffer(Index chunk) const { return buffers_[static_cast<std::size_t>(chunk % sizes_.buffers)]; }
  // How many chunks have had its buffer, this one included.
  Index turn(Index chunk) const { return chunk / sizes_.buffers + 1; }

  bool take_chain(Index number, Index thread) {
    Index owner = nobody;
    return chains_[static_cast<std::size_t>(number)].owner.compare_exchange_strong(owner, thread);
  }

  // Whether a chunk, which is the first that is not selected or one before it, is now.
  template <class Work>
  bool is_selected(Index chunk, Work& work) {
    if (chunk < selected_.load(std::memory_order_acquire)) return true;
    if (buffer(chunk).finished.load(std::memory_order_acquire) < (turn(chunk) - 1) * tasks_) return false;
    if (selecting_.exchange(true, std::memory_order_acquire)) return false;
    if (selected_.load(std::memory_order_relaxed) == chunk) {
      work.select(chunk);
      selected_.store(chunk + 1, std::memory_order_release);
    }
    selecting_.store(false, std::memory_order_release);
    return true;
  }

  template <class Work>
  bool step_own_chain(Index thread, Work& work) {
    for (Index number = 0; number < sizes_.chains; ++number) {
      Chain& chain = chains_[static_cast<std::size_t>(number)];
      if (chain.owner.load(std::memory_order_relaxed) != thread) continue;
      const Index chunk = chain.passed;
      if (chunk == sizes_.chunks || !is_selected(chunk, work)) continue;
      work.step(chunk, number);
      ++chain.passed;
      buffer(chunk).stepped.fetch_add(1, std::memory_order_release);
      return true;
    }
    return false;
  }

  // Whether it ran, or another thread was faster.
  template <class Work>
  bool run_next_task(Work& work) {
    Index task = next_task_.load(std::memory_order_acquire);
    const Index chunk = task / tasks_, number = task % tasks_, sum = number - sizes_.packs;
    if (chunk == sizes_.chunks || !is_selected(chunk, work)) return false;
    Buffer& own = buffer(chunk);
    if (sum >= 0 && (own.stepped.load(std::memory_order_acquire) < turn(chunk) * sizes_.chains ||
                     own.packed.load(std::memory_order_acquire) < turn(chunk) * sizes_.packs ||
                     summed(sum).load(std::memory_order_acquire) < chunk)) {
      return false;
    }
    if (!next_task_.compare_exchange_strong(task, task + 1)) return true;
    if (sum < 0) {
      work.pack(chunk, number);
      own.packed.fetch_add(1, std::memory_order_release);
    } else {
      work.sum(chunk, sum);
      summed(sum).store(chunk + 1, std::memory_order_release);
    }
    own.finished.fetch_add(1, std::memory_order_release);
    return true;
  }

  std::atomic<Index>& summed(Index sum) const { return summed_[static_cast<std::size_t>(sum)]; }

  Sizes sizes_;
  Index tasks_;  // of a chunk
  std::unique_ptr<Chain[]> chains_;
  std::unique_ptr<Buffer[]> buffers_;
  std::unique_ptr<std::atomic<Index>[]> summed_;  // chunks, by number
  alignas(64) std::atomic<Index> next_task_{0};   // of all chunks
  alignas(64) std::atomic<Index> selected_{0};    // chunks
  std::atomic<bool> selecting_{false};
};

}  // namespace latchwork
