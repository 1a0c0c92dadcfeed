// Loaded and unloaded all the time by storm.cc. Burns time in frames of its own, and throws.
#include <stdexcept>
#include <string>

namespace {
volatile unsigned long sink;

[[gnu::noinline]] unsigned long burn(unsigned depth, unsigned long value) {
  volatile char room[64];
  room[depth % 64] = static_cast<char>(value);
  for (int i = 0; i < 300; ++i) value = value * 1103515245 + 12345;
  const unsigned long result = depth == 0 ? value : burn(depth - 1, value) + 1;
  sink = sink + static_cast<unsigned long>(room[depth % 64]);
  return result;
}
}  // namespace

extern "C" unsigned long plugin_work(unsigned depth) {
  const unsigned long result = burn(depth, depth);
  if (depth % 3 == 0) throw std::runtime_error("plugin " + std::to_string(result));
  return result;
}
