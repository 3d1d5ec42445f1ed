// Ensembles: each member bit for bit what it would be alone.
#include "latchwork/ensemble.hpp"

#include <doctest/doctest.h>

#include <stdexcept>

#include "latchwork/threads.hpp"
#include "support/lstm_problem.hpp"
#include "support/support.hpp"

namespace latchwork::test {
namespace {

constexpr Index members = 5;
constexpr Index steps = 6;
constexpr Index rows = 3;
constexpr std::uint64_t seed = ~std::uint64_t{0} - 1;  // the members' seeds wrap around

LstmOptions plain_options() {
  LstmOptions options;
  options.input_size = 3;
  options.hidden_size = 5;
  return options;
}

LstmOptions rich_options() {
  LstmOptions options = plain_options();
  options.num_layers = 2;
  options.direction = Direction::both;
  options.proj_size = 2;
  options.dropout = 0.25;
  options.peephole = true;
  options.layer_norm = true;
  options.zoneout_hidden = options.zoneout_cell = 0.25;
  options.recurrent_dropout = 0.25;
  options.weight_dropout = 0.25;
  options.residual = true;
  options.learn_start_state = true;
  return options;
}

template <class T>
std::vector<T> numbers(Random& random, Index count) {
  std::vector<T> values;
  for (Index at = 0; at < count; ++at) values.push_back(static_cast<T>(random.between(-32, 32)) / T(16));
  return values;
}

template <class T>
struct Data {
  explicit Data(const LstmOptions& lstm, bool shared_input, bool empty_steps = false)
      : options(lstm), shared(shared_input), step_count(empty_steps ? 0 : steps) {
    Random random(3);
    const Index own = step_count * rows;
    x = numbers<T>(random, members * own * options.input_size);
    target = numbers<T>(random, members * own * options.output_size());
    d_output = numbers<T>(random, members * own * options.output_size());
    h_0 = numbers<T>(random, members * hidden_size());
    c_0 = numbers<T>(random, members * cell_size());
    if (step_count > 0) lengths = {steps, 0, 2};
    reset.assign(static_cast<std::size_t>(own), 0);
    if (step_count > 0) reset[2 * rows] = 1;
  }

  Index hidden_size() const { return options.states() * rows * options.hidden_output_size(); }
  Index cell_size() const { return options.states() * rows * options.hidden_size; }
  Batch batch() const {
    Batch result;
    result.steps = step_count;
    result.rows = rows;
    if (!lengths.empty()) result.lengths = lengths.data();
    result.reset = {reset.data(), rows, 1};
    return result;
  }
  template <class V>
  MemberSequences<V> sequences(V* data, Index features, bool common = false) const {
    return {{data, rows * features, features}, common ? 0 : step_count * rows * features};
  }
  MemberSequences<const T> input() const { return sequences<const T>(x.data(), options.input_size, shared); }
  MemberSequences<const T> targets() const { return sequences<const T>(target.data(), options.output_size(), shared); }
  MemberStates<const T> start() const {
    if (shared) return {};
    return {{h_0.data(), c_0.data()}, hidden_size(), cell_size()};
  }

  LstmOptions options;
  bool shared;
  Index step_count;
  std::vector<T> x, target, d_output, h_0, c_0;
  std::vector<Index> lengths;
  std::vector<std::uint8_t> reset;
};

// What is written, of all members; NaN before.
template <class T>
struct Written {
  explicit Written(const Data<T>& data, Index parameter_count)
      : output(data.d_output.size(), unwritten<T>),
        h_n(data.h_0.size(), unwritten<T>),
        c_n(data.c_0.size(), unwritten<T>),
        d_x(static_cast<std::size_t>(members * data.step_count * rows * data.options.input_size), unwritten<T>),
        d_h(h_n),
        d_c(c_n),
        gradient(static_cast<std::size_t>(parameter_count), unwritten<T>) {}

