#include "agent/service/maps.h"

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include <sys/sysmacros.h>
#include <unistd.h>
#include <catch2/catch.hpp>

using namespace profagent::service;

namespace {

// "start limit offset path" of every executable line.
std::vector<std::string> executable_lines(const std::string& text) {
  std::vector<std::string> lines;
  parse_maps(text, [&](const Mapping& mapping) {
    if (!mapping.executable) return;
    char numbers[80];
    std::snprintf(numbers, sizeof numbers, "%lx %lx %lx ", mapping.start, mapping.limit, mapping.offset);
    lines.push_back(numbers + std::string(mapping.path));
  });
  return lines;
}

class TextFile {
 public:
  explicit TextFile(const std::string& text) {
    const int descriptor = mkstemp(path_.data());
    REQUIRE(descriptor >= 0);
    REQUIRE(write(descriptor, text.data(), text.size()) == static_cast<ssize_t>(text.size()));
    close(descriptor);
  }
  ~TextFile() { unlink(path_.c_str()); }
  TextFile(const TextFile&) = delete;
  TextFile& operator=(const TextFile&) = delete;
  [[nodiscard]] const char* path() const { return path_.c_str(); }

 private:
  std::string path_ = "/tmp/maps_test_XXXXXX";
};

}  // namespace

TEST_CASE("an ordinary process", "[V07]") {
  CHECK(executable_lines(
            "00400000-0040b000 r-xp 00000000 fe:01 787766                             /usr/bin/tool\n"
            "0060a000-0060b000 r--p 0000a000 fe:01 787766                             /usr/bin/tool\n"
            "014ab000-014cc000 rw-p 00000000 00:00 0                                  [heap]\n"
            "7f7d7797c000-7f7d77b36000 r-xp 00001000 fe:01 1180226                    /lib/libc-2.19.so\n"
            "7f7d77b36000-7f7d77d36000 ---p 001ba000 fe:01 1180226                    /lib/libc-2.19.so\n"
            "7f7d77d3c000-7f7d77d41000 rw-p 00000000 00:00 0 \n"
            "7ffc34343000-7ffc34345000 r-xp 00000000 00:00 0                          [vdso]\n"
            "ffffffffff600000-ffffffffff601000 --xp 00000090 00:00 0                  [vsyscall]\n") ==
        std::vector<std::string>{
            "400000 40b000 0 /usr/bin/tool", "7f7d7797c000 7f7d77b36000 1000 /lib/libc-2.19.so",
            "7ffc34343000 7ffc34345000 0 [vdso]", "ffffffffff600000 ffffffffff601000 90 [vsyscall]"});
}

TEST_CASE("paths with blanks, newlines and the kernel's note that they are deleted", "[V07]") {
  CHECK(executable_lines("1000-2000 r-xp 00000000 fe:01 1    /bin/a tool with blanks\n"
                         "2000-3000 r-xp 00000000 fe:01 2    /bin/gone (deleted)\n"
                         "3000-4000 r-xp 00000000 fe:01 3    /bin/two blanks  (deleted)\n"
                         "4000-5000 r-xp 00000000 fe:01 4    /bin/new\\012line\\012s\n"
                         "5000-6000 r-xp 00000000 fe:01 5    /bin/(deleted)\n") ==
        std::vector<std::string>{"1000 2000 0 /bin/a tool with blanks", "2000 3000 0 /bin/gone",
                                 "3000 4000 0 /bin/two blanks ", "4000 5000 0 /bin/new\nline\ns",
                                 "5000 6000 0 /bin/(deleted)"});
}

TEST_CASE("text moved to huge pages and other code without a name", "[V07]") {
  CHECK(executable_lines(
            "00400000-07000000 r-xp 00000000 00:00 0 \n"
            "07000000-07093000 r-xp 06c00000 00:2e 536754                             /path/to/server\n"
            "7f0000000000-7f0000200000 rwxp 00000000 00:00 0\n"
            "7f0000200000-7f0000400000 r-xp 00000000 00:0f 99      /anon_hugepage (deleted)\n") ==
        std::vector<std::string>{"400000 7000000 0 ", "7000000 7093000 6c00000 /path/to/server",
                                 "7f0000000000 7f0000200000 0 ",
                                 "7f0000200000 7f0000400000 0 /anon_hugepage"});
}

