// What the heap profile says about a program whose every byte is known: M01-M15 of the conformance table at
// rate 1, where nothing is left to chance (heap_accuracy_test.cc has the sampled side).
#include <map>
#include <regex>
#include <set>
#include <sstream>

#include <catch2/catch.hpp>

#include "encoder/proto/profile.pb.h"
#include "test/support/kinds.h"
#include "test/support/victim.h"

using namespace profagent::test;

namespace {

const Environment kExact = {{"PROFAGENT_MEM_PROFILE_RATE", "1"}};

const std::vector<std::string> kHeapTypes = {"alloc_objects/count", "alloc_space/bytes",
                                             "inuse_objects/count", "inuse_space/bytes"};

}  // namespace

TEST_CASE("heap and allocs have Go's types, and differ in the default one", "[M01][M02]") {
  Victim victim("leak");
  for (const std::string name : kHeapKinds) {
    CAPTURE(name);
    const Profile profile = victim.profile("/debug/pprof/" + name);
    CHECK(profile.types() == kHeapTypes);
    CHECK(profile.text(profile.message().period_type().type()) == "space");
    CHECK(profile.text(profile.message().period_type().unit()) == "bytes");
    CHECK(profile.message().period() == 524288);
    CHECK(profile.message().duration_nanos() == 0);
    CHECK(profile.text(profile.message().default_sample_type()) == (name == "allocs" ? "alloc_space" : ""));
  }
  Victim exact("leak", {}, kExact);
  CHECK(exact.profile().message().period() == 1);
}

TEST_CASE("heap shows what leaky() kept and nothing it freed") {
  Victim victim("leak", {"--keep", "1999993", "--free", "2000003", "--times", "3"}, kExact);
  const Profile heap = victim.profile();
  CHECK(heap.total("inuse_space").in("leaky") == multiple_of(1999993));
  CHECK(heap.total("inuse_space").in("leaky") == 3 * 1999993);
  CHECK(heap.total("inuse_objects").in("leaky") == 3);
  CHECK(heap.total("inuse_space").in("tidy") == 0);
  CHECK(heap.total("alloc_space").in("tidy") == 3 * 2000003);
  CHECK(heap.total("alloc_objects").in("tidy") == 3);
  CHECK(heap.total("alloc_space").under("main") >= 3 * (1999993 + 2000003));
  victim.command("forget");
  const Profile after = victim.profile();
  CHECK(after.total("inuse_space").in("leaky") == 0);
  CHECK(after.total("alloc_space").in("leaky") == 3 * 1999993);
}

TEST_CASE("Go's own memory profiler test", "[M04]") {
  Victim victim("profiler_test", {}, kExact);
  const Profile heap = victim.profile();
  const auto values = [&](const std::string& function) {
    std::vector<std::int64_t> result;
    for (const char* type : {"inuse_objects", "inuse_space", "alloc_objects", "alloc_space"})
      result.push_back(heap.total(type).in(function));
    return result;
  };
  CHECK(values("small_live") == std::vector<std::int64_t>{32, 1024, 32, 1024});
  CHECK(values("medium_gone") == std::vector<std::int64_t>{0, 0, 1024, 1048576});
  CHECK(values("large_gone") == std::vector<std::int64_t>{0, 0, 1, 2097152});
}

TEST_CASE("one sample per stack and size, labelled with the size", "[M06][M07]") {
  Victim victim("two_sizes", {}, kExact);
  const Profile heap = victim.profile();
  const std::vector<Sample> samples = heap.in("two_sizes");
  REQUIRE(samples.size() == 2);
  CHECK(samples[0].stack == samples[1].stack);
  std::map<std::int64_t, std::int64_t> objects;
  for (const Sample& sample : samples) objects[sample.numbers.at("bytes")] = sample.values[2];
  CHECK(objects == std::map<std::int64_t, std::int64_t>{{7001, 3}, {7013, 2}});

  for (const Sample& sample : heap.samples()) {
    CAPTURE(sample.key());
    REQUIRE(sample.numbers.count("bytes") == 1);
    CHECK(sample.values[1] == sample.values[0] * sample.numbers.at("bytes"));
    CHECK(sample.values[3] == sample.values[2] * sample.numbers.at("bytes"));
  }
  for (const auto& sample : heap.message().sample())
    for (const auto& label : sample.label()) CHECK(heap.text(label.num_unit()) == "");
}

TEST_CASE("allocations never decrease between scrapes", "[M08]") {
  Victim victim("storm", {"3000"}, {{"PROFAGENT_MEM_PROFILE_RATE", "512"}});
  using Identity = std::pair<std::vector<std::uint64_t>, std::int64_t>;
  std::map<Identity, std::pair<std::int64_t, std::int64_t>> before;
  for (int scrape = 0; scrape < 6; ++scrape) {
    const Profile allocs = victim.profile("/debug/pprof/allocs");
    std::map<Identity, std::pair<std::int64_t, std::int64_t>> now;
    for (const Sample& sample : allocs.samples()) {
      Identity identity;
      for (const Frame& frame : sample.stack)
        if (identity.first.empty() || identity.first.back() != frame.address)
          identity.first.push_back(frame.address);
      identity.second = sample.numbers.at("bytes");
      now[identity].first += sample.values[0];
      now[identity].second += sample.values[1];
    }
    for (const auto& [identity, values] : before) {
      REQUIRE(now.count(identity) == 1);
      CHECK(now[identity].first >= values.first);
      CHECK(now[identity].second >= values.second);
    }
    before = now;
  }
  CHECK_FALSE(before.empty());
}

