// What is inside the served bytes, V03-V09, V11, V20-V24 of the conformance table, checked in the decoded
// message.
#include <elf.h>

#include <chrono>
#include <fstream>
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

template <typename Rows>
void check_sequential(const Rows& rows) {
  std::uint64_t expected = 0;
  for (const auto& row : rows) CHECK(row.id() == ++expected);
}

bool is_utf8(const std::string& text) {
  const auto* at = reinterpret_cast<const unsigned char*>(text.data());
  const auto* end = at + text.size();
  while (at < end) {
    const int more = *at < 0x80                  ? 0
                     : *at >= 0xc2 && *at < 0xe0 ? 1
                     : *at >= 0xe0 && *at < 0xf0 ? 2
                     : *at >= 0xf0 && *at < 0xf5 ? 3
                                                 : -1;
    if (more < 0 || end - at <= more) return false;
    for (int i = 1; i <= more; ++i)
      if ((at[i] & 0xc0) != 0x80) return false;
    at += more + 1;
  }
  return true;
}

// Build ids as readelf sees them.
std::string build_id_of(const std::string& file) {
  const Outcome readelf = run({"readelf", "-n", file});
  std::smatch match;
  return std::regex_search(readelf.out, match, std::regex("Build ID: ([0-9a-f]+)")) ? match[1].str() : "";
}

}  // namespace

TEST_CASE("ids count from 1 in message order, and the string table is sound", "[V03][V09]") {
  for (const SnapshotKind& kind : kSnapshotKinds) {
    CAPTURE(kind.name);
    Victim victim(kind.victim, {}, kEverything);
    const Profile profile = victim.profile("/debug/pprof/" + kind.name);
    CHECK_FALSE(profile.in(kind.shown).empty());
    const auto& message = profile.message();
    REQUIRE(message.location_size() > 0);
    REQUIRE(message.function_size() > 0);
    check_sequential(message.mapping());
    check_sequential(message.location());
    check_sequential(message.function());
    REQUIRE(message.string_table_size() > 0);
    CHECK(message.string_table(0).empty());
    std::set<std::string> strings(message.string_table().begin(), message.string_table().end());
    CHECK(strings.size() == static_cast<std::size_t>(message.string_table_size()));
    for (const auto& function : message.function()) {
      CHECK_FALSE(profile.text(function.name()).empty());
      CHECK_FALSE(profile.text(function.system_name()).empty());
      CHECK_NOTHROW(profile.text(function.filename()).size());
    }
  }
}

TEST_CASE("addresses are unique, not zero, and inside their mappings", "[V04]") {
  Victim victim("namespaced", {}, kExact);
  const Profile profile = victim.profile();
  std::set<std::uint64_t> addresses;
  for (const auto& location : profile.message().location()) {
    CHECK(location.address() != 0);
    CHECK(addresses.insert(location.address()).second);
    CHECK(location.line_size() > 0);
    if (location.mapping_id() == 0) continue;
    const auto& mapping = profile.message().mapping(static_cast<int>(location.mapping_id() - 1));
    CHECK(location.address() >= mapping.memory_start());
    CHECK(location.address() < mapping.memory_limit());
  }
}

TEST_CASE("a stack has the same addresses in every scrape, also after a library came", "[V05][A03]") {
  Victim victim("two_modules", {}, kExact);
  const std::vector<Sample> before = victim.profile().in("in_module_a");
  REQUIRE(before.size() == 1);
  victim.command("other");
  const Profile after = victim.profile();
  REQUIRE(after.in("in_module_b").size() == 1);
  REQUIRE(after.in("in_module_a").size() == 1);
  CHECK(after.in("in_module_a")[0].stack == before[0].stack);
}

TEST_CASE("mappings: the executable first, page aligned, with readelf's build ids", "[V06]") {
  Victim victim("namespaced", {}, kExact);
  const Profile profile = victim.profile();
  const auto& mappings = profile.message().mapping();
  REQUIRE(mappings.size() >= 3);
  CHECK(profile.text(mappings[0].filename()) == victim.path());
  bool libc = false;
  for (const auto& mapping : mappings) {
    const std::string file = profile.text(mapping.filename());
    CAPTURE(file);
    CHECK(mapping.memory_start() % 4096 == 0);
    CHECK(mapping.memory_limit() % 4096 == 0);
    CHECK(mapping.file_offset() % 4096 == 0);
    CHECK(mapping.has_functions());
    CHECK(file.find("(deleted)") == std::string::npos);
    libc = libc || file.find("libc.so.6") != std::string::npos;
    if (!file.empty() && file[0] == '/') CHECK(profile.text(mapping.build_id()) == build_id_of(file));
  }
  CHECK(libc);
  // Each executable mapping of the process that has a file is there, and nothing else.
  std::ifstream maps("/proc/" + std::to_string(victim.process().pid()) + "/maps");
  std::set<std::uint64_t> executable;
  for (std::string line; std::getline(maps, line);)
    if (line.find("xp ") == line.find(' ') + 3) executable.insert(std::stoull(line, nullptr, 16));
  for (const auto& mapping : mappings) CHECK(executable.count(mapping.memory_start()) == 1);
}

