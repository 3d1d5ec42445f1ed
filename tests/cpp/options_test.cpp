#include "latchwork/options.hpp"

#include <doctest/doctest.h>

#include <limits>
#include <stdexcept>

namespace latchwork::test {
namespace {

// The message, or nothing where the options are valid.
template <class Options>
std::string complaint(const Options& options) {
  try {
    validate(options);
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "";
}

std::string complaint_of(const ModuleOptions& options) { return complaint(options); }
std::string complaint_of(const std::vector<ModuleOptions>& modules) { return complaint(modules); }

LstmOptions lstm(Index input_size, Index hidden_size) {
  LstmOptions options;
  options.input_size = input_size;
  options.hidden_size = hidden_size;
  return options;
}

LinearOptions linear(Index input_size, Index output_size) {
  LinearOptions options;
  options.input_size = input_size;
  options.output_size = output_size;
  return options;
}

constexpr Index huge = std::numeric_limits<Index>::max();

}  // namespace

TEST_CASE("valid options") {
  CHECK(complaint_of(lstm(1, 1)) == "");
  LstmOptions all = lstm(3, 8);
  all.num_layers = 3;
  all.bias = false;
  all.dropout = 1.0;
  all.direction = Direction::both;
  all.proj_size = 7;
  CHECK(complaint_of(all) == "");
  CHECK(complaint_of(EmbeddingOptions{1, 1}) == "");
  CHECK(complaint_of(LastOptions{}) == "");
  CHECK(complaint_of(linear(1, 1)) == "");
}

TEST_CASE("sizes must be positive") {
  CHECK(complaint_of(lstm(0, 4)) == "input_size: expected a positive integer, got 0");
  CHECK(complaint_of(lstm(4, 0)) == "hidden_size: expected a positive integer, got 0");
  CHECK(complaint_of(lstm(4, -2)) == "hidden_size: expected a positive integer, got -2");
  CHECK(complaint_of(EmbeddingOptions{0, 4}) == "vocabulary: expected a positive integer, got 0");
  CHECK(complaint_of(EmbeddingOptions{4, -1}) == "size: expected a positive integer, got -1");
  CHECK(complaint_of(linear(0, 4)) == "input_size: expected a positive integer, got 0");
  CHECK(complaint_of(linear(4, 0)) == "output_size: expected a positive integer, got 0");
  LstmOptions options = lstm(4, 4);
  options.num_layers = 0;
  CHECK(complaint_of(options) == "num_layers: expected a positive integer, got 0");
  options.num_layers = 10001;
  CHECK(complaint_of(options) == "num_layers: expected an integer from 1 to 10000, got 10001");
}

TEST_CASE("dropout is a probability") {
  LstmOptions options = lstm(4, 4);
  options.dropout = 1.5;
  CHECK(complaint_of(options) == "dropout: expected a number from 0 to 1, got 1.5");
  options.dropout = -0.1;
  CHECK(complaint_of(options) == "dropout: expected a number from 0 to 1, got -0.1");
  options.dropout = std::numeric_limits<double>::quiet_NaN();
  CHECK(complaint_of(options) == "dropout: expected a number from 0 to 1, got nan");
}

TEST_CASE("proj_size lies below hidden_size") {
  LstmOptions options = lstm(4, 4);
  const std::string expected = "proj_size: expected 0 for none or a positive integer less than hidden_size (4), got ";
  options.proj_size = 4;
  CHECK(complaint_of(options) == expected + "4");
  options.proj_size = -1;
  CHECK(complaint_of(options) == expected + "-1");
}

TEST_CASE("a cell is one layer forward") {
  LstmOptions cell = lstm(4, 4);
  cell.cell = true;
  CHECK(complaint_of(cell) == "");
  LstmOptions options = cell;
  options.num_layers = 2;
  CHECK(complaint_of(options) == "num_layers: expected 1 for a cell, got 2");
  options = cell;
  options.direction = Direction::both;
  CHECK(complaint_of(options).rfind("direction: ", 0) == 0);
  options = cell;
  options.dropout = 0.5;
  CHECK(complaint_of(options) == "dropout: expected 0 for a cell, got 0.5");
  options = cell;
  options.proj_size = 2;
  CHECK(complaint_of(options) == "proj_size: expected 0 for a cell, got 2");
}

TEST_CASE("sizes that overflow are refused") {
  for (Index size : {Index{1} << 31, Index{1} << 40, Index{1} << 62, huge}) {
    CAPTURE(size);
    CHECK(complaint_of(lstm(4, size)).rfind("hidden_size: ", 0) == 0);
    CHECK(complaint_of(EmbeddingOptions{size, size}).rfind("vocabulary: ", 0) == 0);
    CHECK(complaint_of(linear(size, size)).rfind("output_size: ", 0) == 0);
  }
  CHECK(complaint_of(lstm(huge, 1)).rfind("hidden_size: ", 0) == 0);
  CHECK(complaint_of(lstm(Index{1} << 58, 1)).rfind("hidden_size: ", 0) == 0);
  CHECK(complaint_of(EmbeddingOptions{huge, 1}).rfind("vocabulary: ", 0) == 0);
  CHECK(complaint_of(lstm(1, Index{1} << 27)) == "");  // large, but no overflow
  LstmOptions deep = lstm(1, Index{1} << 27);
  deep.num_layers = 10000;
  CHECK(complaint_of(deep).rfind("hidden_size: ", 0) == 0);
  // Each fits, their sum does not.
  const EmbeddingOptions wide{(Index{1} << 57) + 1, 1};
  const LinearOptions wider = linear(1, Index{1} << 56);
  CHECK(complaint_of(std::vector<ModuleOptions>{wide, wider}).rfind("modules: ", 0) == 0);
}

TEST_CASE("chains that fit") {
  LstmOptions both = lstm(3, 5);
  both.direction = Direction::both;
  both.proj_size = 2;
  using Modules = std::vector<ModuleOptions>;
  CHECK(complaint_of(Modules{lstm(3, 5)}) == "");
  CHECK(complaint_of(Modules{EmbeddingOptions{9, 3}, both, lstm(4, 6), LastOptions{}, linear(6, 2)}) == "");
  CHECK(complaint_of(Modules{linear(2, 3), lstm(3, 4), linear(4, 1), linear(1, 7)}) == "");
}

TEST_CASE("chains that do not fit") {
  using Modules = std::vector<ModuleOptions>;
  CHECK(complaint_of(Modules{}) == "modules: expected at least one module, got none");
  CHECK(complaint_of(Modules{EmbeddingOptions{9, 3}, lstm(4, 5)}) ==
        "modules[1].input_size: expected 3, the output size of modules[0], got 4");
  CHECK(complaint_of(Modules{lstm(3, 5), LastOptions{}, linear(4, 2)}) ==
        "modules[2].input_size: expected 5, the output size of modules[1], got 4");
  CHECK(complaint_of(Modules{lstm(3, 5), EmbeddingOptions{9, 5}}).rfind("modules[1]: ", 0) == 0);
  CHECK(complaint_of(Modules{lstm(3, 5), LastOptions{}, lstm(5, 5)}).rfind("modules[2]: ", 0) == 0);
  CHECK(complaint_of(Modules{lstm(3, 5), LastOptions{}, LastOptions{}}).rfind("modules[2]: ", 0) == 0);
  CHECK(complaint_of(Modules{LastOptions{}}).rfind("modules: ", 0) == 0);
  CHECK(complaint_of(Modules{lstm(3, 0)}) == "hidden_size: expected a positive integer, got 0");
  CHECK(complaint_of(Modules{lstm(3, 5), linear(5, 0)}) ==
        "modules[1].output_size: expected a positive integer, got 0");
}

}  // namespace latchwork::test
