#include "weights/weight_dropout.hpp"

#include <algorithm>

#include "latchwork/parameters.hpp"
#include "machine/masks.hpp"

namespace latchwork {

bool drops_weights(const ModuleOptions& module, const RecordOptions& options) {
  const auto* lstm = std::get_if<LstmOptions>(&module);
  return options.training && lstm != nullptr && lstm->weight_dropout > 0.0;
}

bool drops_weights(const std::vector<ModuleOptions>& modules, const RecordOptions& options) {
  return std::any_of(modules.begin(), modules.end(),
                     [&](const ModuleOptions& module) { return drops_weights(module, options); });
}

template <class T>
void apply_weight_dropout(const ModuleOptions& module, Index number, const Kernels<T>& kernels,
                          const RecordOptions& options, T* parameters) {
  if (!drops_weights(module, options)) return;
  const double probability = std::get<LstmOptions>(module).weight_dropout;
  std::vector<T> factors;
  const Index directions = std::get<LstmOptions>(module).directions();
  for (const ParameterSpec& spec : parameter_layout({module}, TensorNames::of_layer)) {
    if (spec.kind != ParameterKind::weight_hh) continue;
    const Index state = spec.layer * directions + spec.direction, columns = spec.shape[1];
    factors.resize(static_cast<std::size_t>(columns));
    for (Index row = 0; row < spec.shape[0]; ++row) {
      draw_mask(kernels, {*options.mask_seed, MaskOn::recurrent_weight, number, state}, 0, row, probability, T(0),
                kept_factor<T>(probability), columns, factors.data());
      T* weights = parameters + spec.offset + row * columns;
      for (Index k = 0; k < columns; ++k) weights[k] *= factors[static_cast<std::size_t>(k)];
    }
  }
}

template void apply_weight_dropout<float>(const ModuleOptions&, Index, const Kernels<float>&, const RecordOptions&,
                                          float*);
template void apply_weight_dropout<double>(const ModuleOptions&, Index, const Kernels<double>&, const RecordOptions&,
                                           double*);

}  // namespace latchwork
