// Code and registers that no rule describes. Nothing here may fault, loop, or invent frames.
#include <dlfcn.h>
#include <signal.h>
#include <sys/mman.h>
#include <time.h>
#include <ucontext.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "agent/safe/unwind.h"

using namespace profagent::safe;

// Hand-written, without call-frame information. Each traps once, with registers as said, and then returns.
extern "C" void trap_with_bp(std::uintptr_t bp);
extern "C" void trap_with_frame();
extern "C" void trap_on_stack(std::uintptr_t sp, std::uintptr_t bp);
extern "C" void trap_in_loop();
extern "C" void trap_with_rules(std::uintptr_t sp);
asm(R"(
  .text
  .globl trap_with_bp, trap_with_frame, trap_on_stack, trap_in_loop, trap_with_rules
trap_with_bp:
  push %rbp
  mov %rdi, %rbp
  int3
  pop %rbp
  ret
trap_with_frame:
  push %rbp
  mov %rsp, %rbp
  sub $64, %rsp
  int3
  leave
  ret
trap_on_stack:
  push %rbp
  push %rbx
  mov %rsp, %rbx
  mov %rdi, %rsp
  mov %rsi, %rbp
  int3
  mov %rbx, %rsp
  pop %rbx
  pop %rbp
  ret
# A frame that is its own caller: the saved rbp is rbp, the return address lies here.
trap_in_loop:
  push %rbp
  sub $32, %rsp
  mov %rsp, %rbp
  mov %rbp, (%rsp)
  lea trap_in_loop(%rip), %rax
  mov %rax, 8(%rsp)
  int3
  add $32, %rsp
  pop %rbp
  ret
# With rules (CFA = rsp + 8), on any stack.
trap_with_rules:
  .cfi_startproc
  mov %rsp, %rsi
  mov %rdi, %rsp
  int3
  mov %rsi, %rsp
  ret
  .cfi_endproc
)");

namespace {

Pc pcs[kMaxStackDepth];
Stack stack;

void on_trap(int, siginfo_t*, void* context) {
  stack = capture_stack(frame_of(*static_cast<ucontext_t*>(context)), pcs);
}

class Traps {
 public:
  Traps() : room_(64 << 10) {
    struct sigaction action {};
    action.sa_sigaction = on_trap;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGTRAP, &action, &old_);
    stack_t alternate{};
    alternate.ss_sp = room_.data();
    alternate.ss_size = room_.size();
    sigaltstack(&alternate, &old_alternate_);
  }
  ~Traps() {
    sigaction(SIGTRAP, &old_, nullptr);
    sigaltstack(&old_alternate_, nullptr);
  }

 private:
  std::vector<char> room_;
  struct sigaction old_ {};
  stack_t old_alternate_{};
};

// Some pages, and behind them one that cannot be read.
class Pages {
 public:
  explicit Pages(std::size_t count) : bytes_(count * 4096) {
    void* all = mmap(nullptr, bytes_ + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    begin_ = reinterpret_cast<std::uintptr_t>(all);
    mprotect(reinterpret_cast<void*>(end()), 4096, PROT_NONE);
  }
  ~Pages() { munmap(reinterpret_cast<void*>(begin_), bytes_ + 4096); }
  std::uintptr_t begin() const { return begin_; }
  std::uintptr_t end() const { return begin_ + bytes_; }
  std::uintptr_t& word(std::uintptr_t at) const { return *reinterpret_cast<std::uintptr_t*>(at); }

 private:
  std::size_t bytes_;
  std::uintptr_t begin_;
};

bool in(const void* function, Pc pc) {
  const auto begin = reinterpret_cast<Pc>(function);
  return pc >= begin && pc < begin + 64;
}

}  // namespace

TEST_CASE("code without rules but with a frame pointer is walked through") {
  const Traps traps;
  trap_with_frame();
  CHECK(in(reinterpret_cast<void*>(trap_with_frame), pcs[0]));
  CHECK(stack.depth > 4);
  CHECK_FALSE(stack.incomplete);
}

