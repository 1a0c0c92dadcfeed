// Any bytes as a perf map.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "agent/service/perf_map.h"

using namespace profagent::service;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  const BufferBytes file(std::vector(bytes.begin(), bytes.end()));
  std::size_t lines = 0;
  read_perf_map(file, size, [&](const PerfMapLine& line) {
    if (line.start >= line.limit || line.name.empty() || line.name.size() > kLongestPerfMapLine) std::abort();
    return ++lines < 1000;
  });
  return 0;
}
