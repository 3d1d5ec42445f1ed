// Prints the bits of many small results, which must be the same on every CPU with fused multiply-adds. Usage:
//   latchwork_results --isas         the instruction sets that can run here and have fused multiply-adds, one a line
//   latchwork_results ISA THREADS    for each case a line: its name, and the bytes of its results as hexadecimal digits
// check_same_bits.py compares their SHA-256 sums with those that are kept beside it.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "latchwork/isa.hpp"
#include "latchwork/network.hpp"
#include "latchwork/threads.hpp"
#include "latchwork/training.hpp"

namespace {

using namespace latchwork;

// One line of the output.
class Line {
 public:
  explicit Line(const std::string& name) { std::printf("%s ", name.c_str()); }
  ~Line() { std::printf("\n"); }
  Line(const Line&) = delete;
  Line& operator=(const Line&) = delete;

  template <class T>
  void put(const std::vector<T>& values) {
    for (const T value : values) {
      unsigned char bytes[sizeof(T)];
      std::memcpy(bytes, &value, sizeof(T));
      for (const unsigned char byte : bytes) std::printf("%02x", byte);
    }
  }
};

// Multiples of 2^-24 in [-scale / 2, scale / 2), the same for float and double. The standard prescribes the generator's
// numbers.
class Numbers {
 public:
  explicit Numbers(unsigned seed) : generator_(seed) {}
  double one() { return static_cast<double>(generator_() >> 8) * 0x1p-24 - 0.5; }
  Index below(Index bound) { return static_cast<Index>(generator_() % static_cast<unsigned>(bound)); }
  template <class T>
  std::vector<T> many(Index count, double scale = 2.0) {
    std::vector<T> values;
    for (Index at = 0; at < count; ++at) values.push_back(static_cast<T>(scale * one()));
    return values;
  }

 private:
  std::mt19937 generator_;
};

struct Shape {
  Index steps, rows;
  bool ragged = false, with_reset = false;
};

// A batch with random lengths and resets.
struct RandomBatch {
  RandomBatch(const Shape& shape, Numbers& numbers) {
    batch.steps = shape.steps;
    batch.rows = shape.rows;
    for (Index row = 0; row < shape.rows; ++row) lengths.push_back(numbers.below(shape.steps + 1));
    for (Index at = 0; at < shape.steps * shape.rows; ++at) reset.push_back(numbers.below(6) == 0 ? 1 : 0);
    if (shape.ragged) batch.lengths = lengths.data();
    if (shape.with_reset) batch.reset = {reset.data(), shape.rows, 1};
  }
  RandomBatch(const RandomBatch&) = delete;
  RandomBatch& operator=(const RandomBatch&) = delete;

