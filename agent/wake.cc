#include "agent/wake.h"

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstring>

#include <sys/syscall.h>
#include <ucontext.h>

#include "agent/safe/events.h"
#include "agent/safe/heap_recorder.h"
#include "agent/safe/thread_state.h"

namespace profagent {

static_assert(kWakeSignal == SIGURG);

namespace {

constinit safe::EventHandler start_service = nullptr;

// A system call that only waits, and where its arguments say for how long: a register that is negative, or a
// pointer that is null, for ever.
enum class Timeout : std::uint8_t { kNone, kNegativeMeansForEver, kNullMeansForEver, kFinite };
struct Wait {
  int number;
  Timeout timeout;
  int timeout_register;
};
constexpr Wait kWaits[] = {
    {SYS_read, Timeout::kNone, 0},
    {SYS_recvfrom, Timeout::kNone, 0},
    {SYS_recvmsg, Timeout::kNone, 0},
    {SYS_accept, Timeout::kNone, 0},
    {SYS_accept4, Timeout::kNone, 0},
    {SYS_wait4, Timeout::kNone, 0},
    {SYS_waitid, Timeout::kNone, 0},
    {SYS_flock, Timeout::kNone, 0},
    {SYS_epoll_wait, Timeout::kNegativeMeansForEver, REG_R10},
    {SYS_epoll_pwait, Timeout::kNegativeMeansForEver, REG_R10},
    {SYS_poll, Timeout::kNegativeMeansForEver, REG_RDX},
    {SYS_ppoll, Timeout::kNullMeansForEver, REG_RDX},
    {SYS_select, Timeout::kNullMeansForEver, REG_R8},
    {SYS_pselect6, Timeout::kNullMeansForEver, REG_R8},
    {SYS_pause, Timeout::kNone, 0},
    {SYS_nanosleep, Timeout::kFinite, 0},
    {SYS_clock_nanosleep, Timeout::kFinite, 0},
};

const Wait* find_wait(std::int64_t number) {
  for (const Wait& wait : kWaits) {
    if (wait.number == number) return &wait;
  }
  return nullptr;
}

constexpr unsigned char kSyscallCode[] = {0x0f, 0x05};

bool is_syscall(const unsigned char* code) { return std::memcmp(code, kSyscallCode, sizeof(kSyscallCode)) == 0; }

// The system call that the signal interrupted, if it is one that waits. Two shapes: the kernel is going to
// repeat it (pc at the instruction, number in rax), or it returns EINTR (pc behind the instruction). The number is then
// taken from the `mov $number, %eax` in front of it, as libc's wrappers have it.
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

bool lasts_for_ever(const Wait& wait, const gregset_t& registers) {
  switch (wait.timeout) {
    case Timeout::kNone:
      return true;
    case Timeout::kNegativeMeansForEver:
      return static_cast<std::int32_t>(registers[wait.timeout_register]) < 0;
    case Timeout::kNullMeansForEver:
      return registers[wait.timeout_register] == 0;
    case Timeout::kFinite:
      return false;
  }
  return false;
}

// Runs on a thread of the program.
void on_signal(int, siginfo_t*, void* context) {
  safe::SafeSection section;
  safe::events.is_deferred.store(true, std::memory_order_relaxed);
  auto& registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  bool repeats = false;
  const Wait* wait = section ? interrupted_wait(registers, &repeats) : nullptr;
  if (wait == nullptr) {
    // Running code, perhaps inside its allocator: the next allocation will look.
    if (section) safe::HeapRecorder::look_soon();
    return;
  }
  // Between the program's call and the kernel there is only libc's wrapper, which holds no lock.
  safe::events.is_deferred.store(false, std::memory_order_relaxed);
  start_service();
  if (!repeats && lasts_for_ever(*wait, registers)) {
    // The program asked not to be woken before something happened, and nothing of its own did.
    registers[REG_RIP] -= sizeof(kSyscallCode);
    registers[REG_RAX] = wait->number;
  }
}

}  // namespace

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
