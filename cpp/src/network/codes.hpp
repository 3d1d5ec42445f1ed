#pragma once

#include <string>
#include <vector>

#include "latchwork/batch.hpp"
#include "latchwork/options.hpp"

namespace latchwork {

// Says whether the codes that an EmbedColumns is to read are integers within range, before anything is computed. A code
// comes from one feature of the input, scaled by the Scales before and filled in by the Imputes before where it is
// missing: with a value carried forward, which is such a code too, with one of the start state, or with the fill.
template <class T>
class CodeCheck {
 public:
  CodeCheck() = default;
  // Throws std::invalid_argument for a fill that is no code.
  explicit CodeCheck(const std::vector<ModuleOptions>& modules);

  // Whether there is an EmbedColumns.
  bool any() const { return !columns_.empty(); }

  // Throws std::invalid_argument, which says where, for a code of a computed step; `of_member` says whose batch it is.
  void check(const SequenceView<const T>& values, const Batch& batch, const std::string& of_member) const;
  // The same for the `rows` rows of one step of a stream that `skip` does not mark; `skip` may be null.
  void check_step(const T* values, Index size, Index rows, const std::uint8_t* skip) const;
  // The same for the values that states carry.
  void check_states(const char* name, const States<const T>& states, Index rows, const std::string& of_member) const;

 private:
  // A Scale of the feature, an Impute, or a Mask, which leaves it as it is.
  struct Stage {
    bool impute = false;
    T shift = T(0), factor = T(1);
    std::size_t module = 0;
    std::size_t state = 0;  // the number of the Impute's state
    Index features = 0;     // of the Impute
    bool carries = false;
  };
  struct Column {
    Index column = 0, count = 0;
    std::vector<Stage> stages;
  };

  // Whether the value is a code once the stages from number `first` on have been applied.
  static bool fits(const Column& column, T value, std::size_t first = 0);
  static std::string expected(const Column& column);

  std::vector<Column> columns_;
};

}  // namespace latchwork
