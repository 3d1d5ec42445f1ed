#pragma once

#include <memory>
#include <vector>

#include "latchwork/batch.hpp"
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

// A chain of modules, in one or more members: sets of weights of one shape, run and trained in one call, each bit for
// bit what it would be alone. All parameters lie in one contiguous buffer, member after member. Calls may run from many
// threads at once, also while another writes parameters: a call keeps the weights it began with. Copies of a Network
// are the same network.
template <class T>
class Network {
 public:
  // Parameters start as PyTorch's do, those of member m as those of a network of one member built with seed + m. Throws
  // std::invalid_argument, see validate().
  Network(std::vector<ModuleOptions> modules, TensorNames names, std::uint64_t seed, Index members = 1);

  // Module `index` alone, of all members, on the same parameters: a write through one is seen by the other.
  Network module(Index index) const;
  // A network of its own, with the weights that one member has at this moment.
  Network member(Index index) const;
  // One network whose members are those of others, with the weights they have at this moment. Throws
  // std::invalid_argument where there is none, or where their parameters differ in name or shape.
  static Network stack(const std::vector<Network>& networks);

  const std::vector<ModuleOptions>& modules() const;
  Index members() const;

  // Of one member; offsets count from the member's first parameter.
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
  bool keeps_sequence() const;  // false after Last: the output then has one step
  Index lstm_count() const;
  const LstmOptions& lstm(Index index) const;  // of the LSTM modules, in order

  // Outputs in padding are zero; a state of a row of length 0 is passed through. `output` and `end` may be null.
  // Throws std::invalid_argument for a length or a token out of range, or for a view that has no place for each member,
  // before any computation.
  void forward(const Input<T>& input, const Batch& batch, const States<const T>& start, const SequenceView<T>& output,
               const States<T>& end) const;

  // forward() that also keeps what backward and traces need. The tape copies the input. Throws std::invalid_argument
  // also for a negative checkpoint or first row.
  std::shared_ptr<Tape<T>> record(const Input<T>& input, const Batch& batch, const States<const T>& start,
                                  const SequenceView<T>& output, const States<T>& end,
                                  const RecordOptions& options) const;

  // Throws std::invalid_argument where a direction is reverse.
  std::unique_ptr<Stream<T>> stream(Index rows) const;

 private:
  friend const std::shared_ptr<detail::NetworkParts<T>>& detail::parts_of<T>(const Network& network);

  explicit Network(std::shared_ptr<detail::NetworkParts<T>> parts);

  std::shared_ptr<detail::NetworkParts<T>> parts_;
};

}  // namespace latchwork
