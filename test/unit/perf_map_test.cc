#include "agent/service/perf_map.h"

#include <ctime>
#include <sstream>
#include <string>
#include <vector>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <catch2/catch.hpp>

#include "agent/service/process_start.h"
#include "agent/service/stacks.h"
#include "test/support/temp_dir.h"

using namespace profagent::service;
using profagent::test::TempDir;
using profagent::test::write_text;

namespace {

BufferBytes bytes_of(const std::string& text) {
  const auto bytes = std::as_bytes(std::span(text));
  return BufferBytes(std::vector(bytes.begin(), bytes.end()));
}

// "start limit name" of each line, in the order in which they are visited.
std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  read_perf_map(bytes_of(text), text.size(), [&](const PerfMapLine& line) {
    lines.push_back(std::to_string(line.start) + " " + std::to_string(line.limit) + " " +
                    std::string(line.name));
    return true;
  });
  return lines;
}

// What names `pc` in a map of this text; empty when nothing does.
std::string name_in(const std::string& text, std::uintptr_t pc) {
  const TempDir dir;
  write_text(dir.file("map"), text);
  PerfMap map(dir.file("map"));
  const std::vector<PerfMap::Function> functions = map.find(std::vector{pc});
  REQUIRE(functions.size() == 1);
  return functions[0].symbol ? functions[0].symbol->name : std::string();
}

}  // namespace

TEST_CASE("lines of node, java and python") {
  CHECK(lines_of("7f10 20 LazyCompile:*hot /srv/app.js:3:14\n") ==
        std::vector<std::string>{"32528 32560 LazyCompile:*hot /srv/app.js:3:14"});
  CHECK(lines_of("0x0000000000007f10 0x20 int Hot.spin(int)\n") ==
        std::vector<std::string>{"32528 32560 int Hot.spin(int)"});
  CHECK(lines_of("7F10 b py::hot:/srv/app.py\n") ==
        std::vector<std::string>{"32528 32539 py::hot:/srv/app.py"});
}

TEST_CASE("what is no line of a map is passed over") {
  for (const std::string line :
       {"", " ", "10", "10 20", "10 20 ", "10  ", "xyz 20 name", "10 xyz name", "-10 20 name", "10 -20 name",
        "10 0 nothing", "0x 20 name", "10\t20\tname", "1ffffffffffffffff 1 name", "10 1ffffffffffffffff name",
        "ffffffffffffffff 2 beyond"}) {
    CAPTURE(line);
    CHECK(lines_of("10 1 before\n" + line + "\n20 1 behind\n") ==
          std::vector<std::string>{"32 33 behind", "16 17 before"});
  }
}

TEST_CASE("a line that is still being written has no name yet") {
  CHECK(lines_of("10 1 whole\n20 1 hal") == std::vector<std::string>{"16 17 whole"});
  CHECK(lines_of("20 1 hal").empty());
  CHECK(lines_of("\n\n").empty());
}

TEST_CASE("lines may lie anywhere in the pieces that are read") {
  // Each is a little longer than the one before, so that ends come to stand at every place near a border.
  std::string text;
  std::vector<std::string> expected;
  for (std::size_t i = 1; text.size() < 300'000; ++i) {
    const std::string name(i, static_cast<char>('a' + i % 26));
    text += "10 1 " + name + "\n";
    expected.insert(expected.begin(), "16 17 " + name);
  }
  CHECK(lines_of(text) == expected);
}

TEST_CASE("an endless line is cut, and costs no other its name") {
  const std::vector<std::string> lines =
      lines_of("10 1 before\n20 1 " + std::string(1'000'000, 'x') + "\n30 1 behind\n");
  REQUIRE(lines.size() == 3);
  CHECK(lines[0] == "48 49 behind");
  CHECK(lines[1] == "32 33 " + std::string(kLongestPerfMapLine - 5, 'x'));
  CHECK(lines[2] == "16 17 before");
}

TEST_CASE("of a map that has grown too long the end counts") {
  const TempDir dir;
  const std::string filler = "1000 1 " + std::string(1016, 'x') + "\n";
  std::string text = "10 1 forgotten\n20 1 forgotten too\n";
  while (text.size() < kLongestPerfMap) text += filler;
  text += "30 1 kept\n";
  CHECK(name_in(text, 0x10).empty());
  CHECK(name_in(text, 0x20).empty());
  CHECK(name_in(text, 0x30) == "kept");
}

