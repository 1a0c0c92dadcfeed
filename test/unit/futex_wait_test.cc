#include "agent/service/futex_wait.h"

#include <catch2/catch.hpp>
#include <string>

namespace profagent::service {
namespace {

std::string line(const std::string& operation, const std::string& timeout) {
  return "202 0x5581d0 " + operation + " 0x2 " + timeout + " 0x0 0xffffffff 0x7ffe910ce8f0 0x7f0726f79503\n";
}

TEST_CASE("a thread that waits for a futex") {
  const auto wait = parse_futex_wait(line("0x80", "0x0"));
  REQUIRE(wait);
  CHECK(wait->address == 0x5581d0);
  CHECK(wait->value == 2);
  CHECK_FALSE(wait->is_timed);
  CHECK(wait->sp == 0x7ffe910ce8f0);
  CHECK(wait->pc == 0x7f0726f79503);
  CHECK(parse_futex_wait(line("0x80", "0x7ffe910ce8f0"))->is_timed);
}

TEST_CASE("only operations that wait count, with and without flags") {
  for (const char* operation : {"0x0", "0x80", "0x9", "0x89", "0x109", "0x189", "0x6", "0x86", "0xd", "0x8d"})
    CHECK(parse_futex_wait(line(operation, "0x0")).has_value());
  for (const char* operation : {"0x1", "0x81", "0x3", "0x84", "0x87", "0xb"})
    CHECK_FALSE(parse_futex_wait(line(operation, "0x0")).has_value());
}

TEST_CASE("threads that run, are in another call, or nowhere") {
  CHECK_FALSE(parse_futex_wait("running\n"));
  CHECK_FALSE(parse_futex_wait(""));
  CHECK_FALSE(parse_futex_wait("-1 0x7ffe910ce8f0 0x7f0726f79503\n"));
  CHECK_FALSE(parse_futex_wait("0 0x0 0x80 0x2 0x0 0x0 0x0 0x7ffe910ce8f0 0x7f0726f79503\n"));
  CHECK_FALSE(parse_futex_wait("2020 0x0 0x80 0x2 0x0 0x0 0x0 0x7ffe910ce8f0 0x7f0726f79503\n"));
}

TEST_CASE("a line that is cut is no wait") {
  const std::string whole = line("0x80", "0x0");
  for (std::size_t size = 0; size < whole.rfind("0x"); ++size)
    CHECK_FALSE(parse_futex_wait(std::string_view(whole).substr(0, size)).has_value());
}

}  // namespace
}  // namespace profagent::service