TEST_CASE("rbp garbage ends the stack") {
  const Traps traps;
  const Pages pages(2);
  for (const std::uintptr_t bp :
       {std::uintptr_t{0x80000}, std::uintptr_t{1}, std::uintptr_t{8}, pages.end(), pages.end() - 8,
        pages.begin(), pages.end() + 64, std::uintptr_t{1} << 63U, ~std::uintptr_t{0}, ~std::uintptr_t{7},
        std::uintptr_t{0x800000000000}, std::uintptr_t{0x7fffffffeff8}, std::uintptr_t{0x7fffffffe000},
        reinterpret_cast<std::uintptr_t>(&stack) | 3U}) {
    CAPTURE(bp);
    trap_with_bp(bp);
    CHECK(stack.depth == 1);
    CHECK(in(reinterpret_cast<void*>(trap_with_bp), pcs[0]));
    CHECK(stack.incomplete);
  }
  trap_with_bp(0);
  CHECK(stack.depth == 1);
  CHECK_FALSE(stack.incomplete);
}

TEST_CASE("a frame that calls itself for ever is not endless") {
  const Traps traps;
  trap_in_loop();
  CHECK(stack.depth <= 2);
  CHECK(stack.incomplete);
}

TEST_CASE("a chain of return addresses to the same place ends with the room or the stack") {
  const Traps traps;
  const Pages pages(16);
  for (std::uintptr_t at = pages.begin(); at < pages.end(); at += 16) {
    pages.word(at) = at + 16;
    pages.word(at + 8) = reinterpret_cast<std::uintptr_t>(trap_on_stack) + 4;
  }
  trap_on_stack(pages.begin(), pages.begin());
  CHECK(stack.depth == kMaxStackDepth);
  CHECK(stack.truncated);
  trap_on_stack(pages.end() - 320, pages.end() - 320);
  CHECK(stack.depth == 21);
  CHECK(stack.incomplete);
  // The same with rules: the return address leads to a function whose frame is the next word.
  for (std::uintptr_t at = pages.begin(); at < pages.end(); at += 8) {
    pages.word(at) = reinterpret_cast<std::uintptr_t>(trap_with_rules) + 6;
  }
  trap_with_rules(pages.begin());
  CHECK(stack.depth == kMaxStackDepth);
  trap_with_rules(pages.end() - 80);
  CHECK(stack.depth == 11);
  CHECK(stack.incomplete);
}

TEST_CASE("rsp at the end of what can be read, and garbage") {
  const Traps traps;
  const Pages pages(1);
  pages.word(pages.end() - 8) = 0;
  for (const std::uintptr_t sp :
       {pages.end(), pages.end() - 4, pages.end() - 7, std::uintptr_t{0}, std::uintptr_t{0x80000},
        ~std::uintptr_t{0}, std::uintptr_t{1} << 63U, std::uintptr_t{0x7ffffffff000}}) {
    CAPTURE(sp);
    trap_with_rules(sp);
    CHECK(stack.depth == 1);
    CHECK(stack.incomplete);
    trap_on_stack(sp, sp);
    CHECK(stack.depth == 1);
  }
  trap_with_rules(pages.end() - 8);
  CHECK(stack.depth == 1);
  CHECK_FALSE(stack.incomplete);
  for (const std::uintptr_t garbage :
       {std::uintptr_t{1}, std::uintptr_t{0x1000}, ~std::uintptr_t{0}, (std::uintptr_t{1} << 47U) + 1}) {
    CAPTURE(garbage);
    pages.word(pages.end() - 8) = garbage;
    trap_with_rules(pages.end() - 8);
    CHECK(stack.depth == 1);
    CHECK(stack.incomplete);
  }
}

TEST_CASE("a stack that was given back is not read, although it was known") {
  const Traps traps;
  std::uintptr_t sp = 0;
  {
    const Pages pages(8);
    sp = pages.begin() + 64;
    for (std::uintptr_t at = pages.begin(); at < pages.end(); at += 8) {
      pages.word(at) = reinterpret_cast<std::uintptr_t>(trap_with_rules) + 6;
    }
    trap_with_rules(sp);
    CHECK(stack.depth == kMaxStackDepth);
  }
  // From its own stack, by a stale frame pointer.
  trap_with_bp(sp);
  CHECK(stack.depth == 1);
}

