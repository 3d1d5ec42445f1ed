#pragma once

#include "latchwork/options.hpp"

namespace latchwork {

// The number of features of one step that a module reads; 1 for tokens. Last reads any number of features.
inline Index module_input_size(const ModuleOptions& module) {
  if (const auto* lstm = std::get_if<LstmOptions>(&module)) return lstm->input_size;
  if (const auto* linear = std::get_if<LinearOptions>(&module)) return linear->in_features;
  return 1;
}

// The number of features that a module returns for an input of `input_size` features.
inline Index module_output_size(const ModuleOptions& module, Index input_size) {
  if (const auto* embedding = std::get_if<EmbeddingOptions>(&module)) return embedding->embedding_dim;
  if (const auto* lstm = std::get_if<LstmOptions>(&module)) return lstm->output_size();
  if (const auto* linear = std::get_if<LinearOptions>(&module)) return linear->out_features;
  return input_size;
}

}  // namespace latchwork
