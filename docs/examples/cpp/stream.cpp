// Reads numbers, one step after another, and prints what a model answers to each: stream MODEL < numbers
#include <iostream>
#include <latchwork/files.hpp>

int main(int count, char** arguments) {
  const auto network = latchwork::load<float>(count > 1 ? arguments[1] : "");
  const auto stream = network.stream(1);
  std::vector<float> x(network.input_size()), y(network.output_size());
  while (true) {
    for (float& value : x) std::cin >> value;
    if (!std::cin) return 0;
    stream->step(x.data(), y.data());  // no allocation, no lock, no exception, no system call
    for (const float& value : y) std::cout << value << (&value == &y.back() ? '\n' : ' ');
  }
}
