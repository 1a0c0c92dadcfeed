// Charges CPU time to the stack that a timer of its thread interrupts. See cpu_timers.h for the timers,
// cpu_signal.h for the signal, cpu_buckets.h for the rows.
//
// A sample weighs the thread's CPU time since its last sample in whole periods; the rest is carried. The
// kernel looks at timers only when it ticks and may lose ticks, so that signals come later and fewer than
// asked for; charged by the clock, the total is true all the same.
#pragma once

#include <atomic>
#include <cstdint>

#include <ucontext.h>

#include "agent/safe/cpu_buckets.h"
#include "agent/safe/cpu_timers.h"
#include "agent/safe/types.h"

namespace profagent::safe {

class CpuRecorder {
 public:
  // ns of CPU time that one sample stands for; 0: nothing is recorded. Our thread.
  void set_period(std::uint64_t nanos) noexcept;
  [[nodiscard]] std::uint64_t period() const noexcept { return period_.load(std::memory_order_relaxed); }
  [[nodiscard]] bool is_running() const noexcept { return period() != 0; }

  // Whether rows tell threads of one name apart. Our thread.
  void set_by_tid(bool by_tid) noexcept { by_tid_.store(by_tid, std::memory_order_relaxed); }

  // Our thread, first. False when there is no memory.
  [[nodiscard]] bool prepare() noexcept;

  // On the interrupted thread, in the signal handler, with all signals blocked. `generation` is that of the
  // slot when the signal was raised.
  void on_signal(CpuTimer& timer, std::uint32_t generation, const ucontext_t& context) noexcept;

  // In the child of fork(): it has no timers, and nobody has asked it.
  void forget_after_fork() noexcept;

  // Charges what is due of a thread that no signal has reached since, to no stack. `now` is its CPU clock.
  // Our thread, at the end of a profile: the kernel's ticks come late, by milliseconds for each thread.
  void settle(CpuTimer& timer, std::uint64_t now, const ThreadName& name) noexcept;

  // The calling thread is new: gives it a timer, unless it blocks the signal.
  void on_thread_start() noexcept;

 private:
  std::atomic<std::uint64_t> period_{0};
  std::atomic<bool> by_tid_{false};
  BucketId overflow_row_ = 0;  // written before the first signal
};

extern constinit CpuRecorder cpu_recorder;

// Where in a period a thread's first sample is due: anywhere. Without that, threads that live shorter than a
// period would never be seen.
[[nodiscard]] std::uint64_t random_rest(std::uint64_t period, const void* thread_object) noexcept;

}  // namespace profagent::safe
