// Each tensor is found by what it is, never by its place among the others. Packing, gradients and the oracle, which
// looks tensors up by their names, must agree about every tensor.
#include "weights/parameter_places.hpp"

#include <doctest/doctest.h>

#include <map>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "network/network_parts.hpp"
#include "support/finite_differences.hpp"
#include "support/lstm_problem.hpp"
#include "support/support.hpp"
#include "weights/snapshot.hpp"

namespace latchwork::test {
namespace {

// Together these have every tensor that an LSTM can have, for every number of gates and directions.
std::vector<LstmOptions> variants() {
  LstmOptions options;
  options.input_size = 3;
  options.hidden_size = 5;
  options.num_layers = 2;
  std::vector<LstmOptions> all{options};
  options.peephole = options.layer_norm = options.learn_start_state = true;
  for (const ForgetGate forget_gate : {ForgetGate::own, ForgetGate::none, ForgetGate::coupled}) {
    for (const Direction direction : {Direction::forward, Direction::reverse, Direction::both}) {
      options.forget_gate = forget_gate;
      options.direction = direction;
      options.proj_size = direction == Direction::forward ? 0 : 2;
      options.bias = forget_gate != ForgetGate::none;
      all.push_back(options);
    }
  }
  options.num_layers = 1;
  options.direction = Direction::forward;
  options.proj_size = 0;
  options.cell = true;
  all.push_back(options);
  return all;
}

std::string suffix_of(const LstmOptions& options, Index state) {
  if (options.cell) return "";
  const bool reverse = options.direction == Direction::reverse || state % options.directions() == 1;
  return "_l" + std::to_string(state / options.directions()) + (reverse ? "_reverse" : "");
}

// The numbers in every packed array, without zeros and sorted, under the name of the tensor that they come from. A
// tensor that is packed once more for backward has two entries.
using Packed = std::multimap<std::string, std::vector<float>>;

template <class Numbers>
std::vector<float> without_zeros(const Numbers& numbers, Index size) {
  std::vector<float> values;
  std::copy_if(numbers.data(), numbers.data() + size, std::back_inserter(values), [](float at) { return at != 0.0f; });
  std::sort(values.begin(), values.end());
  return values;
}

void add_layer(const PackedLayer<float>& layer, const std::string& suffix, Packed& packed) {
  const auto add_panels = [&](const char* name, const WeightPanels<float>& panels) {
    packed.emplace(name + suffix, without_zeros(panels, panels.shape().row_size() * panels.depth()));
  };
  const auto add_row = [&](const char* name, const Buffer<float>& row) {
    packed.emplace(name + suffix, without_zeros(row, row.size()));
  };
  add_panels("weight_ih", layer.x_weights);
  add_panels("weight_ih", layer.x_gradient);
  add_panels("weight_hh", layer.h_weights);
  add_panels("weight_hh", layer.h_gradient);
  add_panels("weight_hr", layer.projection_weights);
  add_panels("weight_hr", layer.projection_gradient);
  add_row("bias", layer.bias);
  add_row("weight_peephole", layer.peephole);
  add_row("norm_ih_weight", layer.norm_ih_weight);
  add_row("norm_ih_bias", layer.norm_ih_bias);
  add_row("norm_hh_weight", layer.norm_hh_weight);
  add_row("norm_hh_bias", layer.norm_hh_bias);
  add_row("norm_cell_weight", layer.norm_cell_weight);
  add_row("norm_cell_bias", layer.norm_cell_bias);
  add_row("h_0", layer.start_hidden);
  add_row("c_0", layer.start_cell);
}

// The two biases are packed as one row that holds their sum.
std::string name_when_packed(std::string name) {
  for (const char* bias : {"bias_ih", "bias_hh"}) {
    if (const auto at = name.find(bias); at != std::string::npos) name.replace(at, 7, "bias");
  }
  return name;
}

Packed packed_with(const Network<float>& network, const std::string& name) {
  const ParameterSpec* marked = nullptr;
  for (const ParameterSpec& spec : network.layout()) {
    if (spec.name == name) marked = &spec;
  }
  REQUIRE(marked != nullptr);
  network.store()->write([&](float* values) {
    std::fill_n(values, network.parameter_count(), 0.0f);
    std::iota(values + marked->offset, values + marked->offset + marked->size(), 1.0f);
  });
  Packed packed;
  const auto snapshot = detail::snapshot_of(*detail::parts_of(network), true);
  for (std::size_t at = 0; at < network.modules().size(); ++at) {
    const PackedModule<float>& module = snapshot->members.front()[at];
    const std::string prefix = network.modules().size() > 1 ? std::to_string(at) + "." : "";
    if (const auto* lstm = std::get_if<LstmOptions>(&network.modules()[at])) {
      Packed layers;
      for (Index state = 0; state < lstm->states(); ++state) {
        add_layer(module.layers[static_cast<std::size_t>(state)], suffix_of(*lstm, state), layers);
      }
      for (const auto& [tensor, numbers] : layers) packed.emplace(prefix + tensor, numbers);
    } else if (std::holds_alternative<LinearOptions>(network.modules()[at])) {
      const PackedLinear<float>& linear = module.linear;
      packed.emplace(prefix + "weight", without_zeros(linear.weights, linear.weights.bytes() / 4));
      packed.emplace(prefix + "weight", without_zeros(linear.gradient, linear.gradient.bytes() / 4));
      packed.emplace(prefix + "bias", without_zeros(linear.bias, linear.bias.size()));
    } else {
      packed.emplace(prefix + "weight", without_zeros(module.table, module.table.size()));
    }
  }
  return packed;
}

// Fills one tensor after another with numbers while all others are zero. What is packed from it must hold all its
// numbers, and everything else only zeros.
void check_packing(const Network<float>& network) {
  std::set<std::string> seen;
  for (const ParameterSpec& spec : network.layout()) {
    CAPTURE(spec.name);
    CHECK(seen.insert(spec.name).second);
    std::vector<float> expected(static_cast<std::size_t>(spec.size()));
    std::iota(expected.begin(), expected.end(), 1.0f);
    Index places = 0;
    for (const auto& packed : packed_with(network, spec.name)) {
      const auto& name = packed.first;
      const auto& numbers = packed.second;
      CAPTURE(name);
      const bool expects_numbers = name == name_when_packed(spec.name);
      places += expects_numbers ? 1 : 0;
      CHECK(numbers == (expects_numbers ? expected : std::vector<float>{}));
    }
    CHECK(places > 0);
  }
}

}  // namespace

TEST_CASE("places: every tensor of every variant is packed where it belongs, and nowhere else") {
  for (const LstmOptions& options : variants()) check_packing(Network<float>({options}, TensorNames::of_layer, 1));
  LinearOptions head, no_bias;
  head.in_features = no_bias.out_features = 5;
  head.out_features = no_bias.in_features = 3;
  no_bias.bias = false;
  EmbeddingOptions embedding;
  embedding.num_embeddings = 7;
  embedding.embedding_dim = 3;
  LstmOptions upper = variants().front();
  upper.input_size = 5;
  check_packing(Network<float>({embedding, variants().front(), head, no_bias, upper, LastOptions{}, head},
                               TensorNames::of_chain, 1));
}

TEST_CASE("places: the gradient of every tensor is the slope of the oracle's loss along it") {
  Random random(17);
  for (const LstmOptions& options : variants()) {
    Problem problem = random_problem(random, options, 4, 3, false, false, false);
    const Network<double> network = network_of<double>(problem);
    Results<double> results(problem);
    const Gradients<double> gradients = run_backward(*run_record(network, problem, results), problem);
    const reference::Vector parameters = problem.parameters;
    for (const ParameterSpec& spec : network.layout()) {
      CAPTURE(spec.name);
      const std::vector<double> along = random.numbers(spec.size());
      const auto loss_at = [&](double step) {
        problem.parameters = parameters;
        for (Index at = 0; at < spec.size(); ++at) {
          problem.parameters[static_cast<std::size_t>(spec.offset + at)] += step * along[static_cast<std::size_t>(at)];
        }
        return loss(problem);
      };
      const double slope =
          std::inner_product(along.begin(), along.end(), gradients.parameters.begin() + spec.offset, 0.0);
      CHECK(slope != 0.0);
      CHECK((loss_at(1e-5) - loss_at(-1e-5)) / 2e-5 == doctest::Approx(slope).epsilon(1e-5));
    }
  }
}

TEST_CASE("places: a layout says what each tensor is, and tensors are found by that") {
  LstmOptions both = variants().front();
  both.direction = Direction::both;
  LinearOptions head;
  head.in_features = both.output_size();
  head.out_features = 4;
  const std::vector<ModuleOptions> modules{EmbeddingOptions{7, 3}, both, head};
  const std::vector<ParameterSpec> layout = parameter_layout(modules, TensorNames::of_chain);
  std::vector<float> parameters(1000);
  Index found = 0;
  const auto check = [&](Index module, Index layer, Index direction, ParameterKind kind, const std::string& name) {
    CAPTURE(name);
    const float* const place = ParameterPlaces(layout, module, layer, direction).in(parameters.data(), kind);
    const auto spec =
        std::find_if(layout.begin(), layout.end(), [&](const ParameterSpec& one) { return one.name == name; });
    REQUIRE(spec != layout.end());
    CHECK(place == parameters.data() + spec->offset);
    ++found;
  };
  check(0, 0, 0, ParameterKind::weight, "0.weight");
  for (Index state = 0; state < 4; ++state) {
    const std::string suffix = suffix_of(both, state);
    check(1, state / 2, state % 2, ParameterKind::weight_ih, "1.weight_ih" + suffix);
    check(1, state / 2, state % 2, ParameterKind::weight_hh, "1.weight_hh" + suffix);
    check(1, state / 2, state % 2, ParameterKind::bias_ih, "1.bias_ih" + suffix);
    check(1, state / 2, state % 2, ParameterKind::bias_hh, "1.bias_hh" + suffix);
  }
  check(2, 0, 0, ParameterKind::weight, "2.weight");
  check(2, 0, 0, ParameterKind::bias, "2.bias");
  CHECK(found == static_cast<Index>(layout.size()));
  CHECK(ParameterPlaces(layout, 0).in(parameters.data(), ParameterKind::bias) == nullptr);
  CHECK(ParameterPlaces(layout, 1).in(parameters.data(), ParameterKind::c_0) == nullptr);
  CHECK(ParameterPlaces(layout, 1, 2).in(parameters.data(), ParameterKind::weight_ih) == nullptr);
}

}  // namespace latchwork::test
