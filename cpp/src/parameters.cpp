#include "latchwork/parameters.hpp"

#include <cmath>
#include <numbers>

#include "float_state.hpp"
#include "random.hpp"

namespace latchwork {
namespace {

// Collects tensors one behind another.
class Layout {
 public:
  void add(std::string name, std::vector<Index> shape) {
    specs_.push_back({std::move(name), std::move(shape), end_});
    end_ += specs_.back().size();
  }
  std::vector<ParameterSpec> take() { return std::move(specs_); }

 private:
  std::vector<ParameterSpec> specs_;
  Index end_ = 0;
};

void add_lstm(const LstmOptions& options, const std::string& prefix, Layout& layout) {
  const Index gates = 4 * options.hidden_size;
  for (Index layer = 0; layer < options.num_layers; ++layer) {
    const Index input = layer == 0 ? options.input_size : options.output_size();
    for (Index direction = 0; direction < options.directions(); ++direction) {
      const bool reverse = direction == 1 || options.direction == Direction::reverse;
      const std::string suffix = options.cell ? "" : "_l" + std::to_string(layer) + (reverse ? "_reverse" : "");
      layout.add(prefix + "weight_ih" + suffix, {gates, input});
      layout.add(prefix + "weight_hh" + suffix, {gates, options.hidden_output_size()});
      if (options.bias) {
        layout.add(prefix + "bias_ih" + suffix, {gates});
        layout.add(prefix + "bias_hh" + suffix, {gates});
      }
      if (options.proj_size > 0) {
        layout.add(prefix + "weight_hr" + suffix, {options.proj_size, options.hidden_size});
      }
    }
  }
}

void add_module(const ModuleOptions& module, const std::string& prefix, Layout& layout) {
  if (const auto* embedding = std::get_if<EmbeddingOptions>(&module)) {
    layout.add(prefix + "weight", {embedding->vocabulary, embedding->size});
  } else if (const auto* lstm = std::get_if<LstmOptions>(&module)) {
    add_lstm(*lstm, prefix, layout);
  } else if (const auto* linear = std::get_if<LinearOptions>(&module)) {
    layout.add(prefix + "weight", {linear->output_size, linear->input_size});
    if (linear->bias) layout.add(prefix + "bias", {linear->output_size});
  }
}

// Keeps these numbers apart from those that other parts draw with the same seed.
constexpr std::uint32_t initial_values = 0x696E6974;

// Calls draw(bits, i) for every element i of tensor number `tensor`, with four random words for each four elements.
template <class Draw>
void draw_tensor(std::uint64_t seed, std::uint32_t tensor, Index size, Draw&& draw) {
  for (Index begin = 0; begin < size; begin += 4) {
    const auto block = static_cast<std::uint64_t>(begin / 4);
    const auto words = philox(
        seed, {static_cast<std::uint32_t>(block), static_cast<std::uint32_t>(block >> 32), tensor, initial_values});
    for (Index i = begin; i < begin + 4 && i < size; ++i) draw(words, i);
  }
}

template <class T>
void fill_uniform(std::uint64_t seed, std::uint32_t tensor, double bound, Index size, T* values) {
  draw_tensor(seed, tensor, size, [&](const std::array<std::uint32_t, 4>& words, Index i) {
    values[i] = static_cast<T>((2.0 * uniform(words[static_cast<std::size_t>(i % 4)]) - 1.0) * bound);
  });
}

// Box and Muller: each two words give two numbers.
template <class T>
void fill_normal(std::uint64_t seed, std::uint32_t tensor, Index size, T* values) {
  draw_tensor(seed, tensor, size, [&](const std::array<std::uint32_t, 4>& words, Index i) {
    const std::size_t pair = i % 4 < 2 ? 0 : 2;
    const double above_zero = uniform(words[pair]) + 0x1p-24;
    const double radius = std::sqrt(-2.0 * std::log(above_zero));
    const double angle = 2.0 * std::numbers::pi * uniform(words[pair + 1]);
    values[i] = static_cast<T>(radius * (i % 2 == 0 ? std::cos(angle) : std::sin(angle)));
  });
}

double uniform_bound(const ModuleOptions& module) {
  if (const auto* lstm = std::get_if<LstmOptions>(&module))
    return 1.0 / std::sqrt(static_cast<double>(lstm->hidden_size));
  if (const auto* linear = std::get_if<LinearOptions>(&module))
    return 1.0 / std::sqrt(static_cast<double>(linear->input_size));
  return 0.0;
}

}  // namespace

std::vector<ParameterSpec> parameter_layout(const std::vector<ModuleOptions>& modules, bool numbered) {
  Layout layout;
  for (std::size_t index = 0; index < modules.size(); ++index) {
    add_module(modules[index], numbered ? std::to_string(index) + "." : "", layout);
  }
  return layout.take();
}

template <class T>
void initialise_parameters(const std::vector<ModuleOptions>& modules, std::uint64_t seed, T* parameters) {
  const FlushToZero flush_to_zero;
  std::uint32_t tensor = 0;
  for (const ModuleOptions& module : modules) {
    const std::vector<ParameterSpec> specs = parameter_layout({module}, false);
    for (const ParameterSpec& spec : specs) {
      if (std::holds_alternative<EmbeddingOptions>(module)) {
        fill_normal(seed, tensor, spec.size(), parameters);
      } else {
        fill_uniform(seed, tensor, uniform_bound(module), spec.size(), parameters);
      }
      parameters += spec.size();
      ++tensor;
    }
  }
}

template void initialise_parameters(const std::vector<ModuleOptions>&, std::uint64_t, float*);
template void initialise_parameters(const std::vector<ModuleOptions>&, std::uint64_t, double*);

}  // namespace latchwork
