#pragma once

#include <algorithm>
#include <exception>
#include <memory>
#include <mutex>
#include <type_traits>

#include "latchwork/threads.hpp"
#include "latchwork/types.hpp"

namespace latchwork {

// Which threads take part in a call, and how the caller waits for them.
enum class Threads {
  all,         // those that sleep are woken
  awake,       // only those that are awake, see wake_threads(): for what takes microseconds
  awake_spun,  // the same without any system call, however long the others take
};

// Runs task(context, part) for every part from 0 to parts - 1 and returns when all are done. Part p runs on thread p
// modulo the threads of this call; part 0 on the caller's, which afterwards runs the parts of threads that have not
// begun. One part, one thread or a call from inside a task: all run inline, in order. So they do where another caller
// has the pool at the moment. Tasks must not throw, nor wait for one another to begin.
void run_parallel(Index parts, void (*task)(void* context, Index part) noexcept, void* context, Threads which);

// How many threads a call from here could use: 1 inside a task.
Index free_threads();

// One turn of a thread that has been idle so many turns, waiting for others that are at work: it leaves them its CPU
// where they may need it.
void rest(Index idle);

template <class Task>
void parallel(Index parts, Task&& task, Threads which = Threads::all) {
  using Body = std::remove_reference_t<Task>;
  run_parallel(
      parts, [](void* context, Index part) noexcept { (*static_cast<Body*>(context))(part); },
      const_cast<void*>(static_cast<const void*>(std::addressof(task))), which);
}

// parallel() for a task that may throw: what one part threw is passed on after all have ended.
template <class Task>
void parallel_or_throw(Index parts, Task&& task) {
  std::mutex mutex;
  std::exception_ptr thrown;
  parallel(parts, [&](Index part) {
    try {
      task(part);
    } catch (...) {
      const std::lock_guard<std::mutex> lock(mutex);
      thrown = std::current_exception();
    }
  });
  if (thrown) std::rethrow_exception(thrown);
}

// Part `part` of `parts` nearly equal pieces of [0, size): its begin; its end is the begin of the next.
constexpr Index piece_begin(Index size, Index parts, Index part) {
  return size / parts * part + (part < size % parts ? part : size % parts);
}

// ---- Whether a second thread pays. tests/benchmarks/README.md has the command that measures these.

// Below this many multiply-adds a second thread costs more than it saves.
inline constexpr Index smallest_parallel_work = 200'000;
// Below this many numbers that are only added up or drawn a second thread costs more than it saves.
inline constexpr Index smallest_parallel_numbers = 20'000;
// A number that is fetched from memory and put elsewhere costs about as much as so many multiply-adds.
inline constexpr Index work_of_moving = 16;

// Into how many pieces threads split an operation on so many numbers, of which it has so many pieces at most.
inline Index number_parts(Index numbers, Index most) {
  return numbers < smallest_parallel_numbers ? 1 : std::min(num_threads(), most);
}

}  // namespace latchwork
