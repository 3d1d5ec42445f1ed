// Times both sides of each choice that cpp/src/layer/strategy.hpp makes by a threshold, over a range of sizes, and
// prints the size from which the second side is faster.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <functional>
#include <vector>

#include "job.hpp"
#include "latchwork/isa.hpp"
#include "layer/strategy.hpp"
#include "machine/float_state.hpp"
#include "network/dropout.hpp"

namespace latchwork::thresholds {
namespace {

constexpr int rounds = 15;
constexpr double sample_seconds = 2e-3;
// The smallest gain that noise does not explain.
constexpr double noticeable = 1.03;

double seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

struct Side {
  std::function<void()> run;
  int calls = 1;                // calls in one sample
  std::vector<double> samples;  // seconds for each call

  double time() const {
    const double begin = seconds();
    for (int call = 0; call < calls; ++call) run();
    return seconds() - begin;
  }
  void choose_calls() {
    while (time() < sample_seconds) calls *= 2;
  }
  // The calls run once untimed before, so that threads are awake and caches are filled.
  void sample() {
    time();
    samples.push_back(time() / calls);
  }
};

struct Point {
  Index shape;  // the size that was varied
  Index size;   // the size that the threshold bounds
  double first, second;

  double ratio() const { return first / second; }
};

// `units` is the number of equal units of work that a call consists of.
Point measure(Index shape, Index size, Index units, std::function<void()> first, std::function<void()> second) {
  Side sides[] = {{std::move(first), 1, {}}, {std::move(second), 1, {}}};
  for (Side& side : sides) side.choose_calls();
  for (int round = 0; round < rounds; ++round) {
    for (int at = 0; at < 2; ++at) sides[(round + at) % 2].sample();
  }
  const auto parts = static_cast<double>(units);
  return {shape, size, median(sides[0].samples) / parts, median(sides[1].samples) / parts};
}

struct Subject {
  const char *title, *shape, *size, *first, *second;
};

void print(const Subject& subject, const std::vector<Point>& points) {
  std::printf("\n%s\n%8s  %14s  %14s  %14s  %6s\n", subject.title, subject.shape, subject.size, subject.first,
              subject.second, "ratio");
  for (const Point& point : points) {
    std::printf("%8td  %14td  %14.3f  %14.3f  %6.2f\n", point.shape, point.size, point.first * 1e6, point.second * 1e6,
                point.ratio());
  }
}

// Prints the size from which the second side pays. The points are in the order in which it gains. The crossing is found
// by interpolating logarithms between the last point without a gain and the next.
void print_crossing(const std::vector<Point>& points, const char* constant, Index value) {
  std::size_t next = points.size();
  while (next > 0 && points[next - 1].ratio() >= noticeable) --next;
  if (next == points.size()) {
    std::printf("the second does not pay here");
  } else if (next == 0) {
    std::printf("the second always pays here");
  } else {
    const Point &before = points[next - 1], &after = points[next];
    const double part = std::log(noticeable / before.ratio()) / std::log(after.ratio() / before.ratio());
    const auto low = static_cast<double>(before.size), high = static_cast<double>(after.size);
    std::printf("the second pays from %.3g %s", low * std::pow(high / low, part), low < high ? "on" : "down");
  }
  std::printf("; %s is %td\n", constant, value);
}

void smallest_split_step_of(Index rows, const std::vector<Index>& units_list) {
  constexpr Index steps = 64;
  std::vector<Point> points;
  for (const Index units : units_list) {
    Job job(units, units, rows, steps);
    points.push_back(
        measure(units, step_work(job.weights(), rows), steps, [&] { job.one_thread(); }, [&] { job.split_units(); }));
  }
  print({rows == 1 ? "One step of 1 row, us" : "One step of 4 rows, us", "H = in", "multiply-adds", "one thread",
         "two, by units"},
        points);
  print_crossing(points, "smallest_split_step", smallest_split_step(rows));
}

void parallel_work(Index rows) {
  constexpr Index units = 32;
  std::vector<Point> points;
  for (const Index steps : {1, 2, 3, 4, 6, 8, 12, 16, 32}) {
    Job job(units, units, rows, steps);
    points.push_back(measure(
        steps, steps * step_work(job.weights(), rows), 1, [&] { job.one_thread(); }, [&] { job.split_rows(); }));
  }
  print({rows == 4 ? "4 rows, H = in = 32, us" : "8 rows, H = in = 32, us", "steps", "multiply-adds", "one thread",
         "two, by rows"},
        points);
  print_crossing(points, "smallest_parallel_work", smallest_parallel_work);
}

void parallel_numbers() {
  constexpr Index features = 64;
  const auto& kernels = kernels_of<float>(current_kernels());
  std::vector<Point> added, drawn;
  for (const Index rows : {8, 16, 32, 64, 128, 256, 512, 1024, 2048}) {
    const Index size = rows * features;
    Buffer<float> from(size), other(size), to(size);
    fill_with_random_numbers(from);
    fill_with_random_numbers(other);
    const auto add = [&](Index begin, Index end) {
      for (Index at = begin; at < end; ++at) to.data()[at] = from.data()[at] + other.data()[at];
    };
    added.push_back(measure(
        rows, size, 1, [&] { add(0, size); },
        [&] { parallel(2, [&](Index part) { add(piece_begin(size, 2, part), piece_begin(size, 2, part + 1)); }); }));
    const auto drop = [&](Index begin, Index end) {
      const DropoutMask mask{1, 0, 0, 0, 0.5};
      apply_dropout(kernels, mask, {end - begin, 1, nullptr, {}}, features, from.data() + begin * features,
                    to.data() + begin * features);
    };
    const auto drop_alone = [&] {
      set_num_threads(1);
      drop(0, rows);
      set_num_threads(2);
    };
    drawn.push_back(measure(rows, size, 1, drop_alone, [&] {
      parallel(2, [&](Index part) { drop(piece_begin(rows, 2, part), piece_begin(rows, 2, part + 1)); });
    }));
  }
  print({"Sum of two sequences, 64 features, us", "rows", "numbers", "one thread", "two"}, added);
  print_crossing(added, "smallest_parallel_numbers", smallest_parallel_numbers);
  print({"Dropout, 64 features, us", "rows", "numbers", "one thread", "two"}, drawn);
  print_crossing(drawn, "smallest_parallel_numbers", smallest_parallel_numbers);
}

void cached_by_panel_order() {
  constexpr Index steps = 16;
  std::vector<Point> points;
  for (const Index units : {128, 192, 224, 256, 288, 320, 384, 512, 768, 1024}) {
    Job job(1, units, 1, steps);
    points.push_back(measure(
        units, job.weights().h_weights.bytes(), steps, [&] { job.walk_panels(false); },
        [&] { job.walk_panels(true); }));
  }
  print({"One step of 1 row, R h alone, us", "H", "bytes of R", "forwards", "back and forth"}, points);
  print_crossing(points, "half of L2", this_cpu().l2.bytes / 2);
}

void cached_by_split() {
  constexpr Index rows = 16, steps = 16;
  std::vector<Point> points;
  for (const Index units : {64, 96, 128, 160, 192, 224, 256, 320, 384, 512}) {
    Job job(units, units, rows, steps);
    points.push_back(measure(
        units, job.weights().x_weights.bytes() + job.weights().h_weights.bytes(), steps, [&] { job.split_rows(); },
        [&] { job.split_units(); }));
  }
  print({"One step of 16 rows on two threads, us", "H = in", "bytes of W, R", "by rows", "by units"}, points);
  print_crossing(points, "fast_weight_bytes", this_cpu().fast_weight_bytes);
}

void full_tiles() {
  constexpr Index units = 128, steps = 16;
  std::vector<Point> points;
  for (const Index rows : {2, 4, 6, 8, 10, 12, 16, 24, 32}) {
    Job job(units, units, rows, steps);
    points.push_back(measure(rows, rows / 2, steps, [&] { job.split_units(); }, [&] { job.split_rows(); }));
  }
  print({"One step on two threads, H = in = 128, us", "rows", "rows a thread", "by units", "by rows"}, points);
  print_crossing(points, "full_tile_rows", full_tile_rows);
}

void ahead(Index units, const std::vector<Index>& input_sizes, const std::vector<Index>& row_counts) {
  constexpr Index steps = ahead_chunk_rows;
  std::vector<Point> one_row;
  char title[80];
  for (const Index input_size : input_sizes) {
    std::vector<Point> points;
    for (const Index rows : row_counts) {
      Job job(input_size, units, rows, steps);
      points.push_back(
          measure(rows, rows, steps, [&] { job.one_thread(); }, [&] { job.project_ahead(ahead_chunk_rows / rows); }));
    }
    one_row.push_back(points.back());
    one_row.back().size = input_size;
    const bool fits = fit_cache(Job(input_size, units, 1, 1).weights());
    std::snprintf(title, sizeof(title), "One step, H = %td, in = %td, us", units, input_size);
    print({title, "rows", "rows", "W x inside", "W x ahead"}, points);
    if (fits) {
      print_crossing(points, "most_rows_ahead", most_rows_ahead);
    } else {
      print_crossing(points, "most_rows_ahead_beyond_cache", most_rows_ahead_beyond_cache);
    }
  }
  std::snprintf(title, sizeof(title), "The same, 1 row, H = %td, us", units);
  print({title, "rows", "inputs", "W x inside", "W x ahead"}, one_row);
  print_crossing(one_row, "fewest_inputs_ahead", fewest_inputs_ahead);
}

// Has no crossing: the gain levels off as the chunks grow.
void ahead_chunks() {
  constexpr Index steps = 256;
  std::vector<Point> points;
  for (const Index chunk : {2, 4, 8, 16, 32, 64, 128, 256}) {
    Job job(64, 128, 1, steps);
    points.push_back(measure(chunk, chunk, steps, [&] { job.one_thread(); }, [&] { job.project_ahead(chunk); }));
  }
  print({"One step of 1 row, H = 128, in = 64, us", "steps", "rows a product", "W x inside", "W x ahead"}, points);
  std::printf("ahead_chunk_rows is %td\n", ahead_chunk_rows);
}

int run() {
  if (num_threads() < 2) {
    std::printf("two threads are needed\n");
    return 1;
  }
  set_num_threads(2);
  const FlushToZero flush;
  std::printf("Under %s, medians of %d rounds; ratio: the first side's time over the second's\n", current_isa().c_str(),
              rounds);
  smallest_split_step_of(1, {32, 64, 96, 128, 160, 192, 256, 384});
  smallest_split_step_of(4, {32, 48, 64, 80, 96, 128, 192, 256});
  parallel_work(4);
  parallel_work(8);
  parallel_numbers();
  cached_by_panel_order();
  cached_by_split();
  full_tiles();
  ahead(128, {4, 8, 16, 32, 64, 256}, {32, 16, 12, 8, 4, 2, 1});
  ahead(512, {4, 8, 16, 64, 256, 512}, {16, 12, 8, 4, 2, 1});
  ahead_chunks();
  return 0;
}

}  // namespace
}  // namespace latchwork::thresholds

int main() { return latchwork::thresholds::run(); }
