#include "reference/modules.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "reference/activations.hpp"

namespace latchwork::reference {

namespace {

// The first step, from `begin` on, with the largest value of a feature.
std::size_t first_largest(const Sequence& steps, std::size_t begin, std::size_t feature) {
  std::size_t largest = begin;
  for (std::size_t step = begin; step < steps.size(); ++step) {
    if (steps[step][feature] > steps[largest][feature]) largest = step;
  }
  return largest;
}

double pre_activation(const LinearOptions& options, const Vector& parameters, const Vector& x, std::size_t output) {
  const auto inputs = static_cast<std::size_t>(options.in_features);
  double sum = options.bias ? parameters[static_cast<std::size_t>(options.out_features) * inputs + output] : 0.0;
  for (std::size_t k = 0; k < inputs; ++k) sum += parameters[output * inputs + k] * x[k];
  return sum;
}

// Where each of the sorted values of one run comes from.
std::vector<std::size_t> sorted_places(const Vector& x, std::size_t begin, std::size_t group) {
  std::vector<std::size_t> places(group);
  std::iota(places.begin(), places.end(), begin);
  std::stable_sort(places.begin(), places.end(), [&](std::size_t one, std::size_t other) {
    return x[one] < x[other] || (!std::isnan(x[one]) && std::isnan(x[other]));
  });
  return places;
}

// Calls kept(feature of the input, feature of the output) for each feature that is kept, and then
// table(number among the columns, where the code's row starts in the parameters, feature of the output) for each
// column.
template <class Kept, class Table>
void for_each_column(const EmbedColumnsOptions& options, const Vector& x, Kept&& kept, Table&& table) {
  std::size_t output = 0;
  for (Index feature = 0; feature < options.features; ++feature) {
    if (std::count(options.columns.begin(), options.columns.end(), feature) > 0) continue;
    kept(static_cast<std::size_t>(feature), output++);
  }
  Index begin = 0;
  for (std::size_t at = 0; at < options.columns.size(); ++at) {
    const auto code = static_cast<Index>(x[static_cast<std::size_t>(options.columns[at])]);
    table(at, static_cast<std::size_t>(begin + code * options.embedding_dim[at]), output);
    begin += options.num_embeddings[at] * options.embedding_dim[at];
    output += static_cast<std::size_t>(options.embedding_dim[at]);
  }
}

Vector pre_activations(const LinearOptions& options, const Vector& parameters, const Vector& x) {
  Vector result;
  for (std::size_t output = 0; output < static_cast<std::size_t>(options.out_features); ++output) {
    result.push_back(pre_activation(options, parameters, x, output));
  }
  return result;
}

}  // namespace

Vector mean(const Sequence& steps, std::size_t begin, std::size_t features) {
  Vector result(features, 0.0);
  for (std::size_t step = begin; step < steps.size(); ++step) {
    for (std::size_t k = 0; k < features; ++k) result[k] += steps[step][k] / static_cast<double>(steps.size() - begin);
  }
  return result;
}

Vector max(const Sequence& steps, std::size_t begin, std::size_t features) {
  Vector result(features, 0.0);
  for (std::size_t k = 0; !steps.empty() && k < features; ++k) result[k] = steps[first_largest(steps, begin, k)][k];
  return result;
}

Sequence mean_backward(const Sequence& steps, std::size_t begin, const Vector& d_result) {
  Sequence d_steps(steps.size(), Vector(d_result.size(), 0.0));
  for (std::size_t step = begin; step < steps.size(); ++step) {
    for (std::size_t k = 0; k < d_result.size(); ++k) {
      d_steps[step][k] = d_result[k] / static_cast<double>(steps.size() - begin);
    }
  }
  return d_steps;
}

Sequence max_backward(const Sequence& steps, std::size_t begin, const Vector& d_result) {
  Sequence d_steps(steps.size(), Vector(d_result.size(), 0.0));
  for (std::size_t k = 0; !steps.empty() && k < d_result.size(); ++k) {
    d_steps[first_largest(steps, begin, k)][k] = d_result[k];
  }
  return d_steps;
}

Vector linear(const LinearOptions& options, const Vector& parameters, const Vector& x) {
  return activate_row(options.activation, pre_activations(options, parameters, x));
}

Vector linear_backward(const LinearOptions& options, const Vector& parameters, const Vector& x, const Vector& d_result,
                       Vector& d_parameters) {
  const auto inputs = static_cast<std::size_t>(options.in_features);
  const auto outputs = static_cast<std::size_t>(options.out_features);
  Vector d_x(inputs, 0.0);
  const Vector d_sums = activate_row_backward(options.activation, pre_activations(options, parameters, x), d_result);
  for (std::size_t output = 0; output < outputs; ++output) {
    const double d_sum = d_sums[output];
    for (std::size_t k = 0; k < inputs; ++k) {
      d_parameters[output * inputs + k] += d_sum * x[k];
      d_x[k] += d_sum * parameters[output * inputs + k];
    }
    if (options.bias) d_parameters[outputs * inputs + output] += d_sum;
  }
  return d_x;
}

Vector scale(const ScaleOptions& options, const Vector& x) {
  Vector result;
  for (std::size_t k = 0; k < x.size(); ++k) result.push_back((x[k] - options.shift[k]) * options.factor[k]);
  return result;
}

Vector scale_backward(const ScaleOptions& options, const Vector& d_result) {
  Vector d_x;
  for (std::size_t k = 0; k < d_result.size(); ++k) d_x.push_back(d_result[k] * options.factor[k]);
  return d_x;
}

Imputed impute(const ImputeOptions& options, const Sequence& steps, const std::vector<bool>& restarts, Vector value,
               Vector age) {
  const bool forward = options.method == Imputation::forward;
  const auto features = static_cast<std::size_t>(options.features);
  const Vector fill = options.fill.empty() ? Vector(features, 0.0) : options.fill;
  const Vector persistence = options.persistence.empty() ? Vector(features, 1.0) : options.persistence;
  Imputed result;
  for (std::size_t step = 0; step < steps.size(); ++step) {
    if (restarts[step]) {
      value = fill;
      age.assign(features, 0.0);
    }
    for (std::size_t k = 0; k < features; ++k) {
      age[k] = std::isnan(steps[step][k]) ? age[k] + 1.0 : 0.0;
      if (!std::isnan(steps[step][k])) {
        value[k] = steps[step][k];
      } else if (!forward) {
        value[k] = fill[k];
      } else if (persistence[k] != 1.0) {
        value[k] = fill[k] + persistence[k] * (value[k] - fill[k]);
      }
    }
    Vector& output = result.output.emplace_back(value);
    for (const Index k : options.indicators) {
      output.push_back(std::isnan(steps[step][static_cast<std::size_t>(k)]) ? 0.0 : 1.0);
    }
    for (const Index k : options.indicators) {
      if (forward) output.push_back(std::log1p(age[static_cast<std::size_t>(k)]));
    }
  }
  result.value = value;
  result.age = age;
  return result;
}

ImputedGradient impute_backward(const ImputeOptions& options, const Sequence& steps, const std::vector<bool>& restarts,
                                const Sequence& d_output, const Vector& d_end_value) {
  const auto features = static_cast<std::size_t>(options.features);
  ImputedGradient result{Sequence(steps.size(), Vector(features, 0.0)), Vector(features, 0.0)};
  // Adds to the gradient of what the value after so many steps comes from.
  const auto add = [&](std::size_t count, std::size_t k, double d_value) {
    while (count > 0 && std::isnan(steps[count - 1][k])) {
      if (restarts[count - 1] || options.method == Imputation::constant) return;
      if (!options.persistence.empty()) d_value *= options.persistence[k];
      --count;
    }
    (count > 0 ? result.d_steps[count - 1] : result.d_value)[k] += d_value;
  };
  for (std::size_t k = 0; k < features; ++k) {
    for (std::size_t step = 0; step < steps.size(); ++step) add(step + 1, k, d_output[step][k]);
    if (options.method == Imputation::forward) add(steps.size(), k, d_end_value[k]);
  }
  return result;
}

Vector embed_columns(const EmbedColumnsOptions& options, const Vector& parameters, const Vector& x) {
  Vector result(static_cast<std::size_t>(options.output_size()));
  for_each_column(
      options, x, [&](std::size_t from, std::size_t to) { result[to] = x[from]; },
      [&](std::size_t at, std::size_t begin, std::size_t to) {
        for (std::size_t k = 0; k < static_cast<std::size_t>(options.embedding_dim[at]); ++k) {
          result[to + k] = parameters[begin + k];
        }
      });
  return result;
}

Vector embed_columns_backward(const EmbedColumnsOptions& options, const Vector& x, const Vector& d_result,
                              Vector& d_parameters) {
  Vector d_x(x.size(), 0.0);
  for_each_column(
      options, x, [&](std::size_t from, std::size_t to) { d_x[from] = d_result[to]; },
      [&](std::size_t at, std::size_t begin, std::size_t to) {
        for (std::size_t k = 0; k < static_cast<std::size_t>(options.embedding_dim[at]); ++k) {
          d_parameters[begin + k] += d_result[to + k];
        }
      });
  return d_x;
}

Vector sort(const SortOptions& options, const Vector& x) {
  const auto group = static_cast<std::size_t>(options.group);
  Vector result;
  for (std::size_t begin = 0; begin < x.size(); begin += group) {
    for (const std::size_t place : sorted_places(x, begin, group)) result.push_back(x[place]);
  }
  return result;
}

Vector sort_backward(const SortOptions& options, const Vector& x, const Vector& d_result) {
  const auto group = static_cast<std::size_t>(options.group);
  Vector d_x(x.size());
  std::size_t at = 0;
  for (std::size_t begin = 0; begin < x.size(); begin += group) {
    for (const std::size_t place : sorted_places(x, begin, group)) d_x[place] = d_result[at++];
  }
  return d_x;
}

}  // namespace latchwork::reference
