// Source lines and inlined functions in the profiles.
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <thread>

#include <catch2/catch.hpp>

#include "encoder/proto/profile.pb.h"
#include "test/support/cpu.h"
#include "test/support/kinds.h"
#include "test/support/victim.h"

using namespace profagent::test;

namespace {

// How one program was compiled.
const char* const kBuilds[] = {"lines_o0", "lines_o2", "lines_lto"};

std::string source_line(const std::string& file, std::int64_t number) {
  std::ifstream in(file);
  std::string line;
  for (std::int64_t i = 0; i < number; ++i) std::getline(in, line);
  return line;
}

// The comment on the line where a frame stands; its function where there is no line.
std::string remark_of(const Frame& frame) {
  const std::string line = source_line(frame.file, frame.line);
  const std::size_t at = line.find("// ");
  return at == std::string::npos ? frame.name : line.substr(at + 3);
}

std::vector<std::string> remarks_of(const Sample& sample) {
  std::vector<std::string> remarks;
  for (const Frame& frame : sample.stack) remarks.push_back(remark_of(frame));
  return remarks;
}

// The first `expected.size()` of the frames, from the one that is called `begin`.
void check_frames(const Profile& profile, const std::string& begin, const std::vector<std::string>& names,
                  const std::vector<std::string>& remarks) {
  const std::vector<Sample> samples = profile.in(begin);
  REQUIRE(!samples.empty());
  const Sample& sample = samples.front();
  std::size_t first = 0;
  while (sample.stack[first].name != begin) ++first;
  REQUIRE(sample.stack.size() >= first + names.size());
  for (std::size_t i = 0; i < names.size(); ++i) {
    const Frame& frame = sample.stack[first + i];
    CAPTURE(frame.file, frame.line);
    CHECK(frame.name == names[i]);
    CHECK(remark_of(frame) == remarks[i]);
  }
}

// The addresses of the frames with these names, in one sample each: as many as there are physical frames.
std::size_t addresses_of(const Profile& profile, const std::vector<std::string>& names) {
  std::set<std::uint64_t> addresses;
  const Sample sample = profile.in(names.front()).front();
  for (const Frame& frame : sample.stack) {
    if (std::find(names.begin(), names.end(), frame.name) != names.end()) addresses.insert(frame.address);
  }
  return addresses.size();
}

// In KiB, of the kernel's counters for a process.
std::int64_t memory(pid_t pid, const std::string& counter) {
  std::ifstream status("/proc/" + std::to_string(pid) + "/status");
  for (std::string row; std::getline(status, row);)
    if (row.starts_with(counter + ":")) return std::stoll(row.substr(counter.size() + 1));
  return 0;
}

// The most memory that a program had while it served a heap profile, and the same one again, beyond what it
// had before both.
struct Peaks {
  std::int64_t first;
  std::int64_t second;
};

// `is_fresh`: by a program that nobody has asked for anything before.
Peaks peaks_of(const std::string& symbols, bool is_fresh) {
  constexpr std::size_t kPlaces = 4096;  // of three functions each
  Victim victim("many_places", {}, kEverything);
  const pid_t pid = victim.process().pid();
  const std::string path = "/debug/pprof/heap?symbols=";
  if (!is_fresh) REQUIRE(victim.get(path + "none").status == 200);
  const std::int64_t before = memory(pid, "VmRSS");
  const auto peak = [&] {
    write_text("/proc/" + std::to_string(pid) + "/clear_refs", "5");  // forgets the peak
    // A busy machine may need more than one request's patience.
    Profile profile = victim.profile(path + symbols);
    CHECK(eventually([&] {
      if (symbols == "names" || profile.in("places::Shelf::put").size() == kPlaces) return true;
      profile = victim.profile(path + symbols);
      return false;
    }));
    CHECK(profile.in("places::fill").size() == kPlaces);
    CHECK(profile.in("places::Shelf::put").size() == (symbols == "lines" ? kPlaces : 0));
    return memory(pid, "VmHWM") - before;
  };
  const std::int64_t first = peak();
  return {first, peak()};
}

profagent::proto::Mapping main_mapping(const Profile& profile) {
  return profile.message().mapping(0);
}

}  // namespace

