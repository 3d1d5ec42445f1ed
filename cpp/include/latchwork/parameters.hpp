#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "latchwork/options.hpp"
#include "latchwork/types.hpp"

namespace latchwork {

// What a tensor is to its module, in the word that its name has for it.
enum class ParameterKind {
  // Of one layer and direction of an LSTM.
  weight_ih,
  weight_hh,
  bias_ih,
  bias_hh,
  weight_hr,
  weight_peephole,
  norm_ih_weight,
  norm_ih_bias,
  norm_hh_weight,
  norm_hh_bias,
  norm_cell_weight,
  norm_cell_bias,
  h_0,
  c_0,
  // Of an Embedding, which has only a weight, or of a Linear.
  weight,
  bias,
};

// One named tensor in the contiguous buffer of a whole model, row-major.
struct ParameterSpec {
  std::string name;
  std::vector<Index> shape;
  Index offset = 0;
  ParameterKind kind = ParameterKind::weight;
  Index module = 0;     // its place in the chain
  Index layer = 0;      // of an LSTM
  Index direction = 0;  // of an LSTM: 0, or 1 for the second of two

  Index size() const {
    Index product = 1;
    for (Index extent : shape) product *= extent;
    return product;
  }
};

// How tensors are called: as those of a layer of its own ("weight_ih_l0"), or with the module's number in front, as in
// torch.nn.Sequential ("1.weight_ih_l0").
enum class TensorNames { of_layer, of_chain };

// Names and shapes are PyTorch's: weight_ih_l{k} (4H, in), weight_hh_l{k} (4H, H or P), bias_ih_l{k}, bias_hh_l{k}
// (4H), weight_hr_l{k} (P, H), suffix _reverse; Embedding and Linear: weight, bias. Gate order i, f, g, o; without a
// forget gate of its own 3H instead of 4H: i, g, o. Then, where the options ask for them, weight_peephole_l{k} (3H:
// i, f, o; or 2H: i, o), norm_ih_weight_l{k}, norm_ih_bias_l{k}, norm_hh_weight_l{k}, norm_hh_bias_l{k} (4H or 3H),
// norm_cell_weight_l{k}, norm_cell_bias_l{k} (H), h_0_l{k} (H or P), c_0_l{k} (H). In that order, layer by layer,
// forward before reverse.
std::vector<ParameterSpec> parameter_layout(const std::vector<ModuleOptions>& modules, TensorNames names);

// The buffer that holds every parameter of a model, and the only place where they are written.
template <class T>
class ParameterStore {
 public:
  explicit ParameterStore(Index size) : size_(size), data_(new T[static_cast<std::size_t>(size)]()) {}

  Index size() const { return size_; }
  // Readable at any time; a reader beside a writer may see part of an update. Use read() for a consistent copy.
  const T* data() const { return data_.get(); }
  // Changes with every write; a snapshot of packed weights is as old as its version.
  std::uint64_t version() const { return version_.load(std::memory_order_acquire); }

  template <class Read>
  void read(Read&& read) const {
    const std::lock_guard<std::mutex> lock(mutex_);
    read(static_cast<const T*>(data_.get()));
  }

  template <class Write>
  void write(Write&& write) {
    const std::lock_guard<std::mutex> lock(mutex_);
    write(data_.get());
    version_.fetch_add(1, std::memory_order_release);
  }

 private:
  Index size_;
  std::unique_ptr<T[]> data_;
  std::atomic<std::uint64_t> version_{1};
  mutable std::mutex mutex_;
};

// PyTorch's initial values: LSTM uniform in +-1/sqrt(H), Linear uniform in +-1/sqrt(in), Embedding standard normal.
// Norms begin as the identity, trained start states as zeros; for keras and orthogonal peepholes as zeros and W_hr
// Glorot uniform. LstmOptions::init:
//   keras       W Glorot uniform over (in, all gates), R (H, all gates) orthogonal, biases zero but the forget gate's 1
//   orthogonal  each gate's W Glorot uniform and R orthogonal, biases zero
//   chrono      as torch, but biases zero except b_f = log(u), b_i = -b_f, u uniform in [1, t_max - 1]: Tallec &
//               Ollivier 2018
// forget_bias sets the forget gate's bias, whatever else: b in bias_ih, 0 in bias_hh.
template <class T>
void initialise_parameters(const std::vector<ModuleOptions>& modules, std::uint64_t seed, T* parameters);

}  // namespace latchwork
