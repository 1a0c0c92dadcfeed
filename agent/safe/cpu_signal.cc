#include "agent/safe/cpu_signal.h"

#include <csignal>
#include <cstdint>
#include <type_traits>

#include <sys/auxv.h>
#include <ucontext.h>

#include "agent/safe/counters.h"
#include "agent/safe/cpu_recorder.h"
#include "agent/safe/cpu_timers.h"
#include "agent/safe/events.h"
#include "agent/safe/signal_stack.h"
#include "agent/safe/sys.h"
#include "agent/safe/thread_pointer.h"

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

// Somebody sent the signal to a program that has left it at its default: that ends it, as it would without
// us. Once the handler returns, and the signal is no longer blocked.
void do_default(int number) noexcept {
  const KernelAction default_action{};
  change_action(number, &default_action, nullptr);
  sys::call(SYS_tgkill, sys::getpid(), sys::gettid(), number);
}

struct Delivery {
  CpuTimers::Owner owner;
  const ucontext_t* context;
};

// On a kernel that looks at CPU timers in task work (x86-64: 5.10), these signals are raised on the way back
// to the program, so none of them ever cuts a system call short.
void take_sample(void* argument) noexcept {
  const Delivery& delivery = *static_cast<Delivery*>(argument);
  if (!has_thread_pointer()) return;
  cpu_recorder.on_signal(*delivery.owner.timer, delivery.owner.generation, *delivery.context);
}

void on_signal(int number, siginfo_t* info, void* context) noexcept {
  Delivery delivery{cpu_timers.owner_of(*info), static_cast<const ucontext_t*>(context)};
  if (delivery.owner.timer == nullptr) return do_default(number);
  if (delivery.owner.stale) return;
  if (!run_on_signal_stack(take_sample, &delivery)) count(counters.cpu_signals_without_stack);
}

KernelAction our_action() noexcept {
  constexpr std::uint64_t kAllSignals = ~std::uint64_t{0};  // see signal_stack.h
  return {reinterpret_cast<std::uintptr_t>(on_signal), SA_SIGINFO | SA_RESTART | SA_ONSTACK | kRestorer,
          reinterpret_cast<std::uintptr_t>(profagent_sigreturn), kAllSignals};
}

bool runs_our_handler(const KernelAction& action) noexcept {
  return action.handler == reinterpret_cast<std::uintptr_t>(on_signal);
}

}  // namespace

// Published before its action is set: a sigaction() of the program in between must know whose it is.
void CpuSignal::choose(int left) noexcept {
  for (const int number : kCandidates) {
    if (number == left) continue;
    KernelAction current{};
    if (change_action(number, nullptr, &current) != 0) continue;
    const bool is_set = runs_our_handler(current);
    if (!is_set && current.handler != 0) continue;
    default_flags_.store(static_cast<int>(current.flags & ~kRestorer), std::memory_order_relaxed);
    default_mask_.store(current.mask, std::memory_order_relaxed);
    number_.store(number, std::memory_order_seq_cst);
    const KernelAction ours = our_action();
    if (is_set || change_action(number, &ours, nullptr) == 0) return cpu_timers.set_signal(number);
  }
  number_.store(0, std::memory_order_seq_cst);
  cpu_timers.set_signal(0);
}

bool CpuSignal::take() noexcept {
  process_.store(sys::getpid(), std::memory_order_relaxed);
  KernelAction current{};
  const int present = number();
  if (present != 0 && change_action(present, nullptr, &current) == 0 && runs_our_handler(current))
    return true;
  choose(0);
  return number() != 0;
}

void CpuSignal::leave() noexcept {
  // Under a filter of the program's, and no timer is running that would send it.
  if (!may_ask_kernel() && !cpu_recorder.is_running()) return number_.store(0, std::memory_order_seq_cst);
  // A vfork child has our memory but actions of its own, and no timers.
  if (!is_own_process()) return;
  const sys::SignalsBlocked until_done;  // a handler that leaves by siglongjmp would leave slots busy
  if (cpu_recorder.is_running()) return choose(number());
  number_.store(0, std::memory_order_seq_cst);
}

bool CpuSignal::is_own_process() const noexcept {
  return process_.load(std::memory_order_relaxed) == sys::getpid();
}

void CpuSignal::on_fork_child() noexcept {
  process_.store(sys::getpid(), std::memory_order_relaxed);
}

bool CpuSignal::is_blocked_here() const noexcept {
  const int present = number();
  return present == 0 || ((sys::blocked_signals() >> (present - 1)) & 1) != 0;
}

std::size_t least_alternate_stack() noexcept {
  // Before Linux 5.14 the kernel does not say; with AVX-512 it is this much.
  constexpr std::size_t kLargestFrame = 3632;
  constexpr std::size_t kOurs = 384;  // see test/unit/cpu_signal_test.cc
  // What a handler of the program's that runs there may have used itself.
  constexpr std::size_t kTheirs = 512;
  const std::size_t frame = getauxval(AT_MINSIGSTKSZ);
  return 2 * (frame == 0 ? kLargestFrame : frame) + kTheirs + kOurs;
}

}  // namespace profagent::safe
