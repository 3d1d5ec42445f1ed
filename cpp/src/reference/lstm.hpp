#pragma once

#include <vector>

#include "latchwork/options.hpp"
#include "reference/direction.hpp"

// torch.nn.LSTM, and every option that it lacks, in plain loops: stacks, both directions, ragged batches, resets,
// random masks. The library's tests compare against it, and it shows what each option means. All arrays are contiguous.
// T is the number of steps, N the number of rows, G the number of blocks of H rows in the gates' weights.
namespace latchwork::reference {

// Masks are the random factors that a training run draws. They are used as given, whatever the options' probabilities.
// Except for `masks`, there is one array for each layer and direction, [state].
struct LstmInput {
  Index steps = 0;
  Index rows = 0;
  Vector x;                    // (T, N, input_size)
  Vector h_0;                  // (states, N, H or P); empty means the layer's own start state
  Vector c_0;                  // (states, N, H); empty means the same
  std::vector<Index> lengths;  // (N); empty means T for every row
  // (T, N). If non-zero, the state becomes the layer's own start state before this step, which is zeros or the learned
  // one. Empty means never.
  std::vector<std::uint8_t> reset;
  Vector masks;  // (num_layers - 1, T, N, output_size), factors of those layers' outputs; empty means ones
  std::vector<Vector> recurrent_masks;  // (N, H or P), factors of h before R, the same for all steps; empty means ones
  std::vector<Vector> candidate_masks;  // (T, N, H), factors of g in the sum that becomes c; empty means ones
  std::vector<Vector> hidden_zoneout;   // (T, N, H or P), 1 keeps h_prev; empty means the option's probability
  std::vector<Vector> cell_zoneout;     // (T, N, H), 1 keeps c_prev; empty means the same
  std::vector<Vector> weight_masks;     // (G H, H or P), factors of R; empty means ones
};

// A result, or the gradient of a loss with respect to it.
struct LstmOutput {
  Vector output;  // (T, N, output_size), zero in padding
  Vector h_n;     // (states, N, H or P), at each sequence's end, which is step 0 for the reverse direction
  Vector c_n;     // (states, N, H)
};

struct LstmRecord {
  LstmOutput result;
  std::vector<std::vector<DirectionRecord>> directions;  // [state][row]
};

struct LstmGradients {
  Vector parameters;  // in the order of parameter_layout()
  Vector x;
  Vector h_0, c_0;  // for each row's start state, whether it was passed in or is the layer's own
};

LstmRecord lstm_forward(const LstmOptions& options, const Vector& parameters, const LstmInput& input);

LstmGradients lstm_backward(const LstmOptions& options, const Vector& parameters, const LstmInput& input,
                            const LstmRecord& record, const LstmOutput& d_result);

}  // namespace latchwork::reference
