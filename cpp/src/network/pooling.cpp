#include "network/pooling.hpp"

#include <stdexcept>

#include "latchwork/network.hpp"
#include "machine/float_state.hpp"
#include "machine/interrupt.hpp"
#include "network/network_parts.hpp"
#include "network/sequences.hpp"

namespace latchwork {

template <class T>
void pool(const ModuleOptions& pooling, const SequenceView<const T>& input, const Batch& batch, Index features,
          const SequenceView<T>& output) {
  const bool mean = std::holds_alternative<MeanOptions>(pooling);
  if (!mean && !std::holds_alternative<MaxOptions>(pooling)) {
    throw std::invalid_argument("pooling: expected Mean or Max, got another module");
  }
  detail::check_lengths(batch, "");
  const FlushToZero flush;
  const LongCall long_call;
  pool_forward(mean ? Pooling::mean : Pooling::max, Schedule{batch, false}, false, rows_of(input, features), output);
  throw_if_stopped(0);
}

template void pool(const ModuleOptions&, const SequenceView<const float>&, const Batch&, Index,
                   const SequenceView<float>&);
template void pool(const ModuleOptions&, const SequenceView<const double>&, const Batch&, Index,
                   const SequenceView<double>&);

}  // namespace latchwork
