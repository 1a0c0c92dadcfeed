// The signal of the CPU timers: SIGPROF, or another that the program does not use. It is taken when the first
// CPU profile starts and then kept: a late one would end the program by its default action.
//
// The program does not see that. It is told that the signal has its default action, and when it wants it for
// anything else (a handler, SIG_IGN), we leave it and go on with another one.
#pragma once

#include <atomic>
#include <cstddef>

#include <sys/types.h>

namespace profagent::safe {

class CpuSignal {
 public:
  // The signal in use; 0: none.
  [[nodiscard]] int number() const noexcept { return number_.load(std::memory_order_acquire); }
  [[nodiscard]] bool is_ours(int number) const noexcept { return number != 0 && number == this->number(); }

  // Makes sure that a signal is ours, and still is: the program may have taken it past our hooks. False when
  // none is free. Our thread.
  [[nodiscard]] bool take() noexcept;

  // The program wants the signal: timers that exist go on with another one, or end. A thread of the program,
  // before it changes the action.
  void leave() noexcept;

  // The child of fork() inherits the action.
  void on_fork_child() noexcept;

  // Whether the calling thread blocks it.
  [[nodiscard]] bool is_blocked_here() const noexcept;

 private:
  [[nodiscard]] int choose(int left) const noexcept;

  std::atomic<int> number_{0};
  std::atomic<pid_t> process_{0};  // whose signal it is
};

extern constinit CpuSignal cpu_signal;

// What a handler of ours needs of a thread's alternate stack: the kernel's frame and a little. A thread with
// a smaller one cannot be signalled at all (the kernel kills the process).
[[nodiscard]] std::size_t least_alternate_stack() noexcept;

}  // namespace profagent::safe
