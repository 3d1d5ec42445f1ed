#pragma once

#include <cmath>
#include <sstream>
#include <stdexcept>
#include <string>

#include "machine/random.hpp"

// Parts of a training step that need no trainer.
namespace latchwork {

// The seed of the masks of one step.
inline std::uint64_t step_mask_seed(std::uint64_t seed, std::int64_t step) {
  // A constant of its own keeps these numbers apart from those that other parts draw with the same seed.
  constexpr std::uint32_t step_masks = 0x73746570;
  const auto number = static_cast<std::uint64_t>(step);
  const auto words =
      philox(seed, {static_cast<std::uint32_t>(number), static_cast<std::uint32_t>(number >> 32), 0, step_masks});
  return std::uint64_t{words[1]} << 32 | words[0];
}

inline void check_finite(const std::string& what, double value) {
  if (std::isfinite(value)) return;
  std::ostringstream message;
  // The sign of a NaN means nothing, so it is not printed.
  message << what << ": expected a finite number, got " << (std::isnan(value) ? std::abs(value) : value)
          << "; nothing was changed";
  throw std::runtime_error(message.str());
}

inline void check_clip_norm(double clip_norm) {
  if (clip_norm >= 0.0 && std::isfinite(clip_norm)) return;
  std::ostringstream message;
  message << "clip_norm: expected 0 for no clipping or a finite positive number, got " << clip_norm;
  throw std::invalid_argument(message.str());
}

}  // namespace latchwork
