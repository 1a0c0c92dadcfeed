#include "agent/safe/interrupted_wait.h"

#include <cerrno>
#include <cstring>
#include <ctime>

#include <linux/futex.h>
#include <sys/syscall.h>

#include "agent/safe/sys.h"

namespace profagent::safe {

namespace {

constexpr WaitCall kWaitCalls[] = {
    {SYS_read, Timeout::kNone, 0, 0},
    {SYS_recvfrom, Timeout::kNone, 0, 0},
    {SYS_recvmsg, Timeout::kNone, 0, 0},
    {SYS_accept, Timeout::kNone, 0, 0},
    {SYS_accept4, Timeout::kNone, 0, 0},
    {SYS_wait4, Timeout::kNone, 0, 0},
    {SYS_waitid, Timeout::kNone, 0, 0},
    {SYS_flock, Timeout::kNone, 0, 0},
    {SYS_pause, Timeout::kNone, 0, 0},
    {SYS_rt_sigsuspend, Timeout::kNone, 0, 0},
    {SYS_msgrcv, Timeout::kNone, 0, 0},
    {SYS_msgsnd, Timeout::kNone, 0, 0},
    {SYS_semop, Timeout::kNone, 0, 0},
    {SYS_epoll_wait, Timeout::kNegativeMeansForEver, REG_R10, 0},
    {SYS_epoll_pwait, Timeout::kNegativeMeansForEver, REG_R10, 0},
    {SYS_poll, Timeout::kNegativeMeansForEver, REG_RDX, 0},
    {SYS_epoll_pwait2, Timeout::kNullMeansForEver, REG_R10, 0},
    {SYS_semtimedop, Timeout::kNullMeansForEver, REG_R10, 0},
    {SYS_rt_sigtimedwait, Timeout::kNullMeansForEver, REG_RDX, 0},
    {SYS_recvmmsg, Timeout::kNullMeansForEver, REG_R8, 0},
    {SYS_io_getevents, Timeout::kNullMeansForEver, REG_R8, 0},
    {SYS_ppoll, Timeout::kKernelCountsDown, 0, 0},
    {SYS_select, Timeout::kKernelCountsDown, 0, 0},
    {SYS_pselect6, Timeout::kKernelCountsDown, 0, 0},
    {SYS_nanosleep, Timeout::kSleep, REG_RDI, REG_RSI},
    {SYS_clock_nanosleep, Timeout::kSleep, REG_RDX, REG_R10},
    {SYS_futex, Timeout::kFutex, REG_R10, 0},
};

const WaitCall* find_call(std::int64_t number) {
  for (const WaitCall& call : kWaitCalls) {
    if (call.number == number) return &call;
  }
  return nullptr;
}

constexpr unsigned char kSyscallCode[] = {0x0f, 0x05};

bool is_syscall(const unsigned char* code) {
  return std::memcmp(code, kSyscallCode, sizeof(kSyscallCode)) == 0;
}

// How far in front of a system call libc sets its number: `mov $number, %eax`.
constexpr unsigned char kMovEaxImmediate = 0xb8;
constexpr int kMovSize = 5;
constexpr int kLookBack = 24;

// The timeout is there, relative, and the kernel did not say how much of it is left.
bool loses_timeout(const WaitCall& call, const gregset_t& registers) {
  const greg_t timeout = registers[call.timeout_register];
  switch (call.timeout) {
    case Timeout::kNone:
    case Timeout::kKernelCountsDown:
      return false;
    case Timeout::kNegativeMeansForEver:
      return static_cast<std::int32_t>(timeout) >= 0;
    case Timeout::kNullMeansForEver:
      return timeout != 0;
    case Timeout::kFutex:
      // Only this operation counts from now; the others wait until a point of time.
      return (registers[REG_RSI] & FUTEX_CMD_MASK) == FUTEX_WAIT && timeout != 0;
    case Timeout::kSleep: {
      const bool until = call.number == SYS_clock_nanosleep && (registers[REG_RSI] & TIMER_ABSTIME) != 0;
      return !until && registers[call.rest_register] == 0;
    }
  }
  return true;
}

// The kernel hands over signals by number, and all of them find the call cut short: one that waits behind
// ours may be the one that was meant to.
bool is_another_pending(const ucontext_t& context) {
  std::uint64_t pending = 0;
  sys::call(SYS_rt_sigpending, reinterpret_cast<long>(&pending), sizeof(pending));
  std::uint64_t blocked = 0;
  std::memcpy(&blocked, &context.uc_sigmask, sizeof(blocked));
  return (pending & ~blocked) != 0;
}

}  // namespace

bool InterruptedWait::holds_nothing() const noexcept {
  return call != nullptr && call->timeout != Timeout::kFutex;
}

// Two shapes: the kernel is going to repeat the call (pc at the instruction, number in rax), or it returns
// EINTR (pc behind the instruction), and the number is what the code in front of it says.
InterruptedWait find_interrupted_wait(const gregset_t& registers) noexcept {
  const auto pc = static_cast<std::uintptr_t>(registers[REG_RIP]);
  const auto* code = reinterpret_cast<const unsigned char*>(pc);
  if (registers[REG_RAX] != -EINTR) {
    const WaitCall* call = find_call(registers[REG_RAX]);
    const bool readable = call != nullptr && sys::is_readable(pc) && sys::is_readable(pc + 1);
    return readable && is_syscall(code) ? InterruptedWait{call, true} : InterruptedWait{};
  }
  if (!sys::is_readable(pc - kLookBack) || !sys::is_readable(pc - 1)) return {};
  if (!is_syscall(code - sizeof(kSyscallCode))) return {};
  for (int back = kMovSize + static_cast<int>(sizeof(kSyscallCode)); back <= kLookBack; ++back) {
    if (code[-back] != kMovEaxImmediate) continue;
    std::int32_t number = 0;
    std::memcpy(&number, code - back + 1, sizeof(number));
    // The nearest that can be a number is the one.
    constexpr std::int32_t kNumbers = 1024;
    if (number >= 0 && number < kNumbers) return {find_call(number), false};
  }
  return {};
}

void go_on_waiting(const InterruptedWait& wait, ucontext_t& context) noexcept {
  if (wait.call == nullptr || wait.repeats) return;
  const WaitCall& call = *wait.call;
  gregset_t& registers = context.uc_mcontext.gregs;
  if (loses_timeout(call, registers) || is_another_pending(context)) return;
  if (call.timeout == Timeout::kSleep) {
    const bool until = call.number == SYS_clock_nanosleep && (registers[REG_RSI] & TIMER_ABSTIME) != 0;
    if (!until) registers[call.timeout_register] = registers[call.rest_register];
  }
  registers[REG_RIP] -= sizeof(kSyscallCode);
  registers[REG_RAX] = call.number;
}

}  // namespace profagent::safe