TEST_CASE("the heap profile shows inlined functions, each with its line") {
  for (const char* build : kBuilds) {
    CAPTURE(build);
    Victim victim(build, {}, kEverything);
    const Profile heap = victim.profile();
    const std::vector<std::string> names = {"shop::Shelf::make_room", "shop::Shelf::put", "shop::fill"};
    check_frames(heap, names[0], names, {"make_room: malloc", "put: make_room", "fill: put"});
    CHECK(addresses_of(heap, names) == 1);
    CHECK(heap.total("inuse_space").at("shop::Shelf::make_room") == 3000017);
    const auto mapping = main_mapping(heap);
    CHECK(mapping.has_functions());
    CHECK(mapping.has_filenames());
    CHECK(mapping.has_line_numbers());
    CHECK(mapping.has_inline_frames());
  }
}

TEST_CASE("a lock behind three inlined wrappers shows all of them", "[B12]") {
  for (const char* build : kBuilds) {
    CAPTURE(build);
    Victim victim(build, {}, kEverything);
    const Profile block = victim.profile("/debug/pprof/block");
    const std::vector<std::string> locks = {"shop::lock_raw", "shop::Lock::lock", "shop::Guard::Guard",
                                            "shop::waits"};
    check_frames(block, locks[0], locks,
                 {"lock_raw: pthread_mutex_lock", "lock: lock_raw", "Guard: lock", "waits: Guard"});
    CHECK(addresses_of(block, locks) == 1);
    const Profile mutex = victim.profile("/debug/pprof/mutex");
    const std::vector<std::string> unlocks = {"shop::unlock_raw", "shop::Lock::unlock",
                                              "shop::Guard::~Guard"};
    check_frames(mutex, unlocks[0], unlocks,
                 {"unlock_raw: pthread_mutex_unlock", "unlock: unlock_raw", "~Guard: unlock"});
    CHECK(addresses_of(mutex, unlocks) == 1);
    CHECK(mutex.in("shop::unlock_raw").front().has("shop::holds"));
  }
}

TEST_CASE("an inlined function that uses CPU time stands in front of its caller, in one location", "[P06]") {
  for (const char* build : {"lines_o2", "lines_lto"}) {
    CAPTURE(build);
    Victim victim(build, {"--burn"});
    const Profile profile = victim.profile("/debug/pprof/profile?seconds=1");
    check_frames(profile, "shop::spin", {"shop::spin", "shop::burns"}, {"spin", "burns: spin"});
    CHECK(addresses_of(profile, {"shop::spin", "shop::burns"}) == 1);
  }
}

TEST_CASE("a recursive function is there as often as it was called, down to the leaf", "[P07]") {
  Victim victim("lines_o0", {"--burn"});
  const Profile profile = victim.profile("/debug/pprof/profile?seconds=1");
  const std::vector<Sample> samples = profile.in("shop::spin");
  REQUIRE(!samples.empty());
  std::vector<std::string> expected = {"recurses: burns"};
  expected.insert(expected.end(), 5, "recurses: recurses");
  const std::vector<std::string> remarks = remarks_of(samples.front());
  const auto first = std::find(remarks.begin(), remarks.end(), expected.front());
  REQUIRE(remarks.end() - first >= 6);
  CHECK(std::vector(first, first + 6) == expected);
  CHECK(remarks.front() == "spin");
}

