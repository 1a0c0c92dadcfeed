// walk_outside() on threads that stand still, against what capture_stack() says on the thread itself.
#include "agent/safe/outside_walk.h"

#include <atomic>
#include <cstdio>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <catch2/catch.hpp>

#include "agent/safe/sys.h"

namespace profagent::safe {
namespace {

// A thread that goes down some frames, captures its own stack, and then reads from a pipe.
struct Stander {
  bool has_frame_pointer = false;  // of the function that reads
  int ends[2] = {-1, -1};
  std::atomic<pid_t> tid{0};
  Pc pcs[kMaxStackDepth] = {};
  std::uint32_t depth = 0;
  StartFrame caller;  // of stand()
};

[[gnu::always_inline]] inline void read_for_ever(Stander& stander) {
  static char byte;
  stander.tid = sys::gettid();
  while (read(stander.ends[0], &byte, 1) < 0) {
  }
  asm volatile("");
}

// As a hook: it knows its caller, and its CFA is in rbp.
[[gnu::noinline]] void stand(Stander& stander) {
  stander.caller = caller_frame();
  stander.depth = capture_stack(stander.caller, stander.pcs).depth;
  read_for_ever(stander);
}

[[gnu::noinline]] void note_caller(Stander& stander) {
  stander.depth = capture_stack(caller_frame(), stander.pcs).depth;
}
[[gnu::noinline]] void stand_plainly(Stander& stander) {
  note_caller(stander);
  read_for_ever(stander);
}

// Frames of all sorts: plain, with a frame pointer, aligned.
[[gnu::noinline]] void descend(Stander& stander, unsigned depth) {
  if (depth == 0 && stander.has_frame_pointer) {
    stand(stander);
  } else if (depth == 0) {
    stand_plainly(stander);
  } else if (depth % 3 == 0) {
    auto* room = static_cast<volatile char*>(__builtin_alloca(depth * 16));
    room[0] = 1;
    descend(stander, depth - 1);
    room[1] = 1;
  } else if (depth % 3 == 1) {
    alignas(128) char room[256];
    asm volatile("" : : "r"(room) : "memory");
    descend(stander, depth - 1);
    asm volatile("" : : "r"(room) : "memory");
  } else {
    descend(stander, depth - 1);
  }
  asm volatile("");
}

struct Place {
  std::uintptr_t sp = 0;
  std::uintptr_t pc = 0;
};

// From the kernel, once the thread is blocked in read().
Place place_of(pid_t tid) {
  for (;;) {
    std::ifstream file("/proc/self/task/" + std::to_string(tid) + "/syscall");
    std::vector<std::string> words;
    for (std::string word; file >> word;) words.push_back(word);
    if (words.size() == 9 && words[0] == std::to_string(SYS_read))
      return {std::stoull(words[7], nullptr, 16), std::stoull(words[8], nullptr, 16)};
    std::this_thread::yield();
  }
}

class Standing {
 public:
  explicit Standing(unsigned depth, bool has_frame_pointer = true) {
    stander_.has_frame_pointer = has_frame_pointer;
    REQUIRE(pipe(stander_.ends) == 0);
    thread_ = std::thread([this, depth] { descend(stander_, depth); });
    while (stander_.tid == 0) std::this_thread::yield();
    place_ = place_of(stander_.tid);
  }
  ~Standing() {
    close(stander_.ends[1]);
    thread_.join();
    close(stander_.ends[0]);
  }
  Standing(const Standing&) = delete;
  Standing& operator=(const Standing&) = delete;

  [[nodiscard]] const Stander& stander() const { return stander_; }
  [[nodiscard]] OutsideStart start() const { return {place_.pc, place_.sp, {}}; }

