#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "latchwork/types.hpp"
#include "machine/interrupt.hpp"
#include "machine/parallel.hpp"

namespace latchwork {

// How threads share the chunks of a sequence in the backward pass without waiting for one another at every chunk. The
// rows are split into chains. Each chain goes backward through one chunk after another. When all chains have passed a
// chunk, what the chunk adds to the gradients is summed in many small tasks by threads that are free, while the chains
// go on. The chunks use a few buffers in turn.
//
// A thread only waits for work that another thread has already started, so the loop ends however many of the threads
// ever start. The sum tasks of one number run in the order of the chunks, so neither the number of threads nor that of
// buffers changes a bit.
class ChunkTasks {
 public:
  struct Sizes {
    Index chunks;
    Index buffers;
    Index chains;
    Index packs;  // how many tasks of a chunk need not wait for the chains
    Index sums;   // how many tasks of a chunk have to wait for the chains
    Index work;   // about how many multiply-adds a chain or a task of a chunk takes
  };

  explicit ChunkTasks(const Sizes& sizes)
      : sizes_(sizes),
        tasks_(sizes.packs + sizes.sums),
        chains_(std::make_unique<Chain[]>(static_cast<std::size_t>(sizes.chains))),
        buffers_(std::make_unique<BufferProgress[]>(static_cast<std::size_t>(sizes.buffers))),
        summed_(std::make_unique<std::atomic<Index>[]>(static_cast<std::size_t>(sizes.sums))) {}

  // The loop of one thread, which returns when no work is left that nobody has started, or if the call is to stop. Work
  // has select(chunk), which is called first for each chunk, then step(chunk, chain) and pack(chunk, number), and
  // finally sum(chunk, number).
  template <class Work>
  void run(Index thread, Work& work) {
    if (thread < sizes_.chains) take_chain(thread, thread);
    RoundsOfWork rounds(sizes_.work);
    for (Index idle = 0; !rounds.stop() && next_task_.load(std::memory_order_acquire) < sizes_.chunks * tasks_;
         ++idle) {
      if (step_own_chain(thread, work) || run_next_task(work)) {
        idle = 0;
      } else if (idle > patience) {
        for (Index chain = 0; chain < sizes_.chains && !take_chain(chain, thread);) ++chain;
        wait_a_moment(idle);
      }
    }
  }

 private:
  // How many idle rounds a thread makes before it takes chains that are not its own. A thread that starts at all
  // takes its own chain within that time.
  static constexpr Index patience = 2000;
  static constexpr Index nobody = -1;

  struct alignas(64) Chain {
    std::atomic<Index> owner{nobody};
    Index passed = 0;  // how many chunks it has passed; only its owner reads and writes this
  };
  // The progress of one buffer, counted over all chunks that have used it so far: how often chains have passed, packing
  // tasks have ended, and tasks of any kind have ended.
  struct alignas(64) BufferProgress {
    std::atomic<Index> stepped{0}, packed{0}, finished{0};
  };

  BufferProgress& buffer(Index chunk) const { return buffers_[static_cast<std::size_t>(chunk % sizes_.buffers)]; }
  // How many chunks up to this one, itself included, have used its buffer.
  Index uses(Index chunk) const { return chunk / sizes_.buffers + 1; }

  bool take_chain(Index number, Index thread) {
    Index owner = nobody;
    return chains_[static_cast<std::size_t>(number)].owner.compare_exchange_strong(owner, thread);
  }

  // Whether the chunk is selected. `chunk` is the first one that is not selected yet, or one before it; the call
  // selects it if its buffer is free.
  template <class Work>
  bool is_selected(Index chunk, Work& work) {
    if (chunk < selected_.load(std::memory_order_acquire)) return true;
    if (buffer(chunk).finished.load(std::memory_order_acquire) < (uses(chunk) - 1) * tasks_) return false;
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

  // Tries to run the next task. Returns false if that task cannot start yet or if there is none left.
  template <class Work>
  bool run_next_task(Work& work) {
    Index task = next_task_.load(std::memory_order_acquire);
    const Index chunk = task / tasks_, number = task % tasks_, sum = number - sizes_.packs;
    if (chunk == sizes_.chunks || !is_selected(chunk, work)) return false;
    BufferProgress& progress = buffer(chunk);
    if (sum >= 0 && (progress.stepped.load(std::memory_order_acquire) < uses(chunk) * sizes_.chains ||
                     progress.packed.load(std::memory_order_acquire) < uses(chunk) * sizes_.packs ||
                     summed(sum).load(std::memory_order_acquire) < chunk)) {
      return false;
    }
    if (!next_task_.compare_exchange_strong(task, task + 1)) return true;
    if (sum < 0) {
      work.pack(chunk, number);
      progress.packed.fetch_add(1, std::memory_order_release);
    } else {
      work.sum(chunk, sum);
      summed(sum).store(chunk + 1, std::memory_order_release);
    }
    progress.finished.fetch_add(1, std::memory_order_release);
    return true;
  }

  std::atomic<Index>& summed(Index sum) const { return summed_[static_cast<std::size_t>(sum)]; }

  Sizes sizes_;
  Index tasks_;  // the number of tasks of a chunk
  std::unique_ptr<Chain[]> chains_;
  std::unique_ptr<BufferProgress[]> buffers_;
  std::unique_ptr<std::atomic<Index>[]> summed_;  // by number of the sum: for how many chunks it is done
  alignas(64) std::atomic<Index> next_task_{0};   // counts the tasks of all chunks
  alignas(64) std::atomic<Index> selected_{0};    // how many chunks are selected
  std::atomic<bool> selecting_{false};
};

}  // namespace latchwork
