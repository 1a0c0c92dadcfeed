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
#include "hooks/real.h"

namespace profagent {

namespace {

namespace sys = safe::sys;

constinit safe::EventHandler start_service = nullptr;
constinit safe::EventHandler signal_moved = nullptr;

// Both are ignored by default, or as good as that. SIGCONT comes second: it would let a stopped program go
// on. Not SIGWINCH, which ends the work of nginx and Apache.
constexpr int kCandidates[] = {SIGURG, SIGCONT};

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
      event.sigev_signo = wake_signal();
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

bool is_blocked(int signal) {
  std::uint64_t mask = 0;
  sys::call(SYS_rt_sigprocmask, SIG_BLOCK, 0, reinterpret_cast<long>(&mask), sizeof(mask));
  return ((mask >> (signal - 1)) & 1) != 0;
}

// Runs on a thread of the program.
void on_signal(int, siginfo_t* info, void* context) {
  const safe::SafeSection section;
  auto& registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  bool repeats = false;
  const Wait* wait = section ? interrupted_wait(registers, &repeats) : nullptr;
  if (info->si_code == SI_TIMER && !safe::events.is_deferred.load(std::memory_order_relaxed)) {
    // A retry that was under way when the service started.
    retry.end();
    if (wait != nullptr && !repeats) go_on_waiting(*wait, registers);
    return;
  }
  safe::events.is_deferred.store(true, std::memory_order_relaxed);
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

// The first candidate after `left` that nobody uses. Our own sigaction hook must not see this.
void take_signal(int left) {
  bool after = left == 0;
  for (const int signal : kCandidates) {
    if (!after) {
      after = signal == left;
      continue;
    }
    struct sigaction current {};
    if (hooks::real::sigaction(signal, nullptr, &current) != 0 || current.sa_handler != SIG_DFL ||
        is_blocked(signal)) {
      continue;
    }
    struct sigaction ours {};
    ours.sa_sigaction = on_signal;
    ours.sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK;
    sigemptyset(&ours.sa_mask);
    if (hooks::real::sigaction(signal, &ours, nullptr) != 0) continue;
    return safe::events.wake_signal.store(signal, std::memory_order_release);
  }
  safe::events.wake_signal.store(0, std::memory_order_release);
}

void leave_signal() noexcept {
  const int left = wake_signal();
  if (left == 0) return;
  retry.end();
  take_signal(left);
  // Nothing is sent to us by the old one before the program sees its default action again.
  signal_moved();
  struct sigaction as_before {};
  as_before.sa_handler = SIG_DFL;
  hooks::real::sigaction(left, &as_before, nullptr);
}

}  // namespace

int wake_signal() noexcept {
  return safe::events.wake_signal.load(std::memory_order_relaxed);
}

void wake_now() noexcept {
  if (wake_signal() != 0) sys::call(SYS_tgkill, sys::getpid(), sys::gettid(), wake_signal());
}

void forget_clients_after_fork() noexcept {
  retry.forget();
}

void watch_for_clients(safe::EventHandler start, safe::EventHandler moved) noexcept {
  start_service = start;
  signal_moved = moved;
  safe::events.wake_signal_wanted.store(leave_signal, std::memory_order_release);
  take_signal(0);
}

}  // namespace profagent
