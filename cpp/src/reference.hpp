#pragma once

#include <vector>

#include "latchwork/options.hpp"
#include "reference_cell.hpp"

// torch.nn.LSTM in plain loops: stacks, both directions, projection, ragged batches, resets, dropout. The oracle of the
// library's tests, and the place to read what an option means. All arrays are contiguous; T steps, N rows.
namespace latchwork::reference {

struct LstmInput {
  Index steps = 0;
  Index rows = 0;
  Vector x;                         // (T, N, input_size)
  Vector h_0;                       // (states, N, H or P); empty: zeros
  Vector c_0;                       // (states, N, H); empty: zeros
  std::vector<Index> lengths;       // (N); empty: T
  std::vector<std::uint8_t> reset;  // (T, N), non-zero: before this step the state becomes zeros; empty: never
  Vector masks;  // (num_layers - 1, T, N, output_size), factors of those layers' outputs; empty: ones
};

// A result, or a loss's gradient by it.
struct LstmOutput {
  Vector output;  // (T, N, output_size), zero in padding
  Vector h_n;     // (states, N, H or P): where each sequence ends, which is step 0 for the reverse direction
  Vector c_n;     // (states, N, H)
};

// What one layer and direction did with one sequence: steps[t] is step t, whichever way it ran.
struct DirectionRecord {
  std::vector<CellStep> steps;
  std::vector<Vector> h;  // h of each step, after the projection if there is one
};

struct LstmRecord {
  LstmOutput result;
  std::vector<std::vector<DirectionRecord>> directions;  // [state][row]
};

struct LstmGradients {
  Vector parameters;  // in the order of parameter_layout()
  Vector x, h_0, c_0;
};

LstmRecord lstm_forward(const LstmOptions& options, const Vector& parameters, const LstmInput& input);

LstmGradients lstm_backward(const LstmOptions& options, const Vector& parameters, const LstmInput& input,
                            const LstmRecord& record, const LstmOutput& d_result);

}  // namespace latchwork::reference
