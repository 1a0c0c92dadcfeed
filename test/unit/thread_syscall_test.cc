#include "agent/service/thread_syscall.h"

#include <string>

#include <sys/syscall.h>
#include <catch2/catch.hpp>

namespace profagent::service {
namespace {

TEST_CASE("where a thread is blocked") {
  const auto at = parse_syscall("202 0x7f0a 0x189 0x0 0x0 0x0 0xffffffff 0x7ffc45f6920 0x7f343b258503\n");
  REQUIRE(at);
  CHECK(at->number == SYS_futex);
  CHECK(at->argument == 0x7f0a);
  CHECK(at->sp == 0x7ffc45f6920);
  CHECK(at->pc == 0x7f343b258503);
}

TEST_CASE("a thread that is blocked outside of a system call, or has ended") {
  const auto fault = parse_syscall("-1 0x7ffc45f6920 0x7f343b258503\n");
  REQUIRE(fault);
  CHECK(fault->number == -1);
  CHECK(fault->sp == 0x7ffc45f6920);
  CHECK(fault->pc == 0x7f343b258503);
  const auto ended = parse_syscall("-1 0x0 0x0\n");
  REQUIRE(ended);
  CHECK(ended->sp == 0);
}

TEST_CASE("what is no place") {
  const std::string whole = "0 0x3 0x7ffe 0x1 0x0 0x0 0x0 0x7ffc45f6920 0x7f343b258503\n";
  CHECK(parse_syscall(whole));
  CHECK_FALSE(parse_syscall(kRunningLine));
  CHECK_FALSE(parse_syscall(""));
  CHECK_FALSE(parse_syscall("0\n"));
  CHECK_FALSE(parse_syscall("0x"));
  // Cut anywhere but in the last number.
  for (std::size_t length = 0; length <= whole.rfind(' ') + 1; ++length) {
    CAPTURE(length);
    CHECK_FALSE(parse_syscall(whole.substr(0, length)));
  }
}

TEST_CASE("why a thread is in a system call") {
  CHECK(wait_kind_of(SYS_futex) == safe::WaitKind::kFutex);
  CHECK(wait_kind_of(SYS_write) == safe::WaitKind::kIo);
  CHECK(wait_kind_of(SYS_epoll_wait) == safe::WaitKind::kIo);
  CHECK(wait_kind_of(SYS_clock_nanosleep) == safe::WaitKind::kSleep);
  CHECK(wait_kind_of(SYS_vfork) == safe::WaitKind::kNone);
  CHECK(wait_kind_of(-1) == safe::WaitKind::kNone);
  CHECK(is_select(SYS_poll));
  CHECK_FALSE(is_select(SYS_read));
}

}  // namespace
}  // namespace profagent::service
