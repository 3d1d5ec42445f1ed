#include "weights/weight_dropout.hpp"

#include <algorithm>

#include "latchwork/parameters.hpp"
#include "machine/masks.hpp"

namespace latchwork {

bool drops_weights(const std::vector<ModuleOptions>& modules, const RecordOptions& options) {
  return options.training && std::any_of(modules.begin(), modules.end(), [](const ModuleOptions& module) {
           const auto* lstm = std::get_if<LstmOptions>(&module);
           return lstm != nullptr && lstm->weight_dropout > 0.0;
         });
}

template <class T>
void apply_weight_dropout(const std::vector<ModuleOptions>& modules, const Kernels<T>& kernels,
                          const RecordOptions& options, T* parameters) {
  std::vector<T> factors;
  for (const ParameterSpec& spec : parameter_layout(modules, false)) {
    if (spec.kind != ParameterKind::weight_hh) continue;
    const LstmOptions& lstm = std::get<LstmOptions>(modules[static_cast<std::size_t>(spec.module)]);
    if (lstm.weight_dropout == 0.0) continue;
    const Index state = spec.layer * lstm.directions() + spec.direction, columns = spec.shape[1];
    factors.resize(static_cast<std::size_t>(columns));
    for (Index row = 0; row < spec.shape[0]; ++row) {
      draw_mask(kernels, {options.mask_seed, MaskOn::recurrent_weight, spec.module, state}, 0, row, lstm.weight_dropout,
                T(0), kept_factor<T>(lstm.weight_dropout), columns, factors.data());
      T* weights = parameters + spec.offset + row * columns;
      for (Index k = 0; k < columns; ++k) weights[k] *= factors[static_cast<std::size_t>(k)];
    }
  }
}

template void apply_weight_dropout<float>(const std::vector<ModuleOptions>&, const Kernels<float>&,
                                          const RecordOptions&, float*);
template void apply_weight_dropout<double>(const std::vector<ModuleOptions>&, const Kernels<double>&,
                                           const RecordOptions&, double*);

}  // namespace latchwork
