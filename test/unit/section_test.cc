// When is a thread inside the agent, and when has a jump taken it out again?
#include "agent/safe/thread_state.h"

#include <csetjmp>
#include <csignal>

#include <sys/mman.h>
#include <catch2/catch.hpp>

namespace profagent::safe {
namespace {

sigjmp_buf before;

[[gnu::noinline]] void leave_by_jump(bool jump) {
  const Section section;
  if (jump) siglongjmp(before, 1);
}

[[gnu::noinline]] bool is_nested() {
  return !Section().is_outermost();
}

std::uintptr_t address_of(const void* at) {
  return reinterpret_cast<std::uintptr_t>(at);
}

bool on_alternate_stack_is_nested = false;

void on_signal(int) {
  on_alternate_stack_is_nested = is_nested();
}

}  // namespace

TEST_CASE("inside a section another one is nested, and afterwards not") {
  {
    const Section section;
    CHECK(section.is_outermost());
    CHECK(is_nested());
    CHECK(is_nested());
  }
  CHECK_FALSE(is_nested());
  leave_by_jump(false);
  CHECK(thread_state.section == 0);
}

TEST_CASE("a section that was left by a jump is closed by the next one", "[B6]") {
  if (sigsetjmp(before, 1) == 0) leave_by_jump(true);
  REQUIRE(thread_state.section != 0);
  thread_state.is_composed = true;
  SECTION("further out") {
    CHECK(Section().is_outermost());
  }
  SECTION("in the same place") {
    CHECK(Section(thread_state.section).is_outermost());
  }
  CHECK(thread_state.section == 0);
  CHECK_FALSE(thread_state.is_composed);
}

TEST_CASE("what is further in, far away or on another stack does not close a section", "[B6]") {
  constexpr std::size_t kPage = 4096;
  constexpr std::size_t kPages = 64;
  auto* pages = static_cast<char*>(
      mmap(nullptr, kPages * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  REQUIRE(pages != MAP_FAILED);
  const std::uintptr_t open = address_of(pages) + kPage + 64;
  const Section section(open);
  REQUIRE(section.is_outermost());
  CHECK_FALSE(Section(open - 16).is_outermost());
  CHECK_FALSE(Section(open + 32 * kPage).is_outermost());
  mprotect(pages + 3 * kPage, kPage, PROT_NONE);
  CHECK_FALSE(Section(open + 4 * kPage).is_outermost());
  // An alternate stack, on which this thread is not.
  stack_t alternate = {};
  alternate.ss_sp = pages + 8 * kPage;
  alternate.ss_size = 8 * kPage;
  stack_t was = {};
  REQUIRE(sigaltstack(&alternate, &was) == 0);
  thread_state.section = address_of(pages) + 9 * kPage;
  CHECK_FALSE(Section(address_of(pages) + 10 * kPage).is_outermost());
  thread_state.section = open;
  was.ss_flags |= was.ss_size == 0 ? SS_DISABLE : 0;
  REQUIRE(sigaltstack(&was, nullptr) == 0);
  CHECK(Section(open + kPage).is_outermost());
  munmap(pages, kPages * kPage);
}

TEST_CASE("a handler on an alternate stack is nested, though its stack lies further out", "[B6]") {
  alignas(16) char stack[32768];
  stack_t alternate = {};
  alternate.ss_sp = stack;
  alternate.ss_size = sizeof(stack);
  stack_t was = {};
  REQUIRE(sigaltstack(&alternate, &was) == 0);
  struct sigaction action = {};
  struct sigaction old = {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_ONSTACK;
  sigaction(SIGUSR1, &action, &old);
  {
    const Section section(address_of(__builtin_frame_address(0)) - sizeof(stack) - 2048);
    REQUIRE(section.is_outermost());
    raise(SIGUSR1);
  }
  sigaction(SIGUSR1, &old, nullptr);
  was.ss_flags |= was.ss_size == 0 ? SS_DISABLE : 0;
  sigaltstack(&was, nullptr);
  CHECK(on_alternate_stack_is_nested);
}

}  // namespace profagent::safe
