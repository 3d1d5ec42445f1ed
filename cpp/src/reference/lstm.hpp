#pragma once

#include <vector>

#include "latchwork/options.hpp"
#include "reference/direction.hpp"

// torch.nn.LSTM, and every option that it lacks, in plain loops: stacks, both directions, ragged batches, resets,
// random masks. The oracle of the library's tests, and the place to read what an option means. All arrays are
// contiguous; T steps, N rows, G blocks of H rows in the gates' weights.
namespace latchwork::reference {

// Masks are the random factors that a training run draws, whatever the options' probabilities. `masks` apart they come
// as one array for each layer and direction, [state].
struct LstmInput {
  Index steps = 0;
  Index rows = 0;
  Vector x;                    // (T, N, input_size)
  Vector h_0;                  // (states, N, H or P); empty: the layer's own start state
  Vector c_0;                  // (states, N, H); empty: likewise
  std::vector<Index> lengths;  // (N); empty: T
  // (T, N), non-zero: before this step the state becomes the layer's own start state, which is zeros or the learned
  // one; empty: never
  std::vector<std::uint8_t> reset;
  Vector masks;  // (num_layers - 1, T, N, output_size), factors of those layers' outputs; empty: ones
  std::vector<Vector> recurrent_masks;  // (N, H or P), factors of h before R, for all steps; empty: ones
  std::vector<Vector> candidate_masks;  // (T, N, H), factors of g where it is added to the cell; empty: ones
  std::vector<Vector> hidden_zoneout;   // (T, N, H or P), 1: keeps the old h; empty: the option's probability
  std::vector<Vector> cell_zoneout;     // (T, N, H), 1: keeps the old c; empty: likewise
  std::vector<Vector> weight_masks;     // (G H, H or P), factors of R; empty: ones
};

// A result, or a loss's gradient by it.
struct LstmOutput {
  Vector output;  // (T, N, output_size), zero in padding
  Vector h_n;     // (states, N, H or P): where each sequence ends, which is step 0 for the reverse direction
  Vector c_n;     // (states, N, H)
};

struct LstmRecord {
  LstmOutput result;
  std::vector<std::vector<DirectionRecord>> directions;  // [state][row]
};

struct LstmGradients {
  Vector parameters;  // in the order of parameter_layout()
  Vector x;
  Vector h_0, c_0;  // by each row's start state, whether it was passed in or is the layer's own
};

LstmRecord lstm_forward(const LstmOptions& options, const Vector& parameters, const LstmInput& input);

LstmGradients lstm_backward(const LstmOptions& options, const Vector& parameters, const LstmInput& input,
                            const LstmRecord& record, const LstmOutput& d_result);

}  // namespace latchwork::reference
