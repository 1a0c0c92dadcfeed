// capture_stack() on live stacks of this process. A fault in it kills the test.
#include "agent/safe/unwind.h"

#include <alloca.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <time.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

using namespace profagent::safe;

namespace {

Pc pcs[kMaxStackDepth];
Stack stack;
// The return addresses of the frames under test, outermost first, as the compiler knows them.
std::vector<Pc> expected;

[[gnu::noinline]] void capture(std::size_t room = kMaxStackDepth) {
  stack = capture_stack(caller_frame(), {pcs, room});
  asm volatile("");
}

// The frames that noted their return addresses, then main's and libc's, must be on the stack, in this order.
void check_expected(std::size_t skipped) {
  REQUIRE(stack.depth > expected.size() + skipped);
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    if (pcs[skipped + i] != expected[expected.size() - 1 - i] - 1) ++wrong;
  }
  CHECK(wrong == 0);
  CHECK(stack.hash == hash_stack({pcs, stack.depth}));
}

void note(const void* return_address) {
  expected.push_back(reinterpret_cast<Pc>(return_address));
}

[[gnu::noinline]] void recurse(unsigned depth) {
  note(__builtin_return_address(0));
  if (depth == 0) {
    capture();
  } else {
    recurse(depth - 1);
  }
  asm volatile("");
}

// Keeps an array on the stack.
[[gnu::noinline]] void fill(volatile char* room, unsigned at) {
  room[at] = 1;
}

using Function = void (*)(unsigned);
[[gnu::noinline]] void by_pointer_a(unsigned depth);
[[gnu::noinline]] void by_pointer_b(unsigned depth);
volatile Function pointers[2] = {by_pointer_a, by_pointer_b};
void by_pointer_a(unsigned depth) {
  note(__builtin_return_address(0));
  volatile char room[100];
  fill(room, depth % 100);
  if (depth == 0) {
    capture();
  } else {
    pointers[(depth * 5 / 3) % 2](depth - 1);
  }
  fill(room, 1);
}
void by_pointer_b(unsigned depth) {
  note(__builtin_return_address(0));
  if (depth == 0) {
    capture();
  } else {
    pointers[(depth * 7 / 4) % 2](depth - 1);
  }
  asm volatile("");
}

volatile unsigned runtime_size = 3000;
[[gnu::noinline]] void variable_size(unsigned depth) {
  note(__builtin_return_address(0));
  auto* room = static_cast<volatile char*>(alloca(runtime_size + depth * 100));
  fill(room, 5);
  if (depth == 0) {
    capture();
  } else {
    variable_size(depth - 1);
  }
  fill(room, 6);
}

// Its CFA is *(rbp - 8): the stack pointer was aligned, and how far is known at run time only.
[[gnu::noinline]] void aligned(unsigned depth) {
  note(__builtin_return_address(0));
  alignas(256) volatile char room[512];
  auto* more = static_cast<volatile char*>(alloca(runtime_size));
  fill(room, 5);
  fill(more, 5);
  if (depth == 0) {
    capture();
  } else {
    aligned(depth - 1);
  }
  fill(room, 6);
  fill(more, 6);
}

[[gnu::noinline]] void huge(unsigned depth) {
  note(__builtin_return_address(0));
  volatile char room[300000];
  fill(room, depth);
  if (depth == 0) {
    capture();
  } else {
    huge(depth - 1);
  }
  fill(room, 6);
}

template <typename Test>
void with_clean_slate(Test test) {
  for (const bool again : {false, true, false}) {
    if (!again) forget_unwind_rules();
    expected.clear();
    test();
  }
}

void capture_in_handler(int, siginfo_t*, void* context) {
  stack = capture_stack(frame_of(*static_cast<ucontext_t*>(context)), pcs);
}
void call_capture_in_handler(int, siginfo_t*, void*) {
  capture();
}

class Handler {
 public:
  Handler(int signal, void (*function)(int, siginfo_t*, void*), int flags = 0) : signal_(signal) {
    struct sigaction action {};
    action.sa_sigaction = function;
    action.sa_flags = SA_SIGINFO | flags;
    sigaction(signal, &action, &old_);
    if ((flags & SA_ONSTACK) == 0) return;
    alternate_.resize(64 << 10);
    stack_t alternate{};
    alternate.ss_sp = alternate_.data();
    alternate.ss_size = alternate_.size();
    sigaltstack(&alternate, &old_alternate_);
  }
  ~Handler() {
    sigaction(signal_, &old_, nullptr);
    if (!alternate_.empty()) sigaltstack(&old_alternate_, nullptr);
  }

