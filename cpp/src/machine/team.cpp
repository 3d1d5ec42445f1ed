#include "machine/team.hpp"

#include <algorithm>
#include <atomic>
#include <csetjmp>
#include <exception>
#include <thread>
#include <utility>

#include "latchwork/fork.hpp"
#include "latchwork/threads.hpp"
#include "machine/pool.hpp"

namespace latchwork {
namespace {

std::atomic<TeamFunction> team_function{nullptr};
std::atomic<unsigned> generation_of_function{0};

std::atomic<bool> team_taken{false};

class TeamUse {
 public:
  TeamUse() : granted_(!team_taken.exchange(true)) {}
  ~TeamUse() {
    if (granted_) team_taken = false;
  }
  TeamUse(const TeamUse&) = delete;
  TeamUse& operator=(const TeamUse&) = delete;

  bool granted() const { return granted_; }

 private:
  bool granted_;
};

// One call that has a team.
struct Team {
  Pool guests;
  void (*body)(void* context);
  void* context;
  std::thread::id caller = std::this_thread::get_id();
  unsigned generation = process_generation();
  std::atomic<Index> arrived{0};
  std::exception_ptr thrown{};
  std::jmp_buf before{};
};

void run_body(Team& team) noexcept {
  Pool* const outer = std::exchange(own_pool, &team.guests);
  try {
    team.body(team.context);
  } catch (...) {
    team.thrown = std::current_exception();
  }
  own_pool = outer;
  team.guests.dismiss_guests();
}

// What each thread of a team runs.
void take_part(void* context) {
  Team& team = *static_cast<Team*>(context);
  if (std::this_thread::get_id() != team.caller) return team.guests.serve_as_guest(team.arrived.fetch_add(1) + 1);
  run_body(team);
  // In a child that was forked meanwhile, the team function would wait for ever for threads that are not there, so it
  // is left without its consent. OpenMP then takes this thread to be in a parallel region for good, and so runs all
  // that follows on this thread alone.
  if (process_generation() != team.generation) std::longjmp(team.before, 1);
}

// No object is destroyed between this function and longjmp().
void enter(Team& team, TeamFunction function, unsigned threads) {
  if (setjmp(team.before) == 0) function(take_part, &team, threads, 0);
}

}  // namespace

void set_team_function(TeamFunction function) {
  const unsigned generation = process_generation();
  if (generation_of_function.exchange(generation) != generation) team_taken = false;  // by a thread that is no more
  team_function = function;
}

void run_in_team(Index threads, void (*body)(void* context), void* context) {
  const TeamFunction function = team_function;
  const Index used = std::min(threads, free_threads());
  if (function == nullptr || used < 2 || generation_of_function != process_generation()) return body(context);
  const TeamUse use;
  if (!use.granted()) return body(context);
  Team team{Pool(used), body, context};
  enter(team, function, static_cast<unsigned>(threads));
  if (team.thrown) std::rethrow_exception(team.thrown);
}

}  // namespace latchwork
