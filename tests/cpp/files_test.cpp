#include "latchwork/files.hpp"

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <variant>
#include <vector>

#include "files/safetensors.hpp"
#include "support/model_file.hpp"
#include "support/support.hpp"

namespace latchwork::test {
namespace {

namespace fs = std::filesystem;

const fs::path kept = LATCHWORK_KEPT_FILES;  // models that Python saved, and what they answered there

// The numbers of a tensor of the file of questions and answers.
template <class T>
std::vector<T> kept_numbers(const std::string& name) {
  files::SafetensorsFile file(kept / "expected.safetensors");
  for (const files::TensorEntry& tensor : file.tensors()) {
    if (tensor.name != name) continue;
    if (tensor.dtype == "F64") {
      std::vector<double> numbers(static_cast<std::size_t>(tensor.size()));
      file.read(tensor, 0, tensor.size(), numbers.data());
      return converted<T>(numbers);
    }
    REQUIRE(tensor.dtype == "F32");
    std::vector<float> numbers(static_cast<std::size_t>(tensor.size()));
    file.read(tensor, 0, tensor.size(), numbers.data());
    return converted<T>(numbers);
  }
  FAIL("no tensor ", name);
  return {};
}

bool is_network(const std::vector<ModuleOptions>& modules) {
  try {
    validate(modules);
  } catch (const std::invalid_argument&) {
    return false;
  }
  return true;
}

// What the network of a kept model answers to the 5 steps and 2 rows that Python's was asked. All members read the same
// input.
template <class T>
std::vector<T> answers(const Network<T>& network, const std::string& name) {
  const Index steps = 5, rows = 2;
  Batch batch;
  batch.steps = steps;
  batch.rows = rows;
  const std::vector<T> x = kept_numbers<T>(name + ".x");
  const Index features = network.input_size();
  REQUIRE(static_cast<Index>(x.size()) == steps * rows * features);
  const Index size = (network.keeps_sequence() ? steps : 1) * rows * network.output_size();
  std::vector<T> y(static_cast<std::size_t>(network.members() * size));
  const Index y_features = network.output_size();
  network.forward({{x.data(), rows * features, features, 0}, {}}, batch, {},
                  {y.data(), rows * y_features, y_features, size}, {});
  return y;
}

// NaN, which a Scale keeps, as a number that no model answers.
std::vector<float> without_nan(std::vector<float> numbers) {
  for (float& number : numbers) number = std::isnan(number) ? 12345.0F : number;
  return numbers;
}

// What is wrong with a file, without its name.
std::string complaint(const fs::path& path) {
  std::string message;
  try {
    load(path);
  } catch (const std::invalid_argument& error) {
    message = error.what();
  }
  // What is said of a file must not depend on whether its numbers are asked for.
  std::string said_of_info;
  try {
    model_info(path);
  } catch (const std::invalid_argument& error) {
    said_of_info = error.what();
  }
  CHECK(said_of_info == message);
  const std::string place = path.string() + ": ";
  if (message.empty()) return message;
  CHECK(message.substr(0, place.size()) == place);
  return message.substr(place.size());
}

std::string complaint(const ModelFile& file) {
  const TemporaryFile written(file.bytes());
  return complaint(written.path());
}

}  // namespace

TEST_CASE("every kept model loads, and computes what Python's did") {
  int files = 0, compared = 0;
  for (const auto& entry : fs::directory_iterator(kept)) {
    const std::string name = entry.path().stem().string();
    if (entry.path().extension() != ".safetensors" || name == "expected") continue;
    CAPTURE(name);
    ++files;
    const ModelInfo info = model_info(entry.path());
    if (!is_network(info.modules)) {  // a layer that takes any number of features, or only stands between others
      CHECK(info.modules.size() == 1);
      CHECK_THROWS_AS(load(entry.path()), std::invalid_argument);
      continue;
    }
    const AnyNetwork any = load(entry.path());
    CHECK(std::holds_alternative<Network<double>>(any) == (info.dtype == Dtype::float64));
    std::visit([&](const auto& network) { CHECK(network.modules() == info.modules); }, any);
    const auto* const network = std::get_if<Network<float>>(&any);
    // Those that read one step alone or tokens, or have the rows first, are left out.
    if (network == nullptr || network->takes_tokens() || info.kind == "lstm_cell" ||
        info.python.find("\"batch_first\": true") != std::string::npos) {
      continue;
    }
    ++compared;
    CHECK(difference(without_nan(answers(*network, name)), without_nan(kept_numbers<float>(name + ".output"))) <= 1e-6);
  }
  CHECK(files >= 26);
  CHECK(compared >= 10);
}

TEST_CASE("what a file says of its model") {
  const ModelInfo variant = model_info(kept / "lstm_variant.safetensors");
  CHECK(variant.kind == "lstm");
  CHECK(variant.dtype == Dtype::float64);
  CHECK(variant.members == 1);
  const LstmOptions& options = std::get<LstmOptions>(variant.modules.at(0));
  CHECK(options.proj_size == 2);
  CHECK(options.direction == Direction::both);
  CHECK(options.activations.at(1).cell.name == "softsign");
  CHECK(options.init == Initialisation::keras);
  CHECK(options.clip == 1.5);

  CHECK(model_info(kept / "network_members.safetensors").members == 3);
  const ModelInfo text = model_info(kept / "language_model.safetensors");
  CHECK(text.kind == "language_model");
  CHECK(text.vocabulary == std::vector<char32_t>{32, 97, 0xD800, 0xDC00, 0x10000});
  CHECK(text.python.find("\"parameters\"") != std::string::npos);
}

TEST_CASE("members lie one after another") {
  const auto network = load<float>(kept / "network_members.safetensors");
  REQUIRE(network.members() == 3);
  files::SafetensorsFile file(kept / "network_members.safetensors");
  for (const files::TensorEntry& tensor : file.tensors()) {
    std::vector<float> numbers(static_cast<std::size_t>(tensor.size()));
    file.read(tensor, 0, tensor.size(), numbers.data());
    for (const ParameterSpec& spec : network.layout()) {
      if (spec.name != tensor.name) continue;
      for (Index member = 0; member < 3; ++member) {
        const float* const first =
            network.store()->data() + network.parameters_begin() + member * network.member_stride() + spec.offset;
        CHECK(std::equal(first, first + spec.size(), numbers.begin() + member * spec.size()));
      }
    }
  }
}

TEST_CASE("a dtype must be the model's own") {
  const fs::path path = kept / "linear.safetensors";  // float64
  CHECK_NOTHROW(load<double>(path));
  CHECK_THROWS_WITH_AS(load<float>(path), (path.string() + ": dtype: expected float32, got float64").c_str(),
                       std::invalid_argument);
}

TEST_CASE("a file that is not there, or no file") {
  CHECK_THROWS_AS(load(kept / "nothing.safetensors"), fs::filesystem_error);
  CHECK_THROWS_AS(load(kept), fs::filesystem_error);
}

TEST_CASE("half-precision tensors become the model's dtype") {
  ModelFile file;
  file.set_tensor("weight", "F16", {1, 3}, {0x3C00, 0xC100, 0x0001});  // 1, -2.5, 2^-24
  file.set_tensor("bias", "BF16", {1}, {0x3FC0});                      // 1.5
  const TemporaryFile written(file.bytes());
  const auto network = load<float>(written.path());
  const float* const values = network.store()->data();
  CHECK(std::vector<float>(values, values + 4) == std::vector<float>{1.0F, -2.5F, 0x1p-24F, 1.5F});

  file.set_tensor("weight", "F16", {1, 3}, {0x7C00, 0xFC00, 0x7E00});  // infinities, NaN
  const TemporaryFile again(file.bytes());
  const auto other = load<float>(again.path());
  const float* const extremes = other.store()->data();
  CHECK(extremes[0] == std::numeric_limits<float>::infinity());
  CHECK(extremes[1] == -std::numeric_limits<float>::infinity());
  CHECK(std::isnan(extremes[2]));
}

TEST_CASE("a sound file") { CHECK(complaint(ModelFile()) == ""); }

TEST_CASE("hostile metadata") {
  ModelFile file;
  const auto with = [&](const std::string& key, const std::string& value) {
    ModelFile changed = file;
    changed.metadata[key] = value;
    return complaint(changed);
  };
  const auto without = [&](const std::string& key) {
    ModelFile changed = file;
    changed.metadata.erase(key);
    return complaint(changed);
  };
  const auto linear = [&](const std::string& options, const std::string& rest = R"("dtype":"float32","members":1)") {
    return with("config", R"({"modules":[{"kind":"linear",)" + options + "}]," + rest + "}");
  };
  const std::string sizes = R"("in_features":3,"out_features":1)";

  CHECK(without("kind") == "expected a model that Latchwork wrote, got a safetensors file from elsewhere: 2 tensors");
  CHECK(without("config") == "expected a file that Latchwork wrote, got one whose metadata lack config");
  CHECK(without("python") == "expected a file that Latchwork wrote, got one whose metadata lack python");
  CHECK(with("format_version", "1") ==
        "expected format_version 2, got 1, which was never released; save the model again with this version of "
        "Latchwork");
  CHECK(with("format_version", "3") == "expected format_version 2, got 3; a newer Latchwork may read it");
  const std::string unknown_kind = with("kind", "os.system");
  CHECK(unknown_kind.find("expected a model of kind ") == 0);
  CHECK(unknown_kind.find(" classifier, dropout, ") != std::string::npos);
  CHECK(unknown_kind.find(", got 'os.system'") != std::string::npos);
  CHECK(with("kind", "lstm") == "kind: expected lstm, got linear");
  CHECK(with("config", "{").find("config: expected JSON, got a mistake at byte ") == 0);
  CHECK(with("config", "[]") == "config: expected an object, got list");
  CHECK(with("config", "{}") == "config: expected modules, dtype, members, got nothing");
  CHECK(with("config", std::string(100000, '[')) == "config: expected at most 64 levels, got more");
  std::string deep;
  for (int level = 0; level < 100000; ++level) deep += R"({"a":)";
  CHECK(with("config", deep) == "config: expected at most 64 levels, got more");
  CHECK(with("config", R"({"dtype":"float32","dtype":"float64"})") ==
        "config: expected each key once, got \"dtype\" again");
  CHECK(with("config", R"({"modules":[],"dtype":"float32","members":1})") ==
        "modules: expected a list of one module, got 0");
  CHECK(with("config", R"({"modules":[3],"dtype":"float32","members":1})") == "options: expected a mapping, got int");
  CHECK(linear(sizes + R"(,"trust":true)") == "unknown option 'trust' for kind \"linear\"");
  CHECK(linear(R"("in_features":3.0,"out_features":1)") == "in_features: expected int, got float");
  CHECK(linear(R"("in_features":true,"out_features":1)") == "in_features: expected int, got bool");
  CHECK(linear(R"("in_features":null,"out_features":1)") == "in_features: expected int, got NoneType");
  CHECK(linear(R"("in_features":0,"out_features":1)") == "in_features: expected at least 1, got 0");
  CHECK(linear(R"("in_features":9223372036854775808,"out_features":1)") ==
        "in_features: expected at most 9223372036854775807, got 9223372036854775808");
  CHECK(linear(R"("in_features":1000000000000,"out_features":1000000000000)") ==
        "out_features: expected a size whose product with in_features (1000000000000) does not overflow, got "
        "1000000000000");
  CHECK(linear(R"("in_features":1000000000000,"out_features":1)") ==
        "tensors: expected 1000000000001 numbers for this configuration, got 4");
  CHECK(linear(sizes + R"(,"activation":"step")").find("activation: expected one of identity, ") == 0);
  CHECK(linear(sizes + R"(,"activation":3)") == "activation: expected a name or (name, alpha, beta), got int");
  CHECK(linear(sizes + R"(,"activation":["elu",1,2,3])") ==
        "activation: expected a name or (name, alpha, beta), got 4 items");
  CHECK(linear(sizes, R"("dtype":"object","members":1)") == "dtype: expected \"float32\" or \"float64\", got 'object'");
  CHECK(linear(sizes, R"("dtype":null,"members":1)") == "dtype: expected \"float32\" or \"float64\", got None");
  CHECK(linear(sizes, R"("dtype":"float64","members":1)") == "bias: expected dtype float64, got float32");
  CHECK(linear(sizes, R"("dtype":"float32","members":0)") == "members: expected at least 1, got 0");
  CHECK(linear(sizes, R"("dtype":"float32","members":4611686018427387904)") ==
        "tensors: expected more numbers than a file holds for this configuration, got 4");
  CHECK(linear(sizes, R"("dtype":"float32","members":1,"trust":1)") ==
        "config: expected modules, dtype, members, got dtype, members, modules, trust");
}

TEST_CASE("a chain has layers, no cells") {
  ModelFile file;
  file.metadata["kind"] = "network";
  file.metadata["config"] =
      R"({"modules":[{"kind":"lstm","cell":true,"input_size":3,"hidden_size":5}],"dtype":"float32","members":1})";
  CHECK(complaint(file).find("modules[0].kind: expected one of embedding, lstm, ") == 0);
}

TEST_CASE("a language model reads and predicts its vocabulary") {
  files::SafetensorsFile kept_file(kept / "language_model.safetensors");
  ModelFile file;
  file.metadata = kept_file.metadata();
  const std::string all = "[32, 97, 55296, 56320, 65536]";
  std::string& config = file.metadata["config"];
  const std::size_t place = config.find(all);
  REQUIRE(place != std::string::npos);
  std::string changed = config;
  changed.replace(place, all.size(), "[32, 32]");
  file.metadata["config"].swap(changed);
  CHECK(complaint(file) == "vocabulary: expected different characters in order");
  file.metadata["config"].swap(changed);
  config.replace(place, all.size(), "[32]");
  CHECK(complaint(file) == "network: expected one that reads and predicts 2 tokens");
}

TEST_CASE("tensors that do not fit") {
  const auto with = [](auto&& change) {
    ModelFile file;
    change(file);
    return complaint(file);
  };
  CHECK(with([](ModelFile& file) { file.tensors.clear(); }) ==
        "tensors: expected 4 numbers for this configuration, got 0");
  CHECK(with([](ModelFile& file) { file.set_tensor("extra", "F32", {2}, {0, 0, 0, 0}); }) ==
        "tensors: expected 4 numbers for this configuration, got 6");
  CHECK(with([](ModelFile& file) { file.set_tensor("bias", "I32", {1}, {0, 0}); }) ==
        "bias: expected dtype float32, got int32");
  CHECK(with([](ModelFile& file) { file.set_tensor("bias", "F32", {1, 1}, {0, 0}); }) ==
        "bias: expected (1,), got (1, 1)");
  CHECK(with([](ModelFile& file) {
          file.tensors.erase("bias");
          file.set_tensor("bias_ih_l9", "F32", {1}, {0, 0});
        }) == "state_dict: expected exactly the names of the parameters, got missing bias; unexpected bias_ih_l9");
}

TEST_CASE("hostile headers") {
  const std::string damaged = "expected a model that Latchwork wrote, got a damaged safetensors file: ";
  const auto header = [&](const std::string& text, Index size = 4) {
    const TemporaryFile written(ModelFile::container(text, std::string(static_cast<std::size_t>(size), '\0')));
    return complaint(written.path());
  };
  const auto tensor = [&](const std::string& shape, const std::string& offsets, const std::string& dtype = "F32") {
    return header(R"({"a":{"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}");
  };
  const std::string other_bytes = "a: its shape does not need the bytes that its data_offsets give it";
  CHECK(tensor("[1]", "[0,4]").find("a safetensors file from elsewhere") != std::string::npos);
  CHECK(tensor("[2]", "[0,4]") == damaged + other_bytes);
  CHECK(tensor("[1]", "[4,0]") == damaged + other_bytes);
  CHECK(tensor("[1000000000000]", "[0,4]") == damaged + other_bytes);
  CHECK(tensor("[1000000000000,1000000000000]", "[0,4]") == damaged + "a: its shape overflows");
  CHECK(tensor("[-1]", "[0,4]") == damaged + "a: expected an int of at least 0");
  CHECK(tensor("[1.0]", "[0,4]") == damaged + "a: expected an int of at least 0");
  CHECK(tensor("[18446744073709551615]", "[0,4]") == damaged + "a: too large");
  CHECK(tensor("[1]", "[0,4,8]") == damaged + "a: expected a dtype, a shape and two data_offsets");
  CHECK(tensor("[1]", "[0,4]", "C64") == damaged + "a: the dtype C64 is unknown here");
  CHECK(tensor("[1000000000000]", "[0,4000000000000]")
            .find("expected a model that Latchwork wrote, got a truncated safetensors file: ") == 0);
  CHECK(tensor("[0,1000000000000,1000000000000]", "[0,0]") == damaged + "4 bytes too many");
  CHECK(header("{}", 1) == damaged + "1 bytes too many");
  CHECK(header(R"({"a":1})") == damaged + "a: expected an object");
  CHECK(header(R"({"a":{"dtype":"F32","shape":[1]}})") == damaged + "a: expected dtype, shape and data_offsets");
  CHECK(header(R"({"__metadata__":{"kind":3}})", 0) == damaged + "__metadata__: expected texts");
  CHECK(header(R"({"__metadata__":[]})", 0) == damaged + "__metadata__: expected an object");
  const std::string one = R"({"dtype":"F32","shape":[1],"data_offsets":[0,4]})";
  CHECK(header(R"({"a":)" + one + R"(,"a":)" + one + "}") ==
        damaged + "header: expected each key once, got \"a\" again");
  CHECK(header(R"({"a":)" + one + R"(,"b":)" + one + "}") ==
        damaged + "b: its bytes overlap another tensor's, or leave a gap");
  CHECK(tensor("[1]", "[4,8]") == damaged + "a: its bytes overlap another tensor's, or leave a gap");
  CHECK(header("{" + std::string(100000, ' ')).find(damaged + "header: expected JSON, got a mistake at byte ") == 0);
  CHECK(header("{\"\xff\":1}").find(damaged + "header: expected JSON, got a mistake at byte ") == 0);

  const auto content = [&](const std::string& bytes) {
    const TemporaryFile written(bytes);
    return complaint(written.path());
  };
  const std::string got = "expected a model that Latchwork wrote, got ";
  CHECK(content("") == got + "an empty file");
  CHECK(content("{}") == got + "a truncated or damaged safetensors file of 2 bytes");
  CHECK(content(std::string(8, '\xff')) ==
        got +
            "a truncated or damaged safetensors file of 8 bytes, whose header alone should take "
            "18446744073709551615");
  CHECK(content(std::string(8, '\0') + "{}") == got + "a file that is no safetensors file");
  CHECK(content(std::string("\2\0\0\0\0\0\0\0[]", 10)) == got + "a file that is no safetensors file");
}

TEST_CASE("truncated files are refused") {
  const std::string bytes = bytes_of(kept / "network.safetensors");
  REQUIRE(bytes.size() > 200);
  for (std::size_t size = 0; size < bytes.size(); size += size < 200 ? 7 : bytes.size() / 40) {
    CAPTURE(size);
    const TemporaryFile written(bytes.substr(0, size));
    CHECK(complaint(written.path()) != "");
  }
}

TEST_CASE("a damaged file never does worse than to be refused") {
  Random random(7);
  int refused = 0, loaded = 0;
  for (const char* name : {"network.safetensors", "lstm_variant.safetensors", "regressor.safetensors",
                           "network_input_layers.safetensors", "language_model.safetensors"}) {
    const std::string bytes = bytes_of(kept / name);
    std::uint64_t header = 0;
    std::memcpy(&header, bytes.data(), sizeof header);
    for (int round = 0; round < 2000; ++round) {
      std::string changed = bytes;
      for (Index count = random.between(1, 4); count > 0; --count) {
        // Digits, brackets and quotes lead further than other bytes, most of which are no JSON.
        static constexpr char likely[] = "0123456789\"[]{},:-e.tn\\";
        const auto place = static_cast<std::size_t>(random.between(0, static_cast<Index>(header) + 7));
        changed[place] = random.chance(0.7) ? likely[random.between(0, std::ssize(likely) - 2)]
                                            : static_cast<char>(random.between(0, 255));
      }
      const TemporaryFile written(changed);
      try {
        load(written.path());
        ++loaded;
      } catch (const std::invalid_argument&) {
        ++refused;
      }
    }
  }
  CHECK(refused + loaded == 10000);
  CHECK(refused > 5000);
}

}  // namespace latchwork::test
