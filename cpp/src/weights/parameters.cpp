#include "latchwork/parameters.hpp"

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
  const Index gates = options.gates() * options.hidden_size;
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
      if (options.peephole) {
        layout.add(prefix + "weight_peephole" + suffix, {(options.gates() - 1) * options.hidden_size});
      }
      if (options.layer_norm) {
        for (const char* norm : {"norm_ih", "norm_hh"}) {
          layout.add(prefix + norm + "_weight" + suffix, {gates});
          layout.add(prefix + norm + "_bias" + suffix, {gates});
        }
        layout.add(prefix + "norm_cell_weight" + suffix, {options.hidden_size});
        layout.add(prefix + "norm_cell_bias" + suffix, {options.hidden_size});
      }
      if (options.learn_start_state) {
        layout.add(prefix + "h_0" + suffix, {options.hidden_output_size()});
        layout.add(prefix + "c_0" + suffix, {options.hidden_size});
      }
    }
  }
}

void add_module(const ModuleOptions& module, const std::string& prefix, Layout& layout) {
  if (const auto* embedding = std::get_if<EmbeddingOptions>(&module)) {
    layout.add(prefix + "weight", {embedding->num_embeddings, embedding->embedding_dim});
  } else if (const auto* lstm = std::get_if<LstmOptions>(&module)) {
    add_lstm(*lstm, prefix, layout);
  } else if (const auto* linear = std::get_if<LinearOptions>(&module)) {
    layout.add(prefix + "weight", {linear->out_features, linear->in_features});
    if (linear->bias) layout.add(prefix + "bias", {linear->out_features});
  }
}

}  // namespace

std::vector<ParameterSpec> parameter_layout(const std::vector<ModuleOptions>& modules, bool numbered) {
  Layout layout;
  for (std::size_t index = 0; index < modules.size(); ++index) {
    add_module(modules[index], numbered ? std::to_string(index) + "." : "", layout);
  }
  return layout.take();
}

}  // namespace latchwork
