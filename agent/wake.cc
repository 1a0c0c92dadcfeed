#include "agent/wake.h"

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <ctime>

#include <sys/syscall.h>
#include <ucontext.h>

#include "agent/safe/events.h"
#include "agent/safe/heap_recorder.h"
#include "agent/safe/sys.h"
#include "agent/safe/thread_state.h"

namespace profagent {

static_assert(kWakeSignal == SIGURG);

namespace {

namespace sys = safe::sys;

constinit safe::EventHandler start_service = nullptr;

// A system call that only waits, and what becomes of its timeout when it is cut short. For the kernel's side
// see select(2), ppoll(2), nanosleep(2).
enum class Timeout : std::uint8_t {
  kNone,
  kNegativeMeansForEver,  // a finite one is lost: nobody knows how much of it was left
  kKernelCountsDown,      // in the caller's memory
  kSleep,                 // what is left is written where a second register points to, if it does
};
struct Wait {
  int number;
  Timeout timeout;
  int timeout_register;
  int rest_register;
};
constexpr Wait kWaits[] = {
    {SYS_read, Timeout::kNone, 0, 0},
    {SYS_recvfrom, Timeout::kNone, 0, 0},
    {SYS_recvmsg, Timeout::kNone, 0, 0},
    {SYS_accept, Timeout::kNone, 0, 0},
    {SYS_accept4, Timeout::kNone, 0, 0},
    {SYS_wait4, Timeout::kNone, 0, 0},
    {SYS_waitid, Timeout::kNone, 0, 0},
    {SYS_flock, Timeout::kNone, 0, 0},
    {SYS_pause, Timeout::kNone, 0, 0},
    {SYS_epoll_wait, Timeout::kNegativeMeansForEver, REG_R10, 0},
    {SYS_epoll_pwait, Timeout::kNegativeMeansForEver, REG_R10, 0},
    {SYS_poll, Timeout::kNegativeMeansForEver, REG_RDX, 0},
    {SYS_ppoll, Timeout::kKernelCountsDown, 0, 0},
    {SYS_select, Timeout::kKernelCountsDown, 0, 0},
    {SYS_pselect6, Timeout::kKernelCountsDown, 0, 0},
    {SYS_nanosleep, Timeout::kSleep, REG_RDI, REG_RSI},
    {SYS_clock_nanosleep, Timeout::kSleep, REG_RDX, REG_R10},
};

const Wait* find_wait(std::int64_t number) {
  for (const Wait& wait : kWaits) {
    if (wait.number == number) return &wait;
  }
  return nullptr;
}

constexpr unsigned char kSyscallCode[] = {0x0f, 0x05};

bool is_syscall(const unsigned char* code) {
  return std::memcmp(code, kSyscallCode, sizeof(kSyscallCode)) == 0;
}

// The system call that the signal interrupted, if it is one that waits. Two shapes: the kernel is going to
// repeat it (pc at the instruction, number in rax), or it returns EINTR (pc behind the instruction). The
// number is then taken from the `mov $number, %eax` in front of it, as libc's wrappers have it.
const Wait* interrupted_wait(const gregset_t& registers, bool* repeats) {
  const auto* pc = reinterpret_cast<const unsigned char*>(registers[REG_RIP]);
  *repeats = is_syscall(pc);
  if (*repeats) return find_wait(registers[REG_RAX]);
  if (registers[REG_RAX] != -EINTR || !is_syscall(pc - 2)) return nullptr;
  constexpr unsigned char kMovEaxImmediate = 0xb8;
  constexpr int kLookBack = 24;
  for (int back = 7; back <= kLookBack; ++back) {
    if (pc[-back] != kMovEaxImmediate) continue;
    std::int32_t number = 0;
    std::memcpy(&number, pc - back + 1, sizeof(number));
    if (const Wait* wait = find_wait(number); wait != nullptr) return wait;
  }
  return nullptr;
}

// Makes the thread go on waiting as if there had been no signal, where that is exact: the program has not
// asked to be woken by us. Otherwise it sees EINTR, once.
void go_on_waiting(const Wait& wait, gregset_t& registers) {
  switch (wait.timeout) {
    case Timeout::kNone:
    case Timeout::kKernelCountsDown:
      break;
    case Timeout::kNegativeMeansForEver:
      if (static_cast<std::int32_t>(registers[wait.timeout_register]) >= 0) return;
      break;
    case Timeout::kSleep: {
      const bool until = wait.number == SYS_clock_nanosleep && (registers[REG_RSI] & TIMER_ABSTIME) != 0;
      if (until) break;
      if (registers[wait.rest_register] == 0) return;
      registers[wait.timeout_register] = registers[wait.rest_register];
      break;
    }
  }
  registers[REG_RIP] -= sizeof(kSyscallCode);
  registers[REG_RAX] = wait.number;
}

// When the signal finds the program at work, nobody else comes by unless it allocates: the kernel is asked to
// signal again shortly, until the program is found waiting or has allocated. One timer, one shot at a time;
// it dies with exec and is not inherited by fork.
class Retry {
 public:
  void arm() noexcept {
    constexpr long kAgainAfterNanos = 10'000'000;
    if (!exists_.load(std::memory_order_relaxed)) {
      sigevent event{};
      event.sigev_notify = SIGEV_SIGNAL;
      event.sigev_signo = kWakeSignal;
      if (sys::call(SYS_timer_create, CLOCK_MONOTONIC, reinterpret_cast<long>(&event),
                    reinterpret_cast<long>(&timer_)) != 0) {
        return;
      }
      exists_.store(true, std::memory_order_relaxed);
    }
    itimerspec once{};
    once.it_value.tv_nsec = kAgainAfterNanos;
    sys::call(SYS_timer_settime, timer_, 0, reinterpret_cast<long>(&once), 0);
  }

