#pragma once

#include <vector>

#include "latchwork/options.hpp"
#include "reference/direction.hpp"

// torch.nn.LSTM and every option that it lacks, in plain loops: stacks, both directions, ragged batches, resets, steps
// that are left out, random masks. The library's tests compare with it, and it says what each option means. All arrays
// are contiguous, with T steps, N rows, and G gates, each with H rows in the gates' weights.
namespace latchwork::reference {

// Masks are the random factors that a training run draws; they act whatever the probabilities in the options are.
// Except for `masks`, there is one array for each layer and direction, [state].
struct LstmInput {
  Index steps = 0;
  Index rows = 0;
  Vector x;                    // (T, N, input_size)
  Vector h_0;                  // (states, N, H or P); empty: the layer's own start state
  Vector c_0;                  // (states, N, H); empty: the layer's own start state
  std::vector<Index> lengths;  // (N); empty: T
  // (T, N), non-zero: before this step the state becomes the layer's own start state, which is zero or learned; empty:
  // this never happens.
  std::vector<std::uint8_t> reset;
  std::vector<std::uint8_t> skip;       // (T, N), non-zero: this step is left out; empty: none is
  bool repeats_skipped = true;          // whether the output is repeated at such steps, or zero
  Vector masks;                         // (num_layers - 1, T, N, output_size), on those layers' outputs; empty: ones
  std::vector<Vector> recurrent_masks;  // (N, H or P), on h_prev before R, for all steps; empty: ones
  std::vector<Vector> candidate_masks;  // (T, N, H), on g when it is added to the cell; empty: ones
  std::vector<Vector> hidden_zoneout;   // (T, N, H or P), 1: keeps h_prev; empty: the option's probability
  std::vector<Vector> cell_zoneout;     // (T, N, H), 1: keeps c_prev; empty: the option's probability
  std::vector<Vector> weight_masks;     // (G H, H or P), on R; empty: ones
};

// A result, or the gradient of a loss with respect to it.
struct LstmOutput {
  Vector output;  // (T, N, output_size), zero in padding
  Vector h_n;     // (states, N, H or P), at the end of each sequence: step 0 for the reverse direction
  Vector c_n;     // (states, N, H)
};

struct LstmRecord {
  LstmOutput result;
  std::vector<std::vector<DirectionRecord>> directions;  // [state][row]
};

struct LstmGradients {
  Vector parameters;  // in the order of parameter_layout()
  Vector x;
  Vector h_0, c_0;  // with respect to each row's start state, whether it was passed in or is the layer's own
  // With respect to i, f, g, o (T, N, H each), c (T, N, H) and h (T, N, H or P) of each step, [state][signal]. Zeros in
  // padding and at steps that are left out.
  std::vector<std::vector<Vector>> signals;
};

LstmRecord lstm_forward(const LstmOptions& options, const Vector& parameters, const LstmInput& input);

LstmGradients lstm_backward(const LstmOptions& options, const Vector& parameters, const LstmInput& input,
                            const LstmRecord& record, const LstmOutput& d_result);

}  // namespace latchwork::reference