  void check_same(const Written& other) const {
    CHECK(same_bits(output, other.output));
    CHECK(same_bits(h_n, other.h_n));
    CHECK(same_bits(c_n, other.c_n));
    CHECK(same_bits(d_x, other.d_x));
    CHECK(same_bits(d_h, other.d_h));
    CHECK(same_bits(d_c, other.d_c));
    CHECK(same_bits(gradient, other.gradient));
  }

  std::vector<T> output, h_n, c_n, d_x, d_h, d_c, gradient;
};

template <class T>
Network<T> member_alone(const LstmOptions& options, Index member) {
  return Network<T>({options}, false, seed + static_cast<std::uint64_t>(member));
}

template <class T>
Written<T> run_ensemble(const Ensemble<T>& ensemble, const Data<T>& data, bool recorded) {
  Written<T> written(data, ensemble.parameter_count());
  const auto output = data.template sequences<T>(written.output.data(), data.options.output_size());
  const MemberStates<T> end{{written.h_n.data(), written.c_n.data()}, data.hidden_size(), data.cell_size()};
  if (!recorded) {
    ensemble.forward(data.input(), data.batch(), data.start(), output, end);
    return written;
  }
  const auto tape = ensemble.record(data.input(), data.batch(), data.start(), output, end, {true, seed});
  tape->backward(data.template sequences<const T>(data.d_output.data(), data.options.output_size()), {},
                 written.gradient.data(), false,
                 data.template sequences<T>(written.d_x.data(), data.options.input_size),
                 {{written.d_h.data(), written.d_c.data()}, data.hidden_size(), data.cell_size()});
  return written;
}

template <class T>
Written<T> run_alone(const Data<T>& data, bool recorded) {
  const Index size = member_alone<T>(data.options, 0).parameter_count();
  Written<T> written(data, members * size);
  for (Index member = 0; member < members; ++member) {
    const Network<T> network = member_alone<T>(data.options, member);
    const auto output = data.template sequences<T>(written.output.data(), data.options.output_size()).of(member);
    const States<T> end =
        MemberStates<T>{{written.h_n.data(), written.c_n.data()}, data.hidden_size(), data.cell_size()}.of(member);
    if (!recorded) {
      network.forward({data.input().of(member), {}}, data.batch(), data.start().of(member), output, end);
      continue;
    }
    const auto tape = network.record({data.input().of(member), {}}, data.batch(), data.start().of(member), output, end,
                                     {true, seed + static_cast<std::uint64_t>(member)});
    tape->backward(
        data.template sequences<const T>(data.d_output.data(), data.options.output_size()).of(member), {},
        written.gradient.data() + member * size, false,
        data.template sequences<T>(written.d_x.data(), data.options.input_size).of(member),
        MemberStates<T>{{written.d_h.data(), written.d_c.data()}, data.hidden_size(), data.cell_size()}.of(member));
  }
  return written;
}

OptimizerOptions adam() {
  OptimizerOptions options;
  options.lr = 0.01;
  return options;
}

template <class T>
std::vector<T> parameters_of(const ParameterStore<T>& store) {
  std::vector<T> copy;
  store.read([&](const T* values) { copy.assign(values, values + store.size()); });
  return copy;
}

// Restores the number of threads.
struct Threads {
  explicit Threads(Index count) : before(num_threads()) { set_num_threads(count); }
  ~Threads() { set_num_threads(before); }
  Index before;
};

}  // namespace

TEST_CASE_TEMPLATE("members run and are differentiated as alone", T, float, double) {
  for (const Index threads : {1, 2, 4}) {
    const Threads restored(threads);
    for (const LstmOptions& options : {plain_options(), rich_options()}) {
      const Ensemble<T> ensemble(members, options, seed);
      for (const bool shared : {false, true}) {
        for (const bool empty : {false, true}) {
          const Data<T> data(options, shared, empty);
          for (const bool recorded : {false, true}) {
            CAPTURE(threads);
            CAPTURE(shared);
            CAPTURE(empty);
            CAPTURE(recorded);
            run_ensemble(ensemble, data, recorded).check_same(run_alone(data, recorded));
          }
        }
      }
    }
  }
}

TEST_CASE("large members are run one after the other by all threads, with the same bits") {
  LstmOptions options = plain_options();
  options.hidden_size = 130;
  const Data<float> data(options, false);
  const Threads restored(4);
  // Three members on four threads: pieces of members would leave one idle.
  const Index many_rows = 64, many_steps = 40;
  std::vector<float> x(static_cast<std::size_t>(many_steps * many_rows * 3), 0.5f);
  Batch batch;
  batch.steps = many_steps;
  batch.rows = many_rows;
  const Ensemble<float> ensemble(3, options, seed);
  const Index size = many_steps * many_rows * options.hidden_size;
  std::vector<float> output(static_cast<std::size_t>(3 * size));
  ensemble.forward({{x.data(), many_rows * 3, 3}, 0}, batch, {},
                   {{output.data(), many_rows * options.hidden_size, options.hidden_size}, size}, {});
  for (Index member = 0; member < 3; ++member) {
    std::vector<float> alone(static_cast<std::size_t>(size));
    member_alone<float>(options, member)
        .forward({{x.data(), many_rows * 3, 3}, {}}, batch, {},
                 {alone.data(), many_rows * options.hidden_size, options.hidden_size}, {});
    CHECK(same_bits(alone, std::vector<float>(output.begin() + member * size, output.begin() + (member + 1) * size)));
  }
}

TEST_CASE_TEMPLATE("members are trained as alone", T, float, double) {
  for (const Index threads : {1, 2}) {
    const Threads restored(threads);
    for (const LstmOptions& options : {plain_options(), rich_options()}) {
      for (const bool shared : {false, true}) {
        const Data<T> data(options, shared);
        const Ensemble<T> ensemble(members, options, seed);
        const Loss loss{LossKind::squared_error, {}};
        EnsembleTrainer<T> trainer(ensemble, loss, adam(), 0.05, seed);
        std::vector<Network<T>> networks;
        std::vector<Trainer<T>> trainers;
        for (Index member = 0; member < members; ++member) {
          networks.push_back(member_alone<T>(options, member));
          trainers.emplace_back(networks.back(), loss, adam(), 0.05, seed + static_cast<std::uint64_t>(member));
        }
        std::vector<double> losses(members), evaluated(members);
        for (int step = 0; step < 3; ++step) {
          trainer.step(data.input(), data.batch(), data.start(), data.targets(), {}, {}, losses.data());
          trainer.evaluate(data.input(), data.batch(), data.start(), data.targets(), {}, {}, evaluated.data());
          for (Index member = 0; member < members; ++member) {
            const auto at = static_cast<std::size_t>(member);
            const Input<T> input{data.input().of(member), {}};
            const Target<T> target{data.targets().of(member), {}};
            CHECK(losses[at] == trainers[at].step(input, data.batch(), data.start().of(member), target, {}));
            CHECK(evaluated[at] == trainers[at].evaluate(input, data.batch(), data.start().of(member), target, {}));
          }
        }
        CHECK(trainer.optimizer().steps() == 3);
        std::vector<T> alone;
        for (const Network<T>& network : networks) {
          const std::vector<T> own = parameters_of(*network.store());
          alone.insert(alone.end(), own.begin(), own.end());
        }
        CHECK(same_bits(parameters_of(*ensemble.store()), alone));
      }
    }
  }
}

TEST_CASE("a member whose loss is not finite is named, and no member changes") {
  Data<float> data(plain_options(), false);
  const Ensemble<float> ensemble(members, plain_options(), seed);
  EnsembleTrainer<float> trainer(ensemble, {LossKind::squared_error, {}}, adam(), 0.0, seed);
  const std::vector<float> before = parameters_of(*ensemble.store());
  const Index size = steps * rows * data.options.output_size();
  data.target[static_cast<std::size_t>(3 * size)] = std::numeric_limits<float>::infinity();
  std::vector<double> losses(members);
  std::vector<float> h_n(data.h_0), c_n(data.c_0);
  const auto step = [&] {
    trainer.step(data.input(), data.batch(), data.start(), data.targets(), {},
                 {{h_n.data(), c_n.data()}, data.hidden_size(), data.cell_size()}, losses.data());
  };
  CHECK_THROWS_WITH_AS(step(), "loss of member 3: expected a finite number, got inf; nothing was changed",
                       std::runtime_error);
  CHECK(same_bits(parameters_of(*ensemble.store()), before));
  CHECK(same_bits(h_n, data.h_0));
  CHECK(trainer.optimizer().steps() == 0);
  for (const double moment : trainer.optimizer().buffers()[0]) CHECK(moment == 0.0);
}

TEST_CASE_TEMPLATE("an ensemble streams as its members do", T, float, double) {
  LstmOptions options = rich_options();
  options.direction = Direction::forward;
  const Ensemble<T> ensemble(members, options, seed);
  const auto stream = ensemble.stream(rows);
  const Data<T> data(options, false);
  stream->set_state({{data.h_0.data(), data.c_0.data()}, data.hidden_size(), data.cell_size()});
  std::vector<std::unique_ptr<Stream<T>>> alone;
  for (Index member = 0; member < members; ++member) {
    alone.push_back(member_alone<T>(options, member).stream(rows));
    alone.back()->set_state(
        {{data.h_0.data() + member * data.hidden_size(), data.c_0.data() + member * data.cell_size()}});
  }
  const Index x_size = rows * options.input_size, y_size = rows * options.output_size();
  std::vector<T> output(static_cast<std::size_t>(members * y_size)), own(static_cast<std::size_t>(y_size));
  const std::uint8_t reset[rows] = {0, 1, 0};
  for (int step = 0; step < 4; ++step) {
    const bool shared = step % 2 == 1;
    stream->step(data.x.data(), shared ? 0 : x_size, output.data(), step == 2 ? reset : nullptr);
    for (Index member = 0; member < members; ++member) {
      alone[static_cast<std::size_t>(member)]->step(data.x.data() + (shared ? 0 : member * x_size), own.data(),
                                                    step == 2 ? reset : nullptr);
      CHECK(same_bits(own, std::vector<T>(output.begin() + member * y_size, output.begin() + (member + 1) * y_size)));
    }
  }
}

TEST_CASE("what makes no ensemble is refused") {
  CHECK_THROWS_AS(Ensemble<float>(0, plain_options(), 1), std::invalid_argument);
  CHECK_THROWS_AS(Ensemble<float>(Index{1} << 60, plain_options(), 1), std::invalid_argument);
  LstmOptions wrong = plain_options();
  wrong.hidden_size = 0;
  CHECK_THROWS_AS(Ensemble<float>(2, wrong, 1), std::invalid_argument);
  const Ensemble<float> ensemble(members, rich_options(), seed);
  CHECK_THROWS_AS(ensemble.stream(1), std::invalid_argument);  // reads from both ends
  Data<float> data(rich_options(), true);
  data.lengths[0] = steps + 1;
  CHECK_THROWS_AS(ensemble.forward(data.input(), data.batch(), {}, {}, {}), std::invalid_argument);
}

TEST_CASE("a tape keeps the weights it began with") {
  const Data<double> data(plain_options(), true);
  const Ensemble<double> ensemble(members, plain_options(), seed);
  Written<double> first(data, ensemble.parameter_count()), second = first;
  const auto tape = ensemble.record(data.input(), data.batch(), {}, {}, {}, {});
  const auto backward = [&](Written<double>& written) {
    tape->backward(data.sequences<const double>(data.d_output.data(), data.options.output_size()), {},
                   written.gradient.data(), false, {}, {});
  };
  backward(first);
  ensemble.store()->write([&](double* values) { std::fill_n(values, ensemble.parameter_count(), 0.0); });
  backward(second);
  CHECK(same_bits(first.gradient, second.gradient));
}

}  // namespace latchwork::test
