#include "encoder/text.h"

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <string>
#include <vector>

namespace profagent::encoder {
namespace {

using Stack = std::vector<std::uint32_t>;

const std::vector<TextFrame> kFrames = {
    {0x401234, "ns::Pool::grow", 0x14, "/src/pool.h", 12, true},
    {0x401234, "ns::Pool::get", 0x14, "/src/pool.cc", 345, false},
    {0x7f0000001000, "", 0, "", 0, false},
    {0x402000, "main", 0, "/src/main.cc", 7, false},
    {0x403010, "stripped", 0x10, "", 0, false},
};

template <typename Text>
std::string written(void (*write)(const Text&, Sink&), const Text& text) {
  StringSink sink;
  write(text, sink);
  return sink.take();
}

std::string heap(const std::vector<HeapTextRecord>& records, std::string_view memory_map = {},
                 std::span<const TextStatistic> statistics = {}) {
  return written<HeapText>(write_heap_text, {kFrames, records, 524288, statistics, memory_map});
}

std::string first_line(const std::string& text) {
  return text.substr(0, text.find('\n'));
}

// The expected text is what Go's text/tabwriter makes of the same cells.
TEST_CASE("heap text: header, records by bytes in use, aligned stacks") {
  const Stack deep = {0, 1, 2, 3};
  const Stack empty;
  const std::vector<HeapTextRecord> records = {{3, 1024, 5, 5120, empty}, {3, 2048, 4, 4096, deep}};
  CHECK(heap(records) ==
        "heap profile: 6: 3072 [9: 9216] @ heap/1048576\n"
        "3: 2048 [4: 4096] @ 0x401235 0x7f0000001001 0x402001\n"
        "#\t0x401234\tns::Pool::grow+0x14\t/src/pool.h:12\n"
        "#\t0x401234\tns::Pool::get+0x14\t/src/pool.cc:345\n"
        "#\t0x7f0000001000\n"
        "#\t0x402000\tmain+0x0\t/src/main.cc:7\n"
        "\n"
        "3: 1024 [5: 5120] @\n"
        "\n");
}

TEST_CASE("columns are as wide as their widest cell, per run of known frames") {
  const std::vector<TextFrame> frames = {
      {0x1, "short", 0x1, "/a.c", 1, false},
      {0x7f0000001000, "sixteen_chr", 0x12, "/b.c", 2, false},    // one more than two tab stops hold
      {0x2, "\xc3\xa9t\xc3\xa9_15_chr", 0x12, "/c.c", 3, false},  // 15 characters, 17 bytes
      {0x7f0000002000, "", 0, "", 0, false},
      {0x3, "alone", 0x0, "/d.c", 4, false},
  };
  const Stack first = {0, 1};
  const Stack second = {0, 2, 3, 4};
  const std::vector<ContentionTextRecord> records = {{20, 2, first}, {10, 1, second}};
  CHECK(written<ContentionText>(write_contention_text,
                                {ContentionText::Kind::kBlock, 2793435664, 1, frames, records, {}}) ==
        "--- contention:\n"
        "cycles/second=2793435664\n"
        "20 2 @ 0x2 0x7f0000001001\n"
        "#\t0x1\t\tshort+0x1\t\t/a.c:1\n"
        "#\t0x7f0000001000\tsixteen_chr+0x12\t/b.c:2\n"
        "\n"
        "10 1 @ 0x2 0x3 0x7f0000002001 0x4\n"
        "#\t0x1\tshort+0x1\t/a.c:1\n"
        "#\t0x2\t\xc3\xa9t\xc3\xa9_15_chr+0x12\t/c.c:3\n"
        "#\t0x7f0000002000\n"
        "#\t0x3\talone+0x0\t/d.c:4\n"
        "\n");
}

TEST_CASE("an inlined frame has its line but no address of its own") {
  const Stack inlined = {0, 1};
  const std::vector<HeapTextRecord> records = {{1, 8, 1, 8, inlined}};
  const std::string text = heap(records);
  CHECK(text.find("@ 0x401235\n#\t0x401234\tns::Pool::grow") != std::string::npos);
}

TEST_CASE("a frame without line information keeps its column") {
  const Stack stripped = {4};
  const std::vector<HeapTextRecord> records = {{1, 8, 1, 8, stripped}};
  CHECK(heap(records).find("#\t0x403010\tstripped+0x10\t??:0\n") != std::string::npos);
}

TEST_CASE("clients always see four columns: equal totals are told apart by one") {
  CHECK(first_line(heap({{2, 64, 2, 64, {}}})) == "heap profile: 2: 64 [2: 65] @ heap/1048576");
  CHECK(first_line(heap({{2, 64, 3, 96, {}}})) == "heap profile: 2: 64 [3: 96] @ heap/1048576");
  CHECK(first_line(heap({})) == "heap profile: 0: 0 [0: 1] @ heap/1048576");
}

TEST_CASE("gperftools' form of the heap has the rate itself") {
  const HeapText text{
      .frames = kFrames, .records = {}, .rate = 524288, .statistics = {}, .memory_map = {}, .heap_v2 = true};
  CHECK(first_line(written<HeapText>(write_heap_text, text)) == "heap profile: 0: 0 [0: 1] @ heap_v2/524288");
}

TEST_CASE("bytes without objects, which clients refuse, are not shown") {
  CHECK(heap({{0, 64, 2, 128, {}}}) ==
        "heap profile: 0: 0 [2: 128] @ heap/1048576\n"
        "0: 0 [2: 128] @\n"
        "\n");
}

TEST_CASE("records with equal bytes in use come by allocated bytes") {
  const std::string text = heap({{1, 8, 1, 8, {}}, {1, 8, 9, 72, {}}, {1, 16, 1, 16, {}}});
  CHECK(text.find("1: 16 [") < text.find("1: 8 [9: 72]"));
  CHECK(text.find("1: 8 [9: 72]") < text.find("1: 8 [1: 8]"));
}

TEST_CASE("heap text ends with statistics and the memory map") {
  const std::array<TextStatistic, 2> statistics = {{{"Alloc", "17"}, {"MaxRSS", "4\n2"}}};
  CHECK(heap({}, "00400000-00500000 r-xp 00000000 08:01 7 /bin/app\n", statistics) ==
        "heap profile: 0: 0 [0: 1] @ heap/1048576\n"
        "\n"
        "# Alloc = 17\n"
        "# MaxRSS = 4\\x0a2\n"
        "\n"
        "--- Memory map: ---\n"
        "00400000-00500000 r-xp 00000000 08:01 7 /bin/app\n");
  CHECK(heap({}, "no newline at the end") ==
        "heap profile: 0: 0 [0: 1] @ heap/1048576\n\n--- Memory map: ---\nno newline at the end\n");
}

TEST_CASE("no name can break a line, and no line is too long for clients") {
  const std::vector<TextFrame> frames = {{0x10, "evil\n1: 1 [1: 1] @ 0x1\t\xff", 1, "/a\n.c", 1, false},
                                         {0x20, std::string_view(), 0, "", 0, false}};
  const std::string long_name(100'000, 'n');
  std::vector<TextFrame> long_frames = {{0x10, long_name, 1, long_name, 1, false}};
  const Stack stack = {0};
  const std::vector<HeapTextRecord> records = {{1, 8, 1, 8, stack}};
  CHECK(written<HeapText>(write_heap_text, {frames, records, 1, {}, {}}) ==
        "heap profile: 1: 8 [1: 9] @ heap/2\n"
        "1: 8 [1: 8] @ 0x11\n"
        "#\t0x10\tevil\\x0a1: 1 [1: 1] @ 0x1\\x09\\xff+0x1\t/a\\x0a.c:1\n"
        "\n");
  const std::string text = written<HeapText>(write_heap_text, {long_frames, records, 1, {}, {}});
  std::size_t longest = 0;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = text.find('\n', begin);
    longest = std::max(longest, end - begin);
    begin = end + 1;
  }
  CHECK(longest > 8192);
  CHECK(longest < 9000);
}

TEST_CASE("count text joins like records and orders by count, then by address and labels") {
  const Stack main_stack = {3};
  const Stack inlined = {0, 1, 3};
  const Stack empty;
  const std::array<TextLabel, 2> labels = {{{"tenant", "a\"b"}, {"handler", "bu\\rn\x01\n\xc3\xa9\xff"}}};
  const std::vector<CountTextRecord> records = {
      {1, main_stack, labels}, {1, empty, {}},   {1, inlined, {}},
      {2, main_stack, {}},     {3, inlined, {}}, {1, main_stack, labels},
  };
  CHECK(written<CountText>(write_count_text, {"goroutine", kFrames, records, {}}) ==
        "goroutine profile: total 9\n"
        "4 @ 0x401235 0x402001\n"
        "#\t0x401234\tns::Pool::grow+0x14\t/src/pool.h:12\n"
        "#\t0x401234\tns::Pool::get+0x14\t/src/pool.cc:345\n"
        "#\t0x402000\tmain+0x0\t\t/src/main.cc:7\n"
        "\n"
        "2 @ 0x402001\n"
        "#\t0x402000\tmain+0x0\t/src/main.cc:7\n"
        "\n"
        "2 @ 0x402001\n"
        "# labels: {\"handler\":\"bu\\\\rn\\x01\\n\xc3\xa9\\xff\", \"tenant\":\"a\\\"b\"}\n"
        "#\t0x402000\tmain+0x0\t/src/main.cc:7\n"
        "\n"
        "1 @ 0x0\n"
        "\n");
}

TEST_CASE("an empty count profile is its header") {
  CHECK(written<CountText>(write_count_text, {"threadcreate", {}, {}, {}}) ==
        "threadcreate profile: total 0\n");
}

TEST_CASE("mutex text tells its sampling period; contention records come by cycles") {
  const Stack main_stack = {3};
  const Stack empty;
  const std::vector<ContentionTextRecord> records = {{5, 1, empty}, {50, 2, main_stack}};
  CHECK(written<ContentionText>(write_contention_text, {ContentionText::Kind::kMutex, 1'000'000'000, 1,
                                                        kFrames, records, "7f-80 r-xp 0 0:0 0 x\n"}) ==
        "--- mutex:\n"
        "cycles/second=1000000000\n"
        "sampling period=1\n"
        "50 2 @ 0x402001\n"
        "#\t0x402000\tmain+0x0\t/src/main.cc:7\n"
        "\n"
        "5 1 @ 0x0\n"
        "\n"
        "\n"
        "--- Memory map: ---\n"
        "7f-80 r-xp 0 0:0 0 x\n");
}

TEST_CASE("long text comes in pieces of bounded size") {
  class Pieces final : public Sink {
   public:
    void write(std::string_view bytes) override {
      largest = std::max(largest, bytes.size());
      total += bytes.size();
    }
    std::size_t largest = 0;
    std::size_t total = 0;
  };
  const Stack stack = {0, 1, 2, 3};
  const std::vector<HeapTextRecord> records(10'000, HeapTextRecord{1, 8, 1, 8, stack});
  Pieces pieces;
  write_heap_text({kFrames, records, 524288, {}, {}}, pieces);
  CHECK(pieces.total > 1'000'000);
  CHECK(pieces.largest < 20'000);
}

}  // namespace
}  // namespace profagent::encoder
