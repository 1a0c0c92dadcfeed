// syscall(), by which absl::Mutex, Rust's standard locks and C++20's atomic::wait block, and by which a
// program may install a system call filter. All others go on to libc without a look at their arguments: how
// many a caller has given nobody knows, and what lies on its stack is its own.
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <sys/syscall.h>

#include "hooks/export.h"
#include "hooks/real.h"
#include "hooks/rights.h"
#include "hooks/waiting.h"

namespace profagent::hooks {

namespace {

bool is_wait(int futex_operation) {
  const int command = futex_operation & FUTEX_CMD_MASK;
  return command == FUTEX_WAIT || command == FUTEX_WAIT_BITSET || command == FUTEX_LOCK_PI;
}

// The seventh argument, where there is one, lies above the return address of a function with a frame pointer.
[[gnu::always_inline]] inline long seventh_argument(const void* frame) {
  constexpr int kSeventh = 2;
  return static_cast<const volatile long*>(frame)[kSeventh];
}

}  // namespace

extern "C" {

// Jumped to by syscall(), so that its caller is the program's.
[[gnu::used, gnu::visibility("hidden")]] long profagent_watched_syscall(long number, long a, long b, long c,
                                                                        long d, long e) {
  const long f = seventh_argument(__builtin_frame_address(0));
  if (number == SYS_seccomp) {
    const auto call = [=] { return real::syscall(number, a, b, c, d, e, f); };
    if (a == SECCOMP_SET_MODE_STRICT) return installing_filter(Filter::kStrict, call);
    if (a != SECCOMP_SET_MODE_FILTER) return call();  // questions
    return installing_filter((b & SECCOMP_FILTER_FLAG_TSYNC) != 0 ? Filter::kOfAllThreads : Filter::kOfThread,
                             call);
  }
  if (!is_wait(static_cast<int>(b))) return real::syscall(number, a, b, c, d, e, f);
  return wait_here<safe::WaitKind::kFutex, real::syscall, Entered::kNever, real::syscall>(
      reinterpret_cast<const void*>(a), number, a, b, c, d, e, f);
}

static_assert(SYS_futex == 202 && SYS_seccomp == 317);
PROFAGENT_EXPORT(syscall)
__attribute__((naked)) long syscall(long /*number*/, ...) {
  asm("cmp $202, %rdi\n\t"
      "je profagent_watched_syscall\n\t"
      "cmp $317, %rdi\n\t"
      "je profagent_watched_syscall\n\t"
      "jmp *_ZN9profagent5hooks4real7syscallE(%rip)");
}

}  // extern "C"

}  // namespace profagent::hooks
