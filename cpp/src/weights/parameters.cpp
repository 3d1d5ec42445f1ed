#include "latchwork/parameters.hpp"

namespace latchwork {
namespace {

// The part of a tensor's name that says what it is, without layer and direction.
const char* name_of(ParameterKind kind) {
  switch (kind) {
    case ParameterKind::weight_ih:
      return "weight_ih";
    case ParameterKind::weight_hh:
      return "weight_hh";
    case ParameterKind::bias_ih:
      return "bias_ih";
    case ParameterKind::bias_hh:
      return "bias_hh";
    case ParameterKind::weight_hr:
      return "weight_hr";
    case ParameterKind::weight_peephole:
      return "weight_peephole";
    case ParameterKind::norm_ih_weight:
      return "norm_ih_weight";
    case ParameterKind::norm_ih_bias:
      return "norm_ih_bias";
    case ParameterKind::norm_hh_weight:
      return "norm_hh_weight";
    case ParameterKind::norm_hh_bias:
      return "norm_hh_bias";
    case ParameterKind::norm_cell_weight:
      return "norm_cell_weight";
    case ParameterKind::norm_cell_bias:
      return "norm_cell_bias";
    case ParameterKind::h_0:
      return "h_0";
    case ParameterKind::c_0:
      return "c_0";
    case ParameterKind::weight:
      return "weight";
    case ParameterKind::bias:
      return "bias";
  }
  return "";
}

// Collects the tensors of a chain, which lie in memory in the order in which they are added. No code relies on that
// order: a tensor is found by its kind or by its name. (Only the random numbers that a tensor starts with depend on it,
// because they are keyed by the number of the tensor.)
class Layout {
 public:
  explicit Layout(TensorNames names) : names_(names) {}

  void add_module(const ModuleOptions& module) {
    if (const auto* embedding = std::get_if<EmbeddingOptions>(&module)) {
      add(ParameterKind::weight, {embedding->num_embeddings, embedding->embedding_dim});
    } else if (const auto* lstm = std::get_if<LstmOptions>(&module)) {
      for (Index layer = 0; layer < lstm->num_layers; ++layer) {
        for (Index direction = 0; direction < lstm->directions(); ++direction) add_layer(*lstm, layer, direction);
      }
    } else if (const auto* linear = std::get_if<LinearOptions>(&module)) {
      add(ParameterKind::weight, {linear->out_features, linear->in_features});
      if (linear->bias) add(ParameterKind::bias, {linear->out_features});
    } else if (const auto* embed = std::get_if<EmbedColumnsOptions>(&module)) {
      for (std::size_t table = 0; table < embed->columns.size(); ++table) {
        add(ParameterKind::weight, {embed->num_embeddings[table], embed->embedding_dim[table]},
            std::string("_").append(std::to_string(table)), static_cast<Index>(table));
      }
    }
    ++module_;
  }

  std::vector<ParameterSpec> take() { return std::move(specs_); }

 private:
  void add_layer(const LstmOptions& options, Index layer, Index direction) {
    const Index units = options.hidden_size, h_size = options.hidden_output_size();
    const Index gates = options.gates() * units, input = layer == 0 ? options.input_size : options.output_size();
    const bool reverse = direction == 1 || options.direction == Direction::reverse;
    const std::string suffix = options.cell ? "" : "_l" + std::to_string(layer) + (reverse ? "_reverse" : "");
    const auto add_tensor = [&](ParameterKind kind, std::vector<Index> shape) {
      add(kind, std::move(shape), suffix, layer, direction);
    };
    add_tensor(ParameterKind::weight_ih, {gates, input});
    add_tensor(ParameterKind::weight_hh, {gates, h_size});
    if (options.bias) {
      add_tensor(ParameterKind::bias_ih, {gates});
      add_tensor(ParameterKind::bias_hh, {gates});
    }
    if (options.proj_size > 0) add_tensor(ParameterKind::weight_hr, {options.proj_size, units});
    if (options.peephole) add_tensor(ParameterKind::weight_peephole, {gates - units});
    if (options.layer_norm) {
      add_tensor(ParameterKind::norm_ih_weight, {gates});
      add_tensor(ParameterKind::norm_ih_bias, {gates});
      add_tensor(ParameterKind::norm_hh_weight, {gates});
      add_tensor(ParameterKind::norm_hh_bias, {gates});
      add_tensor(ParameterKind::norm_cell_weight, {units});
      add_tensor(ParameterKind::norm_cell_bias, {units});
    }
    if (options.learn_start_state) {
      add_tensor(ParameterKind::h_0, {h_size});
      add_tensor(ParameterKind::c_0, {units});
    }
  }

  void add(ParameterKind kind, std::vector<Index> shape, const std::string& suffix = "", Index layer = 0,
           Index direction = 0) {
    const std::string prefix = names_ == TensorNames::of_chain ? std::to_string(module_) + "." : "";
    specs_.push_back({prefix + name_of(kind) + suffix, std::move(shape), end_, kind, module_, layer, direction});
    end_ += specs_.back().size();
  }

  TensorNames names_;
  Index module_ = 0;  // the number of the current module
  Index end_ = 0;
  std::vector<ParameterSpec> specs_;
};

}  // namespace

std::vector<ParameterSpec> parameter_layout(const std::vector<ModuleOptions>& modules, TensorNames names) {
  Layout layout(names);
  for (const ModuleOptions& module : modules) layout.add_module(module);
  return layout.take();
}

}  // namespace latchwork