  Batch batch;
  std::vector<Index> lengths;
  std::vector<std::uint8_t> reset;
};

template <class T>
void set_parameters(const Network<T>& network, Numbers& numbers) {
  const std::vector<T> values = numbers.many<T>(network.parameter_count());
  network.store()->write([&](T* parameters) { std::copy(values.begin(), values.end(), parameters); });
}

template <class T>
std::vector<T> parameters_of(const Network<T>& network) {
  std::vector<T> values;
  network.store()->read([&](const T* data) { values.assign(data, data + network.store()->size()); });
  return values;
}

// If the chain has an EmbedColumns, turns its columns of `values` (features side by side) into codes.
template <class T>
void make_codes(const std::vector<ModuleOptions>& modules, Index features, Numbers& numbers, std::vector<T>& values) {
  for (const ModuleOptions& module : modules) {
    const auto* embed = std::get_if<EmbedColumnsOptions>(&module);
    for (std::size_t at = 0; embed != nullptr && at < values.size(); at += static_cast<std::size_t>(features)) {
      for (std::size_t table = 0; table < embed->columns.size(); ++table) {
        values[at + static_cast<std::size_t>(embed->columns[table])] =
            static_cast<T>(numbers.below(embed->num_embeddings[table]));
      }
    }
  }
}

// The input of a network that takes values, with gaps if it takes them, and masked steps if it masks any.
template <class T>
std::vector<T> values_for(const Network<T>& network, Index slots, Numbers& numbers) {
  std::vector<T> values = numbers.many<T>(slots * network.input_size());
  make_codes(network.modules(), network.input_size(), numbers, values);
  for (std::size_t at = 0; network.takes_missing() && at < values.size(); ++at) {
    if (numbers.below(3) == 0) values[at] = std::numeric_limits<T>::quiet_NaN();
  }
  if (const auto* mask = std::get_if<MaskOptions>(&network.modules().front())) {
    for (Index slot = 0; slot < slots; ++slot) {
      const auto step = values.begin() + slot * network.input_size();
      if (numbers.below(4) == 0) std::fill_n(step, network.input_size(), static_cast<T>(mask->value));
    }
  }
  return values;
}

// Output, end states and all gradients of one recording with dropout and zoneout.
template <class T>
void print_gradients(const std::string& name, const std::vector<ModuleOptions>& modules, const Shape& shape,
                     unsigned seed) {
  Numbers numbers(seed);
  const Network<T> network(modules, TensorNames::of_chain, 5);
  set_parameters(network, numbers);
  const RandomBatch random(shape, numbers);
  const Index slots = shape.steps * shape.rows, features = network.input_size(), size = network.output_size();
  const Index outputs = (network.keeps_sequence() ? slots : shape.rows) * size;
  Input<T> input;
  const std::vector<T> x = values_for(network, slots, numbers);
  std::vector<std::int64_t> tokens;
  const auto* embedding = std::get_if<EmbeddingOptions>(&modules.front());
  for (Index at = 0; embedding != nullptr && at < slots; ++at)
    tokens.push_back(numbers.below(embedding->num_embeddings));
  if (embedding != nullptr) {
    input.tokens = {tokens.data(), shape.rows, 1};
  } else {
    input.values = {x.data(), shape.rows * features, features};
  }
  std::vector<std::vector<T>> memory;
  States<T> end, d_start;
  States<const T> start, d_end;
  for (const StateSize& one : network.state_sizes()) {
    for (int array = 0; array < 4; ++array) {
      memory.push_back(numbers.many<T>(one.count * shape.rows * one.hidden));
      memory.push_back(numbers.many<T>(one.count * shape.rows * one.cell));
    }
  }
  if (network.takes_missing()) make_codes(modules, features, numbers, memory.front());
  for (std::size_t at = 0; at < memory.size(); at += 8) {
    start.push_back({memory[at].data(), memory[at + 1].data()});
    end.push_back({memory[at + 2].data(), memory[at + 3].data()});
    d_end.push_back({memory[at + 4].data(), memory[at + 5].data()});
    d_start.push_back({memory[at + 6].data(), memory[at + 7].data()});
  }
  RecordOptions options;
  options.training = true;
  options.mask_seed = 9;
  std::vector<T> output(static_cast<std::size_t>(outputs));
  const auto tape = network.record(input, random.batch, start, {output.data(), shape.rows * size, size}, end, options);
  const std::vector<T> d_output = numbers.many<T>(outputs);
  std::vector<T> gradient(static_cast<std::size_t>(network.parameter_count()));
  std::vector<T> d_x(embedding == nullptr ? x.size() : 0);
  SequenceView<T> d_input;
  if (embedding == nullptr) d_input = {d_x.data(), shape.rows * features, features};
  tape->backward({d_output.data(), shape.rows * size, size}, d_end, gradient.data(), false, d_input, d_start);
  Line line(name);
  line.put(output);
  for (const std::vector<T>& values : memory) line.put(values);
  line.put(d_x);
  line.put(gradient);
}

// The loss and the parameters after many steps of training, from the initial values that the seed gives.
template <class T>
void print_training(const std::string& name, const std::vector<ModuleOptions>& modules, const Loss& loss,
                    const OptimizerOptions& optimizer, const Shape& shape, Index training_steps) {
  Numbers numbers(3);
  const Network<T> network(modules, TensorNames::of_chain, 7);
  Trainer<T> trainer(network, loss, optimizer, 0.5, 11);
  const Index slots = shape.steps * shape.rows, features = network.input_size();
  const Index outputs = network.keeps_sequence() ? slots : shape.rows;
  const Index target_size = network.output_size() / outputs_per_target(loss);
  const auto* embedding = std::get_if<EmbeddingOptions>(&modules.front());
  const RandomBatch random(shape, numbers);
  std::vector<double> losses;
  for (Index step = 0; step < training_steps; ++step) {
    const std::vector<T> x = values_for(network, slots, numbers);
    std::vector<T> y = numbers.many<T>(outputs * target_size);
    if (loss.kind == LossKind::negative_binomial) {
      for (T& value : y) value = std::floor(T(4) * (value + T(1)));  // counts
    }
    std::vector<std::int64_t> tokens, labels;
    for (Index at = 0; at < slots; ++at)
      tokens.push_back(embedding == nullptr ? 0 : numbers.below(embedding->num_embeddings));
    for (Index at = 0; at < outputs; ++at) labels.push_back(numbers.below(network.output_size()));
    Input<T> input;
    if (embedding != nullptr) {
      input.tokens = {tokens.data(), shape.rows, 1};
    } else {
      input.values = {x.data(), shape.rows * features, features};
    }
    Target<T> target;
    if (loss.kind == LossKind::cross_entropy) {
      target.labels = {labels.data(), shape.rows, 1};
    } else {
      target.values = {y.data(), shape.rows * target_size, target_size};
    }
    losses.push_back(trainer.step(input, random.batch, {}, target, {}).front());
  }
  Line line(name);
  line.put(losses);
  line.put(parameters_of(network));
}

LstmOptions lstm(Index input_size, Index hidden_size) {
  LstmOptions options;
  options.input_size = input_size;
  options.hidden_size = hidden_size;
  return options;
}

// The options that change how a cell is computed, each alone and some together.
std::vector<std::pair<std::string, std::function<void(LstmOptions&)>>> variants() {
  return {
      {"plain", [](LstmOptions&) {}},
      {"no bias", [](LstmOptions& o) { o.bias = false; }},
      {"reverse", [](LstmOptions& o) { o.direction = Direction::reverse; }},
      {"two layers, both directions, dropout",
       [](LstmOptions& o) {
         o.num_layers = 2;
         o.direction = Direction::both;
         o.dropout = 0.25;
       }},
      {"projection", [](LstmOptions& o) { o.proj_size = o.hidden_size / 3; }},
      {"no forget gate", [](LstmOptions& o) { o.forget_gate = ForgetGate::none; }},
      {"coupled", [](LstmOptions& o) { o.forget_gate = ForgetGate::coupled; }},
      {"peephole", [](LstmOptions& o) { o.peephole = true; }},
      {"layer norm", [](LstmOptions& o) { o.layer_norm = true; }},
      {"layer norm, coupled, peephole",
       [](LstmOptions& o) {
         o.layer_norm = true;
         o.forget_gate = ForgetGate::coupled;
         o.peephole = true;
       }},
      {"clips",
       [](LstmOptions& o) {
         o.clip = 0.75;
         o.cell_clip = 0.25;
       }},
      {"zoneout",
       [](LstmOptions& o) {
         o.zoneout_hidden = 0.25;
         o.zoneout_cell = 0.5;
       }},
      {"recurrent dropout", [](LstmOptions& o) { o.recurrent_dropout = 0.25; }},
      {"candidate dropout",
       [](LstmOptions& o) {
         o.recurrent_dropout = 0.25;
         o.recurrent_dropout_on = RecurrentDropoutOn::candidate;
       }},
      {"weight dropout", [](LstmOptions& o) { o.weight_dropout = 0.25; }},
      {"residual, trained start state",
       [](LstmOptions& o) {
         o.num_layers = 2;
         o.residual = true;
         o.learn_start_state = true;
       }},
      {"other activations",
       [](LstmOptions& o) { o.activations = {{{"hard_sigmoid"}, {"sigmoid"}, {"elu"}, {"sigmoid"}, {"softsign"}}}; }},
      {"SELU, SiLU and GELU",
       [](LstmOptions& o) {
         o.activations = {{{"silu"}, {"sigmoid"}, {"selu"}, {"gelu_tanh"}, {"gelu"}}};
         // Without bounds it would end in NaN, and which NaN depends on the compiler.
         o.clip = 1.5;
         o.cell_clip = 1.0;
       }},
      {"exponential gate, clip, layer norm",
       [](LstmOptions& o) {
         o.activations = {{{"exponential"}, {"sigmoid"}, {"gelu"}, {"silu"}, {"tanh"}}};
         o.clip = 0.75;
         o.layer_norm = true;
       }},
      {"two layers, sum of directions",
       [](LstmOptions& o) {
         o.num_layers = 2;
         o.direction = Direction::both;
         o.merge = Merge::sum;
       }},
      {"two layers, product of directions, residual",
       [](LstmOptions& o) {
         o.num_layers = 2;
         o.direction = Direction::both;
         o.merge = Merge::mul;
         o.residual = true;
       }},
      {"mean of directions",
       [](LstmOptions& o) {
         o.direction = Direction::both;
         o.merge = Merge::ave;
       }},
  };
}

template <class T>
void print_all(const std::string& dtype) {
  unsigned seed = 0;
  for (const auto& [name, change] : variants()) {
    for (const Index hidden : {1, 7, 17, 31, 100}) {
      LstmOptions options = lstm(hidden == 1 ? 1 : 5, hidden);
      change(options);
      const Shape shape{7, 9, seed % 2 == 1, seed % 3 == 1};
      print_gradients<T>(dtype + ", " + name + ", " + std::to_string(hidden) + " units", {options}, shape, ++seed);
    }
  }
  // Enough rows and steps for several blocks of rows, and repeated tokens.
  print_gradients<T>(dtype + ", blocks of rows", {lstm(3, 12), LinearOptions{12, 5}}, {33, 70, true, false}, 77);
  print_gradients<T>(dtype + ", tokens", {EmbeddingOptions{19, 16}, lstm(16, 20), LinearOptions{20, 19}},
                     {40, 6, true, false}, 78);
  print_gradients<T>(dtype + ", rare tokens", {EmbeddingOptions{300, 5}, lstm(5, 20), LastOptions{}},
                     {9, 6, true, true}, 79);

  // Scaled inputs, some of them missing, with codes among them; sorted and scaled outputs. Enough rows for threads.
  const std::vector<ModuleOptions> inputs{ScaleOptions{{0.1, 0.0, -0.3, 0.0}, {3.0, 1.0, 0.7, 1.0}},
                                          ImputeOptions{4, Imputation::forward, {0.25, 3.0, 0.0, 1.0}, {0, 2, 1}},
                                          EmbedColumnsOptions{10, {3, 1}, {2, 5}, {3, 2}}};
  const auto after_inputs = [&](std::vector<ModuleOptions> modules) {
    modules.insert(modules.begin(), inputs.begin(), inputs.end());
    return modules;
  };
  const ScaleOptions units{std::vector<double>(6, 0.3), std::vector<double>(6, 1.7)};
  print_gradients<T>(dtype + ", inputs with gaps and codes",
                     after_inputs({lstm(13, 12), LinearOptions{12, 6}, SortOptions{3}, units}), {40, 60, true, true},
                     80);
  print_gradients<T>(dtype + ", constant fill",
                     {ImputeOptions{3, Imputation::constant, {0.1, 0.2, 0.3}, {1}}, lstm(4, 7), MeanOptions{}},
                     {9, 6, true, true}, 81);
  print_gradients<T>(
      dtype + ", carried values that move to the fill",
      {ImputeOptions{4, Imputation::forward, {0.25, -0.4, 0.0, 1.0}, {0, 2}, {0.9, 1.0, 0.3, 0.0}}, lstm(8, 12)},
      {40, 60, true, true}, 80);
  // Masked steps, which some directions reverse, and the input added to what comes out. Enough rows for threads.
  const std::vector<ModuleOptions> turned{MaskOptions{0.1}, ReverseOptions{},         lstm(5, 12),
                                          ReverseOptions{}, InputSkipOptions{4, 0.7}, LinearOptions{12, 3}};
  print_gradients<T>(dtype + ", masked, reversed, the input added", turned, {40, 60, true, true}, 82);
  print_gradients<T>(dtype + ", masked tokens, reversed",
                     {EmbeddingOptions{19, 16, 3, SkippedOutput::zero}, ReverseOptions{}, lstm(16, 20), MeanOptions{}},
                     {40, 6, true, true}, 83);

  const auto activated = [](Index from, Index to, const char* name) {
    LinearOptions linear{from, to};
    linear.activation = {name};
    return linear;
  };
  LstmOptions merging = lstm(5, 17);
  merging.direction = Direction::both;
  merging.merge = Merge::mul;
  print_gradients<T>(
      dtype + ", activation modules, softmax",
      {merging, LastOptions{}, ActivationOptions{{"silu"}}, activated(17, 33, "gelu"), activated(33, 9, "softmax")},
      {9, 40, true, true}, 82);
  print_gradients<T>(dtype + ", logarithm of softmax",
                     {activated(5, 40, "exponential"), ActivationOptions{{"log_softmax"}}}, {9, 40, true, false}, 83);

  LstmOptions norm = lstm(3, 13);
  norm.layer_norm = true;
  norm.zoneout_cell = 0.1;
  const LstmOptions plain = lstm(3, 13);
  const auto of_kind = [](LossKind kind) {
    Loss loss;
    loss.kind = kind;
    return loss;
  };
  const auto optimizer = [](OptimizerKind kind, double lr) {
    OptimizerOptions options;
    options.kind = kind;
    options.lr = lr;
    return options;
  };
  OptimizerOptions sgd = optimizer(OptimizerKind::sgd, 0.05), adamw = optimizer(OptimizerKind::adamw, 0.01);
  sgd.momentum = 0.9;
  adamw.weight_decay = 0.02;
  const OptimizerOptions adam = optimizer(OptimizerKind::adam, 0.01);
  const OptimizerOptions rmsprop = optimizer(OptimizerKind::rmsprop, 0.002);
  Loss quantiles = of_kind(LossKind::quantile), smooth = of_kind(LossKind::cross_entropy);
  quantiles.quantiles = {0.1, 0.5, 0.9};
  smooth.label_smoothing = 0.1;
  print_training<T>(dtype + ", 200 steps: squared error, Adam", {plain, LinearOptions{13, 2}},
                    of_kind(LossKind::squared_error), adam, {6, 21, true, true}, 200);
  print_training<T>(dtype + ", 200 steps: absolute error, SGD, layer norm", {norm, LinearOptions{13, 2}},
                    of_kind(LossKind::absolute_error), sgd, {6, 21}, 200);
  print_training<T>(dtype + ", 200 steps: quantiles, AdamW", {plain, LastOptions{}, LinearOptions{13, 3}}, quantiles,
                    adamw, {6, 21, true, false}, 200);
  print_training<T>(dtype + ", 200 steps: Huber, RMSprop", {plain, LinearOptions{13, 2}}, of_kind(LossKind::huber),
                    rmsprop, {6, 21, true, false}, 200);
  print_training<T>(dtype + ", 200 steps: Gaussian", {plain, LinearOptions{13, 4}}, of_kind(LossKind::gaussian), adam,
                    {6, 21}, 200);
  print_training<T>(dtype + ", 200 steps: negative binomial", {plain, LinearOptions{13, 2}},
                    of_kind(LossKind::negative_binomial), adam, {6, 21}, 200);
  print_training<T>(dtype + ", 200 steps: Student-t", {plain, LinearOptions{13, 3}}, of_kind(LossKind::student_t), adam,
                    {6, 21}, 200);
  print_training<T>(dtype + ", 200 steps: inputs with gaps and codes",
                    after_inputs({lstm(13, 12), LastOptions{}, LinearOptions{12, 6}, SortOptions{3}}),
                    of_kind(LossKind::squared_error), adam, {9, 21, true, true}, 200);
  print_training<T>(dtype + ", 200 steps: masked, reversed, the input added", turned, of_kind(LossKind::squared_error),
                    adam, {9, 21, true, true}, 200);
  const std::vector<ModuleOptions> language{EmbeddingOptions{23, 16}, lstm(16, 13), LinearOptions{13, 23}};
  print_training<T>(dtype + ", 200 steps: cross-entropy, tokens", language, of_kind(LossKind::cross_entropy), adam,
                    {20, 8}, 200);
  print_training<T>(dtype + ", 200 steps: smoothed labels", language, smooth, adam, {20, 8, true, true}, 200);
}

bool fuses(const std::string& isa) {
#if defined(__x86_64__)
  return isa != "baseline";
#else
  return !isa.empty();
#endif
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 2 && std::string(argv[1]) == "--isas") {
    for (const std::string& isa : available_isas()) {
      if (fuses(isa)) std::printf("%s\n", isa.c_str());
    }
    return 0;
  }
  if (argc != 3) return 2;
  set_isa(argv[1]);
  set_num_threads(std::stol(argv[2]));
  print_all<float>("float32");
  print_all<double>("float64");
  return 0;
}