TEST_CASE("every string is UTF-8, whatever the program is called", "[V08]") {
  const TempDir dir;
  const std::string odd = dir.file("odd\xff name");
  REQUIRE(run({"cp", victim_path("leak"), odd}).ok());
  Victim victim(odd, {}, kEverything);
  for (const std::string& name : kSnapshotKinds) {
    const Profile profile = victim.profile("/debug/pprof/" + name);
    for (const std::string& text : profile.message().string_table()) {
      CAPTURE(text);
      CHECK(is_utf8(text));
    }
  }
}

TEST_CASE("names are demangled, system names are the linker's", "[V11]") {
  Victim victim("namespaced", {}, kExact);
  const Profile heap = victim.profile();
  const std::pair<const char*, const char*> names[] = {{"shop::Order::add_item", "_ZN4shop5Order8add_itemEi"},
                                                       {"(anonymous namespace)::hidden", ""},
                                                       {"main", "main"}};
  for (const auto& [name, system_name] : names) {
    CAPTURE(name);
    const std::vector<Sample> samples = heap.in(name);
    REQUIRE_FALSE(samples.empty());
    for (const Frame& frame : samples[0].stack)
      if (frame.name == name && *system_name != '\0') CHECK(frame.system_name == system_name);
  }
  CHECK(heap.total("inuse_space").in("shop::Order::operator+=") >= 3000029);
  CHECK(heap.total("inuse_space").in("shop::store") == 2 * 3000047);
}

TEST_CASE("the body is one gzip file as Go writes it", "[V20]") {
  Victim victim("leak", {}, kExact);
  const std::string body = victim.get("/debug/pprof/heap").body;
  CHECK(body.substr(0, 4) == std::string("\x1f\x8b\x08\x00", 4));
  CHECK(body.substr(4, 4) == std::string(4, '\0'));
  CHECK_NOTHROW(gunzip(body));
  const TempDir dir;
  write_text(dir.file("heap.gz"), body);
  CHECK(run({"gzip", "-t", dir.file("heap.gz")}).ok());
}

TEST_CASE("the time is that of the scrape, a duration only a delta has", "[V21][V22]") {
  Victim victim("leak");
  using namespace std::chrono;
  for (const std::string& name : kSnapshotKinds) {
    const auto before = duration_cast<nanoseconds>(system_clock::now().time_since_epoch()).count();
    const Profile snapshot = victim.profile("/debug/pprof/" + name);
    const auto after = duration_cast<nanoseconds>(system_clock::now().time_since_epoch()).count();
    CHECK(snapshot.message().time_nanos() >= before);
    CHECK(snapshot.message().time_nanos() <= after);
    CHECK(snapshot.message().duration_nanos() == 0);
    CHECK(victim.profile("/debug/pprof/" + name + "?seconds=1").message().duration_nanos() > 0);
  }
}

TEST_CASE("at most four types, and labels that every client can keep", "[V23][V24]") {
  for (const SnapshotKind& kind : kSnapshotKinds) {
    CAPTURE(kind.name);
    Victim victim(kind.victim, {}, kEverything);
    const Profile profile = victim.profile("/debug/pprof/" + kind.name);
    CHECK_FALSE(profile.samples().empty());
    CHECK(profile.types().size() <= 4);
    for (const std::string& type : profile.types()) CHECK(type.find('-') == std::string::npos);
    for (const auto& sample : profile.message().sample()) {
      CHECK(sample.value_size() == profile.message().sample_type_size());
      std::set<std::string> keys;
      for (const auto& label : sample.label()) {
        const std::string key = profile.text(label.key());
        CHECK_FALSE(key.empty());
        CHECK(keys.insert(key).second);
        CHECK(key.rfind("pprof::", 0) != 0);
        CHECK((label.str() != 0 || label.num() != 0));
        if (label.str() != 0) CHECK_FALSE(profile.text(label.str()).empty());
      }
    }
    for (const std::string& comment : profile.comments()) CHECK(comment.rfind("executableInfo=", 0) != 0);
    // Clients guess the language from names that look like Go's.
    for (const std::string& text : profile.message().string_table()) {
      CHECK(text.rfind(".go", 0) != 0);
      CHECK((text.size() < 3 || text.substr(text.size() - 3) != ".go"));
    }
  }
}