namespace {

// At every single instruction of `work` the stack must lead out to where it was started.
struct Stepper {
  std::vector<Pc> outside;
  std::vector<Pc> failed;
  std::size_t steps = 0;
};
Stepper* stepper;

void on_step(int, siginfo_t*, void* raw) {
  Stepper& self = *stepper;
  const Stack walked = capture_stack(frame_of(*static_cast<ucontext_t*>(raw)), pcs);
  ++self.steps;
  const std::size_t outer = self.outside.size();
  bool good = !walked.incomplete && !walked.truncated && walked.depth >= outer &&
              walked.hash == hash_stack({pcs, walked.depth});
  for (std::size_t i = 0; good && i < outer; ++i) {
    good = pcs[walked.depth - outer + i] == self.outside[i];
  }
  if (!good && self.failed.size() < 4096) self.failed.push_back(pcs[0]);
}

void set_single_step(bool on) {
  if (on) {
    asm volatile("pushfq; orq $0x100, (%%rsp); popfq" ::: "cc", "memory");
  } else {
    asm volatile("pushfq; andq $~0x100, (%%rsp); popfq" ::: "cc", "memory");
  }
}

[[gnu::noinline]] void step_through(void (*work)(), Stepper& result) {
  Pc here[kMaxStackDepth];
  const Stack outside = capture_stack(caller_frame(), here);
  result.outside.assign(here, here + outside.depth);
  result.failed.reserve(4096);
  stepper = &result;
  struct sigaction action {};
  struct sigaction old {};
  action.sa_sigaction = on_step;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGTRAP, &action, &old);
  set_single_step(true);
  work();
  set_single_step(false);
  sigaction(SIGTRAP, &old, nullptr);
  asm volatile("");
}

volatile unsigned runtime_size = 100;
volatile unsigned long sink;

[[gnu::noinline]] void fill(volatile char* room) {
  room[3] = 1;
}
[[gnu::noinline]] void aligned_frame() {
  alignas(128) volatile char room[256];
  auto* more = static_cast<volatile char*>(__builtin_alloca(runtime_size));
  fill(room);
  fill(more);
}
[[gnu::noinline, gnu::force_align_arg_pointer]] void realigned() {
  sink = sink + 1;
}
[[gnu::noinline]] void thrower(unsigned depth) {
  const std::string text(30 + depth, 'x');
  if (depth == 0) throw std::runtime_error(text);
  thrower(depth - 1);
}

void work_frames() {
  aligned_frame();
  realigned();
}
void work_clock() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  sink = static_cast<unsigned long>(now.tv_nsec);
}
void work_library() {
  char text[100];
  std::snprintf(text, sizeof text, "%d %s %.3f", 12, "abc", 3.25);
  std::free(std::malloc(3000));
  std::vector<int> values{5, 3, 9, 1};
  qsort(values.data(), values.size(), sizeof(int), [](const void* a, const void* b) {
    return *static_cast<const int*>(a) - *static_cast<const int*>(b);
  });
  sink = static_cast<unsigned long>(std::strtol("123", nullptr, 10));
}
void work_throw() {
  try {
    thrower(4);
  } catch (const std::exception& error) {
    sink = static_cast<unsigned long>(error.what()[0]);
  }
}

}  // namespace

TEST_CASE(
    "at every instruction: prologues, epilogues, PLT, lazy binding, vDSO, libc, an exception in flight") {
  for (void (*const work)() : {work_frames, work_clock, work_library, work_throw}) {
    Stepper result;
    step_through(work, result);
    CAPTURE(result.steps);
    CHECK(result.steps > 30);
    for (const Pc pc : result.failed) {
      Dl_info info{};
      REQUIRE(dladdr(reinterpret_cast<void*>(pc), &info) != 0);
      CAPTURE(info.dli_fname, pc - reinterpret_cast<Pc>(info.dli_fbase));
      // libgcc prepares its jump to the catch block by overwriting the registers that its own frame saved
      // (uw_install_context): for a few instructions the frames outside of it cannot be found by anybody.
      CHECK(work == work_throw);
      CHECK(std::string(info.dli_fname).find("libgcc_s") != std::string::npos);
    }
  }
}
