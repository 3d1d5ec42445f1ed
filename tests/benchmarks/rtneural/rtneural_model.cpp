// Compiled once for each backend of RTNeural and each way of compiling it.
#include "rtneural_model.hpp"

#include <RTNeural/RTNeural.h>

namespace VARIANT {

namespace {

template <int HiddenSize>
class Model : public RTNeuralModel {
 public:
  void set_weights(const Matrix& input, const Matrix& recurrent, const std::vector<float>& bias) override {
    auto& lstm = model_.template get<0>();
    lstm.setWVals(input);
    lstm.setUVals(recurrent);
    lstm.setBVals(bias);
  }
  void reset() override { model_.reset(); }
  const float* run(const float* inputs, int steps) override {
    for (int step = 0; step < steps; ++step) {
      model_.forward(inputs + step);
      asm volatile("" : : "r"(model_.getOutputs()) : "memory");  // makes the compiler compute the outputs of every step
    }
    return model_.getOutputs();
  }

 private:
  RTNEURAL_NAMESPACE::ModelT<float, 1, HiddenSize, RTNEURAL_NAMESPACE::LSTMLayerT<float, 1, HiddenSize>> model_;
};

template <int... HiddenSizes>
std::unique_ptr<RTNeuralModel> make_one_of(int hidden_size) {
  std::unique_ptr<RTNeuralModel> model;
  ((hidden_size == HiddenSizes ? void(model = std::make_unique<Model<HiddenSizes>>()) : void()), ...);
  return model;
}

}  // namespace

std::unique_ptr<RTNeuralModel> make_model(int hidden_size) { return make_one_of<8, 16, 20, 32, 40, 64>(hidden_size); }

}  // namespace VARIANT
