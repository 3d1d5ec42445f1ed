#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "latchwork/batch.hpp"
#include "latchwork/export.hpp"
#include "latchwork/options.hpp"
#include "latchwork/parameters.hpp"
#include "latchwork/stream.hpp"
#include "latchwork/tape.hpp"
#include "latchwork/types.hpp"

namespace latchwork {

template <class T>
class Network;

namespace detail {
template <class T>
struct NetworkParts;
template <class T>
const std::shared_ptr<NetworkParts<T>>& parts_of(const Network<T>& network);
}  // namespace detail

// Where the parameters of a call lie, if they lie outside the network: for each tensor of layout() its elements,
// member after member, contiguous. Empty: in the network.
template <class T>
using Tensors = std::vector<const T*>;

// A chain of modules, in one or more members: sets of weights of one shape that are run and trained in one call. The
// results of each member are bit for bit what they would be if it were alone. All parameters lie in one contiguous
// buffer, member after member. Calls may run from many threads at once, also while another thread writes parameters: a
// call keeps the weights that it started with. A copy of a Network is the same network.
template <class T>
class LATCHWORK_API Network {
 public:
  // Parameters get PyTorch's initial values unless the options say otherwise. Those of member m are those of a network
  // of one member that is built with seed + m. Throws std::invalid_argument, see validate().
  Network(std::vector<ModuleOptions> modules, TensorNames names, std::uint64_t seed, Index members = 1);

  // A network whose parameters fill(parameters, size) writes: those of member m from parameters + m * size on, each
  // tensor at its offset in layout(). What the options say of initial values does not matter. Mask seeds start from 0.
  static Network with_parameters(std::vector<ModuleOptions> modules, TensorNames names, Index members,
                                 const std::function<void(T* parameters, Index size)>& fill);

  // A network of module `index` alone, with all members. It has the same parameters: what is written through one
  // network is seen by the other.
  Network module(Index index) const;
  // A separate network of one member, with the weights that this member has at the moment.
  Network member(Index index) const;
  // One network whose members are the members of several networks, with the weights that they have at the moment. Its
  // tensors are named as those of networks[0]. Throws std::invalid_argument if `networks` is empty, or if their modules
  // differ in more than how initial values are drawn.
  static Network stack(const std::vector<Network>& networks);

  const std::vector<ModuleOptions>& modules() const;
  Index members() const;

  // The parameters of one member; offsets count from the member's first parameter.
  const std::vector<ParameterSpec>& layout() const;
  Index member_parameter_count() const;
  Index parameter_count() const { return members() * member_parameter_count(); }
  // Member m's first parameter lies in the store at parameters_begin() + m * member_stride().
  const std::shared_ptr<ParameterStore<T>>& store() const;
  Index parameters_begin() const;
  Index member_stride() const;

  bool takes_tokens() const;
  Index input_size() const;     // features of one step; 1 for tokens
  Index output_size() const;    // features of one step of the output
  bool keeps_sequence() const;  // false after Last, Mean or Max: the output then has one step
  bool takes_missing() const;   // whether NaN in the input reaches an Impute, which replaces it
  // Of the modules that have a state, in the order of the chain.
  const std::vector<StateSize>& state_sizes() const;
  Index lstm_count() const;
  const LstmOptions& lstm(Index index) const;  // index: counts the LSTM modules

  // Runs the network. Outputs in padding are zero. The start state of a row of length 0 is also its end state. `output`
  // and `end` may be null. If `tensors` says where the parameters lie, they are first compared with the network's, byte
  // by byte, and those that differ are copied: packed weights stay in use until a byte has changed. Throws
  // std::invalid_argument for a length, a token or a code of an EmbedColumns out of range, for a view that has no place
  // for each member, or for `tensors` that are not as many as layout() has, before any computation.
  void forward(const Input<T>& input, const Batch& batch, const States<const T>& start, const SequenceView<T>& output,
               const States<T>& end, const Tensors<T>& tensors = {}) const;

  // The same as forward(), but only the output of each row's last valid step is written, (rows, output_size), zeros for
  // a row of length 0: bit for bit what forward() gives there, also if that step is skipped. The modules after the last
  // LSTM compute one step at most. Throws std::invalid_argument in addition if keeps_sequence() is false.
  void forward_last_step(const Input<T>& input, const Batch& batch, const States<const T>& start,
                         const SequenceView<T>& output, const States<T>& end) const;

  // The same as forward(), but also keeps what backward and traces need, and dropout acts unless the options say
  // otherwise. The tape copies the input. In addition it throws std::invalid_argument for a negative checkpoint or
  // first row.
  std::shared_ptr<Tape<T>> record(const Input<T>& input, const Batch& batch, const States<const T>& start,
                                  const SequenceView<T>& output, const States<T>& end, const RecordOptions& options,
                                  const Tensors<T>& tensors = {}) const;
  // Where record() takes the mask seed from if it acts as in training and is given none. A new network has its seed as
  // the key and a count of 0; each such recording takes one seed, from whatever thread. member() and stack() copy this,
  // of the first network, and module() shares it.
  MaskSeeds mask_seeds() const;
  void set_mask_seeds(const MaskSeeds& seeds) const;
  // Takes the next seed, for several recordings that are to have the masks of one.
  std::uint64_t next_mask_seed() const;

  // Throws std::invalid_argument if a layer runs in the reverse direction.
  std::unique_ptr<Stream<T>> stream(Index rows) const;

 private:
  friend const std::shared_ptr<detail::NetworkParts<T>>& detail::parts_of<T>(const Network& network);

  explicit Network(std::shared_ptr<detail::NetworkParts<T>> parts);

  void run(const Input<T>& input, const Batch& batch, const States<const T>& start, const SequenceView<T>& output,
           const States<T>& end, bool last_step, const Tensors<T>& tensors) const;

  std::shared_ptr<detail::NetworkParts<T>> parts_;
};

// Mean or Max of sequences without a network: (steps, rows, features) -> (rows, features). Throws std::invalid_argument
// for another module, or for a length out of range.
template <class T>
LATCHWORK_API void pool(const ModuleOptions& pooling, const SequenceView<const T>& input, const Batch& batch,
                        Index features, const SequenceView<T>& output);

// An activation module without a network: x and y are (rows, features), contiguous. Throws std::invalid_argument for
// another module.
template <class T>
LATCHWORK_API void activate(const ModuleOptions& activation, const T* x, Index rows, Index features, T* y);

}  // namespace latchwork