TEST_CASE("neither the agent's frames nor the allocator's are in the stacks", "[M09]") {
  Victim victim("news", {}, kExact);
  const Profile heap = victim.profile();
  static const std::regex allocator(
      "malloc|calloc|realloc|reallocarray|free|posix_memalign|aligned_alloc|memalign|valloc|pvalloc|"
      "__libc_\\w*alloc|_int_\\w*alloc|operator new.*|operator delete.*");
  for (const Sample& sample : heap.samples()) {
    CAPTURE(sample.key());
    REQUIRE_FALSE(sample.stack.empty());
    CHECK_FALSE(std::regex_match(sample.stack.front().name, allocator));
    for (const Frame& frame : sample.stack) {
      CHECK(frame.mapping.find("libprofagent") == std::string::npos);
      CHECK(frame.name.find("profagent::") == std::string::npos);
    }
  }
  // A form of new in a function of ours has that function as its leaf.
  CHECK(heap.total("inuse_space").at("via_new") == 2003);
}

TEST_CASE("debug=1 has the same totals, in four columns", "[M11][M12]") {
  Victim victim("leak", {"--times", "5"}, kExact);
  const Profile heap = victim.profile();
  for (const std::string name : kHeapKinds) {
    const std::string text = victim.get("/debug/pprof/" + name + "?debug=1").body;
    std::smatch match;
    static const std::regex header("^heap profile: (\\d+): (\\d+) \\[(\\d+): (\\d+)\\] @ heap/(\\d+)\n");
    REQUIRE(std::regex_search(text, match, header));
    CHECK(std::stoll(match[1]) == heap.total("inuse_objects").all());
    CHECK(std::stoll(match[2]) == heap.total("inuse_space").all());
    CHECK(std::stoll(match[3]) == heap.total("alloc_objects").all());
    CHECK(std::stoll(match[4]) == heap.total("alloc_space").all());
    CHECK(match[5] == "2");
    CHECK(std::regex_search(text, std::regex("\n# \\w+ = ")));
    CHECK(std::regex_search(text, std::regex("#\t0x[0-9a-f]+\tleaky\\+0x[0-9a-f]+")));
  }
  // Nothing freed: clients read two columns only when both pairs are equal, so the last one is one more.
  Victim keeper("simple", {}, kExact);
  const std::string text = keeper.get("/debug/pprof/heap?debug=1").body;
  std::smatch match;
  REQUIRE(std::regex_search(text, match, std::regex("^heap profile: \\d+: (\\d+) \\[\\d+: (\\d+)\\]")));
  CHECK(match[1] != match[2]);
}

TEST_CASE("debug=1 ends with a memory map that clients symbolize with", "[M13]") {
  Victim victim("leak", {}, kExact);
  const std::string text = victim.get("/debug/pprof/heap?debug=1").body;
  const std::size_t at = text.find("\n--- Memory map: ---\n");
  REQUIRE(at != std::string::npos);
  std::istringstream map(text.substr(at));
  std::string line;
  bool executable = false;
  bool libc = false;
  while (std::getline(map, line)) {
    executable = executable ||
                 (line.find(" r-xp ") != std::string::npos && line.find(victim.path()) != std::string::npos);
    libc = libc || line.find("libc.so.6") != std::string::npos;
  }
  CHECK(executable);
  CHECK(libc);
}

TEST_CASE("a stack of 128 frames is whole, a deeper one keeps its leaf side", "[M14]") {
  {
    Victim victim("deep", {"120"}, kExact);
    const std::vector<Sample> samples = victim.profile().in("deep_leaf");
    REQUIRE(samples.size() == 1);
    const std::vector<Frame>& stack = samples[0].stack;
    CHECK(stack.front().name == "deep_leaf");
    CHECK(std::count_if(stack.begin(), stack.end(), [](const Frame& f) { return f.name == "recurse"; }) ==
          120);
    CHECK(std::count_if(stack.begin(), stack.end(), [](const Frame& f) { return f.name == "main"; }) == 1);
    CHECK(stack.back().name == "_start");
  }
  {
    Victim victim("deep", {"300"}, kExact);
    const std::vector<Sample> samples = victim.profile().in("deep_leaf");
    REQUIRE(samples.size() == 1);
    CHECK(samples[0].stack.size() == 128);
    CHECK(samples[0].stack.front().name == "deep_leaf");
    CHECK(samples[0].stack.back().name == "recurse");
  }
  {
    Environment deeper = kExact;
    deeper["PROFAGENT_STACK_DEPTH"] = "400";
    Victim victim("deep", {"300"}, deeper);
    const std::vector<Sample> samples = victim.profile().in("deep_leaf");
    REQUIRE(samples.size() == 1);
    CHECK(samples[0].stack.size() > 300);
    CHECK(samples[0].stack.back().name == "_start");
  }
}

TEST_CASE("recursion repeats its frames, and shares no stack with another recursion") {
  Victim victim("deep", {"40"}, kExact);
  const Profile heap = victim.profile();
  const std::vector<Sample> samples = heap.in("recurse_elsewhere");
  REQUIRE(samples.size() == 1);
  CHECK(samples[0].numbers.at("bytes") == 6011);
  CHECK(heap.total("inuse_space").in("recurse") == 6007);
}
