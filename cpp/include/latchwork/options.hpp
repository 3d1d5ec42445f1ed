#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "latchwork/export.hpp"
#include "latchwork/skipped_output.hpp"
#include "latchwork/types.hpp"

namespace latchwork {

enum class Direction { forward, reverse, both };

// How the outputs of both directions join: side by side, or by their sum, product or mean, unit by unit.
enum class Merge { concat, sum, mul, ave };

// What the old cell is multiplied by: `own`, a forget gate with weights of its own (Gers, Schmidhuber & Cummins 2000);
// `none`, f = 1 (Hochreiter & Schmidhuber 1997); `coupled`, f = 1 - i (Greff et al. 2017).
enum class ForgetGate { own, none, coupled };

// An activation, named as in ONNX, or else as in PyTorch, but in snake_case. An alpha or beta that is not given has
// ONNX Runtime's default. Only a Linear or an activation module may have "identity", and those that take all features
// of a row, "softmax" and "log_softmax".
struct Activation {
  std::string name;
  std::optional<double> alpha{}, beta{};

  bool operator==(const Activation&) const = default;
};

// `activation`, with the default value for each coefficient that it takes and that was not given. Its name must be
// known.
LATCHWORK_API Activation with_defaults(const Activation& activation);

struct CellActivations {
  Activation input{"sigmoid"};
  Activation forget{"sigmoid"};
  Activation candidate{"tanh"};
  Activation output{"sigmoid"};
  Activation cell{"tanh"};  // applied to the cell before the output gate

  bool operator==(const CellActivations&) const = default;
};

// `hidden`: one mask on h for all steps (Gal & Ghahramani 2016). `candidate`: another mask on the candidate for each
// step (Semeniuta, Severyn & Barth 2016).
enum class RecurrentDropoutOn { hidden, candidate };

// Initial values; see initialise_parameters().
enum class Initialisation { torch, keras, orthogonal, chrono };

// A stack of LSTM layers. Sizes are those of torch.nn.LSTM. This is the order in which the options act on one step:
//
//   a = W x + R h_prev + b                 layer_norm: N(W x) + N(R h_prev) + b
//                                          recurrent_dropout on h_prev, weight_dropout on R
//   a_i += p_i c_prev, a_f += p_f c_prev   peephole
//   a clipped to +-clip, then activated: i, f, g
//   c = f c_prev + i g                     recurrent_dropout on g; clipped to +-cell_clip
//   a_o += p_o c                           peephole; clipped, activated: o
//   h = o tanh(c)                          layer_norm: o tanh(N(c)); projected with proj_size
//   c and h mixed with c_prev and h_prev   zoneout, after all else, so h comes from the new cell
struct LstmOptions {
  Index input_size = 0;
  Index hidden_size = 0;
  Index num_layers = 1;
  bool bias = true;
  double dropout = 0.0;  // on the output of every layer except the last, in training only
  Direction direction = Direction::forward;
  Merge merge = Merge::concat;  // in each layer; anything else needs both directions
  Index proj_size = 0;          // 0: no projection
  bool cell = false;            // an LSTMCell: parameter names have no "_l0"

  ForgetGate forget_gate = ForgetGate::own;
  bool peephole = false;    // diagonal weights: i and f see c_prev, o sees c
  bool layer_norm = false;  // Ba, Kiros & Hinton 2016; epsilon 1e-5
  // One set for both directions, or one for each direction.
  std::vector<CellActivations> activations = std::vector<CellActivations>(1);
  std::optional<double> clip;                       // limits pre-activations to +-clip, as in ONNX
  std::optional<double> cell_clip;                  // limits the cell to +-cell_clip
  double zoneout_hidden = 0.0, zoneout_cell = 0.0;  // Krueger et al. 2017; outside training its expectation acts
  double recurrent_dropout = 0.0;
  RecurrentDropoutOn recurrent_dropout_on = RecurrentDropoutOn::hidden;
  double weight_dropout = 0.0;        // on R: Merity, Keskar & Socher 2018; one mask for all steps and rows
  bool residual = false;              // every layer except the first adds its input (before dropout) to its output
  bool learn_start_state = false;     // h_0 and c_0 are parameters
  std::optional<double> forget_bias;  // initial value; none: what `init` says
  Initialisation init = Initialisation::torch;
  std::optional<Index> t_max;  // chrono needs it: the longest dependency that is expected, in steps

