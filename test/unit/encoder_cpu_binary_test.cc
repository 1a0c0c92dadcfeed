#include "encoder/cpu_binary.h"

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

namespace profagent::encoder {

namespace {

constexpr TypeAndUnit kTypes[] = {{"samples", "count"}, {"cpu", "nanoseconds"}};

void add(Profile& profile, const std::vector<std::uint64_t>& addresses, std::int64_t samples) {
  std::vector<LocationIndex> stack;
  stack.reserve(addresses.size());
  for (const std::uint64_t address : addresses)
    stack.push_back(profile.add_location(address, kNoMapping, {}));
  const std::int64_t values[] = {samples, samples * 10'000'000};
  profile.add_sample(stack, values);
}

std::vector<std::uint64_t> words_of(const std::string& bytes) {
  std::vector<std::uint64_t> words(bytes.size() / sizeof(std::uint64_t));
  std::memcpy(words.data(), bytes.data(), words.size() * sizeof(std::uint64_t));
  return words;
}

}  // namespace

TEST_CASE("a CPU profile as gperftools writes it: header, stacks, end, map") {
  Profile profile(kTypes);
  profile.set_period({"cpu", "nanoseconds"}, 10'000'000);
  add(profile, {0x1000, 0x2000, 0x3000}, 7);
  add(profile, {0x4000}, 1);
  // Neither takes part: a reader would take the first for the end, and the second for nonsense.
  add(profile, {0x5000}, 0);
  add(profile, {}, 3);
  StringSink sink;
  const std::string map = "00400000-00401000 r-xp 00000000 00:00 0 /prog\n";
  write_cpu_binary(profile, map, sink);
  const std::string bytes = sink.take();
  REQUIRE(bytes.size() > map.size());
  CHECK(bytes.substr(bytes.size() - map.size()) == map);
  // A leaf is exact, a caller is where it goes on.
  CHECK(words_of(bytes.substr(0, bytes.size() - map.size())) ==
        std::vector<std::uint64_t>{0, 3, 0, 10'000, 0, 7, 3, 0x1000, 0x2001, 0x3001, 1, 1, 0x4000, 0, 1, 0});
}

}  // namespace profagent::encoder
