#include "agent/wake.h"

#include <csignal>
#include <cstdint>
#include <ctime>

#include <sys/syscall.h>
#include <ucontext.h>

#include "agent/safe/events.h"
#include "agent/safe/heap_recorder.h"
#include "agent/safe/interrupted_wait.h"
#include "agent/safe/sys.h"
#include "agent/safe/thread_asks.h"
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

// When the signal finds the program at work, nobody else comes by unless it allocates: the kernel is asked to
// signal again shortly, until the program is found waiting or has allocated. One timer, one shot at a time;
// it dies with exec and is not inherited by fork.
class Retry {
 public:
  void arm() noexcept {
    // It would be the process' signal, and may come to a thread that must not even return from it.
    if (!safe::may_signal_process()) return;
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
    // One that was about to come says so before it ends what it finds here.
    if (!safe::may_signal_process()) end();
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
  return ((sys::blocked_signals() >> (signal - 1)) & 1) != 0;
}

[[gnu::noinline]] void on_client(const siginfo_t& info, ucontext_t& interrupted) {
  if (!safe::may_ask_kernel()) {
    // Sent before the filter came. Another thread's allocation may find it; this one's wait ends, as how it
    // would go on is a question to the kernel.
    if (info.si_code != SI_TIMER) safe::events.is_deferred.store(true, std::memory_order_relaxed);
    return;
  }
  const safe::SafeSection section;
  const safe::InterruptedWait wait =
      section ? safe::find_interrupted_wait(interrupted.uc_mcontext.gregs) : safe::InterruptedWait{};
  if (info.si_code == SI_TIMER && !safe::events.is_deferred.load(std::memory_order_relaxed)) {
    // A retry that was under way when the service started.
    retry.end();
    return safe::go_on_waiting(wait, interrupted);
  }
  safe::events.is_deferred.store(true, std::memory_order_relaxed);
  if (!wait.holds_nothing()) {
    // Running code, perhaps inside its allocator: the next allocation will look.
    if (section) safe::HeapRecorder::look_soon();
    retry.arm();
    return safe::go_on_waiting(wait, interrupted);
  }
  safe::events.is_deferred.store(false, std::memory_order_relaxed);
  retry.end();
  start_service();
  safe::go_on_waiting(wait, interrupted);
}

// Runs on a thread of the program.
void on_signal(int, siginfo_t* info, void* context) {
  auto& interrupted = *static_cast<ucontext_t*>(context);
  if (!safe::thread_asks.on_signal(*info, interrupted)) on_client(*info, interrupted);
}

struct sigaction our_action() {
  struct sigaction ours {};
  ours.sa_sigaction = on_signal;
  ours.sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK;
  sigfillset(&ours.sa_mask);  // see go_on_waiting()
  return ours;
}

struct sigaction default_action() {
  struct sigaction action {};
  action.sa_handler = SIG_DFL;
  return action;
}

bool runs_ours(const struct sigaction& action) {
  return (action.sa_flags & SA_SIGINFO) != 0 && action.sa_sigaction == on_signal;
}
bool is_default(const struct sigaction& action) {
  return (action.sa_flags & SA_SIGINFO) == 0 && action.sa_handler == SIG_DFL;
}

// Only in place of the one that is expected: not of one that the program has set past our hooks.
void replace_action(int signal, bool (*is_expected)(const struct sigaction&),
                    const struct sigaction& action) {
  struct sigaction old {};
  if (hooks::real::sigaction(signal, nullptr, &old) != 0 || !is_expected(old)) return;
  if (hooks::real::sigaction(signal, &action, &old) == 0 && !is_expected(old))
    hooks::real::sigaction(signal, &old, nullptr);
}

// The signal is ours, but has its default action.
constinit std::atomic<bool> rests = false;

// Gives the signal the action that it is to have. Both may change meanwhile, on other threads: whoever
// changes one comes here afterwards, and the last one to leave has seen all changes.
void settle_action() {
  constexpr int kMaxTries = 100;
  for (int i = 0; i < kMaxTries; ++i) {
    const int signal = safe::events.wake_signal.load(std::memory_order_seq_cst);
    const bool is_resting = rests.load();
    if (signal == 0) return;
    if (is_resting) {
      replace_action(signal, runs_ours, default_action());
    } else {
      replace_action(signal, is_default, our_action());
    }
    if (safe::events.wake_signal.load(std::memory_order_seq_cst) == signal && rests.load() == is_resting)
      return;
    replace_action(signal, runs_ours, default_action());
  }
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
    const struct sigaction ours = our_action();
    if (!rests.load() && hooks::real::sigaction(signal, &ours, nullptr) != 0) continue;
    safe::events.wake_signal.store(signal, std::memory_order_seq_cst);
    return settle_action();
  }
  // Sequentially consistent: see ThreadAsks::ask().
  safe::events.wake_signal.store(0, std::memory_order_seq_cst);
}

void leave_signal() noexcept {
  const int left = wake_signal();
  if (left == 0) return;
  // Nothing is sent any more; see on_filter_will_come() in serving.cc.
  if (!safe::may_ask_kernel()) return safe::events.wake_signal.store(0, std::memory_order_seq_cst);
  // A vfork child has actions of its own.
  if (!safe::is_own_process()) return;
  retry.end();
  take_signal(left);
  safe::thread_asks.leave_signal();
  // Nothing is sent to us by the old one before the program sees its default action again.
  signal_moved();
  replace_action(left, runs_ours, default_action());
}

}  // namespace

int wake_signal() noexcept {
  return safe::events.wake_signal.load(std::memory_order_relaxed);
}

void rest_signal() noexcept {
  rests = true;
  settle_action();
}

void use_signal() noexcept {
  if (rests.exchange(false)) settle_action();
}

int asking_signal() noexcept {
  use_signal();
  const int signal = wake_signal();
  struct sigaction current {};
  const bool is_ours =
      signal != 0 && hooks::real::sigaction(signal, nullptr, &current) == 0 && runs_ours(current);
  return is_ours ? signal : 0;
}

void wake_now() noexcept {
  if (wake_signal() != 0) sys::call(SYS_tgkill, sys::getpid(), sys::gettid(), wake_signal());
}

void stop_trying() noexcept {
  retry.end();
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
