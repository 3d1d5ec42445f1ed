#include "machine/interrupt.hpp"

#include "machine/float_state.hpp"
#include "machine/pool.hpp"

namespace latchwork {

constinit thread_local ThreadInterrupts interrupts;

namespace {

// Of a quarter of a second, in which an interrupt is to be heard, this leaves enough for the threads to stop.
constexpr std::chrono::milliseconds between_questions{100};

std::atomic<bool (*)()> interrupt_check{nullptr};

}  // namespace

void set_interrupt_check(bool (*check)()) { interrupt_check.store(check); }

void ask_for_interrupt() {
  bool (*const check)() = interrupt_check.load(std::memory_order_relaxed);
  if (check != nullptr && check()) throw Interrupted();
}

LongCall::LongCall() noexcept : outer_(interrupts), caller_(&interrupts) {
  interrupts = {interrupt_check.load(std::memory_order_relaxed) == nullptr ? nullptr : this, 0};
}

bool LongCall::look() noexcept {
  if (stopped()) return true;
  const Clock::time_point now = Clock::now();
  if (caller_ != &interrupts) {
    static constinit thread_local Clock::time_point next_call{};
    if (now >= next_call) {
      next_call = now + between_questions / 2;
      wake_caller();
    }
    return false;
  }
  if (next_question_ == Clock::time_point()) {
    next_question_ = now + between_questions;
  } else if (now >= next_question_) {
    bool (*const check)() = interrupt_check.load(std::memory_order_relaxed);
    const DefaultFloats floats;
    if (check != nullptr && check()) stop();
    next_question_ = Clock::now() + between_questions;
  }
  return stopped();
}

}  // namespace latchwork
