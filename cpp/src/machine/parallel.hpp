#pragma once

#include <algorithm>
#include <atomic>
#include <exception>
#include <memory>
#include <type_traits>

#include "latchwork/threads.hpp"
#include "latchwork/types.hpp"

namespace latchwork {

// Which threads take part in a call, and how the caller waits for them.
enum class Threads {
  all,         // all threads; those that sleep are woken
  awake,       // only threads that are awake (see wake_threads()): for work that takes microseconds
  awake_spun,  // the same, but the caller makes no system call, however long the other threads take
};

// Runs task(context, part) for every part from 0 to parts - 1 and returns when all parts are done. Thread number p
// modulo the number of threads runs part p; number 0 is the caller, which also runs the parts of threads that are late
// to start. Everything runs inline and in order if there is only one part or one thread, if the call comes from inside
// a task, or if another caller is using the pool at the moment. Tasks must not throw, and must not wait for one another
// to start.
void run_parallel(Index parts, void (*task)(void* context, Index part) noexcept, void* context, Threads which);

// For a forked child, which has none of the workers, and in which the pool may be in any state: the next call starts a
// new one.
void abandon_pool();

// How many threads a call from here can use: 1 inside a task.
Index free_threads();

// Called by a thread in a loop while it waits for other threads. `waits` counts its calls so far: now and then the
// thread offers its CPU to others that may need it.
void wait_a_moment(Index waits);

template <class Task>
void parallel(Index parts, Task&& task, Threads which = Threads::all) {
  using Body = std::remove_reference_t<Task>;
  run_parallel(
      parts, [](void* context, Index part) noexcept { (*static_cast<Body*>(context))(part); },
      const_cast<void*>(static_cast<const void*>(std::addressof(task))), which);
}

// parallel() for a task that may throw: once all parts have ended, an exception that one of them threw is thrown again.
template <class Task>
void parallel_or_throw(Index parts, Task&& task) {
  std::exception_ptr thrown;
  std::atomic<bool> threw{false};
  parallel(parts, [&](Index part) {
    try {
      task(part);
    } catch (...) {
      if (!threw.exchange(true)) thrown = std::current_exception();
    }
  });
  if (thrown) std::rethrow_exception(thrown);
}

// Cuts [0, size) into `parts` nearly equal pieces; returns where piece `part` starts, which is also where the piece
// before it ends.
constexpr Index piece_begin(Index size, Index parts, Index part) {
  return size / parts * part + (part < size % parts ? part : size % parts);
}

// ---- When a second thread pays off. tests/benchmarks/README.md has the command that measures these numbers.

// For fewer multiply-adds than this a second thread costs more than it saves.
inline constexpr Index smallest_parallel_work = 200'000;
// For fewer numbers than this, which are only added up or drawn, a second thread costs more than it saves.
inline constexpr Index smallest_parallel_numbers = 20'000;
// Fetching one number from memory and storing it elsewhere costs about as much as this many multiply-adds.
inline constexpr Index work_of_moving = 16;

// Into how many pieces threads split an operation on `numbers` numbers that has at most `most` pieces.
inline Index number_parts(Index numbers, Index most) {
  return numbers < smallest_parallel_numbers ? 1 : std::min(num_threads(), most);
}

}  // namespace latchwork
