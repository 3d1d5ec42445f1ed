#pragma once

#include <optional>
#include <vector>

#include "latchwork/options.hpp"

namespace latchwork {

// Says which steps of the input the modules after the first one skip, because that one is a Mask, or an Embedding that
// has a mask token.
template <class T>
class StepMask {
 public:
  // `features` is their number in a step of the input.
  StepMask(const std::vector<ModuleOptions>& modules, Index features) : features_(features) {
    if (modules.size() == 1) return;  // there is nothing that could skip them
    if (const auto* mask = std::get_if<MaskOptions>(&modules.front())) {
      value_ = static_cast<T>(mask->value);
      output_ = mask->output;
    } else if (const auto* embedding = std::get_if<EmbeddingOptions>(&modules.front())) {
      token_ = embedding->mask_token;
      output_ = embedding->mask_output;
    }
  }

  // Whether any step may be masked.
  bool any() const noexcept { return value_.has_value() || token_.has_value(); }
  // What the output is at a masked step.
  SkippedOutput output() const noexcept { return output_; }

  // Whether the step with these features, or this token, is masked.
  bool masks(const T* x) const noexcept {
    if (!value_) return false;
    for (Index at = 0; at < features_; ++at) {
      if (x[at] != *value_) return false;
    }
    return true;
  }
  bool masks(const std::int64_t* token) const noexcept { return token_ && *token == *token_; }

 private:
  Index features_;
  std::optional<T> value_;
  std::optional<Index> token_;
  SkippedOutput output_ = SkippedOutput::repeat;
};

}  // namespace latchwork