TEST_CASE("later lines win where they cover earlier ones") {
  const std::string text =
      "100 100 old\n"
      "180 100 newer\n"
      "140 10 inside\n"
      "300 10 first\n"
      "300 10 second\n";
  CHECK(name_in(text, 0xff).empty());
  CHECK(name_in(text, 0x100) == "old");
  CHECK(name_in(text, 0x13f) == "old");
  CHECK(name_in(text, 0x140) == "inside");
  CHECK(name_in(text, 0x14f) == "inside");
  CHECK(name_in(text, 0x150) == "old");
  CHECK(name_in(text, 0x17f) == "old");
  CHECK(name_in(text, 0x180) == "newer");
  CHECK(name_in(text, 0x27f) == "newer");
  CHECK(name_in(text, 0x280).empty());
  CHECK(name_in(text, 0x300) == "second");
}

TEST_CASE("many lines over many addresses") {
  // Quadratic work would take minutes.
  std::string text;
  for (int i = 0; i < 200'000; ++i) text += "0 10000 all\n";
  const TempDir dir;
  write_text(dir.file("map"), text + "0 8000 half\n");
  std::vector<std::uintptr_t> pcs;
  for (std::uintptr_t pc = 0xffff; pc != 0; --pc) pcs.push_back(pc);
  const std::uintptr_t nowhere = 0x10000;  // so that all lines are read
  pcs.push_back(nowhere);
  PerfMap map(dir.file("map"));
  const std::vector<PerfMap::Function> functions = map.find(pcs);
  for (std::size_t i = 0; i < pcs.size(); ++i) {
    if (pcs[i] == nowhere) continue;
    REQUIRE(functions[i].symbol != nullptr);
    REQUIRE(functions[i].symbol->name == (pcs[i] < 0x8000 ? "half" : "all"));
  }
}

TEST_CASE("names are demangled when they are mangled, else they are as they came") {
  CHECK(name_in("10 1 _ZN2ns6Worker3runEv\n", 0x10) == "ns::Worker::run");
  CHECK(name_in("10 1 Ljava/lang/Object;::run<int>(x) [tier 4]\n", 0x10) ==
        "Ljava/lang/Object;::run<int>(x) [tier 4]");
  CHECK(name_in(std::string("10 1 \xff\x01\0\x1b[2J\n", 14), 0x10) == std::string("\xff\x01\0\x1b[2J", 7));
}

TEST_CASE("the map is read again only when it has changed or more is asked") {
  const TempDir dir;
  const std::string path = dir.file("map");
  PerfMap map(path);
  const auto name_of = [&](std::uintptr_t pc) {
    const auto function = map.find(std::vector{pc, pc})[1];
    return function.symbol ? function.symbol->name : std::string("-");
  };
  CHECK(map.find({}).empty());
  CHECK(name_of(0x10) == "-");
  write_text(path, "10 8 one\n");
  CHECK(name_of(0x12) == "one");
  CHECK(name_of(0x18) == "-");
  const std::uint64_t reads = map.reads();
  CHECK(name_of(0x12) == "one");
  CHECK(name_of(0x18) == "-");
  CHECK(map.reads() == reads);
  CHECK(name_of(0x13) == "one");
  CHECK(map.reads() == reads + 1);
  write_text(path, "10 8 one\n10 8 another\n18 8 two\n");
  CHECK(name_of(0x12) == "another");
  CHECK(name_of(0x18) == "two");
  REQUIRE(unlink(path.c_str()) == 0);
  CHECK(name_of(0x12) == "-");
}

TEST_CASE("a map that was written before this process began is another's") {
  const TempDir dir;
  const std::string path = dir.file("map");
  PerfMap map(path);
  const auto is_believed = [&] { return map.find(std::vector<std::uintptr_t>{0x10})[0].symbol != nullptr; };
  const auto begin = process_start();
  REQUIRE(begin);
  const auto date = [&](std::int64_t nanos) {
    constexpr std::int64_t kNanosPerSecond = 1'000'000'000;
    const timespec time = {.tv_sec = nanos / kNanosPerSecond, .tv_nsec = nanos % kNanosPerSecond};
    const timespec times[] = {time, time};
    REQUIRE(utimensat(AT_FDCWD, path.c_str(), times, 0) == 0);
  };
  write_text(path, "10 8 one\n");
  CHECK(is_believed());
  CHECK(map.problem().empty());
  date(*begin - 10'000'000'000);
  CHECK_FALSE(is_believed());
  CHECK(map.problem() ==
        "No names of code that was made at run time: " + path + " is older than this process.");
  // Nobody has asked.
  CHECK(map.find({}).empty());
  CHECK(map.problem().empty());
  // As coarse as file systems are.
  date(*begin - 1'000'000'000);
  CHECK(is_believed());
  CHECK(map.problem().empty());
}

TEST_CASE("a profile says that the map is another's") {
  const std::string path = "/tmp/perf-" + std::to_string(getpid()) + ".map";
  void* const code = mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  REQUIRE(code != MAP_FAILED);
  const auto pc = reinterpret_cast<std::uintptr_t>(code) + 8;
  std::ostringstream line;
  line << std::hex << pc << " 8 made_at_run_time\n";
  write_text(path, line.str());
  SymbolSources sources{.symbolizer = Symbolizer("/nonexistent"), .source_lines = SourceLines()};
  StackPool stacks;
  stacks.add({&pc, 1});
  const auto name_and_comments = [&] {
    constexpr profagent::encoder::TypeAndUnit kTypes[] = {{"samples", "count"}};
    const ReadableStacks readable(sources, {.detail = SymbolDetail::kNames}, stacks);
    profagent::encoder::Profile profile(kTypes);
    static_cast<void>(readable.describe(profile));
    std::string text = readable.frames().back().resolved.symbol->name;
    for (const auto comment : profile.comments()) text += "\n" + std::string(profile.text(comment));
    return text;
  };
  CHECK(name_and_comments() == "made_at_run_time");
  const timespec long_ago[] = {{.tv_sec = 1, .tv_nsec = 0}, {.tv_sec = 1, .tv_nsec = 0}};
  CHECK(utimensat(AT_FDCWD, path.c_str(), long_ago, 0) == 0);
  CHECK(name_and_comments() ==
        "[jit]\nNo names of code that was made at run time: " + path + " is older than this process.");
  CHECK(unlink(path.c_str()) == 0);
  munmap(code, 4096);
}

TEST_CASE("the begin of a process is found behind whatever it is called") {
  const std::string behind = " S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 12345 20 21\n";
  CHECK(parse_start_ticks("77 (cat)" + behind) == 12345);
  CHECK(parse_start_ticks("77 (a b) R 0 (c))" + behind) == 12345);
  for (const std::string text : {"", "77", "77 (cat)", "77 (cat) S 1 2 3", "77 (cat)"})
    CHECK(!parse_start_ticks(text));
  std::string no_number = "77 (cat)" + behind;
  no_number.replace(no_number.find("12345"), 5, "x");
  CHECK(!parse_start_ticks(no_number));
}

TEST_CASE("this process began before now, and after the machine") {
  const auto begin = process_start();
  REQUIRE(begin);
  timespec now = {};
  clock_gettime(CLOCK_REALTIME, &now);
  timespec up = {};
  clock_gettime(CLOCK_BOOTTIME, &up);
  const auto seconds = *begin / 1'000'000'000;
  CHECK(seconds <= now.tv_sec);
  CHECK(seconds >= now.tv_sec - up.tv_sec - 1);
}

TEST_CASE("only a regular file of ours or root's is believed") {
  const TempDir dir;
  const std::string path = dir.file("map");
  PerfMap map(path);
  const auto is_believed = [&] { return map.find(std::vector<std::uintptr_t>{0x10})[0].symbol != nullptr; };
  write_text(dir.file("real"), "10 8 one\n");
  REQUIRE(symlink(dir.file("real").c_str(), path.c_str()) == 0);
  CHECK_FALSE(is_believed());
  REQUIRE(unlink(path.c_str()) == 0);
  REQUIRE(mkfifo(path.c_str(), 0600) == 0);
  CHECK_FALSE(is_believed());
  REQUIRE(unlink(path.c_str()) == 0);
  REQUIRE(mkdir(path.c_str(), 0700) == 0);
  CHECK_FALSE(is_believed());
  REQUIRE(rmdir(path.c_str()) == 0);
  write_text(path, "10 8 one\n");
  CHECK(is_believed());
  if (geteuid() != 0) return;
  REQUIRE(chown(path.c_str(), 65534, 65534) == 0);
  CHECK_FALSE(is_believed());
}
