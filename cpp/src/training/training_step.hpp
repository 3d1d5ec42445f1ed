#pragma once

#include <cmath>
#include <stdexcept>
#include <string>

#include "machine/random.hpp"
#include "weights/refusal.hpp"

// Parts of a training step that need no trainer.
namespace latchwork {

// The seed of the masks of one step.
inline std::uint64_t step_mask_seed(std::uint64_t seed, std::int64_t step) {
  constexpr std::uint32_t step_masks = 0x73746570;
  return derived_seed(seed, static_cast<std::uint64_t>(step), step_masks);
}

// "loss" if there is one member, "loss of member 3" if there are several.
inline std::string of_member(const char* what, std::size_t member, Index members) {
  return members == 1 ? what : std::string(what) + " of member " + std::to_string(member);
}

[[noreturn]] inline void refuse_infinite(const std::string& what, double value) {
  throw std::runtime_error(what + ": expected a finite number, got " + text(value) + "; nothing was changed");
}

inline void check_not_negative(const char* name, double value) {
  if (!(value >= 0.0 && std::isfinite(value))) refuse(name, "a finite number of at least 0", text(value));
}

}  // namespace latchwork
