#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "latchwork/export.hpp"
#include "latchwork/fork.hpp"
#include "latchwork/options.hpp"
#include "latchwork/types.hpp"

namespace latchwork {

// What a tensor is to its module; the names are those in the parameter names.
enum class ParameterKind {
  // Tensors of one layer and direction of an LSTM.
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
  // Tensors of a Linear; an Embedding only has a weight, an EmbedColumns one for each column.
  weight,
  bias,
};

// One named tensor in the contiguous buffer of all parameters of a model, row-major.
struct ParameterSpec {
  std::string name;
  std::vector<Index> shape;
  Index offset = 0;
  ParameterKind kind = ParameterKind::weight;
  Index module = 0;     // the place of its module in the chain
  Index layer = 0;      // of an LSTM; of an EmbedColumns the place among its columns
  Index direction = 0;  // of an LSTM: 0, or 1 for the second of two directions

  Index size() const {
    Index product = 1;
    for (Index extent : shape) product *= extent;
    return product;
  }
};

// How tensors are named: as those of a single layer ("weight_ih_l0"), or with the module's number in front, as in
// torch.nn.Sequential ("1.weight_ih_l0").
enum class TensorNames { of_layer, of_chain };

// Returns the tensors of a chain of modules. Names and shapes are PyTorch's: weight_ih_l{k} (4H, in), weight_hh_l{k}
// (4H, H or P), bias_ih_l{k}, bias_hh_l{k} (4H), weight_hr_l{k} (P, H), with the suffix _reverse for the reverse
// direction; Embedding and Linear have weight and bias, EmbedColumns weight_0, weight_1 and so on, one for each of its
// columns, which lie in memory one after another. The gate order is i, f, g, o. Without a forget gate of its own
// a layer has 3H rows instead of 4H: i, g, o. If the options ask for them, these follow: weight_peephole_l{k} (3H: i,
// f, o; or 2H: i, o), norm_ih_weight_l{k}, norm_ih_bias_l{k}, norm_hh_weight_l{k}, norm_hh_bias_l{k} (4H or 3H),
// norm_cell_weight_l{k}, norm_cell_bias_l{k} (H), h_0_l{k} (H or P), c_0_l{k} (H). The tensors come in this order,
// layer by layer, forward before reverse.
LATCHWORK_API std::vector<ParameterSpec> parameter_layout(const std::vector<ModuleOptions>& modules, TensorNames names);

// The buffer that holds all parameters of a model. Only this class writes them. A call of read(), write() or refresh()
// must not read or write another store. A fork waits for it, so that a child has either none of a write or all.
template <class T>
class ParameterStore {
 public:
  // fill(parameters) writes the first values.
  template <class Fill>
  ParameterStore(Index size, Fill&& fill) : size_(size), data_(new T[static_cast<std::size_t>(size)]()) {
    fill(data_.get());
  }
  explicit ParameterStore(Index size) : ParameterStore(size, [](T*) {}) {}

  Index size() const { return size_; }
  // May be read at any time, but a reader may see only a part of an update that is being written. read() gives a
  // consistent view.
  const T* data() const { return data_.get(); }
  // Grows with every write, so that weights packed earlier are recognised as outdated.
  std::uint64_t version() const { return version_.load(std::memory_order_acquire); }

  template <class Read>
  void read(Read&& read) const {
    const std::lock_guard<ForkSafeMutex> lock(mutex_);
    read(static_cast<const T*>(data_.get()));
  }

  // Brings the parameters up to date and reads them, so that no other write comes between. refresh(parameters) returns
  // whether it wrote anything.
  template <class Refresh, class Read>
  void refresh(Refresh&& refresh, Read&& read) {
    const std::lock_guard<ForkSafeMutex> lock(mutex_);
    if (refresh(data_.get())) version_.fetch_add(1, std::memory_order_release);
    read(static_cast<const T*>(data_.get()));
  }

  template <class Write>
  void write(Write&& write) {
    const std::lock_guard<ForkSafeMutex> lock(mutex_);
    write(data_.get());
    version_.fetch_add(1, std::memory_order_release);
  }

 private:
  Index size_;
  std::unique_ptr<T[]> data_;
  std::atomic<std::uint64_t> version_{1};
  mutable ForkSafeMutex mutex_{LockKind::parameters};
};

// Writes PyTorch's initial values: LSTM uniform in +-1/sqrt(H), Linear uniform in +-init_scale/sqrt(in), Embedding and
// EmbedColumns standard normal. Layer norms start as the identity and trained start states as zeros. LstmOptions::init
// chooses other values:
//   keras       W Glorot uniform over (in, all gates), R (H, all gates) orthogonal, biases zero except the forget
//               gate's 1
//   orthogonal  each gate's W Glorot uniform and its R orthogonal, biases zero
//   chrono      as torch, but biases zero except b_f = log(u), b_i = -b_f, u uniform in [1, t_max - 1]: Tallec &
//               Ollivier 2018
// With keras and orthogonal, peepholes are zero and W_hr is Glorot uniform. forget_bias b sets the forget gate's bias
// in every case: b in bias_ih, 0 in bias_hh.
template <class T>
LATCHWORK_API void initialise_parameters(const std::vector<ModuleOptions>& modules, std::uint64_t seed, T* parameters);

}  // namespace latchwork
