// The signal of the CPU timers: SIGPROF, or another that the program does not use. It is taken when the first
// CPU profile starts and then kept: a late one would end the program by its default action.
//
// The program does not see that. It is told that the signal has its default action, and when it wants it for
// anything else (a handler, SIG_IGN), we leave it and go on with another one.
#pragma once

#include <atomic>
#include <csignal>
#include <cstddef>
#include <cstdint>

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

  // What the program has set besides the default action, which it may read back. Two words, not one: who sets
  // and reads them at the same time may see a mixture.
  void note_default(int flags, std::uint64_t mask) noexcept {
    default_flags_.store(flags, std::memory_order_relaxed);
    default_mask_.store(mask, std::memory_order_relaxed);
  }
  [[nodiscard]] int default_flags() const noexcept { return default_flags_.load(std::memory_order_relaxed); }
  [[nodiscard]] std::uint64_t default_mask() const noexcept {
    return default_mask_.load(std::memory_order_relaxed);
  }

  // False in a child that shares our memory, or was made past our fork handler.
  [[nodiscard]] bool is_own_process() const noexcept;

  // The child of fork() inherits the action.
  void on_fork_child() noexcept;

  // Whether the calling thread blocks it.
  [[nodiscard]] bool is_blocked_here() const noexcept;

 private:
  void choose(int left) noexcept;

  std::atomic<int> number_{0};
  std::atomic<int> default_flags_{0};
  std::atomic<std::uint64_t> default_mask_{0};
  std::atomic<pid_t> process_{0};  // whose signal it is
};

extern constinit CpuSignal cpu_signal;

// What a thread's alternate stack must have for a handler of ours: room for two of the kernel's frames,
// because a handler of the program's may be running there already, and a little. On a smaller one the kernel
// would kill the process.
[[nodiscard]] std::size_t least_alternate_stack() noexcept;

// As sigaltstack() is told, or tells.
[[nodiscard]] inline bool is_too_small(const stack_t& stack) noexcept {
  return (stack.ss_flags & SS_DISABLE) == 0 && stack.ss_size < least_alternate_stack();
}

}  // namespace profagent::safe
