#pragma once

#include <algorithm>
#include <optional>
#include <vector>

#include "latchwork/batch.hpp"
#include "latchwork/options.hpp"
#include "machine/dispatch.hpp"

namespace latchwork {

// What a module is called that makes one result of all steps of a sequence; null for any other module.
inline const char* pooling_name(const ModuleOptions& module) {
  if (std::holds_alternative<LastOptions>(module)) return "Last";
  if (std::holds_alternative<MeanOptions>(module)) return "Mean";
  if (std::holds_alternative<MaxOptions>(module)) return "Max";
  return nullptr;
}

// Whether a module takes any number of features and returns as many.
inline bool keeps_features(const ModuleOptions& module) {
  return pooling_name(module) != nullptr || std::holds_alternative<DropoutOptions>(module) ||
         std::holds_alternative<SortOptions>(module) || std::holds_alternative<ReverseOptions>(module) ||
         std::holds_alternative<InputSkipOptions>(module) || std::holds_alternative<MaskOptions>(module) ||
         std::holds_alternative<ActivationOptions>(module);
}

inline bool has_reverse(const std::vector<ModuleOptions>& modules) {
  return std::any_of(modules.begin(), modules.end(),
                     [](const auto& module) { return std::holds_alternative<ReverseOptions>(module); });
}

// Whether the steps after the first `count` modules are in the reverse of the order in which the chain takes them.
inline bool backwards_after(const std::vector<ModuleOptions>& modules, std::size_t count) {
  return std::count_if(modules.begin(), modules.begin() + static_cast<std::ptrdiff_t>(count),
                       [](const auto& module) { return std::holds_alternative<ReverseOptions>(module); }) %
             2 !=
         0;
}

// Whether each feature of a module's output follows from the same feature of the same step.
inline bool keeps_columns(const ModuleOptions& module) {
  if (const auto* activation = std::get_if<ActivationOptions>(&module)) {
    const Index number = activation_number(activation->activation.name);
    return number < 0 || activation_info(number).kind != ActivationKind::by_row;
  }
  return std::holds_alternative<DropoutOptions>(module) || std::holds_alternative<ScaleOptions>(module);
}

// The place of the module whose directions a Last at this place of a chain takes apart; its own place if there is none.
inline std::size_t directed_source(const std::vector<ModuleOptions>& modules, std::size_t last) {
  std::size_t at = last;
  while (at > 0 && keeps_columns(modules[at - 1])) --at;
  return at == 0 ? last : at - 1;
}

// Whether the Last that follows an LSTM merges its directions, because their final outputs belong to different steps.
inline bool merges_in_last(const std::vector<ModuleOptions>& modules, std::size_t lstm) {
  const auto* options = std::get_if<LstmOptions>(&modules[lstm]);
  return options != nullptr && options->merges() && lstm + 1 < modules.size() &&
         std::holds_alternative<LastOptions>(modules[lstm + 1]);
}

// The LSTM whose directions a Last at this place merges; null if there is none.
inline const LstmOptions* merging_before_last(const std::vector<ModuleOptions>& modules, std::size_t last) {
  return last > 0 && merges_in_last(modules, last - 1) ? &std::get<LstmOptions>(modules[last - 1]) : nullptr;
}

// The number of features of one step that a chain reads, which is what the first module says that takes only so many; 1
// for tokens, and if no module says it.
inline Index chain_input_size(const std::vector<ModuleOptions>& modules) {
  const auto first = std::find_if_not(modules.begin(), modules.end(), keeps_features);
  if (first == modules.end()) return 1;
  if (const auto* lstm = std::get_if<LstmOptions>(&*first)) return lstm->input_size;
  if (const auto* linear = std::get_if<LinearOptions>(&*first)) return linear->in_features;
  if (const auto* scale = std::get_if<ScaleOptions>(&*first)) return static_cast<Index>(scale->shift.size());
  if (const auto* impute = std::get_if<ImputeOptions>(&*first)) return impute->features;
  if (const auto* embed = std::get_if<EmbedColumnsOptions>(&*first)) return embed->features;
  return 1;
}

// The number of features that a module returns for an input of `input_size` features.
inline Index module_output_size(const ModuleOptions& module, Index input_size) {
  if (const auto* embedding = std::get_if<EmbeddingOptions>(&module)) return embedding->embedding_dim;
  if (const auto* lstm = std::get_if<LstmOptions>(&module)) return lstm->output_size();
  if (const auto* linear = std::get_if<LinearOptions>(&module)) return linear->out_features;
  if (const auto* impute = std::get_if<ImputeOptions>(&module)) return impute->output_size();
  if (const auto* embed = std::get_if<EmbedColumnsOptions>(&module)) return embed->output_size();
  return input_size;
}

// The sizes of a module's state, if it has one.
inline std::optional<StateSize> module_state_size(const ModuleOptions& module) {
  if (const auto* lstm = std::get_if<LstmOptions>(&module)) {
    return StateSize{lstm->states(), lstm->hidden_output_size(), lstm->hidden_size};
  }
  const auto* impute = std::get_if<ImputeOptions>(&module);
  if (impute == nullptr || impute->method != Imputation::forward) return {};
  return StateSize{1, impute->features, impute->features};
}

// Throws std::invalid_argument for a shift, factor, fill or mask value of a larger magnitude.
void check_constants(const std::vector<ModuleOptions>& modules, double largest);

}  // namespace latchwork
