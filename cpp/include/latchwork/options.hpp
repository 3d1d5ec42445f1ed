#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "latchwork/types.hpp"

namespace latchwork {

enum class Direction { forward, reverse, both };

// What becomes of the old cell: f of its own gate (Gers, Schmidhuber & Cummins 2000); f = 1 (Hochreiter & Schmidhuber
// 1997); f = 1 - i (Greff et al. 2017).
enum class ForgetGate { own, none, coupled };

// By its name in ONNX's list. An alpha or beta that is not given has ONNX Runtime's default.
struct GateActivation {
  std::string name;
  std::optional<double> alpha{}, beta{};

  bool operator==(const GateActivation&) const = default;
};

// `activation` with the default of each coefficient that it takes and that was not given; its name must be known.
GateActivation with_defaults(const GateActivation& activation);

struct CellActivations {
  GateActivation input{"sigmoid"};
  GateActivation forget{"sigmoid"};
  GateActivation candidate{"tanh"};
  GateActivation output{"sigmoid"};
  GateActivation cell{"tanh"};  // of the cell, before the output gate

  bool operator==(const CellActivations&) const = default;
};

// One mask on h for all steps (Gal & Ghahramani 2016), or one on the candidate for each step (Semeniuta, Severyn &
// Barth 2016).
enum class RecurrentDropoutOn { hidden, candidate };

// Initial values; see initialise_parameters().
enum class Initialisation { torch, keras, orthogonal, chrono };

// A stack of LSTM layers. Sizes are those of torch.nn.LSTM. In the order in which they act on one step:
//
//   a = W x + R h_prev + b                 layer_norm: N(W x) + N(R h_prev) + b
//                                          recurrent_dropout on h_prev, weight_dropout on R
//   a_i += p_i c_prev, a_f += p_f c_prev   peephole
//   a clipped to +-clip, then activated: i, f, g
//   c = f c_prev + i g                     recurrent_dropout on g; clipped to +-cell_clip
//   a_o += p_o c                           peephole; clipped, activated: o
//   h = o tanh(c)                          layer_norm: o tanh(N(c)); projected with proj_size
//   c and h mixed with c_prev and h_prev   zoneout, after all else: h is that of the new cell
struct LstmOptions {
  Index input_size = 0;
  Index hidden_size = 0;
  Index num_layers = 1;
  bool bias = true;
  double dropout = 0.0;  // on the output of every layer but the last, in training only
  Direction direction = Direction::forward;
  Index proj_size = 0;  // 0: no projection
  bool cell = false;    // LSTMCell: parameter names carry no "_l0"

  ForgetGate forget_gate = ForgetGate::own;
  bool peephole = false;    // diagonal: i and f see c_prev, o sees c
  bool layer_norm = false;  // Ba, Kiros & Hinton 2016; epsilon 1e-5
  // One set for all directions, or one for each direction.
  std::vector<CellActivations> activations = std::vector<CellActivations>(1);
  std::optional<double> clip;                       // bounds pre-activations to +-clip, as in ONNX
  std::optional<double> cell_clip;                  // bounds the cell to +-cell_clip
  double zoneout_hidden = 0.0, zoneout_cell = 0.0;  // Krueger et al. 2017; their expectation outside training
  double recurrent_dropout = 0.0;
  RecurrentDropoutOn recurrent_dropout_on = RecurrentDropoutOn::hidden;
  double weight_dropout = 0.0;        // on R: Merity, Keskar & Socher 2018; one mask for all steps and rows
  bool residual = false;              // every layer but the first adds its input, before dropout, to its output
  bool learn_start_state = false;     // h_0 and c_0 are parameters
  std::optional<double> forget_bias;  // initial; none: as `init` has it
  Initialisation init = Initialisation::torch;
  std::optional<Index> t_max;  // for chrono, which needs it: the longest dependency expected, in steps

  // Blocks of hidden_size rows in the gates' weights, in the order i, f, g, o or i, g, o.
  Index gates() const { return forget_gate == ForgetGate::own ? 4 : 3; }
  Index directions() const { return direction == Direction::both ? 2 : 1; }
  const CellActivations& activations_of(Index of_direction) const {
    return activations[std::min(static_cast<std::size_t>(of_direction), activations.size() - 1)];
  }
  // Size of h in one direction.
  Index hidden_output_size() const { return proj_size > 0 ? proj_size : hidden_size; }
  // Features of the output, both directions side by side.
  Index output_size() const { return directions() * hidden_output_size(); }
  // Layers times directions: the leading axis of h_n and c_n.
  Index states() const { return num_layers * directions(); }
};

struct EmbeddingOptions {
  Index num_embeddings = 0;  // how many tokens there are
  Index embedding_dim = 0;
};

// Keeps each sequence's final output: the last valid step's, and for a reverse direction its own last, which is step 0.
struct LastOptions {};

enum class Activation { identity, relu, sigmoid, tanh };

struct LinearOptions {
  Index in_features = 0;
  Index out_features = 0;
  bool bias = true;
  Activation activation = Activation::identity;
};

using ModuleOptions = std::variant<EmbeddingOptions, LstmOptions, LastOptions, LinearOptions>;

// Throws std::invalid_argument naming the option, what was expected and what came; sizes that overflow included.
void validate(const ModuleOptions& options);

// A chain must fit together: Embedding only first, LSTM only before Last, sizes equal from one module to the next.
void validate(const std::vector<ModuleOptions>& modules);

// How many numbers the parameters of modules with valid options hold.
Index parameter_count(const std::vector<ModuleOptions>& modules);

}  // namespace latchwork
