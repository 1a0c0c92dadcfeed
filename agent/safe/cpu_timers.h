// The timers of the CPU profile: one POSIX timer per thread, on that thread's own CPU clock, so that it only
// fires while the thread runs. They exist while a profile runs and not a moment longer.
//
// A slot is taken by our thread or, at birth, by the thread that it belongs to, and given back by our thread.
// Whoever changes one, which a thread that makes us change the signal does too, holds it "busy"; everybody
// else passes it by, but for a thread that can take no signal any more and deletes the kernel's timer. Slots
// are never unmapped: a late signal still finds one, and its generation tells that the slot is not its own
// any more.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>

#include <signal.h>
#include <sys/types.h>

namespace profagent::safe {

struct alignas(64) CpuTimer {
  std::atomic<std::uint64_t> owner{0};  // tid, and whether it is busy; 0: free
  std::atomic<std::uint32_t> generation{0};
  // The kernel's timer_t plus one; 0: there is none (any more), and our thread is to take the account over.
  // Whoever exchanges it for 0 deletes the timer.
  std::atomic<std::int32_t> id{0};
  std::atomic<std::int32_t> signal{0};  // that it raises
  std::atomic<std::uint32_t> marks{0};  // threads.marks() when its thread was found to be without one
  // While the thread blocks the signal: the CPU time that the timer had left, ns; 0: it runs.
  std::atomic<std::int64_t> paused{0};
  // On the thread's CPU clock, ns: the time before is charged. What lies between it and now is due, in whole
  // periods. Moved on by the thread's signal handler with a compare-and-swap, so that a handler which finds
  // that the slot has changed hands meanwhile charges nothing; kNotCharging while the slot is nobody's.
  std::atomic<std::int64_t> charged_until{kNotCharging};

  static constexpr std::int64_t kNotCharging = std::numeric_limits<std::int64_t>::max();
};

enum class AddResult : std::uint8_t {
  kAdded,
  kHasOne,   // or is just getting one
  kNoRoom,   // at our own limit, or at the user's limit of pending signals
  kRefused,  // the thread is gone, or the kernel has no such timers
  kStale,    // marks in the registry have changed since they were read
};

class CpuTimers {
 public:
  static constexpr std::size_t kSlots = 2048;
  // Half of the slots, so that looking for one is short.
  static constexpr std::size_t kMostTimers = 1024;

  // Our thread, first. False when there is no memory.
  [[nodiscard]] bool prepare() noexcept;

  // Timers that may exist at once; their period, in ns of CPU time, 0 when there are to be none; the signal
  // that they raise.
  void set_limit(std::size_t limit) noexcept { limit_.store(limit, std::memory_order_relaxed); }
  [[nodiscard]] std::size_t limit() const noexcept { return limit_.load(std::memory_order_relaxed); }
  // Existing timers change to it.
  void set_period(std::uint64_t nanos) noexcept;
  void set_signal(int number) noexcept;

  [[nodiscard]] std::size_t count() const noexcept { return count_.load(std::memory_order_relaxed); }

  // Arms a timer for the thread. `charged_until` may lie before the clock's beginning: then the first sample
  // comes sooner. `marks`: what threads.marks() was before the thread was found to have no mark. Any thread.
  AddResult add(pid_t tid, std::int64_t charged_until, std::uint32_t marks) noexcept;
  // Takes it away, and tells how far it had come. False when the thread has none, or it is being changed.
  bool remove(pid_t tid, std::int64_t* charged_until = nullptr) noexcept;
  void remove_all() noexcept;
  // For the calling thread, which has marked itself: none of its timers goes off after this, also one that
  // somebody is just making or changing. A slot of its own stays, with the account. Very rarely it is another
  // thread's by then, which has to wait for our thread to give it a new timer.
  void leave_alone(pid_t tid) noexcept;

  // The slot of a thread; nullptr when it has none. It may be given back meanwhile.
  [[nodiscard]] CpuTimer* find(pid_t tid) const noexcept;
  [[nodiscard]] static pid_t tid_of(const CpuTimer& timer) noexcept;

  // Around a time in which the calling thread blocks the signal: none gets pending, which sigwait() or
  // signalfd would find; what the timer had left is kept. With all signals blocked: a handler that leaves by
  // siglongjmp would leave the slot busy for ever.
  void pause(pid_t tid) noexcept;
  void resume(pid_t tid) noexcept;

  // From a signal's value to its slot; nullptr for a signal that is not ours. A slot that has changed hands
  // since is `stale`.
  struct Owner {
    CpuTimer* timer = nullptr;
    std::uint32_t generation = 0;
    bool stale = false;
  };
  [[nodiscard]] Owner owner_of(const siginfo_t& info) const noexcept;

  template <typename Visit>
  void for_each(Visit visit) const {
    CpuTimer* all = slots_.load(std::memory_order_acquire);
    for (std::size_t i = 0; all != nullptr && i < kSlots; ++i) {
      if (all[i].owner.load(std::memory_order_acquire) != 0) visit(all[i]);
    }
  }

  // In the child of fork(), which has no timers.
  void forget_after_fork() noexcept;

 private:
  [[nodiscard]] AddResult arm(CpuTimer& timer, pid_t tid) noexcept;
  [[nodiscard]] bool is_up_to_date(const CpuTimer& timer, std::uint64_t period) const noexcept;
  [[nodiscard]] CpuTimer* claim(pid_t tid, AddResult& result) noexcept;
  [[nodiscard]] bool is_doubled(const CpuTimer* mine, pid_t tid) const noexcept;
  static bool lock(CpuTimer& timer, pid_t tid) noexcept;
  void release(CpuTimer& timer) noexcept;

  std::atomic<CpuTimer*> slots_{nullptr};
  std::atomic<std::size_t> limit_{kMostTimers};
  std::atomic<std::size_t> count_{0};
  std::atomic<std::uint64_t> period_{0};
  std::atomic<int> signal_{0};
};

extern constinit CpuTimers cpu_timers;

// The id of a thread's CPU clock, as clock_getcpuclockid(3) makes it for a process: the kernel's
// MAKE_THREAD_CPUCLOCK(tid, CPUCLOCK_SCHED).
[[nodiscard]] constexpr clockid_t cpu_clock_of(pid_t tid) noexcept {
  constexpr unsigned kScheduled = 2;
  constexpr unsigned kPerThread = 4;
  return static_cast<clockid_t>((~static_cast<unsigned>(tid) << 3) | kPerThread | kScheduled);
}

// ns; false when there is no such thread.
[[nodiscard]] bool read_cpu_clock(clockid_t clock, std::uint64_t& nanos) noexcept;

}  // namespace profagent::safe
