#pragma once

#include <string>
#include <variant>
#include <vector>

#include "latchwork/types.hpp"

namespace latchwork {

enum class Direction { forward, reverse, both };

// A stack of LSTM layers. Sizes are those of torch.nn.LSTM.
struct LstmOptions {
  Index input_size = 0;
  Index hidden_size = 0;
  Index num_layers = 1;
  bool bias = true;
  double dropout = 0.0;  // on the output of every layer but the last, in training only
  Direction direction = Direction::forward;
  Index proj_size = 0;  // 0: no projection
  bool cell = false;    // LSTMCell: parameter names carry no "_l0"

  Index directions() const { return direction == Direction::both ? 2 : 1; }
  // Size of h in one direction.
  Index hidden_output_size() const { return proj_size > 0 ? proj_size : hidden_size; }
  // Features of the output, both directions side by side.
  Index output_size() const { return directions() * hidden_output_size(); }
  // Layers times directions: the leading axis of h_n and c_n.
  Index states() const { return num_layers * directions(); }
};

struct EmbeddingOptions {
  Index vocabulary = 0;
  Index size = 0;
};

// Keeps each sequence's final output: the last valid step's, and for a reverse direction its own last, which is step 0.
struct LastOptions {};

enum class Activation { identity, relu, sigmoid, tanh };

struct LinearOptions {
  Index input_size = 0;
  Index output_size = 0;
  bool bias = true;
  Activation activation = Activation::identity;
};

using ModuleOptions = std::variant<EmbeddingOptions, LstmOptions, LastOptions, LinearOptions>;

// Throws std::invalid_argument naming the option, what was expected and what came; sizes that overflow included.
void validate(const ModuleOptions& options);

// A chain must fit together: Embedding only first, LSTM only before Last, sizes equal from one module to the next.
void validate(const std::vector<ModuleOptions>& modules);

}  // namespace latchwork
