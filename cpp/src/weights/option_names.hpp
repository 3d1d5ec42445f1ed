// The options of each kind of module by name, and the words for their values: what files and the Python package call
// them. A new option is added here alone. Every reader and writer of options visits them through each_option().
#pragma once

#include <algorithm>
#include <array>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "latchwork/options.hpp"

namespace latchwork {

template <class Enum>
using Choice = std::pair<std::string_view, Enum>;

// The words that stand for the values of an enumeration in a mapping.
template <class Enum>
struct Words;

template <>
struct Words<Direction> {
  static constexpr Choice<Direction> list[] = {
      {"forward", Direction::forward}, {"reverse", Direction::reverse}, {"both", Direction::both}};
};

template <>
struct Words<Merge> {
  static constexpr Choice<Merge> list[] = {
      {"concat", Merge::concat}, {"sum", Merge::sum}, {"mul", Merge::mul}, {"ave", Merge::ave}};
};

template <>
struct Words<ForgetGate> {
  static constexpr Choice<ForgetGate> list[] = {
      {"own", ForgetGate::own}, {"none", ForgetGate::none}, {"coupled", ForgetGate::coupled}};
};

template <>
struct Words<RecurrentDropoutOn> {
  static constexpr Choice<RecurrentDropoutOn> list[] = {{"hidden", RecurrentDropoutOn::hidden},
                                                        {"candidate", RecurrentDropoutOn::candidate}};
};

template <>
struct Words<Initialisation> {
  static constexpr Choice<Initialisation> list[] = {{"torch", Initialisation::torch},
                                                    {"keras", Initialisation::keras},
                                                    {"orthogonal", Initialisation::orthogonal},
                                                    {"chrono", Initialisation::chrono}};
};

template <>
struct Words<Imputation> {
  static constexpr Choice<Imputation> list[] = {{"forward", Imputation::forward}, {"constant", Imputation::constant}};
};

template <>
struct Words<SkippedOutput> {
  static constexpr Choice<SkippedOutput> list[] = {{"repeat", SkippedOutput::repeat}, {"zero", SkippedOutput::zero}};
};

template <class Enum>
std::string all_words() {
  std::string words;
  for (const auto& [word, value] : Words<Enum>::list) words.append(words.empty() ? "" : ", ").append(word);
  return words;
}

template <class Enum>
std::string_view word_for(Enum wanted) {
  const auto found = std::find_if(std::begin(Words<Enum>::list), std::end(Words<Enum>::list),
                                  [&](const auto& choice) { return choice.second == wanted; });
  return found->first;
}

// each_option(options, visit) calls visit(name, option) for each option. With a third argument, the default, the option
// is one that came later than the first files: with that value it is left out where options are written.
template <class Visit>
void each_option(EmbeddingOptions& options, Visit&& visit) {
  visit("num_embeddings", options.num_embeddings);
  visit("embedding_dim", options.embedding_dim);
  visit("mask_token", options.mask_token, std::optional<Index>());
  visit("mask_output", options.mask_output, SkippedOutput::repeat);
}

template <class Visit>
void each_option(LstmOptions& options, Visit&& visit) {
  visit("input_size", options.input_size);
  visit("hidden_size", options.hidden_size);
  visit("num_layers", options.num_layers);
  visit("bias", options.bias);
  visit("dropout", options.dropout);
  visit("direction", options.direction);
  visit("merge", options.merge, Merge::concat);
  visit("proj_size", options.proj_size);
  visit("cell", options.cell);
  visit("forget_gate", options.forget_gate);
  visit("peephole", options.peephole);
  visit("layer_norm", options.layer_norm);
  visit("activations", options.activations);
  visit("clip", options.clip);
  visit("cell_clip", options.cell_clip);
  visit("zoneout_hidden", options.zoneout_hidden);
  visit("zoneout_cell", options.zoneout_cell);
  visit("recurrent_dropout", options.recurrent_dropout);
  visit("recurrent_dropout_on", options.recurrent_dropout_on);
  visit("weight_dropout", options.weight_dropout);
  visit("residual", options.residual);
  visit("learn_start_state", options.learn_start_state);
  visit("forget_bias", options.forget_bias);
  visit("init", options.init);
  visit("t_max", options.t_max);
}

template <class Visit>
void each_option(LastOptions&, Visit&&) {}

template <class Visit>
void each_option(LinearOptions& options, Visit&& visit) {
  visit("in_features", options.in_features);
  visit("out_features", options.out_features);
  visit("bias", options.bias);
  visit("activation", options.activation);
  visit("init_scale", options.init_scale, 1.0);
}

template <class Visit>
void each_option(MeanOptions&, Visit&&) {}

template <class Visit>
void each_option(MaxOptions&, Visit&&) {}

template <class Visit>
void each_option(DropoutOptions& options, Visit&& visit) {
  visit("p", options.p);
}

template <class Visit>
void each_option(ScaleOptions& options, Visit&& visit) {
  visit("shift", options.shift);
  visit("factor", options.factor);
}

template <class Visit>
void each_option(ImputeOptions& options, Visit&& visit) {
  visit("features", options.features);
  visit("method", options.method);
  visit("fill", options.fill);
  visit("indicators", options.indicators);
  visit("persistence", options.persistence, std::vector<double>{});
}

template <class Visit>
void each_option(EmbedColumnsOptions& options, Visit&& visit) {
  visit("features", options.features);
  visit("columns", options.columns);
  visit("num_embeddings", options.num_embeddings);
  visit("embedding_dim", options.embedding_dim);
}

template <class Visit>
void each_option(SortOptions& options, Visit&& visit) {
  visit("group", options.group);
}

template <class Visit>
void each_option(ReverseOptions&, Visit&&) {}

template <class Visit>
void each_option(InputSkipOptions& options, Visit&& visit) {
  visit("features", options.features);
  visit("factor", options.factor);
}

template <class Visit>
void each_option(MaskOptions& options, Visit&& visit) {
  visit("value", options.value);
  visit("output", options.output);
}

template <class Visit>
void each_option(ActivationOptions& options, Visit&& visit) {
  visit("activation", options.activation);
}

template <class Activations>
auto gates_of(Activations& activations) {
  using Gate = std::remove_reference_t<decltype((activations.input))>;
  return std::array<std::pair<const char*, Gate*>, 5>{{{"input", &activations.input},
                                                       {"forget", &activations.forget},
                                                       {"candidate", &activations.candidate},
                                                       {"output", &activations.output},
                                                       {"cell", &activations.cell}}};
}

// What a module's kind is called.
constexpr const char* kind_of(const EmbeddingOptions&) { return "embedding"; }
constexpr const char* kind_of(const LstmOptions&) { return "lstm"; }
constexpr const char* kind_of(const LastOptions&) { return "last"; }
constexpr const char* kind_of(const LinearOptions&) { return "linear"; }
constexpr const char* kind_of(const MeanOptions&) { return "mean"; }
constexpr const char* kind_of(const MaxOptions&) { return "max"; }
constexpr const char* kind_of(const DropoutOptions&) { return "dropout"; }
constexpr const char* kind_of(const ScaleOptions&) { return "scale"; }
constexpr const char* kind_of(const ImputeOptions&) { return "impute"; }
constexpr const char* kind_of(const EmbedColumnsOptions&) { return "embed_columns"; }
constexpr const char* kind_of(const SortOptions&) { return "sort"; }
constexpr const char* kind_of(const ReverseOptions&) { return "reverse"; }
constexpr const char* kind_of(const InputSkipOptions&) { return "input_skip"; }
constexpr const char* kind_of(const MaskOptions&) { return "mask"; }
constexpr const char* kind_of(const ActivationOptions&) { return "activation"; }

// A module of this kind with its default options; null if there is no such kind.
inline std::optional<ModuleOptions> module_of_kind(std::string_view kind) {
  return [&]<class... Options>(std::variant<Options...>*) {
    std::optional<ModuleOptions> module;
    ((kind_of(Options{}) == kind ? void(module = Options{}) : void()), ...);
    return module;
  }(static_cast<ModuleOptions*>(nullptr));
}

// The kinds in the order in which a message lists them.
inline std::vector<std::string> layer_kinds() {
  return []<class... Options>(std::variant<Options...>*) {
    return std::vector<std::string>{kind_of(Options{})...};
  }(static_cast<ModuleOptions*>(nullptr));
}

inline std::string all_kinds() {
  std::string kinds;
  for (const std::string& kind : layer_kinds()) kinds.append(kinds.empty() ? "" : ", ").append(kind);
  return kinds;
}

}  // namespace latchwork