 private:
  int signal_;
  struct sigaction old_ {};
  stack_t old_alternate_{};
  std::vector<char> alternate_;
};

[[gnu::noinline]] void recurse_and_raise(unsigned depth) {
  note(__builtin_return_address(0));
  if (depth == 0) {
    raise(SIGUSR1);
  } else {
    recurse_and_raise(depth - 1);
  }
  asm volatile("");
}

bool contains_expected() {
  std::vector<Pc> wanted;
  for (std::size_t i = expected.size(); i-- > 0;) wanted.push_back(expected[i] - 1);
  return std::search(pcs, pcs + stack.depth, wanted.begin(), wanted.end()) != pcs + stack.depth;
}

}  // namespace

TEST_CASE("recursion: every return address, out to the program's start") {
  with_clean_slate([] {
    recurse(200);
    check_expected(1);
    CHECK_FALSE(stack.incomplete);
    CHECK_FALSE(stack.truncated);
  });
}

TEST_CASE("recursion deeper than the room keeps the leaf") {
  with_clean_slate([] {
    recurse(10000);
    REQUIRE(stack.depth == kMaxStackDepth);
    CHECK(stack.truncated);
    std::size_t wrong = 0;
    for (std::size_t i = 1; i < kMaxStackDepth; ++i) wrong += pcs[i] != expected[expected.size() - i] - 1;
    CHECK(wrong == 0);
  });
}

TEST_CASE("room for no, one and exactly all frames") {
  capture(0);
  CHECK(stack.depth == 0);
  CHECK(stack.truncated);
  capture(1);
  CHECK(stack.depth == 1);
  CHECK(stack.truncated);
  capture();
  const std::uint32_t all = stack.depth;
  capture(all);
  CHECK(stack.depth == all);
  CHECK_FALSE(stack.truncated);
  CHECK_FALSE(stack.incomplete);
  capture(all - 1);
  CHECK(stack.truncated);
}

TEST_CASE("calls through pointers, frames of variable size, aligned frames, huge frames") {
  for (const Function function : {by_pointer_a, variable_size, aligned, huge}) {
    with_clean_slate([function] {
      function(20);
      check_expected(1);
      CHECK_FALSE(stack.incomplete);
    });
  }
}

TEST_CASE("through a signal handler, on the same and on an alternate stack") {
  for (const int flags : {0, SA_ONSTACK}) {
    CAPTURE(flags);
    {
      Handler handler(SIGUSR1, call_capture_in_handler, flags);
      with_clean_slate([] {
        recurse_and_raise(30);
        CHECK(contains_expected());
        CHECK_FALSE(stack.incomplete);
        CHECK(stack.hash == hash_stack({pcs, stack.depth}));
      });
    }
    Handler handler(SIGUSR1, capture_in_handler, flags);
    with_clean_slate([] {
      recurse_and_raise(30);
      CHECK(contains_expected());
      CHECK_FALSE(stack.incomplete);
    });
  }
}

TEST_CASE("a thread's stack ends cleanly at its start") {
  pthread_t thread;
  REQUIRE(pthread_create(
              &thread, nullptr,
              [](void*) -> void* {
                capture();
                return nullptr;
              },
              nullptr) == 0);
  pthread_join(thread, nullptr);
  CHECK_FALSE(stack.incomplete);
  CHECK(stack.depth >= 3);
  CHECK(stack.depth <= 5);
}

namespace {
ucontext_t outside;
ucontext_t inside;
void in_context() {
  expected.clear();
  recurse(10);
  swapcontext(&inside, &outside);
  recurse(5);
  asm volatile("");  // no tail call: this frame is counted
}
}  // namespace

// glibc does not mark it as the outermost frame, so the stack counts as incomplete; nothing is invented
// behind it.
TEST_CASE("a context of its own ends at its own start") {
  std::vector<char> room(256 << 10);
  for (int i = 0; i < 3; ++i) {
    getcontext(&inside);
    inside.uc_stack.ss_sp = room.data();
    inside.uc_stack.ss_size = room.size();
    inside.uc_link = &outside;
    makecontext(&inside, in_context, 0);
    swapcontext(&outside, &inside);
    check_expected(1);
    CHECK(stack.depth == expected.size() + 2);
    expected.clear();
    recurse(20);
    check_expected(1);
    expected.clear();
    swapcontext(&outside, &inside);
    check_expected(1);
    CHECK(stack.depth == expected.size() + 2);
  }
}

