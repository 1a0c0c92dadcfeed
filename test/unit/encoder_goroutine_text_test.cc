#include "encoder/goroutine_text.h"

#include <string>
#include <vector>

#include <catch2/catch.hpp>

namespace profagent::encoder {
namespace {

TEST_CASE("the dump of all threads", "[G05]") {
  std::vector<TextFrame> frames(4);
  frames[0].function = "pthread_mutex_lock";
  frames[0].file = "/lib/libc.so.6";
  frames[0].offset = 0x4d;
  frames[1].function = "shop::buy(int)";
  frames[1].file = "shop.cc";
  frames[1].line = 17;
  frames[2].pc = 0x1234;
  frames[3].function = "new\nline";
  const std::uint32_t locked[] = {0, 1};
  const std::uint32_t unknown[] = {2, 3};
  const GoroutineTextRecord records[] = {
      {.id = 4711, .state = "sync.Mutex.Lock", .minutes = 3, .stack = locked, .frame = 0, .argument = 0xbeef},
      {.id = 4712, .state = "running", .stack = unknown}};
  const std::string notes[] = {"4711 \"a\nb\": mutex 0xbeef"};
  StringSink sink;
  write_goroutine_text({.frames = frames, .records = records, .notes = notes}, sink);
  CHECK(sink.take() ==
        "goroutine 4711 [sync.Mutex.Lock, 3 minutes]:\n"
        "pthread_mutex_lock(0xbeef)\n"
        "\t/lib/libc.so.6:0 +0x4d\n"
        "shop::buy(int)(...)\n"
        "\tshop.cc:17 +0x0\n"
        "\n"
        "goroutine 4712 [running]:\n"
        "0x1234(...)\n"
        "\t??:0 +0x0\n"
        "new\\x0aline(...)\n"
        "\t??:0 +0x0\n"
        "\n"
        "# 4711 \"a\\x0ab\": mutex 0xbeef\n");
}

}  // namespace
}  // namespace profagent::encoder
