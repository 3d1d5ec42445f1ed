#pragma once

#include <array>
#include <cstddef>
#include <vector>

#include "latchwork/parameters.hpp"

namespace latchwork {

// Where in the buffer of all parameters the tensors of one module, or of one layer and direction of an LSTM, start.
class ParameterPlaces {
 public:
  ParameterPlaces() = default;
  ParameterPlaces(const std::vector<ParameterSpec>& layout, Index module, Index layer = 0, Index direction = 0) {
    for (const ParameterSpec& spec : layout) {
      if (spec.module != module || spec.layer != layer || spec.direction != direction) continue;
      tensors_[static_cast<std::size_t>(spec.kind)] = {spec.offset, true};
    }
  }

  // Returns where the tensor of this kind starts in a buffer of all parameters, or of a gradient with respect to them;
  // null if there is no such tensor or no such buffer.
  template <class T>
  T* in(T* parameters, ParameterKind kind) const {
    const Tensor& tensor = tensors_[static_cast<std::size_t>(kind)];
    return tensor.exists && parameters != nullptr ? parameters + tensor.offset : nullptr;
  }

 private:
  struct Tensor {
    Index offset = 0;
    bool exists = false;
  };
  std::array<Tensor, static_cast<std::size_t>(ParameterKind::bias) + 1> tensors_{};
};

}  // namespace latchwork
