#pragma once

#include "latchwork/options.hpp"
#include "support/support.hpp"

// Random variants of the cell. Their numbers are exact in float, like those of a random problem.
namespace latchwork::test {

// Any but the exponential, which in a recurrence soon is beyond all numbers.
inline Activation random_activation(Random& random) {
  struct Kind {
    const char* name;
    Index coefficients;
    double alpha_sign;  // 0 if either sign will do
  };
  static constexpr Kind kinds[] = {{"sigmoid", 0, 0},
                                   {"tanh", 0, 0},
                                   {"relu", 0, 0},
                                   {"hard_sigmoid", 2, 0},
                                   {"affine", 2, 0},
                                   {"leaky_relu", 1, 1},
                                   {"thresholded_relu", 1, 1},
                                   {"scaled_tanh", 2, 0},
                                   {"elu", 1, 1},
                                   {"softsign", 0, 0},
                                   {"softplus", 0, 0},
                                   {"selu", 0, 0},
                                   {"silu", 0, 0},
                                   {"gelu", 0, 0},
                                   {"gelu_tanh", 0, 0}};
  const Kind& kind = kinds[random.between(0, std::size(kinds) - 1)];
  Activation activation{kind.name};
  const Index given = random.between(0, kind.coefficients);
  if (given >= 1) {
    const double sign = kind.alpha_sign != 0.0 ? kind.alpha_sign : random.chance(0.5) ? 1.0 : -1.0;
    activation.alpha = sign * static_cast<double>(random.between(1, 20)) / 16.0;
  }
  if (given >= 2) activation.beta = static_cast<double>(random.between(-16, 16)) / 16.0;
  return activation;
}

inline CellActivations random_activations(Random& random, ForgetGate forget_gate) {
  const auto some = [&](const Activation& plain) { return random.chance(0.6) ? random_activation(random) : plain; };
  CellActivations activations;
  activations.input = some(activations.input);
  if (forget_gate == ForgetGate::own) activations.forget = some(activations.forget);
  activations.candidate = some(activations.candidate);
  activations.output = some(activations.output);
  activations.cell = some(activations.cell);
  return activations;
}

// Sets a random choice of the options that PyTorch's LSTM lacks, except those for initial values.
inline void add_random_variants(Random& random, LstmOptions& options) {
  const auto probability = [&](double chance) {
    return random.chance(chance) ? static_cast<double>(random.between(1, 16)) / 16.0 : 0.0;
  };
  options.forget_gate = random.chance(0.5) ? ForgetGate::own : static_cast<ForgetGate>(random.between(0, 2));
  options.peephole = random.chance(0.4);
  options.layer_norm = random.chance(0.3);
  // Layer norm makes R h independent of the size of h if h has one element, and the gradient would then be a small
  // difference of large numbers.
  if (options.layer_norm && options.proj_size == 1) options.proj_size = options.hidden_size > 2 ? 2 : 0;
  if (random.chance(0.5)) {
    options.activations = {random_activations(random, options.forget_gate)};
    if (options.directions() == 2 && random.chance(0.5)) {
      options.activations.push_back(random_activations(random, options.forget_gate));
    }
  }
  if (options.directions() == 2 && random.chance(0.5)) options.merge = static_cast<Merge>(random.between(1, 3));
  if (random.chance(0.3)) options.clip = static_cast<double>(random.between(4, 32)) / 16.0;
  if (random.chance(0.3)) options.cell_clip = static_cast<double>(random.between(4, 32)) / 16.0;
  options.zoneout_hidden = probability(0.3);
  options.zoneout_cell = probability(0.3);
  options.recurrent_dropout = probability(0.4);
  options.recurrent_dropout_on = static_cast<RecurrentDropoutOn>(random.between(0, 1));
  options.weight_dropout = probability(0.3);
  options.residual = options.num_layers > 1 && random.chance(0.4);
  options.learn_start_state = random.chance(0.4);
}

}  // namespace latchwork::test
