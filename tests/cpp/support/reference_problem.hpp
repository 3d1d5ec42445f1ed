#pragma once

#include "reference/lstm.hpp"
#include "support/lstm_problem.hpp"
#include "support/support.hpp"

namespace latchwork::test {

using reference::Vector;

inline doctest::Approx exactly(double value) { return doctest::Approx(value).epsilon(1e-14); }

inline reference::LstmRecord run(const Problem& problem) {
  return reference::lstm_forward(problem.options, problem.parameters, problem.input);
}

inline reference::LstmGradients run_backward(const Problem& problem) {
  return reference::lstm_backward(problem.options, problem.parameters, problem.input, run(problem), problem.d_result);
}

// A pointer to the parameters of this name, which may be written.
inline double* parameter(Problem& problem, const std::string& name) {
  const std::vector<ParameterSpec> layout = parameter_layout({problem.options}, TensorNames::of_layer);
  for (const ParameterSpec& spec : layout) {
    if (spec.name == name) return problem.parameters.data() + spec.offset;
  }
  REQUIRE_MESSAGE(false, name);
  return nullptr;
}

}  // namespace latchwork::test
