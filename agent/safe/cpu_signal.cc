#include "agent/safe/cpu_signal.h"

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <type_traits>

#include <sys/auxv.h>
#include <ucontext.h>

#include "agent/safe/counters.h"
#include "agent/safe/cpu_recorder.h"
#include "agent/safe/cpu_timers.h"
#include "agent/safe/interrupted_wait.h"
#include "agent/safe/signal_stack.h"
#include "agent/safe/sys.h"

// Where the kernel returns to from a handler. The instructions are those by which unwinders and debuggers
// know a signal frame; the byte in front is for those that look up the address before a return address.
asm(R"(
  .text
  .hidden profagent_sigreturn
  .globl profagent_sigreturn
  .type profagent_sigreturn, @function
  nop
profagent_sigreturn:
  movq $15, %rax
  syscall
  .size profagent_sigreturn, . - profagent_sigreturn
)");
extern "C" void profagent_sigreturn();

namespace profagent::safe {

constinit CpuSignal cpu_signal;
static_assert(std::is_trivially_destructible_v<CpuSignal>);

namespace {

// Standard ones: those of real time queue up while a thread is stopped. All end a program that does not
// expect them, so nobody sends them for nothing.
constexpr int kCandidates[] = {SIGPROF, SIGVTALRM, SIGSTKFLT, SIGPWR};

// The kernel's struct sigaction, which is not libc's: the program may have a sigaction of its own, and so
// have we.
struct KernelAction {
  std::uintptr_t handler;
  unsigned long flags;
  std::uintptr_t restorer;
  std::uint64_t mask;
};
constexpr unsigned long kRestorer = 0x04000000;
constexpr long kMaskSize = sizeof(std::uint64_t);

long change_action(int number, const KernelAction* action, KernelAction* old) noexcept {
  return sys::call(SYS_rt_sigaction, number, reinterpret_cast<long>(action), reinterpret_cast<long>(old),
                   kMaskSize);
}

// A task that was made by a raw clone() may have no thread-local storage at all.
bool has_thread_pointer() noexcept {
  constexpr unsigned long kMayReadFs = 2;  // HWCAP2_FSGSBASE
  std::uintptr_t base = 0;
  if ((getauxval(AT_HWCAP2) & kMayReadFs) != 0) {
    asm("rdfsbase %0" : "=r"(base));
  } else {
    constexpr long kGetFs = 0x1003;  // ARCH_GET_FS
    sys::call(SYS_arch_prctl, kGetFs, reinterpret_cast<long>(&base));
  }
  return base != 0;
}

// Somebody sent the signal to a program that has left it at its default: that ends it, as it would without
// us. Once the handler returns, and the signal is no longer blocked.
void do_default(int number) noexcept {
  const KernelAction default_action{};
  change_action(number, &default_action, nullptr);
  sys::call(SYS_tgkill, sys::getpid(), sys::gettid(), number);
}

struct Delivery {
  CpuTimer* timer;
  ucontext_t* context;
};

void take_sample(void* argument) noexcept {
  const Delivery& delivery = *static_cast<Delivery*>(argument);
  if (!has_thread_pointer()) return;
  cpu_recorder.on_signal(*delivery.timer, *delivery.context);
  auto& registers = delivery.context->uc_mcontext.gregs;
  // Any other value is no call that was cut short, or one that the kernel repeats; to tell which, system
  // calls would be made.
  if (registers[REG_RAX] != -EINTR) return;
  // The kernel looks for signals when a call is about to wait: then it has not waited yet.
  go_on_waiting(find_interrupted_wait(registers), LostTimeout::kStartAgain, registers);
}

void on_signal(int number, siginfo_t* info, void* context) noexcept {
  const CpuTimers::Owner owner = cpu_timers.owner_of(*info);
  if (owner.timer == nullptr) return do_default(number);
  if (owner.stale) return;
  Delivery delivery{owner.timer, static_cast<ucontext_t*>(context)};
  if (!run_on_signal_stack(take_sample, &delivery)) count(counters.cpu_signals_without_stack);
}

KernelAction our_action() noexcept {
  constexpr std::uint64_t kAllSignals = ~std::uint64_t{0};  // see signal_stack.h
  return {reinterpret_cast<std::uintptr_t>(on_signal), SA_SIGINFO | SA_RESTART | SA_ONSTACK | kRestorer,
          reinterpret_cast<std::uintptr_t>(profagent_sigreturn), kAllSignals};
}

bool is_our_action(int number) noexcept {
  KernelAction current{};
  return change_action(number, nullptr, &current) == 0 &&
         current.handler == reinterpret_cast<std::uintptr_t>(on_signal);
}

}  // namespace

int CpuSignal::choose(int left) const noexcept {
  for (const int number : kCandidates) {
    if (number == left) continue;
    KernelAction current{};
    if (is_our_action(number)) return number;
    if (change_action(number, nullptr, &current) != 0 || current.handler != 0) continue;
    const KernelAction ours = our_action();
    if (change_action(number, &ours, nullptr) == 0) return number;
  }
  return 0;
}

bool CpuSignal::take() noexcept {
  process_.store(sys::getpid(), std::memory_order_relaxed);
  const int present = number();
  if (present != 0 && is_our_action(present)) return true;
  const int chosen = choose(0);
  number_.store(chosen, std::memory_order_release);
  cpu_timers.set_signal(chosen);
  return chosen != 0;
}

void CpuSignal::leave() noexcept {
  // A vfork child has our memory but actions of its own, and no timers.
  if (process_.load(std::memory_order_relaxed) != sys::getpid()) return;
  const int left = number();
  const int chosen = cpu_recorder.is_running() ? choose(left) : 0;
  number_.store(chosen, std::memory_order_release);
  cpu_timers.set_signal(chosen);
}

void CpuSignal::on_fork_child() noexcept {
  process_.store(sys::getpid(), std::memory_order_relaxed);
}

bool CpuSignal::is_blocked_here() const noexcept {
  std::uint64_t mask = 0;
  sys::call(SYS_rt_sigprocmask, SIG_BLOCK, 0, reinterpret_cast<long>(&mask), kMaskSize);
  return ((mask >> (number() - 1)) & 1) != 0;
}

std::size_t least_alternate_stack() noexcept {
  constexpr std::size_t kOurs = 384;  // see test/unit/cpu_signal_test.cc
  return getauxval(AT_MINSIGSTKSZ) + kOurs;
}

}  // namespace profagent::safe