TEST_CASE("the texts show file and line, and inlined functions") {
  Victim victim("lines_o2", {}, kEverything);
  const std::string heap = victim.get("/debug/pprof/heap?debug=1").body;
  const std::size_t inner = heap.find("\tshop::Shelf::make_room+0x");
  const std::size_t outer = heap.find("\tshop::fill+0x");
  REQUIRE(inner != std::string::npos);
  REQUIRE(outer != std::string::npos);
  CHECK(inner < outer);
  const auto line_at = [](const std::string& text, std::size_t at) {
    return text.substr(text.rfind('\n', at) + 1, text.find('\n', at) - text.rfind('\n', at) - 1);
  };
  const std::string inner_line = line_at(heap, inner);
  CHECK(inner_line.find("/lines.cc:") != std::string::npos);
  // The same address for both, which the list of addresses has once.
  const std::string address = inner_line.substr(2, inner_line.find('\t', 2) - 2);
  CHECK(line_at(heap, outer).substr(2, address.size()) == address);
  const std::string next = (std::ostringstream() << std::hex << std::stoull(address, nullptr, 16) + 1).str();
  const std::size_t in_list = heap.find(" 0x" + next);
  REQUIRE(in_list != std::string::npos);
  CHECK(heap.substr(in_list + next.size() + 3, 4 + next.size()).find(next) == std::string::npos);
  CHECK(victim.get("/debug/pprof/block?debug=1").body.find("shop::Guard::Guard+0x") != std::string::npos);
  CHECK(victim.get("/debug/pprof/mutex?debug=1").body.find("shop::Guard::~Guard+0x") != std::string::npos);
  CHECK(victim.get("/debug/pprof/threadcreate?debug=1").body.find("/lines.cc:") != std::string::npos);
  CHECK(victim.get("/debug/pprof/goroutine?debug=1").body.find("/lines.cc:") != std::string::npos);
}

TEST_CASE("the dump of all threads shows file and line") {
  Victim victim("lines_o2");
  const std::string dump = victim.get("/debug/pprof/goroutine?debug=2").body;
  CAPTURE(dump);
  const std::size_t main = dump.find("\nmain(...)\n\t");
  REQUIRE(main != std::string::npos);
  CHECK(dump.find("/lines.cc:", main) < dump.find('\n', main + 12));
}

TEST_CASE("who asks for names alone gets no lines, and who wants none no names") {
  for (const SnapshotKind& kind : kSnapshotKinds) {
    CAPTURE(kind.name);
    Victim victim(kind.victim, {}, kEverything);
    const std::string url = "/debug/pprof/" + kind.name + "?symbols=";
    const Profile names = victim.profile(url + "names");
    for (const Sample& sample : names.samples())
      for (const Frame& frame : sample.stack) CHECK(frame.file.empty());
    CHECK(!names.in(kind.shown).empty());
    CHECK(main_mapping(names).has_functions());
    CHECK_FALSE(main_mapping(names).has_filenames());
    CHECK_FALSE(main_mapping(names).has_line_numbers());
    CHECK_FALSE(main_mapping(names).has_inline_frames());

    const Profile none = victim.profile(url + "none");
    CHECK(none.in(kind.shown).empty());
    CHECK(!none.in("[" + std::string(kind.victim) + "]").empty());
    CHECK_FALSE(main_mapping(none).has_functions());

    for (const std::string more : {"", "&seconds=1", "&debug=1", "&debug=2"}) {
      const Response answer = victim.get(url + "all" + more);
      CHECK(answer.status == 400);
      CHECK(answer.body == "invalid value for \"symbols\" - must be \"none\", \"names\" or \"lines\"\n");
    }
  }
  Victim victim("lines_o2");
  CHECK(victim.get("/debug/pprof/profile?seconds=1&symbols=x").status == 400);
}

