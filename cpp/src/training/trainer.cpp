#include <algorithm>
#include <stdexcept>
#include <string>

#include "latchwork/training.hpp"
#include "machine/float_state.hpp"
#include "training/training_step.hpp"

namespace latchwork {
namespace {

// The steps and rows of the output, all that the loss has to know.
template <class T>
Batch output_batch(const Network<T>& network, const Batch& batch) {
  Batch output;
  output.rows = batch.rows;
  output.steps = network.keeps_sequence() ? batch.steps : 1;
  output.lengths = network.keeps_sequence() ? batch.lengths : nullptr;
  return output;
}

// The output in `memory`.
template <class T>
SequenceView<T> output_in(std::vector<T>& memory, const Batch& batch, Index features) {
  memory.resize(static_cast<std::size_t>(batch.steps * batch.rows * features));
  return {memory.data(), batch.rows * features, features};
}

// The end states in `memory`, so that the caller's, which may be the start states too, change only at the very end.
// None where `end` wants none.
template <class T>
States<T> end_states_in(std::vector<T>& memory, const Network<T>& network, Index rows, const States<T>& end) {
  if (end.empty()) return {};
  if (static_cast<Index>(end.size()) != network.lstm_count()) {
    throw std::invalid_argument("end: expected " + std::to_string(network.lstm_count()) + " states, got " +
                                std::to_string(end.size()));
  }
  Index size = 0;
  for (Index index = 0; index < network.lstm_count(); ++index) {
    const LstmOptions& lstm = network.lstm(index);
    size += lstm.states() * rows * (lstm.hidden_output_size() + lstm.hidden_size);
  }
  memory.resize(static_cast<std::size_t>(size));
  States<T> states;
  T* next = memory.data();
  for (Index index = 0; index < network.lstm_count(); ++index) {
    const LstmOptions& lstm = network.lstm(index);
    T* const cell = next + lstm.states() * rows * lstm.hidden_output_size();
    states.push_back({next, cell});
    next = cell + lstm.states() * rows * lstm.hidden_size;
  }
  return states;
}

template <class T>
void copy_states(const Network<T>& network, Index rows, const States<T>& from, const States<T>& to) {
  for (std::size_t index = 0; index < to.size(); ++index) {
    const LstmOptions& lstm = network.lstm(static_cast<Index>(index));
    const Index blocks = lstm.states() * rows;
    if (to[index].hidden != nullptr) {
      std::copy_n(from[index].hidden, blocks * lstm.hidden_output_size(), to[index].hidden);
    }
    if (to[index].cell != nullptr) std::copy_n(from[index].cell, blocks * lstm.hidden_size, to[index].cell);
  }
}

}  // namespace

template <class T>
Trainer<T>::Trainer(const Network<T>& network, Loss loss, const OptimizerOptions& optimizer, double max_norm,
                    std::uint64_t seed)
    : network_(network),
      loss_(std::move(loss)),
      optimizer_(optimizer, network.parameter_count()),
      max_norm_(max_norm),
      seed_(seed),
      gradient_(static_cast<std::size_t>(network.parameter_count())) {
  check_max_norm(max_norm);
  // An empty batch has no loss, but a loss that does not fit the network is refused now, not at the first step.
  loss_and_gradient<T>(loss_, {}, network_.output_size(), Batch{}, {}, {});
}

template <class T>
double Trainer<T>::step(const Input<T>& input, const Batch& batch, const States<const T>& start,
                        const Target<T>& target, const States<T>& end) {
  const FlushToZero flush_to_zero;
  const Index features = network_.output_size();
  const Batch outputs = output_batch(network_, batch);
  const SequenceView<T> d_output = output_in(d_output_, outputs, features);
  const States<T> own_end = end_states_in(end_, network_, batch.rows, end);
  RecordOptions options;
  options.training = true;
  options.mask_seed = step_mask_seed(seed_, optimizer_.steps());

  const auto tape = network_.record(input, batch, start, {}, own_end, options);
  const double loss = loss_and_gradient<T>(loss_, tape->output(), features, outputs, target, d_output);
  check_finite("loss", loss);
  tape->backward(read_only(d_output), {}, gradient_.data(), false, {}, {});
  const double norm = gradient_norm(gradient_.data(), network_.parameter_count());
  check_finite("norm of the gradient", norm);
  const double scale = max_norm_ > 0.0 ? clip_scale(norm, max_norm_) : 1.0;
  network_.store()->write(
      [&](T* parameters) { optimizer_.step(parameters + network_.parameters_begin(), gradient_.data(), scale); });
  copy_states(network_, batch.rows, own_end, end);
  return loss;
}

template <class T>
double Trainer<T>::evaluate(const Input<T>& input, const Batch& batch, const States<const T>& start,
                            const Target<T>& target, const States<T>& end) const {
  const FlushToZero flush_to_zero;
  const Index features = network_.output_size();
  const Batch outputs = output_batch(network_, batch);
  // Not the members: several threads may evaluate at once.
  std::vector<T> output_memory;
  std::vector<T> end_memory;
  const SequenceView<T> output = output_in(output_memory, outputs, features);
  const States<T> own_end = end_states_in(end_memory, network_, batch.rows, end);
  network_.forward(input, batch, start, output, own_end);
  const double loss = loss_and_gradient<T>(loss_, read_only(output), features, outputs, target, {});
  copy_states(network_, batch.rows, own_end, end);
  return loss;
}

template class Trainer<float>;
template class Trainer<double>;

}  // namespace latchwork
