#include "encoder/delta.h"

#include <array>
#include <catch2/catch.hpp>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "encoder/pprof.h"
#include "test/unit/encoder_check.h"

namespace profagent::encoder {
namespace {

constexpr std::array<TypeAndUnit, 2> kTypes = {{{"inuse_objects", "count"}, {"inuse_space", "bytes"}}};
constexpr std::array<TypeAndUnit, 1> kOther = {{{"goroutine", "count"}}};
using Values = std::vector<std::int64_t>;

// A snapshot: each sample is a call chain of functions named after their addresses.
struct Snapshot {
  Profile profile{kTypes};
  MappingIndex program;
  MappingIndex library;

  explicit Snapshot(std::int64_t time) {
    profile.set_time(time);
    profile.set_period({"space", "bytes"}, 524288);
    profile.set_default_sample_type("inuse_objects");
    program = profile.add_mapping({0x1000, 0x2000, 0, profile.intern("/bin/app"), kEmptyString, {}});
    library = profile.add_mapping({0x8000, 0x9000, 0, profile.intern("/lib/libx.so"), kEmptyString, {}});
  }

  LocationIndex frame(std::uint64_t address, const std::string& prefix = "f") {
    const std::string name = prefix + std::to_string(address);
    const Line line{profile.add_function(name, name, "", 0), 0};
    return profile.add_location(address, address < 0x8000 ? program : library, {&line, 1});
  }

