// Any bytes as a perf map: read in pieces from its end, it has the lines that it has when read as a whole.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "agent/service/perf_map.h"

using namespace profagent::service;

namespace {

// So many lines in front of the bytes that a border between two pieces lies anywhere in them.
constexpr std::size_t kPiece = std::size_t{64} << 10U;
const std::string kFiller = std::string(1023, 'x') + '\n';

std::vector<std::string> read_as_a_whole(std::string_view text) {
  std::vector<std::string> lines;
  for (std::size_t end = text.rfind('\n'); end != text.npos;) {
    const std::size_t before = end == 0 ? text.npos : text.rfind('\n', end - 1);
    const std::size_t begin = before == text.npos ? 0 : before + 1;
    PerfMapLine line;
    if (parse_perf_map_line(text.substr(begin, std::min(end - begin, kLongestPerfMapLine)), line))
      lines.emplace_back(line.name);
    end = before;
  }
  return lines;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::uint16_t place = 0;
  if (size < sizeof(place)) return 0;
  std::memcpy(&place, data, sizeof(place));
  std::string text;
  if (place % 4 != 0) {
    while (text.size() + place < kPiece) text += kFiller;
  }
  text.append(reinterpret_cast<const char*>(data) + sizeof(place), size - sizeof(place));

  const auto bytes = std::as_bytes(std::span(text));
  const BufferBytes file(std::vector(bytes.begin(), bytes.end()));
  std::vector<std::string> lines;
  read_perf_map(file, text.size(), [&](const PerfMapLine& line) {
    if (line.start >= line.limit || line.name.empty() || line.name.size() > kLongestPerfMapLine) std::abort();
    lines.emplace_back(line.name);
    return true;
  });
  if (lines != read_as_a_whole(text)) std::abort();
  return 0;
}
