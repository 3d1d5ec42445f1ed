#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "latchwork/parameters.hpp"

namespace latchwork::test {
namespace {

using Modules = std::vector<ModuleOptions>;

LstmOptions lstm(Index input_size, Index hidden_size) {
  LstmOptions options;
  options.input_size = input_size;
  options.hidden_size = hidden_size;
  return options;
}

template <class T>
std::vector<T> initial_values(const Modules& modules, std::uint64_t seed) {
  const auto layout = parameter_layout(modules, TensorNames::of_chain);
  const Index size = layout.empty() ? 0 : layout.back().offset + layout.back().size();
  std::vector<T> values(static_cast<std::size_t>(size), T(99));
  initialise_parameters(modules, seed, values.data());
  return values;
}

// The initial values of each tensor, by its name.
std::map<std::string, std::vector<double>> initial_tensors(const LstmOptions& options, std::uint64_t seed) {
  const auto values = initial_values<double>({options}, seed);
  std::map<std::string, std::vector<double>> tensors;
  for (const ParameterSpec& spec : parameter_layout({options}, TensorNames::of_layer)) {
    tensors[spec.name].assign(values.begin() + spec.offset, values.begin() + spec.offset + spec.size());
  }
  return tensors;
}

struct Moments {
  double mean = 0.0;
  double variance = 0.0;
};

Moments moments(const double* values, Index size) {
  Moments result;
  for (Index i = 0; i < size; ++i) result.mean += values[i] / static_cast<double>(size);
  for (Index i = 0; i < size; ++i) {
    result.variance += (values[i] - result.mean) * (values[i] - result.mean) / static_cast<double>(size);
  }
  return result;
}

// Allows five standard errors. The values of a seed are always the same, so the result does not change from run to run.
void check_uniform(const double* values, Index size, double lowest, double highest) {
  const double width = highest - lowest, variance = width * width / 12.0;
  const Moments found = moments(values, size);
  CHECK(std::abs(found.mean - (lowest + highest) / 2.0) < 5.0 * std::sqrt(variance / static_cast<double>(size)));
  CHECK(std::abs(found.variance / variance - 1.0) < 5.0 * std::sqrt(0.8 / static_cast<double>(size)));
  const auto [least, largest] = std::minmax_element(values, values + size);
  CHECK(*least >= lowest);
  CHECK(*largest <= highest);
  CHECK(*largest - *least > 0.9 * width);
}

void check_uniform(const std::vector<double>& values, double bound) {
  check_uniform(values.data(), static_cast<Index>(values.size()), -bound, bound);
}

bool all_equal(const std::vector<double>& values, double expected) {
  return std::all_of(values.begin(), values.end(), [&](double value) { return value == expected; });
}

// The largest element of |Q^T Q - 1| of a matrix (rows, columns).
double columns_off_orthonormal(const double* q, Index rows, Index columns) {
  double largest = 0.0;
  for (Index a = 0; a < columns; ++a) {
    for (Index b = 0; b <= a; ++b) {
      double product = a == b ? -1.0 : 0.0;
      for (Index i = 0; i < rows; ++i) product += q[i * columns + a] * q[i * columns + b];
      largest = std::max(largest, std::abs(product));
    }
  }
  return largest;
}

std::vector<double> rows_of(const std::vector<double>& values, Index begin, Index end) {
  return {values.begin() + begin, values.begin() + end};
}

// Options with which an LSTM has every tensor that it can have, except those of other gate counts.
LstmOptions all_tensors() {
  LstmOptions options = lstm(24, 48);
  options.num_layers = 2;
  options.direction = Direction::both;
  options.proj_size = 16;
  options.peephole = options.layer_norm = options.learn_start_state = true;
  return options;
}

constexpr Initialisation all_initialisations[] = {Initialisation::torch, Initialisation::keras,
                                                  Initialisation::orthogonal, Initialisation::chrono};

}  // namespace

TEST_CASE("initial values have PyTorch's distributions") {
  LstmOptions projected = lstm(40, 64);
  projected.proj_size = 16;
  LinearOptions head;
  head.in_features = 16;
  head.out_features = 300;
  const Modules modules = {EmbeddingOptions{500, 40}, projected, head};
  const auto values = initial_values<double>(modules, 7);
  for (const ParameterSpec& spec : parameter_layout(modules, TensorNames::of_chain)) {
    CAPTURE(spec.name);
    const double* tensor = values.data() + spec.offset;
    if (spec.name != "0.weight") {
      const double bound = spec.name[0] == '1' ? 1.0 / 8.0 : 1.0 / 4.0;
      check_uniform(tensor, spec.size(), -bound, bound);
      continue;
    }
    const auto size = static_cast<double>(spec.size());
    const Moments found = moments(tensor, spec.size());
    CHECK(std::abs(found.mean) < 5.0 / std::sqrt(size));
    CHECK(std::abs(found.variance - 1.0) < 5.0 * std::sqrt(2.0 / size));
    const auto [least, largest] = std::minmax_element(tensor, tensor + spec.size());
    CHECK(*largest > 3.0);
    CHECK(*least < -3.0);
    const auto beyond = std::count_if(tensor, tensor + spec.size(), [](double x) { return std::abs(x) > 1.96; });
    CHECK(static_cast<double>(beyond) / size == doctest::Approx(0.05).epsilon(0.1));
  }
}

TEST_CASE("initial values depend only on the seed and the tensor") {
  const Modules modules = {EmbeddingOptions{5, 8}, lstm(8, 8)};
  const auto values = initial_values<double>(modules, 1);
  CHECK(values == initial_values<double>(modules, 1));
  CHECK(values != initial_values<double>(modules, 2));
  CHECK(values != initial_values<double>(modules, std::uint64_t{1} << 40 | 1));
  CHECK(std::set<double>(values.begin(), values.end()).size() >
        values.size() * 99 / 100);  // no tensor repeats the values of another

  const auto single = initial_values<float>(modules, 1);
  for (std::size_t i = 0; i < values.size(); ++i) CHECK(single[i] == static_cast<float>(values[i]));

  Modules longer = modules;
  longer.push_back(lstm(8, 3));
  const auto more = initial_values<double>(longer, 1);
  CHECK(std::equal(values.begin(), values.end(), more.begin()));
}

TEST_CASE("the initial values of a seed are the same in every version") {
  LinearOptions head;
  head.in_features = 4;
  head.out_features = 2;
  const auto values = initial_values<double>({EmbeddingOptions{4, 3}, lstm(3, 4), head}, 9);
  struct Element {
    std::size_t place;
    double value;
  };
  for (const auto& [place, value] :
       {Element{0, -0x1.eeb683b58f702p+0}, Element{1, -0x1.1f84daf996995p+0}, Element{2, 0x1.4458839abd238p+0}}) {
    CHECK(values[place] == doctest::Approx(value).epsilon(1e-14));  // these go through the C library's log, sin and cos
  }
  for (const auto& [place, value] :
       {Element{12, 0x1.7c543p-3}, Element{60, 0x1.09c27p-2}, Element{124, 0x1.0e527p-3}, Element{140, 0x1.fc779cp-2},
        Element{155, -0x1.d6dc4p-2}, Element{156, -0x1.76a59p-3}, Element{164, -0x1.3d13fcp-2},
        Element{165, -0x1.f554b4p-2}}) {
    CHECK(values[place] == value);
  }
  // Options that add no tensors change no initial value; those that do leave the tensors before them as they were.
  LstmOptions options = lstm(3, 4);
  const auto plain = initial_values<double>({options}, 9);
  options.activations[0].cell = {"relu"};
  options.clip = 1.0;
  options.zoneout_cell = 0.5;
  CHECK(initial_values<double>({options}, 9) == plain);
  options.peephole = options.layer_norm = options.learn_start_state = true;
  const auto more = initial_values<double>({options}, 9);
  CHECK(std::equal(plain.begin(), plain.end(), more.begin()));
}

TEST_CASE("every initialisation is finite, differs between seeds and agrees between float and double") {
  for (const Initialisation init : all_initialisations) {
    LstmOptions options = all_tensors();
    options.init = init;
    if (init == Initialisation::chrono) options.t_max = 20;
    CAPTURE(static_cast<int>(init));
    for (const ForgetGate forget_gate : {ForgetGate::own, ForgetGate::coupled}) {
      options.forget_gate = forget_gate;
      const auto values = initial_values<double>({options}, 1);
      CHECK(std::all_of(values.begin(), values.end(), [](double value) { return std::abs(value) < 20.0; }));
      CHECK(values == initial_values<double>({options}, 1));
      CHECK(values != initial_values<double>({options}, 2));
      const auto single = initial_values<float>({options}, 1);
      bool same = true;
      for (std::size_t i = 0; i < values.size(); ++i) same = same && single[i] == static_cast<float>(values[i]);
      CHECK(same);
    }
  }
}

TEST_CASE("norms start as the identity, start states as zeros") {
  for (const Initialisation init : all_initialisations) {
    LstmOptions options = all_tensors();
    options.init = init;
    if (init == Initialisation::chrono) options.t_max = 20;
    for (const auto& tensor : initial_tensors(options, 3)) {
      const auto& name = tensor.first;
      const auto& values = tensor.second;
      CAPTURE(name);
      if (name.starts_with("norm_")) {
        CHECK(all_equal(values, name.find("_weight_") != std::string::npos ? 1.0 : 0.0));
      }
      if (name.starts_with("h_0") || name.starts_with("c_0")) CHECK(all_equal(values, 0.0));
    }
  }
}

TEST_CASE("keras: Glorot uniform, orthogonal over all gates, forget bias 1") {
  for (const ForgetGate forget_gate : {ForgetGate::own, ForgetGate::none, ForgetGate::coupled}) {
    LstmOptions options = all_tensors();
    options.init = Initialisation::keras;
    options.forget_gate = forget_gate;
    const Index rows = options.gates() * 48;
    auto tensors = initial_tensors(options, 5);
    CHECK(tensors["weight_hh_l0"] != tensors["weight_hh_l1"]);
    for (const std::string suffix : {"_l0", "_l0_reverse", "_l1", "_l1_reverse"}) {
      CAPTURE(suffix);
      const double inputs = suffix.starts_with("_l0") ? 24.0 : 32.0;
      check_uniform(tensors["weight_ih" + suffix], std::sqrt(6.0 / (inputs + static_cast<double>(rows))));
      check_uniform(tensors["weight_hr" + suffix], std::sqrt(6.0 / (48.0 + 16.0)));
      CHECK(columns_off_orthonormal(tensors["weight_hh" + suffix].data(), rows, 16) < 1e-13);
      CHECK(all_equal(tensors["weight_peephole" + suffix], 0.0));
      CHECK(all_equal(tensors["bias_hh" + suffix], 0.0));
      const std::vector<double>& bias = tensors["bias_ih" + suffix];
      CHECK(all_equal(rows_of(bias, 0, 48), 0.0));
      CHECK(all_equal(rows_of(bias, 48, 96), forget_gate == ForgetGate::own ? 1.0 : 0.0));
      CHECK(all_equal(rows_of(bias, 96, rows), 0.0));
    }
  }
}

TEST_CASE("orthogonal: each gate by itself") {
  for (const Index proj_size : {Index{0}, Index{16}}) {
    LstmOptions options = all_tensors();
    options.init = Initialisation::orthogonal;
    options.proj_size = proj_size;
    const Index columns = options.hidden_output_size();
    auto tensors = initial_tensors(options, 5);
    check_uniform(tensors["weight_ih_l0"], std::sqrt(6.0 / (24.0 + 48.0)));
    check_uniform(tensors["weight_ih_l1"], std::sqrt(6.0 / (2.0 * static_cast<double>(columns) + 48.0)));
    if (proj_size > 0) check_uniform(tensors["weight_hr_l0"], std::sqrt(6.0 / (48.0 + 16.0)));
    CHECK(all_equal(tensors["weight_peephole_l0"], 0.0));
    CHECK(all_equal(tensors["bias_ih_l0"], 0.0));
    CHECK(all_equal(tensors["bias_hh_l0"], 0.0));
    const std::vector<double>& recurrent = tensors["weight_hh_l0"];
    for (Index gate = 0; gate < 4; ++gate) {
      CHECK(columns_off_orthonormal(recurrent.data() + gate * 48 * columns, 48, columns) < 1e-13);
    }
    CHECK(rows_of(recurrent, 0, 48 * columns) != rows_of(recurrent, 48 * columns, 96 * columns));
  }
}

TEST_CASE("orthogonal matrices favour no direction") {
  // With one unit the element is 1 or -1, each as likely. With two the matrix is a rotation or reflection by any angle.
  int positive = 0, rotations = 0;
  double sine = 0.0, cosine = 0.0, elements = 0.0;
  constexpr int tries = 1000;
  for (std::uint64_t seed = 0; seed < tries; ++seed) {
    LstmOptions options = lstm(1, 1);
    options.init = Initialisation::orthogonal;
    positive += initial_tensors(options, seed)["weight_hh_l0"][0] > 0.0;
    options.hidden_size = 2;
    const std::vector<double> q = initial_tensors(options, seed)["weight_hh_l0"];
    rotations += q[0] * q[3] - q[1] * q[2] > 0.0;
    cosine += q[0];
    sine += q[2];
    elements += q[3] * q[3];
  }
  CHECK(std::abs(positive - tries / 2) < 80);  // five standard errors
  CHECK(std::abs(rotations - tries / 2) < 80);
  CHECK(std::abs(cosine / tries) < 0.12);
  CHECK(std::abs(sine / tries) < 0.12);
  CHECK(elements / tries == doctest::Approx(0.5).epsilon(0.12));
}

TEST_CASE("chrono: the forget gate's biases are log(u), the input gate's the opposite, weights are torch's") {
  LstmOptions options = all_tensors();
  options.hidden_size = 1000;
  options.t_max = 500;
  options.init = Initialisation::chrono;
  auto tensors = initial_tensors(options, 5);
  options.init = Initialisation::torch;
  options.t_max.reset();
  auto torch = initial_tensors(options, 5);
  for (const char* name : {"weight_ih_l1", "weight_hh_l1_reverse", "weight_hr_l0", "weight_peephole_l0"}) {
    CHECK(tensors[name] == torch[name]);
  }
  CHECK(tensors["bias_ih_l0"] != tensors["bias_ih_l0_reverse"]);
  const std::vector<double>& bias = tensors["bias_ih_l0"];
  std::vector<double> steps;
  for (std::size_t unit = 0; unit < 1000; ++unit) {
    steps.push_back(std::exp(bias[1000 + unit]));
    CHECK(bias[unit] == -bias[1000 + unit]);
  }
  check_uniform(steps.data(), 1000, 1.0 - 1e-9, 499.0 + 1e-9);
  CHECK(all_equal(rows_of(bias, 2000, 4000), 0.0));
  CHECK(all_equal(tensors["bias_hh_l0"], 0.0));

  options.init = Initialisation::chrono;
  options.t_max = 500;
  options.forget_gate = ForgetGate::coupled;
  const auto coupled = initial_tensors(options, 5)["bias_ih_l0"];
  CHECK(rows_of(coupled, 0, 1000) == rows_of(bias, 0, 1000));
  CHECK(all_equal(rows_of(coupled, 1000, 3000), 0.0));

  options.t_max = 2;
  CHECK(all_equal(initial_tensors(options, 5)["bias_ih_l0"], 0.0));
}

TEST_CASE("forget_bias sets the forget gate's bias_ih and makes its bias_hh zero, with any initialisation") {
  for (const Initialisation init : {Initialisation::torch, Initialisation::keras, Initialisation::orthogonal}) {
    LstmOptions options = all_tensors();
    options.init = init;
    const auto without = initial_tensors(options, 5);
    options.forget_bias = -2.5;
    for (const auto& tensor : initial_tensors(options, 5)) {
      const auto& name = tensor.first;
      const auto& values = tensor.second;
      CAPTURE(name);
      std::vector<double> expected = without.at(name);
      if (name.starts_with("bias_")) {
        std::fill_n(expected.begin() + 48, 48, name.starts_with("bias_ih") ? -2.5 : 0.0);
      }
      CHECK(values == expected);
    }
  }
}

}  // namespace latchwork::test
