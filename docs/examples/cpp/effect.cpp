// An audio effect: effect MODEL INPUT.wav OUTPUT.wav runs each channel of a recording through a model that takes one
// sample and gives one, such as a guitar amplifier that was captured as a .nam file and saved by Latchwork.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <fstream>
#include <iterator>
#include <latchwork/files.hpp>
#include <latchwork/threads.hpp>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

struct Recording {
  std::uint32_t rate = 0;
  std::size_t channels = 0;
  std::vector<float> samples;  // those of all channels at one moment side by side
};

template <class Number>
Number number_at(const std::string& bytes, std::size_t place) {
  if (bytes.size() < sizeof(Number) || place > bytes.size() - sizeof(Number)) {
    throw std::runtime_error("the input ends too early");
  }
  Number number;
  std::memcpy(&number, bytes.data() + place, sizeof number);
  return number;
}

// Reads a WAV file of 16-bit integers or 32-bit floats.
Recording read_wav(const char* path) {
  std::ifstream file(path, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(file), {}};
  if (bytes.compare(0, 4, "RIFF") != 0 || bytes.compare(8, 4, "WAVE") != 0) {
    throw std::runtime_error(std::string(path) + ": expected a WAV file");
  }
  Recording recording;
  int format = 0, bits = 0;
  for (std::size_t place = 12; place + 8 <= bytes.size();) {
    const std::string name = bytes.substr(place, 4);
    const auto size = number_at<std::uint32_t>(bytes, place + 4);
    place += 8;
    if (name == "fmt ") {
      format = number_at<std::uint16_t>(bytes, place);
      recording.channels = number_at<std::uint16_t>(bytes, place + 2);
      recording.rate = number_at<std::uint32_t>(bytes, place + 4);
      bits = number_at<std::uint16_t>(bytes, place + 14);
    } else if (name == "data") {
      const std::size_t end = std::min(bytes.size(), place + size);
      if (format == 1 && bits == 16) {
        for (; place + 2 <= end; place += 2) {
          recording.samples.push_back(static_cast<float>(number_at<std::int16_t>(bytes, place)) / 32768.0F);
        }
      } else if (format == 3 && bits == 32) {
        for (; place + 4 <= end; place += 4) recording.samples.push_back(number_at<float>(bytes, place));
      }
      break;
    }
    place += size + size % 2;
  }
  if (recording.channels == 0 || recording.samples.empty()) {
    throw std::runtime_error(std::string(path) + ": expected samples of 16-bit integers or 32-bit floats");
  }
  return recording;
}

// Writes 32-bit floats, which need no clipping.
void write_wav(const char* path, const Recording& recording) {
  std::ofstream file(path, std::ios::binary);
  const auto text = [&](const char* letters) { file.write(letters, 4); };
  const auto number = [&](auto value) { file.write(reinterpret_cast<const char*>(&value), sizeof value); };
  const auto size = static_cast<std::uint32_t>(4 * recording.samples.size());
  const auto channels = static_cast<std::uint16_t>(recording.channels);
  text("RIFF"), number(size + 36), text("WAVE");
  text("fmt "), number(std::uint32_t{16}), number(std::uint16_t{3}), number(channels), number(recording.rate);
  number(recording.rate * channels * 4), number(static_cast<std::uint16_t>(channels * 4)), number(std::uint16_t{32});
  text("data"), number(size);
  file.write(reinterpret_cast<const char*>(recording.samples.data()), size);
  if (!file.flush()) throw std::runtime_error(std::string(path) + ": could not be written");
}

}  // namespace

int main(int count, char** arguments) try {
  if (count != 4) throw std::runtime_error("usage: effect MODEL INPUT.wav OUTPUT.wav");
  latchwork::set_num_threads(1);  // a step then waits for no other thread
  const auto network = latchwork::load<float>(arguments[1]);
  if (network.takes_tokens() || network.input_size() != 1 || network.output_size() != 1) {
    throw std::runtime_error(std::string(arguments[1]) + ": expected a model that takes one sample and gives one");
  }
  const Recording input = read_wav(arguments[2]);
  Recording output = input;
  // The channels are the rows of one stream, which lie in the model's input as they lie in the file.
  const auto stream = network.stream(static_cast<latchwork::Index>(input.channels));

  // From here on nothing allocates, locks or throws: this is what a plug-in does when it is given a block of samples.
  const auto begin = std::chrono::steady_clock::now();
  for (std::size_t at = 0; at + input.channels <= input.samples.size(); at += input.channels) {
    stream->step(&input.samples[at], &output.samples[at]);
  }
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begin;

  write_wav(arguments[3], output);
  const double seconds = static_cast<double>(input.samples.size() / input.channels) / input.rate;
  std::printf("%.2f s of sound at %u Hz, %.0f times as fast as it sounds\n", seconds, input.rate,
              seconds / taken.count());
} catch (const std::exception& error) {
  std::fprintf(stderr, "effect: %s\n", error.what());
  return 2;
}