 private:
  Stander stander_;
  std::thread thread_;
  Place place_;
};

Pc pcs[kMaxStackDepth];

// How many of the thread's own frames, from the outermost in, the walk has found too.
std::uint32_t agreeing(const OutsideStack& stack, const Stander& stander) {
  std::uint32_t count = 0;
  while (count < stack.depth && count < stander.depth &&
         pcs[stack.depth - 1 - count] == stander.pcs[stander.depth - 1 - count])
    ++count;
  return count;
}

// Sanitized code has frame pointers, so all of its frames have their CFA in rbp.
#ifndef __SANITIZE_ADDRESS__
TEST_CASE("a blocked thread is walked to its outermost frame", "[D1]") {
  // Without any frame that has its CFA in rbp, which nobody tells us.
  const Standing standing(0, false);
  const OutsideStack stack = walk_outside(standing.start(), pcs);
  CHECK_FALSE(stack.incomplete);
  CHECK_FALSE(stack.truncated);
  CHECK(stack.site == OutsideStack::kNotMet);
  // All but the calls that stand_plainly() was in.
  CHECK(agreeing(stack, standing.stander()) == standing.stander().depth - 1);
  CHECK(stack.depth == standing.stander().depth + 1);
}
#endif

TEST_CASE("a walk ends where a rule asks for a register that nobody told", "[D1]") {
  const Standing standing(0);
  const OutsideStack stack = walk_outside(standing.start(), pcs);
  CHECK(stack.incomplete);
  // read() and stand().
  CHECK(stack.depth == 2);
}

TEST_CASE("a wait site tells the registers that the kernel does not", "[D1]") {
  for (const unsigned depth : {1U, 2U, 5U, 30U}) {
    CAPTURE(depth);
    const Standing standing(depth);
    OutsideStart start = standing.start();
    start.site = standing.stander().caller;
    const OutsideStack stack = walk_outside(start, pcs);
    CHECK_FALSE(stack.incomplete);
    CHECK(stack.site == 2);
    CHECK(agreeing(stack, standing.stander()) == standing.stander().depth);
  }
}

TEST_CASE("the site alone is enough") {
  const Standing standing(7);
  const OutsideStack stack = walk_outside({0, 0, standing.stander().caller}, pcs);
  CHECK_FALSE(stack.incomplete);
  CHECK(stack.site == 0);
  CHECK(stack.depth == standing.stander().depth);
  CHECK(agreeing(stack, standing.stander()) == standing.stander().depth);
}

TEST_CASE("a site that is not the thread's present one is not believed") {
  const Standing standing(0);
  const StartFrame present = standing.stander().caller;
  const auto with = [&](std::uintptr_t pc, std::uintptr_t sp) {
    OutsideStart start = standing.start();
    start.site = present;
    start.site.pc = pc;
    start.site.sp = sp;
    return walk_outside(start, pcs);
  };
  CHECK(with(present.pc, present.sp).site != OutsideStack::kNotMet);
  // Left long ago: below the thread's sp, far above it, on another stack.
  for (const std::uintptr_t sp : {standing.start().sp - 64, standing.start().sp, present.sp + (1 << 20),
                                  std::uintptr_t{0x1000}, present.sp + 8}) {
    CAPTURE(sp);
    CHECK(with(present.pc, sp).site == OutsideStack::kNotMet);
  }
  CHECK(with(present.pc + 1, present.sp).site == OutsideStack::kNotMet);
  // Alone it leads nowhere.
  StartFrame wrong = present;
  wrong.pc += 1;
  CHECK(walk_outside({0, 0, wrong}, pcs).depth == 0);
}

TEST_CASE("a deep stack is cut at the room that there is") {
  const Standing standing(40);
  OutsideStart start = standing.start();
  start.site = standing.stander().caller;
  const OutsideStack stack = walk_outside(start, std::span(pcs).first(8));
  CHECK(stack.depth == 8);
  CHECK(stack.truncated);
  CHECK_FALSE(stack.incomplete);
}

TEST_CASE("nonsense ends a walk, and never faults", "[D14]") {
  constexpr std::size_t kPage = 4096;
  auto* pages = static_cast<char*>(
      mmap(nullptr, 2 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  REQUIRE(pages != MAP_FAILED);
  REQUIRE(mprotect(pages + kPage, kPage, PROT_NONE) == 0);
  const Standing standing(0);
  const std::uintptr_t pc = standing.start().pc;
  const auto page = reinterpret_cast<std::uintptr_t>(pages);
  for (const std::uintptr_t sp : {std::uintptr_t{0}, std::uintptr_t{8}, page, page + kPage - 8, page + kPage,
                                  ~std::uintptr_t{0}, std::uintptr_t{1} << 47U, page + 1}) {
    CAPTURE(sp);
    OutsideStart start{pc, sp, {}};
    CHECK(walk_outside(start, pcs).depth <= 2);
    start.site = {.pc = pc, .sp = sp + 64, .bp = sp};
    CHECK(walk_outside(start, pcs).depth <= 3);
  }
  for (std::size_t i = 0; i < kPage; i += 8) {
    const std::uintptr_t word = pc - i;
    __builtin_memcpy(pages + i, &word, sizeof word);
  }
  CHECK(walk_outside({pc, page, {}}, pcs).depth <= kMaxStackDepth);
  CHECK(walk_outside({pc, page + 8, {.pc = pc, .sp = page + 16, .bp = page}}, pcs).depth <= kMaxStackDepth);
  munmap(pages, 2 * kPage);
}

}  // namespace
}  // namespace profagent::safe