  // Blocks of hidden_size rows in the gates' weights, in the order i, f, g, o or i, g, o.
  Index gates() const { return forget_gate == ForgetGate::own ? 4 : 3; }
  Index directions() const { return direction == Direction::both ? 2 : 1; }
  const CellActivations& activations_of(Index of_direction) const {
    return activations[std::min(static_cast<std::size_t>(of_direction), activations.size() - 1)];
  }
  // The size of h in one direction.
  Index hidden_output_size() const { return proj_size > 0 ? proj_size : hidden_size; }
  // Whether the directions join to as many features as one of them has.
  bool merges() const { return direction == Direction::both && merge != Merge::concat; }
  // The number of features of all directions side by side, before they merge.
  Index joined_size() const { return directions() * hidden_output_size(); }
  // The number of features of the output.
  Index output_size() const { return merges() ? hidden_output_size() : joined_size(); }
  // The number of layers times directions: the leading axis of h_n and c_n.
  Index states() const { return num_layers * directions(); }

  bool operator==(const LstmOptions&) const = default;
};

struct EmbeddingOptions {
  Index num_embeddings = 0;  // the number of different tokens
  Index embedding_dim = 0;
  // Steps with this token are skipped by the modules after it, as by a call's skip mask; their output is mask_output.
  std::optional<Index> mask_token{};
  SkippedOutput mask_output = SkippedOutput::repeat;

  bool operator==(const EmbeddingOptions&) const = default;
};

// Keeps the final output of each sequence: that of its last valid step. For a reverse direction the final output is
// that of step 0.
struct LastOptions {
  bool operator==(const LastOptions&) const = default;
};

// The mean of each feature over the valid steps of a sequence, from its last reset on; zeros for an empty sequence.
struct MeanOptions {
  bool operator==(const MeanOptions&) const = default;
};

// The largest value of each feature over the same steps. NaN if one is. The gradient goes to the first largest one.
struct MaxOptions {
  bool operator==(const MaxOptions&) const = default;
};

// In training only: each number becomes zero with probability p, and is divided by 1 - p otherwise.
struct DropoutOptions {
  double p = 0.5;

  bool operator==(const DropoutOptions&) const = default;
};

struct LinearOptions {
  Index in_features = 0;
  Index out_features = 0;
  bool bias = true;
  Activation activation{"identity"};
  double init_scale = 1.0;  // what the initial parameters are multiplied by

  bool operator==(const LinearOptions&) const = default;
};

struct ActivationOptions {
  Activation activation{"identity"};

  bool operator==(const ActivationOptions&) const = default;
};

// y = (x - shift) * factor for each feature. These are constants, the same for all members. NaN stays NaN.
struct ScaleOptions {
  std::vector<double> shift, factor;

  bool operator==(const ScaleOptions&) const = default;
};

// What takes the place of a missing value: `forward`, the value seen last, carried on as `persistence` says, and before
// the first one the fill; `constant`, always the fill.
enum class Imputation { forward, constant };

// Replaces NaN. For each of the features in `indicators` a mask, 1 where the value was seen and 0 where it is missing,
// follows after all features, and then, with `forward`, for each of them its age: log(1 + the number of steps since it
// was last seen), counted from the start if it never was. With `forward` the values carried and the numbers of steps
// are a state of the network: State::hidden and State::cell, (1, rows, features) each. The network's own start state is
// the fill and 0. At each step at which a feature is missing, the share `persistence` of the distance of its carried
// value from the fill is kept: 1 carries the value as it was, 0 gives the fill at once. The gradient of a value carried
// forward goes, times what was kept of it, to the step at which it was seen, or to the start state; masks and ages have
// none.
struct ImputeOptions {
  Index features = 0;
  Imputation method = Imputation::forward;
  std::vector<double> fill;  // one for each feature; empty: zeros
  std::vector<Index> indicators;
  std::vector<double> persistence = {};  // one for each feature, 0 to 1, with `forward`; empty: ones

