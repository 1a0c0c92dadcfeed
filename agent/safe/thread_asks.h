// Asks a running thread where it stands. It gets a signal that is ignored by default, from a timer on its own
// CPU clock that goes off once: the kernel looks at such a timer when it ticks while the thread runs, and
// raises the signal on the thread's way back to the program. So nothing that the thread does in the kernel
// is cut short, and one that has begun to wait meanwhile is not asked at all.
//
// The thread answers in a place that is there beforehand. Places are never unmapped; a late signal finds that
// its place has a new generation, and does nothing.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include <signal.h>
#include <sys/types.h>
#include <ucontext.h>

#include "agent/safe/types.h"
#include "agent/safe/unwind.h"

namespace profagent::safe {

struct AskPlace {
  // Generation and phase; whoever changes the phase from "asked" owns the place.
  std::atomic<std::uint64_t> state{0};
  // The kernel's timer_t plus one; 0: there is none. Whoever exchanges it for 0 deletes the timer.
  std::atomic<std::int32_t> timer{0};
  std::atomic<pid_t> tid{0};  // who is or was asked
  bool was_given_up = false;  // our thread's: the answer was under way, and nobody waits for it any more
  Stack stack;
  Pc pcs[kMaxStackDepth];
};

class ThreadAsks {
 public:
  static constexpr std::size_t kPlaces = 128;

  // Our thread, first. False when there is no memory.
  [[nodiscard]] bool prepare() noexcept;

  // One question, our thread's: to be given up, answered or not.
  struct Ask {
    AskPlace* place = nullptr;  // null: it could not be asked
    std::uint64_t state = 0;
  };
  // `signal` is the one of agent/wake.h. The thread must not block it. `marks`: what threads.marks() was
  // before the thread was found to have no mark. Null when no place is free, the thread is gone, a mark has
  // changed since, or the user has no pending signal left.
  [[nodiscard]] Ask ask(pid_t tid, int signal, std::uint32_t marks) noexcept;
  // Null as long as there is no answer.
  [[nodiscard]] static const AskPlace* answer(const Ask& ask) noexcept;
  static void give_up(const Ask& ask) noexcept;

  // The handler of the signal. False: it was not one of ours.
  [[nodiscard]] bool on_signal(const siginfo_t& info, const ucontext_t& context) noexcept;

  // The program wants the signal for itself, and events.wake_signal is another already: no timer of ours
  // raises the old one after this. A thread of the program.
  void leave_signal() noexcept;

  // For the calling thread, which has marked itself: it is not asked after this. Very rarely another thread's
  // question in the same place goes unanswered.
  void leave_alone(pid_t tid) noexcept;

  // In the child of fork(), which has no timers.
  void forget_after_fork() noexcept;

 private:
  std::atomic<AskPlace*> places_{nullptr};
  std::atomic<pid_t> process_{0};  // whose timers they are
};

extern constinit ThreadAsks thread_asks;

}  // namespace profagent::safe
