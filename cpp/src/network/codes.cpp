#include "network/codes.hpp"

#include <stdexcept>

#include "layer/rows.hpp"
#include "weights/module_sizes.hpp"
#include "weights/refusal.hpp"

namespace latchwork {

template <class T>
CodeCheck<T>::CodeCheck(const std::vector<ModuleOptions>& modules) {
  std::size_t place = 0;
  while (place < modules.size() && !std::holds_alternative<EmbedColumnsOptions>(modules[place])) ++place;
  if (place == modules.size()) return;
  const auto& embed = std::get<EmbedColumnsOptions>(modules[place]);
  for (std::size_t at = 0; at < embed.columns.size(); ++at) {
    Column& column = columns_.emplace_back(Column{embed.columns[at], embed.num_embeddings[at], {}});
    const auto feature = static_cast<std::size_t>(column.column);
    std::size_t states = 0;
    for (std::size_t module = 0; module < place; ++module) {
      Stage& stage = column.stages.emplace_back();
      stage.module = module;
      if (const auto* scale = std::get_if<ScaleOptions>(&modules[module])) {
        stage.shift = static_cast<T>(scale->shift[feature]);
        stage.factor = static_cast<T>(scale->factor[feature]);
        continue;
      }
      if (std::holds_alternative<MaskOptions>(modules[module])) continue;
      const auto& impute = std::get<ImputeOptions>(modules[module]);
      stage.impute = true;
      stage.state = states;
      stage.features = impute.features;
      stage.carries = module_state_size(impute).has_value();
      states += stage.carries ? 1 : 0;
    }
    for (const Stage& stage : column.stages) {
      if (!stage.impute) continue;
      const auto& fills = std::get<ImputeOptions>(modules[stage.module]).fill;
      const double fill = fills.empty() ? 0.0 : fills[feature];
      if (fits(column, static_cast<T>(fill), stage.module + 1)) continue;
      refuse("modules[" + text(static_cast<Index>(stage.module)) + "].fill[" + text(column.column) + "]",
             expected(column), text(fill));
    }
  }
}

template <class T>
bool CodeCheck<T>::fits(const Column& column, T value, std::size_t first) {
  for (std::size_t at = first; at < column.stages.size(); ++at) {
    const Stage& stage = column.stages[at];
    if (!stage.impute) {
      value = (value - stage.shift) * stage.factor;
    } else if (value != value) {
      return true;  // what is filled in is checked where it comes from
    }
  }
  return value >= T(0) && value < static_cast<T>(column.count) && static_cast<T>(static_cast<Index>(value)) == value;
}

template <class T>
std::string CodeCheck<T>::expected(const Column& column) {
  return "a code, an integer from 0 to " + text(column.count - 1) + ", in column " + text(column.column);
}

template <class T>
void CodeCheck<T>::check(const SequenceView<const T>& values, const Batch& batch, const std::string& of_member) const {
  const Schedule schedule{batch, false};
  for (Index step = 0; step < batch.steps; ++step) {
    for (Index row = 0; row < batch.rows; ++row) {
      if (!schedule.active(step, row) || batch.skips(step, row)) continue;
      for (const Column& column : columns_) {
        const T value = values.at(step, row)[column.column];
        if (fits(column, value)) continue;
        refuse("x", expected(column),
               text(static_cast<double>(value)) + " at step " + text(step) + ", row " + text(row) + of_member);
      }
    }
  }
}

template <class T>
void CodeCheck<T>::check_step(const T* values, Index size, Index rows, const std::uint8_t* skip) const {
  for (Index row = 0; row < rows; ++row) {
    if (skip != nullptr && skip[row] != 0) continue;
    for (const Column& column : columns_) {
      const T value = values[row * size + column.column];
      if (fits(column, value)) continue;
      refuse("x", expected(column), text(static_cast<double>(value)) + " in row " + text(row));
    }
  }
}

template <class T>
void CodeCheck<T>::check_states(const char* name, const States<const T>& states, Index rows,
                                const std::string& of_member) const {
  if (states.empty()) return;
  for (const Column& column : columns_) {
    for (const Stage& stage : column.stages) {
      if (!stage.carries || states[stage.state].hidden == nullptr) continue;
      for (Index row = 0; row < rows; ++row) {
        const T value = states[stage.state].hidden[row * stage.features + column.column];
        if (fits(column, value, stage.module + 1)) continue;
        refuse(name, expected(column),
               text(static_cast<double>(value)) + " among the carried values of row " + text(row) + of_member);
      }
    }
  }
}

template class CodeCheck<float>;
template class CodeCheck<double>;

}  // namespace latchwork