TEST_CASE("names come in the style that is asked for, inlined or not") {
  Victim victim("lines_o2", {}, kEverything);
  const struct {
    std::string style, inlined, physical;
  } styles[] = {{"", "shop::Shelf::put", "shop::fill"},
                {"templates", "shop::Shelf::put", "shop::fill"},
                {"full", "shop::Shelf::put(unsigned long)", "shop::fill()"},
                {"none", "_ZN4shop5Shelf3putEm", "_ZN4shop4fillEv"}};
  for (const auto& [style, inlined, physical] : styles) {
    CAPTURE(style);
    const Profile heap = victim.profile("/debug/pprof/heap?demangle=" + style);
    // Allocators are known in any style.
    CHECK(heap.total("inuse_space")
              .at(style == "none"   ? "_ZN4shop5Shelf9make_roomEm"
                  : style == "full" ? "shop::Shelf::make_room(unsigned long)"
                                    : "shop::Shelf::make_room") == 3000017);
    const std::vector<Sample> samples = heap.in(inlined);
    REQUIRE(samples.size() == 1);
    CHECK(samples.front().has(physical));
    for (const Frame& frame : samples.front().stack) {
      if (frame.name == inlined) CHECK(frame.system_name == "_ZN4shop5Shelf3putEm");
      if (frame.name == physical) CHECK(frame.system_name == "_ZN4shop4fillEv");
    }
  }
  for (const SnapshotKind& kind : kSnapshotKinds) {
    for (const char* more : {"", "&seconds=1", "&debug=1"}) {
      const Response answer = victim.get("/debug/pprof/" + kind.name + "?demangle=all" + more);
      CHECK(answer.status == 400);
      CHECK(answer.body == "invalid value for \"demangle\" - must be \"templates\", \"full\" or \"none\"\n");
    }
  }
}

TEST_CASE("the setting decides for requests that say nothing") {
  const auto files = [](Victim& victim, const std::string& query) {
    std::set<std::string> result;
    const Sample sample = victim.profile("/debug/pprof/goroutine" + query).in("main").front();
    for (const Frame& frame : sample.stack)
      if (!frame.file.empty()) result.insert(std::filesystem::path(frame.file).filename());
    return result;
  };
  Victim names("lines_o2", {}, {{"PROFAGENT_SYMBOLS", "names"}});
  CHECK(files(names, "").empty());
  CHECK(files(names, "?symbols=lines").count("lines.cc") == 1);

  Victim none("lines_o2", {}, {{"PROFAGENT_SYMBOLS", "none"}});
  CHECK(none.profile("/debug/pprof/goroutine").in("main").empty());
  CHECK(none.profile("/debug/pprof/goroutine?symbols=names").in("main").size() == 1);
  const std::uint64_t address =
      none.profile("/debug/pprof/goroutine?symbols=names").in("main").front().stack.back().address;
  CHECK(none.get("/debug/pprof/symbol?" + std::to_string(address)).body == "num_symbols: 1\n");

  Victim wrong("lines_o2", {}, {{"PROFAGENT_SYMBOLS", "full"}});
  CHECK(files(wrong, "").count("lines.cc") == 1);
  CHECK(wrong.get("/debug/pprof/config").body.find("\\\"full\\\" is not a valid value") != std::string::npos);
}

TEST_CASE("lines of a large profile cost the program less than 2 MiB more than names", "[E15]") {
  for (const bool is_fresh : {false, true}) {
    const Peaks names = peaks_of("names", is_fresh);
    const Peaks lines = peaks_of("lines", is_fresh);
    CAPTURE(is_fresh, names.first, lines.first, names.second, lines.second);
    CHECK(names.first > 0);
    CHECK(lines.first - names.first < 2048);
    CHECK(lines.second - names.second < 2048);
  }
}

TEST_CASE("a delta has lines, and subtracts as ever") {
  Victim victim("leak", {"--times", "3"}, kEverything);
  InBackground delta(victim, "/debug/pprof/heap?seconds=2");
  victim.command("other");
  const Profile heap = delta.profile();
  CHECK(heap.total("alloc_space").in("leaky") == 0);
  const std::vector<Sample> grown = heap.in("other_leak");
  REQUIRE(grown.size() == 1);
  CHECK(grown.front().values[1] == 1999993);
  CHECK(std::filesystem::path(grown.front().stack.front().file).filename() == "leak.c");
}