  void add(const std::vector<std::uint64_t>& addresses, const Values& values, std::int64_t bytes = 0) {
    std::vector<LocationIndex> stack;
    stack.reserve(addresses.size());
    for (const std::uint64_t address : addresses) stack.push_back(frame(address));
    const std::array<Label, 1> labels = {{{profile.intern("bytes"), kEmptyString, bytes}}};
    profile.add_sample(stack, values, labels);
  }
};

proto::Profile encoded_delta(const Snapshot& before, const Snapshot& after) {
  proto::Profile result = testing::decode(gzipped_pprof(delta(before.profile, after.profile)));
  const std::vector<std::string> none;
  CHECK(testing::broken_rules(result) == none);
  return result;
}

// Address of the leaf, size label: values.
std::map<std::pair<std::uint64_t, std::int64_t>, Values> samples(const proto::Profile& profile) {
  std::map<std::pair<std::uint64_t, std::int64_t>, Values> result;
  for (const proto::Sample& sample : profile.sample()) {
    const std::uint64_t leaf = sample.location_id_size() == 0
                                   ? 0
                                   : profile.location(static_cast<int>(sample.location_id(0)) - 1).address();
    const std::int64_t bytes = sample.label_size() == 0 ? 0 : sample.label(0).num();
    result[{leaf, bytes}] = Values(sample.value().begin(), sample.value().end());
  }
  return result;
}

TEST_CASE("values that are no sums stay what they are, and keep their samples") {
  Snapshot before(1000);
  before.add({0x1100}, {5, 50});
  before.add({0x1110}, {7, 70});
  before.add({0x1120}, {9, 90});
  before.add({0x1130}, {1, 10});
  Snapshot after(2000);
  after.add({0x1100}, {5, 50});  // as before
  after.add({0x1110}, {9, 71});  // both changed
  after.add({0x1120}, {9, 0});   // nothing left
  after.add({0x1140}, {2, 0});   // new; 0x1130 is gone
  proto::Profile result = testing::decode(gzipped_pprof(delta(before.profile, after.profile, 0b10)));
  CHECK(samples(result) ==
        std::map<std::pair<std::uint64_t, std::int64_t>, Values>{
            {{0x1100, 0}, {0, 50}}, {{0x1110, 0}, {2, 71}}, {{0x1130, 0}, {-1, 0}}, {{0x1140, 0}, {2, 0}}});
}

TEST_CASE("a delta has what changed, by stack and labels, and nothing else") {
  Snapshot before(1000);
  before.add({0x1100, 0x1200}, {5, 50}, 10);
  before.add({0x1110, 0x1200}, {7, 70}, 10);
  before.add({0x1120, 0x1200}, {9, 90}, 10);
  before.add({}, {1, 1});
  Snapshot after(4000);
  after.add({0x1130, 0x1200}, {2, 20}, 10);  // other order, other indices
  after.add({0x1120, 0x1200}, {4, 40}, 10);
  after.add({0x1120, 0x1200}, {3, 60}, 20);  // same stack, other label
  after.add({0x1110, 0x1200}, {7, 70}, 10);
  after.add({0x1100, 0x1200}, {5, 51}, 10);
  after.add({}, {3, 2});
  const proto::Profile got = encoded_delta(before, after);
  CHECK(samples(got) == std::map<std::pair<std::uint64_t, std::int64_t>, Values>{
                            {{0x1100, 10}, {0, 1}},
                            {{0x1120, 10}, {-5, -50}},
                            {{0x1120, 20}, {3, 60}},
                            {{0x1130, 10}, {2, 20}},
                            {{0, 0}, {2, 1}},
                        });
}

TEST_CASE("what has gone counts negative") {
  Snapshot before(1000);
  before.add({0x1100}, {5, 50});
  const proto::Profile got = encoded_delta(before, Snapshot(2000));
  CHECK(samples(got) == std::map<std::pair<std::uint64_t, std::int64_t>, Values>{{{0x1100, 0}, {-5, -50}}});
}

TEST_CASE("what nothing refers to is left out, the program's mapping stays") {
  Snapshot before(1000);
  before.add({0x1100}, {5, 50});
  before.add({0x8100}, {1, 10});
  Snapshot after(2000);
  after.add({0x1100}, {5, 50});
  after.add({0x8100}, {2, 20});
  const proto::Profile got = encoded_delta(before, after);
  REQUIRE(got.location_size() == 1);
  CHECK(got.location(0).address() == 0x8100);
  CHECK(got.function_size() == 1);
  REQUIRE(got.mapping_size() == 2);
  CHECK(got.string_table(static_cast<int>(got.mapping(0).filename())) == "/bin/app");
  CHECK(got.location(0).mapping_id() == 2);
  for (const std::string& text : got.string_table()) CHECK(text != "f4352");

  const proto::Profile idle = encoded_delta(before, before);
  CHECK(idle.sample_size() == 0);
  CHECK(idle.location_size() == 0);
  CHECK(idle.function_size() == 0);
  REQUIRE(idle.mapping_size() == 1);
  CHECK(idle.string_table(static_cast<int>(idle.mapping(0).filename())) == "/bin/app");
}

TEST_CASE("a delta tells its time, duration, types and period") {
  Snapshot before(1000);
  Snapshot after(4000);
  before.profile.add_comment("old");
  after.profile.add_comment("new");
  after.profile.set_doc_url("https://example.org/doc");
  const proto::Profile got = encoded_delta(before, after);
  const auto text = [&](std::int64_t id) { return got.string_table(static_cast<int>(id)); };
  CHECK(got.time_nanos() == 4000);
  CHECK(got.duration_nanos() == 3000);
  REQUIRE(got.sample_type_size() == 2);
  CHECK(text(got.sample_type(1).type()) == "inuse_space");
  CHECK(text(got.sample_type(1).unit()) == "bytes");
  CHECK(text(got.period_type().type()) == "space");
  CHECK(text(got.period_type().unit()) == "bytes");
  CHECK(got.period() == 524288);
  CHECK(text(got.default_sample_type()) == "inuse_objects");
  REQUIRE(got.comment_size() == 1);
  CHECK(text(got.comment(0)) == "new");
  CHECK(text(got.doc_url()) == "https://example.org/doc");
}

TEST_CASE("a delta is known by a positive duration even when the clock went back") {
  CHECK(encoded_delta(Snapshot(4000), Snapshot(1000)).duration_nanos() == 1);
}

TEST_CASE("an address is a frame, however the snapshots describe it") {
  Snapshot before(1000);
  before.profile.add_sample(std::vector{before.frame(0x8100, "unresolved")}, Values{5, 50});
  Snapshot after(2000);
  after.library =
      after.profile.add_mapping({0x8000, 0x9000, 0, after.profile.intern("/lib/liby.so"), {}, {}});
  after.profile.add_sample(std::vector{after.frame(0x8100, "resolved")}, Values{6, 60});
  const proto::Profile got = encoded_delta(before, after);
  REQUIRE(got.sample_size() == 1);
  CHECK(got.sample(0).value(1) == 10);
  REQUIRE(got.function_size() == 1);
  CHECK(got.string_table(static_cast<int>(got.function(0).name())) == "resolved33024");
}

TEST_CASE("a frame of a stack that has gone is described as in the later snapshot") {
  Snapshot before(1000);
  before.profile.add_sample(std::vector{before.frame(0x8100, "unresolved")}, Values{5, 50});
  Snapshot after(2000);
  after.library =
      after.profile.add_mapping({0x8000, 0x9000, 0, after.profile.intern("/lib/liby.so"), {}, {}});
  const LocationIndex resolved = after.frame(0x8100, "resolved");
  after.profile.add_sample(std::vector{resolved, after.frame(0x1200)}, Values{1, 10});
  const proto::Profile got = encoded_delta(before, after);
  CHECK(got.sample_size() == 2);
  CHECK(got.location_size() == 2);
  CHECK(got.function_size() == 2);
}

TEST_CASE("two descriptions of an address within one snapshot cancel out as one") {
  const auto snapshot = [](std::int64_t first, std::int64_t second) {
    Snapshot result(1000);
    result.profile.add_sample(std::vector{result.profile.add_location(0x8100, kNoMapping, {})},
                              Values{first, 1});
    result.profile.add_sample(std::vector{result.frame(0x8100)}, Values{second, 1});
    return result;
  };
  CHECK(encoded_delta(snapshot(5, 7), snapshot(7, 5)).sample_size() == 0);
  const proto::Profile changed = encoded_delta(snapshot(5, 7), snapshot(7, 8));
  REQUIRE(changed.sample_size() == 1);
  CHECK(changed.sample(0).value(0) == 3);
}

TEST_CASE("profiles of different kinds have no delta") {
  CHECK_THROWS_AS(delta(Profile(kTypes), Profile(kOther)), std::invalid_argument);
}

TEST_CASE("a delta of many samples has each difference") {
  Snapshot first(1000);
  Snapshot second(2000);
  for (std::uint64_t i = 0; i < 500; ++i) {
    first.add({0x1000 + i, 0x1800}, {static_cast<std::int64_t>(i), 1}, 8);
    second.add({0x1000 + i, 0x1800}, {static_cast<std::int64_t>(3 * i), 1}, 8);
  }
  const proto::Profile got = encoded_delta(first, second);
  CHECK(got.sample_size() == 499);
  for (const auto& [key, values] : samples(got)) {
    CHECK(values == Values{2 * (static_cast<std::int64_t>(key.first) - 0x1000), 0});
  }
}

}  // namespace
}  // namespace profagent::encoder
