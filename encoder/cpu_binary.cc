#include "encoder/cpu_binary.h"

#include <array>
#include <cstdint>

namespace profagent::encoder {

namespace {

void write_word(std::uint64_t word, Sink& sink) {
  std::array<char, sizeof(word)> bytes{};
  for (char& byte : bytes) {
    byte = static_cast<char>(word & 0xff);
    word >>= 8U;
  }
  sink.write({bytes.data(), bytes.size()});
}

}  // namespace

void write_cpu_binary(const Profile& profile, std::string_view memory_map, Sink& sink) {
  constexpr std::int64_t kNanosPerMicro = 1000;
  // The header: its own count, the number of words that follow, the version, the period in us, padding.
  for (const std::int64_t word : {std::int64_t{0}, std::int64_t{3}, std::int64_t{0},
                                  profile.period() / kNanosPerMicro, std::int64_t{0}}) {
    write_word(static_cast<std::uint64_t>(word), sink);
  }
  for (std::size_t sample = 0; sample < profile.sample_count(); ++sample) {
    const std::int64_t count = profile.values(sample)[0];
    const auto stack = profile.stack(sample);
    if (count <= 0 || stack.empty()) continue;
    write_word(static_cast<std::uint64_t>(count), sink);
    write_word(stack.size(), sink);
    // Of all but the leaf readers subtract one, because they take them for return addresses.
    std::uint64_t is_caller = 0;
    for (const LocationIndex location : stack) {
      write_word(profile.location(location).address + is_caller, sink);
      is_caller = 1;
    }
  }
  // The end: a count of 0 with one address, 0.
  for (const std::uint64_t word : {0, 1, 0}) write_word(word, sink);
  sink.write(memory_map);
}

}  // namespace profagent::encoder
