#pragma once

#include <sys/wait.h>
#include <unistd.h>

namespace latchwork::test {

// ThreadSanitizer does not follow a process that forks while it has several threads.
#if defined(__SANITIZE_THREAD__)
inline constexpr bool thread_sanitizer = true;
#elif defined(__has_feature)
inline constexpr bool thread_sanitizer = __has_feature(thread_sanitizer);
#else
inline constexpr bool thread_sanitizer = false;
#endif

// Runs `work` in a child process, and returns whether it returned true in time.
template <class Work>
bool succeeds_in_child(Work&& work) {
  const pid_t child = fork();
  if (child == 0) {
    alarm(20);
    _exit(work() ? 0 : 1);
  }
  int status = -1;
  waitpid(child, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

}  // namespace latchwork::test