TEST_CASE("frames of the agent's own text are passed over at the leaf, and only there") {
  expected.clear();
  recurse(3);
  const std::uint32_t all = stack.depth;
  const Pc leaf = pcs[0];
  const Pc second = pcs[1];
  skip_frames_of(leaf, leaf + 1);
  expected.clear();
  recurse(3);
  CHECK(stack.depth == all - 1);
  CHECK(pcs[0] == second);
  skip_frames_of(pcs[4], pcs[4] + 1);
  expected.clear();
  recurse(3);
  CHECK(stack.depth == all);
  skip_frames_of(0, 0);
}

TEST_CASE("a stack that is captured again brings back its id") {
  forget_unwind_rules();
  StackId hint[5];
  for (int i = 0; i < 5; ++i) {
    expected.clear();
    if (i == 3) recurse(9);
    recurse(i == 4 ? 31 : 30);
    hint[i] = stack.id_hint;
    if (stack.id_hint == kNoStack) remember_stack_id(stack, 77);
  }
  CHECK(hint[0] == kNoStack);
  CHECK(hint[1] == 77);
  CHECK(hint[2] == 77);
  CHECK(hint[3] == kNoStack);
  CHECK(hint[4] == kNoStack);
}

TEST_CASE("an id is only ever brought back for the very stack it was given for") {
  forget_unwind_rules();
  unsigned hinted = 0;
  for (unsigned i = 0; i < 4000; ++i) {
    expected.clear();
    // Repeats, small steps, and jumps by more frames than a remembered walk has room for below its leaf.
    const unsigned depth = i % 3 == 0 ? i / 8 % 5 * 97 : i / 4 % 9;
    if (i % 5 == 0) {
      by_pointer_a(depth);
    } else {
      recurse(depth);
    }
    const auto id = static_cast<StackId>(1 + stack.hash % 1000003);
    if (stack.id_hint != kNoStack) {
      ++hinted;
      REQUIRE(stack.id_hint == id);
    }
    REQUIRE(stack.hash == hash_stack({pcs, stack.depth}));
    if (i % 7 != 0) remember_stack_id(stack, id);
  }
  CHECK(hinted > 100);
}

namespace {
// Two ways to the same inner frames: what lies between differs in one return address only.
[[gnu::noinline]] void inner(unsigned depth) {
  recurse(depth);
}
[[gnu::noinline]] void middle(bool other, unsigned depth) {
  note(__builtin_return_address(0));
  if (other) {
    inner(depth);
    asm volatile("nop");
  } else {
    inner(depth);
    asm volatile("nop; nop");
  }
}
}  // namespace

TEST_CASE("a remembered walk is taken over only as far as it is still true") {
  forget_unwind_rules();
  for (unsigned i = 0; i < 200; ++i) {
    CAPTURE(i);
    expected.clear();
    middle(i % 3 == 0, 3 + i % 7);
    const std::vector<Pc> remembered(pcs, pcs + stack.depth);
    const std::uint64_t hash = stack.hash;
    // The truth, by a walk without memory.
    if (i % 5 == 0) forget_unwind_rules();
    expected.clear();
    middle(i % 3 == 0, 3 + i % 7);
    REQUIRE(stack.depth == remembered.size());
    // The two calls above stand at different places in this function: one frame differs.
    std::size_t different = 0;
    for (std::size_t k = 0; k < remembered.size(); ++k) different += remembered[k] != pcs[k];
    CHECK(different == 1);
    CHECK(hash != stack.hash);
    CHECK(stack.hash == hash_stack({pcs, stack.depth}));
  }
}

TEST_CASE("the hash of a stack depends on order and depth") {
  const Pc a[] = {1, 2, 3};
  const Pc b[] = {3, 2, 1};
  const Pc c[] = {1, 2};
  CHECK(hash_stack(a) != hash_stack(b));
  CHECK(hash_stack(a) != hash_stack(c));
  CHECK(hash_stack({}) == hash_stack({}));
}