TEST_CASE("all fields of a line") {
  Mapping mapping;
  std::string scratch;
  REQUIRE(parse_maps_line("7f00-8f00 r-xs 0000a000 1f:10 12345678901   /x (deleted)", mapping, scratch));
  CHECK(mapping.start == 0x7f00);
  CHECK(mapping.limit == 0x8f00);
  CHECK(mapping.offset == 0xa000);
  CHECK(mapping.device == makedev(0x1f, 0x10));
  CHECK(mapping.inode == 12345678901);
  CHECK(mapping.readable);
  CHECK(mapping.executable);
  CHECK(mapping.deleted);
  CHECK(mapping.path == "/x");
  REQUIRE(parse_maps_line("7f00-8f00 ---p 0000a000 00:00 0", mapping, scratch));
  CHECK_FALSE(mapping.readable);
  CHECK_FALSE(mapping.executable);
  CHECK_FALSE(mapping.deleted);
  CHECK(mapping.path.empty());
}

TEST_CASE("what is not a line of maps is left out") {
  Mapping mapping;
  std::string scratch;
  const std::string good = "1000-2000 r-xp 00000000 fe:01 7 /x";
  REQUIRE(parse_maps_line(good, mapping, scratch));
  for (std::size_t length = 0; length < good.size() - 4; ++length) {
    INFO(length);
    CHECK_FALSE(parse_maps_line(good.substr(0, length), mapping, scratch));
  }
  CHECK_FALSE(parse_maps_line("2000-1000 r-xp 00000000 fe:01 7 /x", mapping, scratch));
  CHECK_FALSE(parse_maps_line("1000-2000 r-xpp 0000000 fe:01 7 /x", mapping, scratch));
  CHECK_FALSE(parse_maps_line("1000-2000 r-xp 00000000 fe:01 7x /x", mapping, scratch));
  CHECK_FALSE(parse_maps_line("11111111111111111-2000 r-xp 00000000 fe:01 7 /x", mapping, scratch));
}

TEST_CASE("a file of any size is read, whatever its lines' lengths") {
  std::string text;
  constexpr int kLines = 20'000;
  for (int i = 1; i <= kLines; ++i) {
    char line[80];
    std::snprintf(line, sizeof line, "%x000-%x800 r-xp 00000000 fe:01 7    /", i, i);
    text += line + std::string(static_cast<std::size_t>(i % 97), 'p') + "\n";
  }
  // Longer than the reader's buffer: dropped, and only it.
  text += "1-2 r-xp 00000000 fe:01 7 /" + std::string(200'000, 'q') + "\n";
  text += "ff0000-ff1000 r-xp 00000000 fe:01 7 /last without newline";
  const TextFile file(text);
  int lines = 0;
  std::string last;
  REQUIRE(read_maps(
      [&](const Mapping& mapping) {
        ++lines;
        if (mapping.path != "/last without newline") {
          CHECK(mapping.start == static_cast<std::uintptr_t>(lines) * 0x1000);
          CHECK(mapping.path.size() == static_cast<std::size_t>(lines % 97) + 1);
        }
        last = mapping.path;
      },
      file.path()));
  CHECK(lines == kLines + 1);
  CHECK(last == "/last without newline");
}

TEST_CASE("our own maps hold this function; a missing or empty file is no maps") {
  const auto here = reinterpret_cast<std::uintptr_t>(&executable_lines);
  int holding = 0;
  REQUIRE(read_maps([&](const Mapping& mapping) {
    holding += mapping.executable && mapping.start <= here && here < mapping.limit;
  }));
  CHECK(holding == 1);
  CHECK_FALSE(read_maps([](const Mapping&) {}, "/nonexistent/maps"));
  CHECK_FALSE(read_maps([](const Mapping&) {}, "/dev/null"));
}
