#include "network/network_parts.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <stdexcept>
#include <string>

#include "layer/rows.hpp"
#include "machine/float_state.hpp"
#include "network/members.hpp"
#include "weights/module_sizes.hpp"
#include "weights/weight_dropout.hpp"

namespace latchwork::detail {

namespace {

// Packs the weights of each member. `options` holds the options of each member's recording; it is empty for inference.
template <class T>
void pack_members(const NetworkParts<T>& parts, const T* parameters, const Kernels<T>& kernels, bool with_backward,
                  std::span<const RecordOptions> options, Snapshot<T>& snapshot) {
  const FlushToZero flush;
  const Index size = parts.member_parameter_count;
  const bool drops = !options.empty() && drops_weights(parts.modules, options.front());
  snapshot.members.resize(static_cast<std::size_t>(parts.members));
  for_member_pieces(parts, work_of_moving * size,
                    [&](const std::shared_ptr<WorkspaceCache<T>>& cache, Index begin, Index end) {
                      Workspace<T> workspace(cache);
                      T* const dropped = drops ? workspace.take(size) : nullptr;
                      for (Index member = begin; member < end; ++member) {
                        const auto at = static_cast<std::size_t>(member);
                        const T* weights = parts.of_member(parameters, member);
                        if (drops) {
                          std::copy_n(weights, size, dropped);
                          for (std::size_t module = 0; module < parts.modules.size(); ++module) {
                            apply_weight_dropout(parts.modules[module], static_cast<Index>(module), kernels,
                                                 options[at], dropped + parts.module_begin(module));
                          }
                          weights = dropped;
                        }
                        pack(parts.modules, parts.layout, weights, kernels, with_backward, snapshot.members[at]);
                      }
                    });
}

// Copies the tensors that differ from the parameters to them. Returns whether any did.
template <class T>
bool copy_changed(const NetworkParts<T>& parts, const Tensors<T>& tensors, T* parameters) {
  bool changed = false;
  for (std::size_t at = 0; at < tensors.size(); ++at) {
    const ParameterSpec& spec = parts.layout[at];
    const Index size = spec.size();
    for (Index member = 0; member < parts.members; ++member) {
      const T* const from = tensors[at] + member * size;
      T* const to = parts.of_member(parameters, member) + spec.offset;
      const std::size_t bytes = static_cast<std::size_t>(size) * sizeof(T);
      // Bytes are compared and not numbers, so that NaN equals itself and -0 differs from 0.
      if (std::memcmp(to, from, bytes) == 0) continue;
      std::memcpy(to, from, bytes);
      changed = true;
    }
  }
  return changed;
}

void check_tokens(const SequenceView<const std::int64_t>& tokens, const Batch& batch, Index vocabulary,
                  const std::string& of_member) {
  const Schedule schedule{batch, false};
  for (Index step = 0; step < batch.steps; ++step) {
    for (Index row = 0; row < batch.rows; ++row) {
      if (!schedule.active(step, row) || batch.skips(step, row)) continue;
      const std::int64_t token = *tokens.at(step, row);
      if (token >= 0 && token < vocabulary) continue;
      throw std::invalid_argument("tokens: expected 0 to " + std::to_string(vocabulary - 1) + ", got " +
                                  std::to_string(token) + " at step " + std::to_string(step) + ", row " +
                                  std::to_string(row) + of_member);
    }
  }
}

void check_stride(const char* name, Index members, bool written, Index stride) {
  if (!written || members == 1 || stride != 0) return;
  throw std::invalid_argument(std::string(name) + ": expected a place for each of " + std::to_string(members) +
                              " members, got a member_stride of 0");
}

}  // namespace

template <class T>
NetworkParts<T>::NetworkParts(std::vector<ModuleOptions> module_options, TensorNames tensor_names, Index member_count,
                              std::shared_ptr<ParameterStore<T>> parameters, Index begin, Index stride)
    : modules(std::move(module_options)),
      names(tensor_names),
      layout(parameter_layout(modules, names)),
      members(member_count),
      store(std::move(parameters)),
      parameters_begin(begin),
      member_stride(stride),
      input_size(chain_input_size(modules)),
      output_size(input_size),
      codes(modules),
      step_mask(modules, input_size) {
  Index end = 0;
  for (const ModuleOptions& module : modules) {
    module_begins.push_back(end);
    for (const ParameterSpec& spec : parameter_layout({module}, TensorNames::of_layer)) end += spec.size();
    output_size = module_output_size(module, output_size);
    if (const std::optional<StateSize> size = module_state_size(module)) state_sizes.push_back(*size);
  }
  module_begins.push_back(end);
  member_parameter_count = end;
}

template <class T>
bool NetworkParts<T>::keeps_sequence() const {
  return std::none_of(modules.begin(), modules.end(),
                      [](const ModuleOptions& module) { return pooling_name(module) != nullptr; });
}

template <class T>
std::size_t NetworkParts<T>::lstm_place(const char* argument, Index index) const {
  Index count = 0;
  for (std::size_t at = 0; at < modules.size(); ++at) {
    if (!std::holds_alternative<LstmOptions>(modules[at])) continue;
    if (count++ == index) return at;
  }
  check_index(argument, index, count);  // throws, because there is no such LSTM
  return modules.size();
}

template <class T>
std::shared_ptr<const Snapshot<T>> snapshot_of(const NetworkParts<T>& parts, bool with_backward,
                                               const Tensors<T>& tensors) {
  const Kernels<T>& kernels = kernels_for<T>(parts.modules);
  const auto pack = [&](const T* parameters, Snapshot<T>& snapshot) {
    pack_members(parts, parameters, kernels, with_backward, {}, snapshot);
  };
  if (tensors.empty()) return parts.snapshots.latest(*parts.store, kernels, with_backward, pack);
  const auto refresh = [&](T* parameters) { return copy_changed(parts, tensors, parameters); };
  return parts.snapshots.refreshed(*parts.store, kernels, with_backward, refresh, pack);
}

template <class T>
std::shared_ptr<const Snapshot<T>> snapshot_of_recording(const NetworkParts<T>& parts,
                                                         std::span<const RecordOptions> options,
                                                         const Tensors<T>& tensors) {
  if (!drops_weights(parts.modules, options.front())) return snapshot_of(parts, true, tensors);
  const Kernels<T>& kernels = kernels_for<T>(parts.modules);
  return parts.snapshots.of_recording(*parts.store, kernels, [&](Snapshot<T>& snapshot) {
    parts.store->refresh(
        [&](T* parameters) { return copy_changed(parts, tensors, parameters); },
        [&](const T* parameters) { pack_members(parts, parameters, kernels, true, options, snapshot); });
  });
}

void check_index(const char* argument, Index index, Index count) {
  if (index >= 0 && index < count) return;
  throw std::invalid_argument(std::string(argument) + ": expected " +
                              (count == 0 ? "none" : "0 to " + std::to_string(count - 1)) + ", got " +
                              std::to_string(index));
}

void check_lengths(const Batch& batch, const std::string& of_member) {
  if (batch.lengths == nullptr) return;
  for (Index row = 0; row < batch.rows; ++row) {
    if (batch.lengths[row] >= 0 && batch.lengths[row] <= batch.steps) continue;
    throw std::invalid_argument("lengths: expected 0 to " + std::to_string(batch.steps) + ", got " +
                                std::to_string(batch.lengths[row]) + " for row " + std::to_string(row) + of_member);
  }
}

template <class T>
void check_input(const NetworkParts<T>& parts, const Input<T>& input, const Batch& batch) {
  if (batch.steps < 0 || batch.rows < 0) {
    throw std::invalid_argument("batch: expected sizes of 0 or more, got " + std::to_string(batch.steps) +
                                " steps and " + std::to_string(batch.rows) + " rows");
  }
  const auto of_member = [&](Index member) {
    return parts.members == 1 ? std::string() : ", member " + std::to_string(member);
  };
  // What all members share is checked once.
  for (Index member = 0; batch.lengths != nullptr && member < parts.members; ++member) {
    check_lengths(batch.of(member), of_member(member));
    if (batch.lengths_member_stride == 0) break;
  }
  const auto* embedding = std::get_if<EmbeddingOptions>(&parts.modules.front());
  for (Index member = 0; embedding != nullptr && member < parts.members; ++member) {
    check_tokens(input.tokens.of(member), batch.of(member), embedding->num_embeddings, of_member(member));
    if (input.tokens.member_stride == 0 && batch.lengths_member_stride == 0 && batch.skip.member_stride == 0) break;
  }
  for (Index member = 0; parts.codes.any() && member < parts.members; ++member) {
    parts.codes.check(input.values.of(member), batch.of(member), of_member(member));
    if (input.values.member_stride == 0 && batch.lengths_member_stride == 0 && batch.skip.member_stride == 0) break;
  }
}

template <class T>
void check_places(const NetworkParts<T>& parts, const char* name, const SequenceView<T>& written, const Batch& batch) {
  const bool any = written.data != nullptr && batch.rows > 0 && batch.steps > 0;
  check_stride(name, parts.members, any, written.member_stride);
}

void check_gradient_blocks(Index count) {
  if (count >= 0 && count <= most_gradient_blocks && std::popcount(static_cast<std::size_t>(count)) <= 1) return;
  throw std::invalid_argument("gradient_blocks: expected 0 or a power of two up to " +
                              std::to_string(most_gradient_blocks) + ", got " + std::to_string(count));
}

void check_record_options(const RecordOptions& options) {
  const auto check = [](const char* name, Index value) {
    if (value >= 0) return;
    throw std::invalid_argument(std::string(name) + ": expected 0 or more, got " + std::to_string(value));
  };
  check("checkpoint", options.checkpoint);
  check("first_row", options.first_row);
  check_gradient_blocks(options.gradient_blocks);
}

template <class T>
void check_tensors(const NetworkParts<T>& parts, const Tensors<T>& tensors) {
  if (tensors.empty() || tensors.size() == parts.layout.size()) return;
  throw std::invalid_argument("tensors: expected " + std::to_string(parts.layout.size()) + ", got " +
                              std::to_string(tensors.size()));
}

template <class T, class Value>
void check_states(const NetworkParts<T>& parts, const char* name, const States<Value>& states) {
  if (states.empty()) return;
  if (states.size() == parts.state_sizes.size()) return;
  throw std::invalid_argument(std::string(name) + ": expected " + std::to_string(parts.state_sizes.size()) +
                              " states, got " + std::to_string(states.size()));
}

template <class T>
void check_start(const NetworkParts<T>& parts, const States<const T>& start, const Batch& batch) {
  check_states(parts, "start", start);
  if (!parts.codes.any()) return;
  for (Index member = 0; member < parts.members; ++member) {
    parts.codes.check_states("start", states_of(start, member), batch.rows,
                             parts.members == 1 ? "" : ", member " + std::to_string(member));
  }
}

template <class T>
void check_places(const NetworkParts<T>& parts, const char* name, const States<T>& written, const Batch& batch) {
  check_states(parts, name, written);
  for (const State<T>& state : written) {
    check_stride(name, parts.members, state.hidden != nullptr && batch.rows > 0, state.hidden_member_stride);
    check_stride(name, parts.members, state.cell != nullptr && batch.rows > 0, state.cell_member_stride);
  }
}

#define LATCHWORK_INSTANTIATE(T)                                                                               \
  template struct NetworkParts<T>;                                                                             \
  template std::shared_ptr<const Snapshot<T>> snapshot_of<T>(const NetworkParts<T>&, bool, const Tensors<T>&); \
  template std::shared_ptr<const Snapshot<T>> snapshot_of_recording<T>(                                        \
      const NetworkParts<T>&, std::span<const RecordOptions>, const Tensors<T>&);                              \
  template void check_input<T>(const NetworkParts<T>&, const Input<T>&, const Batch&);                         \
  template void check_tensors<T>(const NetworkParts<T>&, const Tensors<T>&);                                   \
  template void check_states<T, const T>(const NetworkParts<T>&, const char*, const States<const T>&);         \
  template void check_start<T>(const NetworkParts<T>&, const States<const T>&, const Batch&);                  \
  template void check_places<T>(const NetworkParts<T>&, const char*, const SequenceView<T>&, const Batch&);    \
  template void check_places<T>(const NetworkParts<T>&, const char*, const States<T>&, const Batch&);
LATCHWORK_INSTANTIATE(float)
LATCHWORK_INSTANTIATE(double)
#undef LATCHWORK_INSTANTIATE

}  // namespace latchwork::detail
