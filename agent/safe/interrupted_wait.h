// A system call that waits and was cut short by a signal of ours: the program has not asked for that, so it
// must not notice. SA_RESTART makes the kernel repeat some of them; the others return EINTR, and are
// repeated here, by setting the interrupted thread back to the instruction.
//
// For signal handlers, on the thread that was interrupted. Reads code, proved to be readable; calls nothing
// that may wait.
#pragma once

#include <cstdint>

#include <ucontext.h>

namespace profagent::safe {

// What becomes of a call's timeout when it is cut short. For the kernel's side see select(2), ppoll(2),
// nanosleep(2), futex(2).
enum class Timeout : std::uint8_t {
  kNone,                  // or an absolute one: the same call goes on
  kNegativeMeansForEver,  // a finite one is lost: nobody knows how much of it was left
  kNullMeansForEver,      // likewise, by pointer
  kKernelCountsDown,      // in the caller's memory
  kSleep,                 // what is left is written where a second register points to, if it does
  kFutex,                 // depends on the operation
};

struct WaitCall {
  int number;
  Timeout timeout;
  int timeout_register;
  int rest_register;
};

struct InterruptedWait {
  const WaitCall* call = nullptr;  // null: the thread was not waiting, or in a call that we do not know
  bool repeats = false;            // the kernel will repeat it by itself
  // Between the program and the kernel is only libc's wrapper, which holds no lock. Not so for a futex: that
  // may be any lock of libc or the program.
  [[nodiscard]] bool holds_nothing() const noexcept;
};

[[nodiscard]] InterruptedWait find_interrupted_wait(const gregset_t& registers) noexcept;

// Sets the thread back to the system call, where that is exact: not when a finite timeout is lost, and not
// when another signal, which the program may have meant to end the wait with, came at the same moment.
// Otherwise the program sees EINTR, once. The handler must have all signals blocked (its sa_mask).
void go_on_waiting(const InterruptedWait& wait, ucontext_t& context) noexcept;

}  // namespace profagent::safe
