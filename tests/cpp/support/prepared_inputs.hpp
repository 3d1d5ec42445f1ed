#pragma once

#include <limits>
#include <vector>

#include "latchwork/options.hpp"
#include "support/support.hpp"

// Inputs with missing values and codes, for networks that begin with the modules for them.
namespace latchwork::test {

inline constexpr Index prepared_features = 3;  // of the input; the second holds codes
inline constexpr Index prepared_codes = 4;
inline constexpr Index prepared_size = 8;  // of the output

// Scale, Impute and EmbedColumns, then `others`.
inline std::vector<ModuleOptions> prepared(const std::vector<ModuleOptions>& others) {
  std::vector<ModuleOptions> modules{
      ScaleOptions{{0.5, 0.0, -0.25}, {2.0, 1.0, 0.75}},
      ImputeOptions{prepared_features, Imputation::forward, {0.125, 2.0, 0.0}, {0, 2}, {0.75, 1.0, 0.5}},
      EmbedColumnsOptions{7, {1}, {prepared_codes}, {2}}};
  modules.insert(modules.end(), others.begin(), others.end());
  return modules;
}

// Turns the second of each three numbers into a code. With a chance of `missing` a number becomes NaN.
template <class T>
void prepare(Random& random, double missing, std::vector<T>& numbers) {
  for (std::size_t at = 0; at < numbers.size(); ++at) {
    if (at % prepared_features == 1) numbers[at] = static_cast<T>(random.between(0, prepared_codes - 1));
    if (random.chance(missing)) numbers[at] = std::numeric_limits<T>::quiet_NaN();
  }
}

}  // namespace latchwork::test
