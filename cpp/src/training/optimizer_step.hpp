#pragma once

#include <algorithm>
#include <stdexcept>
#include <utility>
#include <vector>

#include "training/moments.hpp"
#include "training/training_step.hpp"

namespace latchwork {

// Steps of one or more optimisers together, each all of it or nothing, in one write of each store of parameters.
template <class T>
class OptimizerStep {
 public:
  explicit OptimizerStep(const std::vector<Optimizer<T>*>& optimizers) {
    for (Optimizer<T>* optimizer : optimizers) {
      parts_.push_back({optimizer, {}});
      for (const Network<T>& target : optimizer->targets_) {
        ParameterStore<T>* const store = target.store().get();
        if (place_of(store) == stores_.end()) stores_.push_back({store, nullptr});
      }
    }
    // The order in which all threads lock them.
    std::sort(stores_.begin(), stores_.end());
  }

  // `gradients` are those of each target of each optimiser. `largest` is the largest magnitude that a gradient can
  // have, times its scale. With `check_finite` it throws std::runtime_error if a result is not finite. done() is called
  // once all is updated, while the stores still let nobody in.
  template <class Done>
  void run(const std::vector<std::vector<TargetGradients<T>>>& gradients, const MemberScales& scales, double largest,
           bool check_finite, Done&& done) {
    write(0, [&] {
      for (std::size_t at = 0; at < parts_.size(); ++at) {
        find_pieces(parts_[at], gradients[at]);
        parts_[at].moments().begin(scales);
      }
      try {
        update(largest, check_finite);
      } catch (...) {
        for (Part& part : parts_) part.moments().cancel();
        throw;
      }
      done();
    });
  }

 private:
  struct Part {
    Optimizer<T>* optimizer;
    std::vector<Piece<T>> pieces;
    Moments<T>& moments() const { return *optimizer->moments_; }
  };
  using Stores = std::vector<std::pair<ParameterStore<T>*, T*>>;  // with its numbers, which are known during a write

  typename Stores::iterator place_of(const ParameterStore<T>* store) {
    return std::find_if(stores_.begin(), stores_.end(), [&](const auto& each) { return each.first == store; });
  }

  // Calls work() while all stores are being written. If it throws, they have not been.
  template <class Work>
  void write(std::size_t next, Work&& work) {
    if (next == stores_.size()) return work();
    stores_[next].first->write([&](T* parameters) {
      stores_[next].second = parameters;
      write(next + 1, work);
    });
  }

  void find_pieces(Part& part, const std::vector<TargetGradients<T>>& gradients) {
    part.pieces.clear();
    Index begin = 0;
    for (std::size_t at = 0; at < gradients.size(); ++at) {
      const Network<T>& target = part.optimizer->targets_[at];
      const Index size = target.member_parameter_count();
      T* const parameters = place_of(target.store().get())->second + target.parameters_begin();
      for (Index member = 0; member < target.members(); ++member, begin += size) {
        part.pieces.push_back({parameters + member * target.member_stride(),
                               gradients[at].values + member * gradients[at].member_stride, begin, size, member});
      }
      if (part.optimizer->versions_[at] != target.store()->version()) part.moments().forget_parameters();
    }
  }

  void update(double largest, bool check_finite) {
    if (check_finite && !all_allow(largest)) {
      update_or_bring_back();
    } else {
      for (Part& part : parts_) part.moments().update(part.pieces);
      if (!check_finite) forget();
    }
    for (Part& part : parts_) {
      for (std::size_t at = 0; at < part.optimizer->targets_.size(); ++at) {
        // The write that is under way adds one.
        part.optimizer->versions_[at] = part.optimizer->targets_[at].store()->version() + 1;
      }
    }
  }

  // Whether all results will be finite for certain.
  bool all_allow(double largest) {
    bool all = true;
    for (Part& part : parts_) {
      Moments<T>& moments = part.moments();
      if (moments.allows(largest)) continue;
      moments.measure(part.pieces);
      if (moments.allows(largest)) continue;
      // The bounds may have grown more than the numbers.
      moments.forget();
      moments.measure(part.pieces);
      all = moments.allows(largest) && all;
    }
    return all;
  }

  void update_or_bring_back() {
    std::vector<std::vector<std::vector<T>>> copies;
    for (Part& part : parts_) copies.push_back(part.moments().copy(part.pieces));
    bool finite = true;
    for (Part& part : parts_) {
      part.moments().update(part.pieces);
      finite = part.moments().is_finite(part.pieces) && finite;
    }
    forget();
    if (finite) return;
    for (std::size_t at = 0; at < parts_.size(); ++at) {
      parts_[at].moments().bring_back(parts_[at].pieces, std::move(copies[at]));
    }
    throw std::runtime_error("parameters: expected finite numbers after the step, got others; nothing was changed");
  }

  void forget() {
    for (Part& part : parts_) part.moments().forget();
  }

  std::vector<Part> parts_;
  Stores stores_;
};

// The largest magnitude that a gradient with these norms can have, times its scale.
inline double largest_gradient(const std::vector<double>& norms, const MemberScales& scales) {
  double largest = 0.0;
  for (std::size_t member = 0; member < norms.size(); ++member) {
    if (scales[member]) largest = std::max(largest, norms[member] * std::max(1.0, *scales[member]));
  }
  return largest;
}

}  // namespace latchwork