  // The number of features of the output.
  Index output_size() const {
    const auto count = static_cast<Index>(indicators.size());
    return features + (method == Imputation::forward ? 2 * count : count);
  }
  bool operator==(const ImputeOptions&) const = default;
};

// Replaces features that hold codes, integers from 0 on, by rows of tables. The other features come first, in order,
// then the rows, in the order of `columns`. The table of the k-th of these has num_embeddings[k] rows of
// embedding_dim[k] numbers.
struct EmbedColumnsOptions {
  Index features = 0;
  std::vector<Index> columns, num_embeddings, embedding_dim;

  // The number of features of the output.
  Index output_size() const {
    Index size = features - static_cast<Index>(columns.size());
    for (const Index dim : embedding_dim) size += dim;
    return size;
  }
  bool operator==(const EmbedColumnsOptions&) const = default;
};

// Sorts each run of `group` features in ascending order, NaN last. The gradient goes where the value came from.
struct SortOptions {
  Index group = 0;

  bool operator==(const SortOptions&) const = default;
};

// The valid steps of each sequence in reverse order. Lengths stay, and for the modules after it skipped steps and
// resets are reversed too. A reset stays between the same two steps, so that one before the first step of a sequence
// comes after its last one, where a reverse direction starts. Mean and Max take the steps that they would take without
// it.
struct ReverseOptions {
  bool operator==(const ReverseOptions&) const = default;
};

// The output of the module before, to whose first features it adds those of the network's own input, times the factor.
struct InputSkipOptions {
  Index features = 0;
  double factor = 1.0;

  bool operator==(const InputSkipOptions&) const = default;
};

// Steps of the network's input whose features all equal the value are skipped by the modules after it, as by a call's
// skip mask; their output is as `output` says.
struct MaskOptions {
  double value = 0.0;
  SkippedOutput output = SkippedOutput::repeat;

  bool operator==(const MaskOptions&) const = default;
};

using ModuleOptions = std::variant<EmbeddingOptions, LstmOptions, LastOptions, LinearOptions, MeanOptions, MaxOptions,
                                   DropoutOptions, ScaleOptions, ImputeOptions, EmbedColumnsOptions, SortOptions,
                                   ReverseOptions, InputSkipOptions, MaskOptions, ActivationOptions>;

// Throws std::invalid_argument, which names the option, what was expected and what came. Sizes that overflow are
// refused too.
LATCHWORK_API void validate(const ModuleOptions& options);

// The same for each module, and for the chain as a whole: an Embedding and a Mask may only be the first module, there
// may be one module at most that leaves no steps (Last, Mean or Max), which cannot be the first, a Last that takes the
// output of an LSTM whose directions merge must follow that at once, LSTMs, Reverse and InputSkip only come before a
// module that leaves no steps, an Impute only before LSTMs and Reverse and before it, one EmbedColumns at most, after
// no other modules than Mask, Scale and Impute, an InputSkip not in the first place, not for tokens and only where the
// steps are in the order of the input, and the output size of each module must be the input size of the next. One
// module must say how many features it takes.
LATCHWORK_API void validate(const std::vector<ModuleOptions>& modules);

// The number of parameters of modules with valid options.
LATCHWORK_API Index parameter_count(const std::vector<ModuleOptions>& modules);

}  // namespace latchwork
