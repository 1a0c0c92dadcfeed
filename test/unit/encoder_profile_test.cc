#include "encoder/profile.h"

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "encoder/delta.h"
#include "encoder/pprof.h"
#include "test/unit/encoder_check.h"

namespace profagent::encoder {
namespace {

constexpr std::array<TypeAndUnit, 2> kCpu = {{{"samples", "count"}, {"cpu", "nanoseconds"}}};
constexpr std::array<TypeAndUnit, 1> kCount = {{{"goroutine", "count"}}};
using Values = std::array<std::int64_t, 2>;
using Stack = std::vector<LocationIndex>;

// Decodes what the profile encodes to, having checked it against all rules.
proto::Profile round_trip(const Profile& profile) {
  proto::Profile result = testing::decode(gzipped_pprof(profile));
  const std::vector<std::string> none;
  CHECK(testing::broken_rules(result) == none);
  return result;
}

LocationIndex add_frame(Profile& profile, std::uint64_t address, std::string_view name) {
  const Line line{profile.add_function(name, name, "/src/x.cc", 3), 7};
  return profile.add_location(address, kNoMapping, {&line, 1});
}

std::string text(const proto::Profile& profile, std::int64_t id) {
  return profile.string_table(static_cast<int>(id));
}

TEST_CASE("an empty profile is valid and names its types") {
  Profile profile(kCpu);
  profile.set_period({"cpu", "nanoseconds"}, 10'000'000);
  const proto::Profile got = round_trip(profile);
  REQUIRE(got.sample_type_size() == 2);
  CHECK(text(got, got.sample_type(0).type()) == "samples");
  CHECK(text(got, got.sample_type(0).unit()) == "count");
  CHECK(text(got, got.sample_type(1).type()) == "cpu");
  CHECK(text(got, got.sample_type(1).unit()) == "nanoseconds");
  CHECK(text(got, got.period_type().type()) == "cpu");
  CHECK(text(got, got.period_type().unit()) == "nanoseconds");
  CHECK(got.period() == 10'000'000);
  CHECK(got.sample_size() == 0);
  CHECK(got.string_table(0).empty());
}

TEST_CASE("every field arrives") {
  Profile profile(kCpu);
  const MappingIndex program = profile.add_mapping(
      {0x400000, 0x500000, 0x1000, profile.intern("/bin/app"), profile.intern("c0ffee"), {}});
  const MappingIndex library =
      profile.add_mapping({0x7f0000, 0x7f8000, 0, profile.intern("/lib/libx.so"), kEmptyString, {}});
  profile.set_mapping_flags(program, {true, false, true, false});
  profile.set_mapping_flags(library, {false, true, false, true});
  const std::array<Line, 2> inlined = {
      {{profile.add_function("ns::inner", "_ZN2ns5innerEv", "/a.h", 10), 11},
       {profile.add_function("ns::outer", "_ZN2ns5outerEv", "/a.cc", 20), 22}}};
  const LocationIndex leaf = profile.add_location(0x400123, program, inlined);
  const LocationIndex root = profile.add_location(0x7f0010, library, {});
  const std::array<Label, 2> labels = {{{profile.intern("thread"), profile.intern("worker")},
                                        {profile.intern("size"), kEmptyString, 64, profile.intern("bytes")}}};
  profile.add_sample(Stack{leaf, root}, Values{3, -5}, labels);
  profile.set_time(1'700'000'000'123'456'789);
  profile.set_duration(42);
  profile.set_default_sample_type("samples");
  profile.set_doc_url("https://example.org/doc");
  profile.add_comment("first");
  profile.add_comment("");
  profile.add_comment("second");
  profile.add_comment("first");

  const proto::Profile got = round_trip(profile);
  REQUIRE(got.mapping_size() == 2);
  CHECK(got.mapping(0).memory_start() == 0x400000);
  CHECK(got.mapping(0).memory_limit() == 0x500000);
  CHECK(got.mapping(0).file_offset() == 0x1000);
  CHECK(text(got, got.mapping(0).filename()) == "/bin/app");
  CHECK(text(got, got.mapping(0).build_id()) == "c0ffee");
  CHECK(got.mapping(0).has_functions());
  CHECK_FALSE(got.mapping(0).has_filenames());
  CHECK(got.mapping(0).has_line_numbers());
  CHECK_FALSE(got.mapping(0).has_inline_frames());
  CHECK_FALSE(got.mapping(1).has_functions());
  CHECK(got.mapping(1).has_filenames());
  CHECK_FALSE(got.mapping(1).has_line_numbers());
  CHECK(got.mapping(1).has_inline_frames());

  REQUIRE(got.location_size() == 2);
  CHECK(got.location(0).address() == 0x400123);
  CHECK(got.location(0).mapping_id() == 1);
  CHECK(got.location(1).mapping_id() == 2);
  REQUIRE(got.location(0).line_size() == 2);
  const proto::Function& inner = got.function(static_cast<int>(got.location(0).line(0).function_id()) - 1);
  const proto::Function& outer = got.function(static_cast<int>(got.location(0).line(1).function_id()) - 1);
  CHECK(text(got, inner.name()) == "ns::inner");
  CHECK(text(got, inner.system_name()) == "_ZN2ns5innerEv");
  CHECK(text(got, inner.filename()) == "/a.h");
  CHECK(inner.start_line() == 10);
  CHECK(got.location(0).line(0).line() == 11);
  CHECK(text(got, outer.name()) == "ns::outer");
  CHECK(got.location(0).line(1).line() == 22);

  REQUIRE(got.sample_size() == 1);
  const proto::Sample& sample = got.sample(0);
  CHECK(std::vector<std::uint64_t>(sample.location_id().begin(), sample.location_id().end()) ==
        std::vector<std::uint64_t>{1, 2});
  CHECK(std::vector<std::int64_t>(sample.value().begin(), sample.value().end()) ==
        std::vector<std::int64_t>{3, -5});
  REQUIRE(sample.label_size() == 2);  // sorted by key
  CHECK(text(got, sample.label(0).key()) == "size");
  CHECK(sample.label(0).num() == 64);
  CHECK(text(got, sample.label(0).num_unit()) == "bytes");
  CHECK(text(got, sample.label(1).key()) == "thread");
  CHECK(text(got, sample.label(1).str()) == "worker");

  CHECK(got.time_nanos() == 1'700'000'000'123'456'789);
  CHECK(got.duration_nanos() == 42);
  CHECK(text(got, got.default_sample_type()) == "samples");
  CHECK(text(got, got.doc_url()) == "https://example.org/doc");
  REQUIRE(got.comment_size() == 2);
  CHECK(text(got, got.comment(0)) == "first");
  CHECK(text(got, got.comment(1)) == "second");
}

TEST_CASE("zero values are written: a sample has one value for each type") {
  Profile profile(kCpu);
  profile.add_sample({}, Values{0, 0});
  const proto::Profile got = round_trip(profile);
  REQUIRE(got.sample_size() == 1);
  CHECK(got.sample(0).value_size() == 2);
}

TEST_CASE("an empty stack is a sample like any other", "[P14]") {
  Profile profile(kCpu);
  profile.add_sample({}, Values{1, 10});
  profile.add_sample({}, Values{2, 20});
  const proto::Profile got = round_trip(profile);
  REQUIRE(got.sample_size() == 1);
  CHECK(got.sample(0).location_id_size() == 0);
  CHECK(got.sample(0).value(1) == 30);
}

TEST_CASE("samples with one stack and one set of labels are merged, others are not", "[P16]") {
  Profile profile(kCpu);
  const LocationIndex a = add_frame(profile, 0x1001, "a");
  const LocationIndex b = add_frame(profile, 0x2001, "b");
  const StringId key = profile.intern("bytes");
  const StringId thread = profile.intern("thread");
  const std::array<Label, 1> small = {{{key, kEmptyString, 16}}};
  const std::array<Label, 1> large = {{{key, kEmptyString, 32}}};
  const std::array<Label, 2> named = {{{key, kEmptyString, 16}, {thread, profile.intern("w")}}};
  const std::array<Label, 2> turned = {{named[1], named[0]}};
  profile.add_sample(Stack{a, b}, Values{1, 10});
  profile.add_sample(Stack{a, b}, Values{2, 20});
  profile.add_sample(Stack{b, a}, Values{4, 40});
  profile.add_sample(Stack{a, b}, Values{8, 80}, small);
  profile.add_sample(Stack{a, b}, Values{16, 160}, large);
  profile.add_sample(Stack{a, b}, Values{32, 320}, named);
  profile.add_sample(Stack{a, b}, Values{64, 640}, turned);
  profile.add_sample(Stack{a}, Values{128, 1280});
  const proto::Profile got = round_trip(profile);
  std::vector<std::int64_t> values;
  for (const proto::Sample& sample : got.sample()) values.push_back(sample.value(0));
  CHECK(values == std::vector<std::int64_t>{3, 4, 8, 16, 96, 128});
}

TEST_CASE("values wrap instead of overflowing") {
  Profile profile(kCpu);
  constexpr std::int64_t kMax = std::numeric_limits<std::int64_t>::max();
  profile.add_sample({}, Values{kMax, 1});
  profile.add_sample({}, Values{1, 1});
  CHECK(round_trip(profile).sample(0).value(0) == std::numeric_limits<std::int64_t>::min());
}

TEST_CASE("functions, locations, mappings and strings exist once") {
  Profile profile(kCount);
  const FunctionIndex f = profile.add_function("f", "f", "/f.c", 1);
  CHECK(profile.add_function("f", "f", "/f.c", 1) == f);
  CHECK(profile.add_function("f", "f", "/f.c", 2) != f);
  CHECK(profile.add_function("f", "f", "/g.c", 1) != f);
  CHECK(profile.add_function("f", "g", "/f.c", 1) != f);
  const Mapping program{0x1000, 0x2000, 0, profile.intern("/bin/app"), profile.intern("id"), {}};
  Mapping described = program;
  described.flags.has_functions = true;
  const MappingIndex m = profile.add_mapping(program);
  CHECK(profile.add_mapping(described) == m);
  CHECK_FALSE(profile.mapping(m).flags.has_functions);
  const StringId other = profile.intern("other");
  for (const Mapping& different : {Mapping{0x1800, 0x2000, 0, program.file, program.build_id, {}},
                                   Mapping{0x1000, 0x3000, 0, program.file, program.build_id, {}},
                                   Mapping{0x1000, 0x2000, 1, program.file, program.build_id, {}},
                                   Mapping{0x1000, 0x2000, 0, other, program.build_id, {}},
                                   Mapping{0x1000, 0x2000, 0, program.file, other, {}}}) {
    CHECK(profile.add_mapping(different) != m);
  }
  CHECK_FALSE(profile.find_location(0x1234, m).has_value());
  const Line line{f, 5};
  const LocationIndex location = profile.add_location(0x1234, m, {&line, 1});
  CHECK(profile.find_location(0x1234, m) == location);
  CHECK(profile.add_location(0x1234, m, {}) == location);
  CHECK(profile.location(location).lines.size() == 1);
  CHECK(profile.add_location(0x1235, m, {}) != location);
  CHECK(profile.add_location(0x1234, kNoMapping, {}) != location);
  CHECK(profile.intern("/f.c") == profile.intern("/f.c"));
  CHECK(profile.intern("") == kEmptyString);
  round_trip(profile);
}

TEST_CASE("any bytes may be a name, clients get UTF-8 of bounded length") {
  Profile profile(kCount);
  add_frame(profile, 0x1001, "bad\xff\xfename");
  add_frame(profile, 0x2001, std::string(100'000, '\xe9'));
  add_frame(profile, 0x3001, std::string("nul\0byte", 8));
  add_frame(profile, 0x4001, std::string(100'000, 'x'));
  CHECK(profile.intern("bad\xff\xfename") == profile.intern("bad\\xff\\xfename"));
  const proto::Profile got = round_trip(profile);
  CHECK(text(got, got.function(0).name()) == "bad\\xff\\xfename");
  CHECK(text(got, got.function(1).name()).size() == 65532);  // whole escapes of four bytes
  CHECK(text(got, got.function(2).name()) == std::string("nul\0byte", 8));
  CHECK(text(got, got.function(3).name()) == std::string(65535, 'x'));
}

TEST_CASE("labels that readers cannot see or refuse are left out") {
  Profile profile(kCount);
  const StringId key = profile.intern("key");
  const std::array<std::int64_t, 1> one = {1};
  const std::array<Label, 8> labels = {{
      {kEmptyString, profile.intern("no key")},
      {profile.intern("empty"), kEmptyString},
      {profile.intern("zero"), kEmptyString, 0},
      {profile.intern("pprof::base"), profile.intern("true")},
      {key, profile.intern("kept"), 17, profile.intern("ignored")},
      {key, profile.intern("second")},
      {profile.intern("pages"), kEmptyString, 0, profile.intern("pages")},
      {profile.intern("pprof:"), kEmptyString, -1},
  }};
  profile.add_sample({}, one, labels);
  const proto::Profile got = round_trip(profile);
  REQUIRE(got.sample(0).label_size() == 3);
  CHECK(text(got, got.sample(0).label(0).key()) == "key");
  CHECK(text(got, got.sample(0).label(0).str()) == "kept");
  CHECK(got.sample(0).label(0).num() == 0);
  CHECK(text(got, got.sample(0).label(1).key()) == "pages");
  CHECK(text(got, got.sample(0).label(1).num_unit()) == "pages");
  CHECK(text(got, got.sample(0).label(2).key()) == "pprof:");
}

TEST_CASE("a sample whose labels are all left out is the sample without labels") {
  Profile profile(kCount);
  const std::array<std::int64_t, 1> one = {1};
  const std::array<Label, 1> invisible = {{{profile.intern("zero"), kEmptyString, 0}}};
  profile.add_sample({}, one);
  profile.add_sample({}, one, invisible);
  CHECK(round_trip(profile).sample_size() == 1);
}

TEST_CASE("synthetic frames have stable, unique addresses outside of any program") {
  // Pinned: clients compare addresses between scrapes and between versions of the agent.
  CHECK(synthetic_address("[stack table full]") == 0x000fb49428d49012);
  Profile profile(kCount);
  const LocationIndex full = profile.add_synthetic_location("[stack table full]");
  const LocationIndex lost = profile.add_synthetic_location("[lost]");
  CHECK(full != lost);
  CHECK(profile.add_synthetic_location("[stack table full]") == full);
  CHECK(profile.location(full).address == synthetic_address("[stack table full]"));
  CHECK(profile.location(lost).address >= kSyntheticBegin);
  CHECK(profile.location(lost).address < kSyntheticEnd);
  CHECK(profile.location(lost).mapping == kNoMapping);
  const proto::Profile got = round_trip(profile);
  CHECK(text(got, got.function(1).name()) == "[lost]");
}

TEST_CASE("two names at one synthetic address stay two frames") {
  Profile profile(kCount);
  const LocationIndex other = add_frame(profile, synthetic_address("[lost]"), "not lost");
  const LocationIndex lost = profile.add_synthetic_location("[lost]");
  CHECK(lost != other);
  CHECK(profile.location(lost).address == synthetic_address("[lost]") + 1);
  CHECK(profile.add_synthetic_location("[lost]") == lost);
}

TEST_CASE("address 0 becomes a synthetic frame") {
  Profile profile(kCount);
  const LocationIndex bare = profile.add_location(0, kNoMapping, {});
  CHECK(profile.location(bare).address == synthetic_address("[null]"));
  const LocationIndex named = add_frame(profile, 0, "called null");
  CHECK(profile.location(named).address == synthetic_address("called null"));
  round_trip(profile);
}

TEST_CASE("broken contracts are refused and leave the samples alone") {
  const std::array<TypeAndUnit, 5> five = {{{"a", ""}, {"b", ""}, {"c", ""}, {"d", ""}, {"e", ""}}};
  const std::array<TypeAndUnit, 1> dash = {{{"in-use", "count"}}};
  const std::array<TypeAndUnit, 1> unnamed = {{{"", "count"}}};
  CHECK_THROWS_AS(Profile(five), std::invalid_argument);
  CHECK_THROWS_AS(Profile(dash), std::invalid_argument);
  CHECK_THROWS_AS(Profile(unnamed), std::invalid_argument);
  CHECK_THROWS_AS(Profile(std::span<const TypeAndUnit>()), std::invalid_argument);

  Profile profile(kCpu);
  const std::array<std::int64_t, 1> one = {1};
  const std::array<Label, 1> unknown_key = {{{StringId{999}, StringId{1}}}};
  const Line unknown_function{FunctionIndex{0}, 1};
  CHECK_THROWS_AS(profile.add_sample({}, one), std::invalid_argument);
  CHECK_THROWS_AS(profile.add_sample(Stack{LocationIndex{0}}, Values{1, 1}), std::invalid_argument);
  CHECK_THROWS_AS(profile.add_sample({}, Values{1, 1}, unknown_key), std::invalid_argument);
  CHECK_THROWS_AS(profile.add_location(1, MappingIndex{0}, {}), std::invalid_argument);
  CHECK_THROWS_AS(profile.add_location(1, kNoMapping, {&unknown_function, 1}), std::invalid_argument);
  CHECK_THROWS_AS(profile.add_mapping({1, 2, 0, StringId{999}, kEmptyString, {}}), std::invalid_argument);
  CHECK_THROWS_AS(profile.set_mapping_flags(MappingIndex{0}, {}), std::invalid_argument);
  CHECK_THROWS_AS(profile.set_default_sample_type("wall"), std::invalid_argument);
  CHECK(round_trip(profile).sample_size() == 0);
}

TEST_CASE("lent strings are not copied, unless they have to be cleaned") {
  const auto lender = std::make_shared<const std::vector<std::string>>(
      std::vector<std::string>{"_ZN2ns4lentEv", "not\xffutf8", "known", std::string(70'000, 'x')});
  const std::vector<std::string>& lent = *lender;
  Profile profile(kCpu);
  const StringId known = profile.intern("known");
  const StringId first = profile.intern_lent(lent[0]);
  CHECK(profile.text(first).data() == lent[0].data());
  CHECK(profile.intern(std::string(lent[0])) == first);
  CHECK(profile.text(profile.intern_lent(lent[1])) == "not\\xffutf8");
  CHECK(profile.intern_lent(lent[2]) == known);
  CHECK(profile.text(known).data() != lent[2].data());
  CHECK(profile.text(profile.intern_lent(lent[3])) == std::string(65535, 'x'));
  CHECK(profile.text(profile.intern_lent(lent[3])).data() != lent[3].data());
  CHECK(profile.intern_lent({}) == kEmptyString);
}

TEST_CASE("who lends strings lives as long as the profile, moved or not") {
  auto lender = std::make_shared<const std::string>("_ZN2ns4lentEv");
  const std::weak_ptr<const std::string> lives = lender;
  {
    Profile first(kCpu);
    first.hold(lender);
    first.add_function("ns::lent", first.text(first.intern_lent(*lender)), "/a.cc", 1);
    lender.reset();
    const Profile second = std::move(first);
    CHECK(round_trip(second).string_table(5) == "_ZN2ns4lentEv");
    CHECK_FALSE(lives.expired());
  }
  CHECK(lives.expired());
}

TEST_CASE("a moved profile keeps its strings and stacks") {
  Profile first(kCpu);
  const LocationIndex a = add_frame(first, 0x1001, "a");
  first.add_sample(Stack{a}, Values{1, 2});
  const std::string bytes = gzipped_pprof(first);
  const Profile second = std::move(first);
  CHECK(gzipped_pprof(second) == bytes);
}

TEST_CASE("many distinct samples survive, in order") {
  Profile profile(kCpu);
  std::vector<LocationIndex> frames;
  for (std::uint64_t i = 0; i < 1000; ++i) {
    frames.push_back(add_frame(profile, 0x1000 + i, "function_" + std::to_string(i)));
  }
  for (std::size_t i = 0; i < 50'000; ++i) {
    profile.add_sample(Stack{frames[i % 1000], frames[i / 1000], frames[(i * 7) % 1000]},
                       Values{static_cast<std::int64_t>(i), 1});
  }
  const proto::Profile got = round_trip(profile);
  REQUIRE(got.sample_size() == 50'000);
  CHECK(got.sample(12'345).value(0) == 12'345);
  CHECK(got.sample(12'345).location_id(0) == 346);
  CHECK(got.sample(12'345).location_id(1) == 13);
  CHECK(got.sample(12'345).location_id(2) == 416);
}

// Among 300,000 keys about ten pairs share their 32 bits of hash: a comparison decides, not the hash.
TEST_CASE("keys with equal hashes stay apart") {
  constexpr std::int64_t kMany = 300'000;
  Profile profile(kCount);
  const StringId key = profile.intern("bytes");
  const std::array<std::int64_t, 1> one = {1};
  for (std::int64_t i = 1; i <= kMany; ++i) {
    profile.add_function("f", "f", "", i);
    const std::array<Label, 1> labels = {{{key, kEmptyString, i}}};
    profile.add_sample({}, one, labels);
  }
  CHECK(profile.functions().size() == kMany);
  CHECK(profile.sample_count() == kMany);
  CHECK(delta(Profile(kCount), profile).sample_count() == kMany);
}

TEST_CASE("the bare form comes in pieces of bounded size") {
  class Pieces final : public Sink {
   public:
    void write(std::string_view bytes) override {
      largest = std::max(largest, bytes.size());
      whole.append(bytes);
    }
    std::size_t largest = 0;
    std::string whole;
  };
  Profile profile(kCount);
  for (std::uint64_t i = 1; i < 20'000; ++i) add_frame(profile, i, "some_function_" + std::to_string(i));
  Pieces pieces;
  write_pprof(profile, pieces);
  CHECK(pieces.whole.size() > 500'000);
  CHECK(pieces.largest < 20'000);
  CHECK(testing::parse(pieces.whole).location_size() == 19'999);
}

}  // namespace
}  // namespace profagent::encoder
