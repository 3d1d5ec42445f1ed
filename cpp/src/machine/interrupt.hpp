#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>

#include "latchwork/interrupt.hpp"
#include "latchwork/types.hpp"

// How a long call notices that it is to stop. Loops count their work in multiply-adds; only when much has been done
// does a thread look at the clock and at what other threads say, so that small calls do neither.
namespace latchwork {

class LongCall;

// What a thread knows about the call that it works for.
struct ThreadInterrupts {
  LongCall* call = nullptr;  // null if nobody can interrupt it
  Index uncounted = 0;       // work since the thread last looked
};
extern constinit thread_local ThreadInterrupts interrupts;

// A thread looks after this many multiply-adds, which take from 0.1 to some milliseconds.
inline constexpr Index work_between_looks = 4'000'000;
// What a step of a loop costs beside its multiply-adds, in multiply-adds.
inline constexpr Index work_of_a_round = 500;

// One call that can be interrupted, from its beginning to its end.
class LongCall {
 public:
  LongCall() noexcept;
  ~LongCall() { interrupts = outer_; }
  LongCall(const LongCall&) = delete;
  LongCall& operator=(const LongCall&) = delete;

  // Whether the threads that work for this call are to stop. On the thread that made the call it asks whoever can
  // interrupt it, if the last time is long enough ago. On the others it wakes that thread now and then, which may be
  // asleep until they have finished.
  bool look() noexcept;

  void stop() noexcept { stopped_.store(true, std::memory_order_relaxed); }
  bool stopped() const noexcept { return stopped_.load(std::memory_order_relaxed); }

 private:
  using Clock = std::chrono::steady_clock;

  const ThreadInterrupts outer_;
  const ThreadInterrupts* const caller_;  // where the thread that made the call keeps this
  Clock::time_point next_question_{};     // none before the first look
  std::atomic<bool> stopped_{false};
};

// Whether to stop, if much has been done since the thread last looked; `work` has been since the last call of this.
inline bool stops_after(Index work) noexcept {
  ThreadInterrupts& own = interrupts;
  if (own.call == nullptr || (own.uncounted += work) < work_between_looks) return false;
  const bool stops = own.call->look();
  own.uncounted = stops ? work_between_looks : 0;  // so that the next call of this says the same
  return stops;
}

// The same after a piece of work that may have been stopped, on a thread that may throw.
inline void throw_if_stopped(Index work) {
  const LongCall* const call = interrupts.call;
  if (call != nullptr && (stops_after(work) || call->stopped())) throw Interrupted();
}

// The same for the rounds of a loop that are so short that even stops_after() would cost something.
class RoundsOfWork {
 public:
  explicit RoundsOfWork(Index work_of_one) : rounds_(work_between_looks / (work_of_one + work_of_a_round) + 1) {}

  // To be called in each round.
  bool stop() noexcept {
    if (--left_ > 0) return false;
    const bool stops = interrupts.call != nullptr && interrupts.call->look();
    left_ = rounds_;
    if (stops) {  // the next call of this, or of stops_after(), is to say the same
      left_ = 0;
      interrupts.uncounted = work_between_looks;
    }
    return stops;
  }

 private:
  Index rounds_;
  Index left_ = rounds_;
};

// Calls work(begin, end) for one piece of [0, count) after another, of which each is `work_of_one` multiply-adds, until
// the call is to stop. A piece has at least `fewest`, or is the last.
template <class Work>
void for_pieces_until_stopped(Index count, Index work_of_one, Index fewest, Work&& work) {
  const Index size = std::max(fewest, 16 * work_between_looks / (work_of_one + 1));
  for (Index begin = 0; begin < count; begin += size) {
    const Index end = std::min(count, begin + size);
    work(begin, end);
    if (stops_after((end - begin) * work_of_one)) return;
  }
}

}  // namespace latchwork
