#pragma once

#include <memory>
#include <vector>

// An LSTM with one input as RTNeural runs it. Its size is fixed when it is compiled.
class RTNeuralModel {
 public:
  using Matrix = std::vector<std::vector<float>>;  // [input or unit][gates i, f, g, o of all units]

  virtual ~RTNeuralModel() = default;
  virtual void set_weights(const Matrix& input, const Matrix& recurrent, const std::vector<float>& bias) = 0;
  virtual void reset() = 0;
  // One step for each input; returns the last step's outputs.
  virtual const float* run(const float* inputs, int steps) = 0;
};

// Returns null for a size that was not compiled.
#define RTNEURAL_VARIANT(name)                                \
  namespace name {                                            \
  std::unique_ptr<RTNeuralModel> make_model(int hidden_size); \
  }
RTNEURAL_VARIANT(eigen_exact)
RTNEURAL_VARIANT(eigen_fast)
RTNEURAL_VARIANT(xsimd_exact)
RTNEURAL_VARIANT(xsimd_fast)
RTNEURAL_VARIANT(stl_exact)
RTNEURAL_VARIANT(stl_fast)
#undef RTNEURAL_VARIANT
