// The time of one step of an LSTM with one input, in Latchwork's stream and in RTNeural's compile-time model.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "latchwork/isa.hpp"
#include "latchwork/network.hpp"
#include "latchwork/stream.hpp"
#include "rtneural_model.hpp"

namespace {

constexpr int rounds = 41;
constexpr double sample_seconds = 2e-3;
constexpr int checked_steps = 2000;
constexpr double tolerance = 1e-5;

double seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

struct Contender {
  std::string name;
  std::function<void()> reset;
  std::function<const float*(const float* inputs, int steps)> run;  // returns the last step's outputs
  int sample_steps = 0;
  std::vector<double> samples;  // seconds for each step
};

void sample(Contender& contender, const std::vector<float>& inputs) {
  const double begin = seconds();
  contender.run(inputs.data(), contender.sample_steps);
  contender.samples.push_back((seconds() - begin) / contender.sample_steps);
}

void choose_sample_steps(Contender& contender, const std::vector<float>& inputs) {
  const auto most = static_cast<int>(inputs.size());
  contender.sample_steps = 1000;
  sample(contender, inputs);
  contender.samples.clear();
  sample(contender, inputs);
  contender.sample_steps = std::min(most, static_cast<int>(sample_seconds / contender.samples.back()));
  contender.samples.clear();
}

// The largest difference of any output at any step.
double difference(Contender& one, Contender& other, const std::vector<float>& inputs, int hidden_size) {
  one.reset();
  other.reset();
  double largest = 0.0;
  for (int step = 0; step < checked_steps; ++step) {
    const float* a = one.run(inputs.data() + step, 1);
    const float* b = other.run(inputs.data() + step, 1);
    for (int unit = 0; unit < hidden_size; ++unit) {
      const double apart = std::abs(static_cast<double>(a[unit]) - static_cast<double>(b[unit]));
      if (!(apart <= largest)) largest = apart;
    }
  }
  return largest;
}

// Latchwork's weights in RTNeural's order.
void copy_weights(const latchwork::Network<float>& network, int hidden_size, RTNeuralModel& model) {
  const auto gates = static_cast<std::size_t>(4 * hidden_size);
  const auto units = static_cast<std::size_t>(hidden_size);
  RTNeuralModel::Matrix input(1, std::vector<float>(gates)), recurrent(units, std::vector<float>(gates));
  std::vector<float> bias(gates);
  network.store()->read([&](const float* values) {
    for (std::size_t gate = 0; gate < gates; ++gate) {
      input[0][gate] = values[gate];
      for (std::size_t unit = 0; unit < units; ++unit) recurrent[unit][gate] = values[gates + gate * units + unit];
      bias[gate] = values[gates * (1 + units) + gate] + values[gates * (2 + units) + gate];
    }
  });
  model.set_weights(input, recurrent, bias);
}

bool compare(int hidden_size, float weight_scale) {
  std::mt19937 generator(1);
  std::uniform_real_distribution<float> between(-1.0f, 1.0f);
  std::vector<float> inputs(200'000);
  for (float& input : inputs) input = between(generator);

  latchwork::LstmOptions options;
  options.input_size = 1;
  options.hidden_size = hidden_size;
  const latchwork::Network<float> network({options}, latchwork::TensorNames::of_layer, 1);
  network.store()->write([&](float* values) {
    for (latchwork::Index at = 0; at < network.parameter_count(); ++at) values[at] *= weight_scale;
  });
  const std::unique_ptr<latchwork::Stream<float>> stream = network.stream(1);
  std::vector<float> outputs(static_cast<std::size_t>(hidden_size));

  std::vector<Contender> contenders;
  contenders.push_back({"Latchwork", [&] { stream->reset(); },
                        [&](const float* x, int steps) -> const float* {
                          for (int step = 0; step < steps; ++step) stream->step(x + step, outputs.data());
                          return outputs.data();
                        }});
  struct Variant {
    const char* name;
    std::unique_ptr<RTNeuralModel> (*make)(int);
  };
  static constexpr Variant variants[] = {{"Eigen", eigen_exact::make_model}, {"Eigen, fast", eigen_fast::make_model},
                                         {"xsimd", xsimd_exact::make_model}, {"xsimd, fast", xsimd_fast::make_model},
                                         {"STL", stl_exact::make_model},     {"STL, fast", stl_fast::make_model}};
  std::vector<std::unique_ptr<RTNeuralModel>> models;
  for (const Variant& variant : variants) {
    RTNeuralModel* model = models.emplace_back(variant.make(hidden_size)).get();
    copy_weights(network, hidden_size, *model);
    contenders.push_back({variant.name, [model] { model->reset(); },
                          [model](const float* x, int steps) { return model->run(x, steps); }});
    const double apart = difference(contenders.front(), contenders.back(), inputs, hidden_size);
    if (!(apart <= tolerance)) {
      std::printf("hidden size %d: RTNeural with %s is %g off and not timed\n", hidden_size, variant.name, apart);
      return false;
    }
  }

  for (Contender& contender : contenders) choose_sample_steps(contender, inputs);
  for (std::size_t round = 0; round < rounds; ++round) {
    for (std::size_t at = 0; at < contenders.size(); ++at) sample(contenders[(at + round) % contenders.size()], inputs);
  }
  std::printf("%6d", hidden_size);
  double best = 0.0;
  for (const Contender& contender : contenders) {
    const double time = median(contender.samples) * 1e9;
    std::printf("  %11.1f", time);
    if (&contender != contenders.data() && (best == 0.0 || time < best)) best = time;
  }
  std::printf("  %6.2f\n", best / (median(contenders.front().samples) * 1e9));
  return true;
}

}  // namespace

int main() {
  std::printf("ns a step, medians of %d; ratio: RTNeural's best over Latchwork under %s\n", rounds,
              latchwork::current_isa().c_str());
  bool right = true;
  for (const float weight_scale : {1.0f, 3.0f}) {
    std::printf("\nweights as initialised, times %g\n%6s", static_cast<double>(weight_scale), "hidden");
    for (const char* name : {"Latchwork", "Eigen", "Eigen, fast", "xsimd", "xsimd, fast", "STL", "STL, fast"}) {
      std::printf("  %11s", name);
    }
    std::printf("  %6s\n", "ratio");
    for (const int hidden_size : {8, 16, 20, 32, 40, 64}) right = compare(hidden_size, weight_scale) && right;
  }
  return right ? 0 : 1;
}