  void end() noexcept {
    if (exists_.exchange(false, std::memory_order_relaxed)) sys::call(SYS_timer_delete, timer_);
  }

  // In the child of a fork, which has no timers.
  void forget() noexcept { exists_.store(false, std::memory_order_relaxed); }

 private:
  std::atomic<bool> exists_{false};
  int timer_ = 0;  // the kernel's timer_t
};

constinit Retry retry;

// Runs on a thread of the program.
void on_signal(int, siginfo_t* info, void* context) {
  const safe::SafeSection section;
  // A retry that was in flight when the service started.
  if (info->si_code == SI_TIMER && !safe::events.is_deferred.load(std::memory_order_relaxed))
    return retry.end();
  safe::events.is_deferred.store(true, std::memory_order_relaxed);
  auto& registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  bool repeats = false;
  const Wait* wait = section ? interrupted_wait(registers, &repeats) : nullptr;
  if (wait == nullptr) {
    // Running code, perhaps inside its allocator: the next allocation will look.
    if (section) safe::HeapRecorder::look_soon();
    return retry.arm();
  }
  // Between the program's call and the kernel there is only libc's wrapper, which holds no lock.
  safe::events.is_deferred.store(false, std::memory_order_relaxed);
  retry.end();
  start_service();
  if (!repeats) go_on_waiting(*wait, registers);
}

}  // namespace

void forget_clients_after_fork() noexcept {
  retry.forget();
}

bool watch_for_clients(safe::EventHandler start) noexcept {
  struct sigaction current {};
  if (sigaction(kWakeSignal, nullptr, &current) != 0 || current.sa_handler != SIG_DFL) return false;
  start_service = start;
  struct sigaction ours {};
  ours.sa_sigaction = on_signal;
  ours.sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK;
  sigemptyset(&ours.sa_mask);
  return sigaction(kWakeSignal, &ours, nullptr) == 0;
}

}  // namespace profagent
