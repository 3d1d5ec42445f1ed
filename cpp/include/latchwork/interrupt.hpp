#pragma once

#include <exception>

#include "latchwork/export.hpp"
#include "latchwork/types.hpp"

namespace latchwork {

// Thrown by a call that has stopped early. It has changed nothing that outlives it; the arrays that it was to fill may
// be filled in part.
class LATCHWORK_API Interrupted : public std::exception {
 public:
  const char* what() const noexcept override { return "the call was interrupted, or the process forked in the middle"; }
};

// A call that takes long asks `check` about ten times a second whether to stop, on the thread that made it: forward(),
// record(), backward(), signal(), and step(), gradient() and evaluate() of a trainer. If the answer is true, its
// threads stop and it throws Interrupted. `check` must not throw, but may use the library; no lock is held meanwhile.
// Null, as at the start: nobody is asked.
LATCHWORK_API void set_interrupt_check(bool (*check)());

// The same for a program's own loops: throws Interrupted if the answer is true.
LATCHWORK_API void ask_for_interrupt();

}  // namespace latchwork
