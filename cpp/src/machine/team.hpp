#pragma once

#include <memory>
#include <type_traits>

#include "latchwork/export.hpp"
#include "latchwork/types.hpp"

// Calls that run on the threads of another library. A library such as PyTorch keeps threads of its own, which spin for
// milliseconds after each of its operations to be ready for the next: on the very cores that the pool's workers would
// run on. So a call that comes between two such operations borrows these threads, which are awake, and the pool's
// workers sleep.
namespace latchwork {

// Runs function(context) on at most `threads` threads at once, of which the caller is one, and returns when all of them
// have returned. This is GOMP_parallel, which OpenMP libraries offer to compiled programs; `flags` is 0. Fewer threads
// may come than asked for, and late.
using TeamFunction = void (*)(void (*function)(void* context), void* context, unsigned threads, unsigned flags);

// From now on run_in_team() uses this; null: nothing. In a child that is forked after this call it uses nothing,
// because the threads are not there, and GOMP_parallel would wait for them for ever.
LATCHWORK_API void set_team_function(TeamFunction function);

// Calls body(context) on this thread. Until it returns, or throws, what it runs in parallel runs on the other threads
// of a team, and on none of the pool. The team has `threads` threads, of which num_threads() are used: as many as its
// owner asks for, because libgomp ends threads that it is not asked for. There is no team, and the pool is used as
// elsewhere, if one thread is to be used, after a fork, and while another call has a team: one at a time is enough to
// keep the cores busy.
LATCHWORK_API void run_in_team(Index threads, void (*body)(void* context), void* context);

template <class Body>
LATCHWORK_API void run_in_team(Index threads, Body&& body) {
  using Called = std::remove_reference_t<Body>;
  run_in_team(
      threads, [](void* context) { (*static_cast<Called*>(context))(); },
      const_cast<void*>(static_cast<const void*>(std::addressof(body))));
}

}  // namespace latchwork
