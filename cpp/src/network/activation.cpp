#include "network/activation.hpp"

#include <stdexcept>

#include "latchwork/network.hpp"
#include "machine/float_state.hpp"
#include "machine/interrupt.hpp"

namespace latchwork {

template <class T>
void activate(const ModuleOptions& activation, const T* x, Index rows, Index features, T* y) {
  const auto* options = std::get_if<ActivationOptions>(&activation);
  if (options == nullptr) throw std::invalid_argument("activation: expected an activation, got another module");
  validate(activation);
  if (features == 0) return;
  const FlushToZero flush;
  const LongCall long_call;
  activation_forward(kernels_of<T>(current_kernels()), activation_args<T>(options->activation), Batch{1, rows},
                     rows_of(SequenceView<const T>{x, rows * features, features}, features),
                     SequenceView<T>{y, rows * features, features});
  throw_if_stopped(0);
}

template void activate(const ModuleOptions&, const float*, Index, Index, float*);
template void activate(const ModuleOptions&, const double*, Index, Index, double*);

}  // namespace latchwork
