// syscall(), by which absl::Mutex, Rust's standard locks and C++20's atomic::wait block, and by which a
// program may install a system call filter or set an alternate stack. All others go on to libc without a look
// at their arguments: how many a caller has given nobody knows, and what lies on its stack is its own.
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "hooks/export.h"
#include "hooks/real.h"
#include "hooks/rights.h"
#include "hooks/signal_stack.h"
#include "hooks/waiting.h"

namespace profagent::hooks {

namespace {

bool is_wait(int futex_operation) {
  constexpr int kLockPi2 = 13;  // FUTEX_LOCK_PI2, Linux 5.14
  const int command = futex_operation & FUTEX_CMD_MASK;
  return command == FUTEX_WAIT || command == FUTEX_WAIT_BITSET || command == FUTEX_WAIT_REQUEUE_PI ||
         command == FUTEX_LOCK_PI || command == kLockPi2;
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
  if (number == SYS_seccomp || number == SYS_prctl) {
    const auto call = [=] { return real::syscall(number, a, b, c, d, e, f); };
    const bool by_prctl = number == SYS_prctl;
    if (by_prctl && a != PR_SET_SECCOMP) {
      on_prctl(static_cast<int>(a), static_cast<unsigned long>(b));
      return call();
    }
    const long mode = by_prctl ? b : a;
    const long strict = by_prctl ? SECCOMP_MODE_STRICT : SECCOMP_SET_MODE_STRICT;
    const long filter = by_prctl ? SECCOMP_MODE_FILTER : SECCOMP_SET_MODE_FILTER;
    const long flags = by_prctl ? 0 : b;
    if (mode != strict && mode != filter) return call();  // questions
    // With a listener the answer is its descriptor; else it is a thread that could not be put under it.
    const bool is_descriptor = (flags & SECCOMP_FILTER_FLAG_NEW_LISTENER) != 0;
    const Filter kind = mode == strict                             ? Filter::kStrict
                        : (flags & SECCOMP_FILTER_FLAG_TSYNC) != 0 ? Filter::kOfAllThreads
                                                                   : Filter::kOfThread;
    return installing_filter(kind, call,
                             [=](long result) { return result < 0 || (result > 0 && !is_descriptor); });
  }
  if (number == SYS_sigaltstack)
    return set_signal_stack(reinterpret_cast<const stack_t*>(a), reinterpret_cast<stack_t*>(b));
  if (!is_wait(static_cast<int>(b))) return real::syscall(number, a, b, c, d, e, f);
  return wait_here<safe::WaitKind::kFutex, real::syscall, Entered::kNever, real::syscall>(
      reinterpret_cast<const void*>(a), number, a, b, c, d, e, f);
}

static_assert(SYS_sigaltstack == 131 && SYS_prctl == 157 && SYS_futex == 202 && SYS_seccomp == 317);
PROFAGENT_EXPORT(syscall)
__attribute__((naked)) long syscall(long /*number*/, ...) {
  asm("cmp $202, %rdi\n\t"
      "je profagent_watched_syscall\n\t"
      "cmp $317, %rdi\n\t"
      "je profagent_watched_syscall\n\t"
      "cmp $157, %rdi\n\t"
      "je profagent_watched_syscall\n\t"
      "cmp $131, %rdi\n\t"
      "je profagent_watched_syscall\n\t"
      "jmp *_ZN9profagent5hooks4real7syscallE(%rip)");
}

}  // extern "C"

}  // namespace profagent::hooks
