#include "latchwork/parameters.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <sstream>

namespace latchwork::test {
namespace {

using Modules = std::vector<ModuleOptions>;

// One line for each tensor: name, shape.
std::string describe(const Modules& modules, bool numbered) {
  std::ostringstream text;
  Index end = 0;
  for (const ParameterSpec& spec : parameter_layout(modules, numbered)) {
    CHECK(spec.offset == end);  // contiguous
    end += spec.size();
    text << spec.name;
    for (Index extent : spec.shape) text << ' ' << extent;
    text << '\n';
  }
  return text.str();
}

LstmOptions lstm(Index input_size, Index hidden_size) {
  LstmOptions options;
  options.input_size = input_size;
  options.hidden_size = hidden_size;
  return options;
}

template <class T>
std::vector<T> initial_values(const Modules& modules, std::uint64_t seed) {
  const auto layout = parameter_layout(modules, true);
  const Index size = layout.empty() ? 0 : layout.back().offset + layout.back().size();
  std::vector<T> values(static_cast<std::size_t>(size), T(99));
  initialise_parameters(modules, seed, values.data());
  return values;
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

}  // namespace

TEST_CASE("names and shapes are PyTorch's") {
  SUBCASE("one layer") {
    CHECK(describe({lstm(3, 5)}, false) == "weight_ih_l0 20 3\nweight_hh_l0 20 5\nbias_ih_l0 20\nbias_hh_l0 20\n");
  }
  SUBCASE("two layers, both directions, projection") {
    LstmOptions options = lstm(3, 5);
    options.num_layers = 2;
    options.direction = Direction::both;
    options.proj_size = 2;
    CHECK(describe({options}, false) ==
          "weight_ih_l0 20 3\nweight_hh_l0 20 2\nbias_ih_l0 20\nbias_hh_l0 20\nweight_hr_l0 2 5\n"
          "weight_ih_l0_reverse 20 3\nweight_hh_l0_reverse 20 2\nbias_ih_l0_reverse 20\nbias_hh_l0_reverse 20\n"
          "weight_hr_l0_reverse 2 5\n"
          "weight_ih_l1 20 4\nweight_hh_l1 20 2\nbias_ih_l1 20\nbias_hh_l1 20\nweight_hr_l1 2 5\n"
          "weight_ih_l1_reverse 20 4\nweight_hh_l1_reverse 20 2\nbias_ih_l1_reverse 20\nbias_hh_l1_reverse 20\n"
          "weight_hr_l1_reverse 2 5\n");
  }
  SUBCASE("a lone reverse direction, without bias") {
    LstmOptions options = lstm(3, 5);
    options.num_layers = 2;
    options.direction = Direction::reverse;
    options.bias = false;
    CHECK(describe({options}, false) ==
          "weight_ih_l0_reverse 20 3\nweight_hh_l0_reverse 20 5\n"
          "weight_ih_l1_reverse 20 5\nweight_hh_l1_reverse 20 5\n");
  }
  SUBCASE("a cell") {
    LstmOptions options = lstm(3, 5);
    options.cell = true;
    CHECK(describe({options}, false) == "weight_ih 20 3\nweight_hh 20 5\nbias_ih 20\nbias_hh 20\n");
  }
  SUBCASE("a chain") {
    LinearOptions head;
    head.input_size = 5;
    head.output_size = 7;
    LinearOptions no_bias = head;
    no_bias.bias = false;
    CHECK(describe({EmbeddingOptions{7, 3}, lstm(3, 5), LastOptions{}, head}, true) ==
          "0.weight 7 3\n1.weight_ih_l0 20 3\n1.weight_hh_l0 20 5\n1.bias_ih_l0 20\n1.bias_hh_l0 20\n"
          "3.weight 7 5\n3.bias 7\n");
    CHECK(describe({no_bias}, true) == "0.weight 7 5\n");
    CHECK(describe({LastOptions{}}, true) == "");
  }
}

TEST_CASE("initial values have PyTorch's distributions") {
  LstmOptions projected = lstm(40, 64);
  projected.proj_size = 16;
  LinearOptions head;
  head.input_size = 16;
  head.output_size = 300;
  const Modules modules = {EmbeddingOptions{500, 40}, projected, head};
  const auto values = initial_values<double>(modules, 7);
  for (const ParameterSpec& spec : parameter_layout(modules, true)) {
    CAPTURE(spec.name);
    const double* tensor = values.data() + spec.offset;
    const auto size = static_cast<double>(spec.size());
    const Moments found = moments(tensor, spec.size());
    const bool normal = spec.name == "0.weight";
    const double bound = spec.name[0] == '1' ? 1.0 / 8.0 : 1.0 / 4.0;
    const double variance = normal ? 1.0 : bound * bound / 3.0;
    // Five standard errors; the values are always the same, so the test is not a gamble.
    CHECK(std::abs(found.mean) < 5.0 * std::sqrt(variance / size));
    CHECK(std::abs(found.variance / variance - 1.0) < 5.0 * std::sqrt((normal ? 2.0 : 0.8) / size));
    const auto [least, largest] = std::minmax_element(tensor, tensor + spec.size());
    if (normal) {
      CHECK(*largest > 3.0);
      CHECK(*least < -3.0);
      const auto beyond = std::count_if(tensor, tensor + spec.size(), [](double x) { return std::abs(x) > 1.96; });
      CHECK(static_cast<double>(beyond) / size == doctest::Approx(0.05).epsilon(0.1));
    } else {
      CHECK(*least >= -bound);
      CHECK(*largest < bound);
      CHECK(*largest - *least > 1.8 * bound);
    }
  }
}

TEST_CASE("initial values depend on seed and tensor alone") {
  const Modules modules = {EmbeddingOptions{5, 8}, lstm(8, 8)};
  const auto values = initial_values<double>(modules, 1);
  CHECK(values == initial_values<double>(modules, 1));
  CHECK(values != initial_values<double>(modules, 2));
  CHECK(values != initial_values<double>(modules, std::uint64_t{1} << 40 | 1));
  CHECK(std::set<double>(values.begin(), values.end()).size() > values.size() * 99 / 100);  // no tensor repeats another

  const auto single = initial_values<float>(modules, 1);
  for (std::size_t i = 0; i < values.size(); ++i) CHECK(single[i] == static_cast<float>(values[i]));

  Modules longer = modules;
  longer.push_back(lstm(8, 3));
  const auto more = initial_values<double>(longer, 1);
  CHECK(std::equal(values.begin(), values.end(), more.begin()));
}

TEST_CASE("a store starts at zero and counts its writes") {
  ParameterStore<float> store(3);
  CHECK(store.size() == 3);
  const auto before = store.version();
  for (Index i = 0; i < 3; ++i) CHECK(store.data()[i] == 0.0f);
  store.write([](float* values) { values[1] = 2.0f; });
  CHECK(store.version() != before);
  float seen = 0.0f;
  store.read([&](const float* values) { seen = values[1]; });
  CHECK(seen == 2.0f);
}

}  // namespace latchwork::test
