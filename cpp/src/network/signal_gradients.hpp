#pragma once

#include <algorithm>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "network/recording.hpp"
#include "network/skipped_call.hpp"

namespace latchwork::detail {

// Where a backward pass writes the gradients with respect to the signals. If steps were skipped, those of the computed
// steps are written elsewhere, and scattered to the caller's arrays at the end.
template <class T>
class SignalGradients {
 public:
  // `wanted` must live as long as this. Throws std::invalid_argument if it does not have an array for each signal.
  SignalGradients(const Recording<T>& recording, const ChainSignals<T>& wanted)
      : members_(recording.network->members),
        batch_(recording.members.front().batch),
        computed_(recording.computed.get()),
        wanted_(wanted),
        written_(wanted) {
    if (wanted_.empty()) return;
    const std::vector<ModuleOptions>& modules = recording.network->modules;
    for (std::size_t at = 0; at < modules.size(); ++at) {
      const auto* lstm = std::get_if<LstmOptions>(&modules[at]);
      if (lstm != nullptr) lstms_.push_back({lstm, backwards_after(modules, at)});
    }
    check();
    if (computed_ == nullptr) return;
    memory_.emplace(recording.network->workspaces.first());
    for_each_array([&](T*, const ComputedSteps& computed, Index size, T*& written) {
      written = memory_->take(computed_size(computed, members_, size));
    });
  }
  SignalGradients(const SignalGradients&) = delete;
  SignalGradients& operator=(const SignalGradients&) = delete;

  // The arrays of one member, for chain_backward().
  ChainSignals<T> of(Index member) const {
    ChainSignals<T> own = written_;
    for (std::size_t lstm = 0; lstm < own.size(); ++lstm) {
      for (SignalArrays<T>& arrays : own[lstm]) {
        for (std::size_t signal = 0; signal < arrays.size(); ++signal) {
          arrays[signal] += member * batch_.steps * batch_.rows * size_of(lstm, signal);
        }
      }
    }
    return own;
  }

  // Writes the caller's arrays, once those of the computed steps are complete.
  void finish() {
    if (computed_ == nullptr) return;
    for_each_array([&](T* wanted, const ComputedSteps& computed, Index size, T*& written) {
      SequenceView<T> whole = contiguous(wanted, batch_.rows, size);
      whole.member_stride = steps() * batch_.rows * size;
      scatter(computed, members_, size, computed_view(computed, members_, size, written), whole);
    });
  }

 private:
  struct Lstm {
    const LstmOptions* options;
    bool backwards;  // whether a Reverse has turned its steps
  };

  Index size_of(std::size_t lstm, std::size_t signal) const {
    return signal_size(*lstms_[lstm].options, static_cast<Signal>(signal));
  }

  Index steps() const { return computed_ == nullptr ? batch_.steps : computed_->of(false).steps(); }

  void check() const {
    const auto refuse = [](const std::string& name, const std::string& expected, std::size_t count) {
      throw std::invalid_argument(name + ": expected " + expected + ", got " + std::to_string(count));
    };
    if (wanted_.size() != lstms_.size()) {
      refuse("d_signals", std::to_string(lstms_.size()) + " items, one for each LSTM", wanted_.size());
    }
    for (std::size_t lstm = 0; lstm < lstms_.size(); ++lstm) {
      const std::string name = "d_signals[" + std::to_string(lstm) + "]";
      const Index states = lstms_[lstm].options->states();
      if (static_cast<Index>(wanted_[lstm].size()) != states) {
        refuse(name, std::to_string(states) + " items, one for each layer and direction", wanted_[lstm].size());
      }
      for (const SignalArrays<T>& arrays : wanted_[lstm]) {
        const auto missing = std::count(arrays.begin(), arrays.end(), nullptr);
        if (missing > 0 && batch_.rows > 0 && steps() > 0) {
          refuse(name, "an array for each signal", arrays.size() - static_cast<std::size_t>(missing));
        }
      }
    }
  }

  // Calls task(the caller's array, the computed steps in its order, numbers at each step and row, array that the
  // backward pass writes) for each array.
  template <class Task>
  void for_each_array(Task&& task) {
    for (std::size_t lstm = 0; lstm < wanted_.size(); ++lstm) {
      for (std::size_t state = 0; state < wanted_[lstm].size(); ++state) {
        for (std::size_t signal = 0; signal < wanted_[lstm][state].size(); ++signal) {
          task(wanted_[lstm][state][signal], computed_->of(lstms_[lstm].backwards), size_of(lstm, signal),
               written_[lstm][state][signal]);
        }
      }
    }
  }

  Index members_;
  const Batch& batch_;  // of the computed steps, if steps were skipped
  const OrderedSteps* computed_;
  const ChainSignals<T>& wanted_;
  ChainSignals<T> written_;
  std::vector<Lstm> lstms_;
  std::optional<Workspace<T>> memory_;
};

}  // namespace latchwork::detail
