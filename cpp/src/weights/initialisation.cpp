#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <optional>
#include <string>
#include <vector>

#include "latchwork/parameters.hpp"
#include "machine/float_state.hpp"
#include "machine/mathematics.hpp"
#include "machine/random.hpp"

namespace latchwork {
namespace {

// The last word of the counter, which keeps these numbers apart from those that other parts of the library draw with
// the same seed.
constexpr std::uint32_t initial_values = 0x696E6974;

// The random numbers of one tensor. Each depends on the seed, on the number of the tensor, and on its own place in the
// tensor.
struct TensorKey {
  std::uint64_t seed;
  std::uint32_t tensor;
};

// Calls draw(words, i) for every element i of the tensor. Each four elements share four random words.
template <class Draw>
void draw_tensor(TensorKey key, Index size, Draw&& draw) {
  for (Index begin = 0; begin < size; begin += 4) {
    const auto block = static_cast<std::uint64_t>(begin / 4);
    const auto words = philox(key.seed, {static_cast<std::uint32_t>(block), static_cast<std::uint32_t>(block >> 32),
                                         key.tensor, initial_values});
    for (Index i = begin; i < begin + 4 && i < size; ++i) draw(words, i);
  }
}

template <class T>
void fill_uniform(TensorKey key, double bound, Index size, T* values) {
  draw_tensor(key, size, [&](const std::array<std::uint32_t, 4>& words, Index i) {
    values[i] = static_cast<T>((2.0 * uniform(words[static_cast<std::size_t>(i % 4)]) - 1.0) * bound);
  });
}

// The method of Box and Muller: each two random words give two normal numbers.
template <class T>
void fill_normal(TensorKey key, Index size, T* values) {
  draw_tensor(key, size, [&](const std::array<std::uint32_t, 4>& words, Index i) {
    const std::size_t pair = i % 4 < 2 ? 0 : 2;
    const double above_zero = uniform(words[pair]) + 0x1p-24;
    const double radius = std::sqrt(-2.0 * mathematics::log(above_zero));
    const double angle = 2.0 * std::numbers::pi * uniform(words[pair + 1]);
    values[i] = static_cast<T>(radius * (i % 2 == 0 ? mathematics::cos(angle) : mathematics::sin(angle)));
  });
}

// Glorot & Bengio 2010, for a matrix with this many inputs and outputs.
template <class T>
void fill_glorot(TensorKey key, Index inputs, Index outputs, Index size, T* values) {
  fill_uniform(key, std::sqrt(6.0 / static_cast<double>(inputs + outputs)), size, values);
}

// Turns each row x of `normal`, from its diagonal element on, into the v of the Householder reflection I - v v^T that
// maps x to a multiple of the unit vector. Returns the signs of these multiples.
std::vector<double> make_reflections(Index count, Index size, double* normal) {
  std::vector<double> signs;
  for (Index k = 0; k < count; ++k) {
    double* const v = normal + k * size;
    double squares = 0.0;
    for (Index i = k; i < size; ++i) squares += v[i] * v[i];
    const double norm = std::sqrt(squares);
    const double sign = v[k] < 0.0 ? 1.0 : -1.0;
    const double length = std::sqrt(norm * (norm + std::abs(v[k])));
    v[k] -= sign * norm;
    // If the matrix is square, the last x has a single element, which may be 0.
    for (Index i = k; i < size; ++i) v[i] = length > 0.0 ? v[i] / length : 0.0;
    signs.push_back(sign);
  }
  return signs;
}

// Fills a matrix (rows, columns) with orthonormal columns; every such matrix is as likely as every other. It is the Q
// of the QR decomposition of rows x columns normal numbers, with R's diagonal positive. Only the product of the
// reflections of that decomposition is computed, because the reflections of such a matrix come from independent normal
// vectors: Stewart, "The efficient generation of random orthogonal matrices with an application to condition
// estimators", SIAM Journal on Numerical Analysis 17 (1980). Needs rows >= columns, and destroys `normal`.
template <class T>
void fill_orthogonal(double* normal, Index rows, Index columns, T* values) {
  const std::vector<double> signs = make_reflections(columns, rows, normal);
  constexpr Index block = 32;  // columns that stay in the cache while all reflections are applied to them
  std::vector<std::array<double, block>> q(static_cast<std::size_t>(rows));
  for (Index begin = 0; begin < columns; begin += block) {
    const Index end = std::min(begin + block, columns);
    std::fill(q.begin(), q.end(), std::array<double, block>{});
    for (Index j = begin; j < end; ++j) {
      q[static_cast<std::size_t>(j)][static_cast<std::size_t>(j - begin)] = signs[static_cast<std::size_t>(j)];
    }
    for (Index k = end - 1; k >= 0; --k) {
      const double* const v = normal + k * rows;
      std::array<double, block> product{};
      for (Index i = k; i < rows; ++i) {
        const auto& row = q[static_cast<std::size_t>(i)];
        for (std::size_t j = 0; j < block; ++j) product[j] += v[i] * row[j];
      }
      for (Index i = k; i < rows; ++i) {
        auto& row = q[static_cast<std::size_t>(i)];
        for (std::size_t j = 0; j < block; ++j) row[j] -= v[i] * product[j];
      }
    }
    for (Index i = 0; i < rows; ++i) {
      for (Index j = begin; j < end; ++j) {
        values[i * columns + j] = static_cast<T>(q[static_cast<std::size_t>(i)][static_cast<std::size_t>(j - begin)]);
      }
    }
  }
}

// Cuts the rows into `blocks` blocks, each of which is orthogonal by itself.
template <class T>
void fill_orthogonal_blocks(TensorKey key, Index blocks, const ParameterSpec& spec, T* values) {
  std::vector<double> normal(static_cast<std::size_t>(spec.size()));
  fill_normal(key, spec.size(), normal.data());
  const Index rows = spec.shape[0] / blocks, columns = spec.shape[1];
  for (Index at = 0; at < spec.size(); at += rows * columns) {
    fill_orthogonal(normal.data() + at, rows, columns, values + at);
  }
}

// b_f = log(u) and b_i = -b_f, so that cells forget within u steps. Cells with coupled gates only have b_i.
template <class T>
void add_chrono_bias(const LstmOptions& options, TensorKey key, T* bias) {
  const Index units = options.hidden_size;
  draw_tensor(key, units, [&](const std::array<std::uint32_t, 4>& words, Index i) {
    const double span = static_cast<double>(options.t_max.value() - 2);
    const double steps = 1.0 + span * uniform(words[static_cast<std::size_t>(i % 4)]);
    bias[i] = static_cast<T>(-mathematics::log(steps));
    if (options.forget_gate == ForgetGate::own) bias[units + i] = -bias[i];
  });
}

// `input`: the bias is bias_ih, which holds the sum that both biases are to have.
template <class T>
void fill_bias(const LstmOptions& options, bool input, TensorKey key, T* bias) {
  const Index units = options.hidden_size, size = options.gates() * units;
  if (options.init == Initialisation::torch) {
    fill_uniform(key, 1.0 / std::sqrt(static_cast<double>(units)), size, bias);
  } else {
    std::fill_n(bias, size, T(0));
  }
  if (options.init == Initialisation::chrono && input) add_chrono_bias(options, key, bias);
  if (options.forget_gate != ForgetGate::own) return;
  std::optional<double> forget_bias = options.forget_bias;
  if (!forget_bias && options.init == Initialisation::keras) forget_bias = 1.0;
  if (forget_bias) std::fill_n(bias + units, units, input ? static_cast<T>(*forget_bias) : T(0));
}

template <class T>
void fill_lstm_tensor(const LstmOptions& options, const ParameterSpec& spec, TensorKey key, T* values) {
  const bool like_torch = options.init == Initialisation::torch || options.init == Initialisation::chrono;
  // Into how many matrices the rows of W and R are cut: one of all gates, or one for each gate.
  const Index blocks = options.init == Initialisation::orthogonal ? options.gates() : 1;
  const auto like_torch_or = [&](auto&& fill) {
    if (!like_torch) return fill();
    fill_uniform(key, 1.0 / std::sqrt(static_cast<double>(options.hidden_size)), spec.size(), values);
  };
  switch (spec.kind) {
    case ParameterKind::weight_ih:
      return like_torch_or([&] { fill_glorot(key, spec.shape[1], spec.shape[0] / blocks, spec.size(), values); });
    case ParameterKind::weight_hh:
      return like_torch_or([&] { fill_orthogonal_blocks(key, blocks, spec, values); });
    case ParameterKind::weight_hr:
      return like_torch_or([&] { fill_glorot(key, spec.shape[1], spec.shape[0], spec.size(), values); });
    case ParameterKind::weight_peephole:
      return like_torch_or([&] { std::fill_n(values, spec.size(), T(0)); });
    case ParameterKind::bias_ih:
    case ParameterKind::bias_hh:
      return fill_bias(options, spec.kind == ParameterKind::bias_ih, key, values);
    case ParameterKind::norm_ih_weight:
    case ParameterKind::norm_hh_weight:
    case ParameterKind::norm_cell_weight:
      return void(std::fill_n(values, spec.size(), T(1)));
    case ParameterKind::norm_ih_bias:
    case ParameterKind::norm_hh_bias:
    case ParameterKind::norm_cell_bias:
    case ParameterKind::h_0:
    case ParameterKind::c_0:
      return void(std::fill_n(values, spec.size(), T(0)));
    case ParameterKind::weight:
    case ParameterKind::bias:
      break;  // an LSTM has no such tensor
  }
}

template <class T>
void fill_tensor(const ModuleOptions& module, const ParameterSpec& spec, TensorKey key, T* values) {
  if (std::holds_alternative<EmbeddingOptions>(module) || std::holds_alternative<EmbedColumnsOptions>(module)) {
    fill_normal(key, spec.size(), values);
  } else if (const auto* lstm = std::get_if<LstmOptions>(&module)) {
    fill_lstm_tensor(*lstm, spec, key, values);
  } else if (const auto* linear = std::get_if<LinearOptions>(&module)) {
    const double bound = 1.0 / std::sqrt(static_cast<double>(linear->in_features));
    fill_uniform(key, linear->init_scale * bound, spec.size(), values);
  }
}

}  // namespace

template <class T>
void initialise_parameters(const std::vector<ModuleOptions>& modules, std::uint64_t seed, T* parameters) {
  const FlushToZero flush_to_zero;
  TensorKey key{seed, 0};
  for (const ParameterSpec& spec : parameter_layout(modules, TensorNames::of_layer)) {
    fill_tensor(modules[static_cast<std::size_t>(spec.module)], spec, key, parameters + spec.offset);
    ++key.tensor;
  }
}

template void initialise_parameters(const std::vector<ModuleOptions>&, std::uint64_t, float*);
template void initialise_parameters(const std::vector<ModuleOptions>&, std::uint64_t, double*);

}  // namespace latchwork
