// The registry of the program's threads that have entered a hook: one slot each, in slabs that are never
// unmapped, so that our thread may look at a slot at any time, whatever its thread does.
//
// A slot is claimed by its thread (any context) and freed by our thread once the kernel no longer knows the
// thread; no destructor runs at thread exit, so nothing is too early or too late for it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include <sys/types.h>

#include "agent/safe/events.h"
#include "agent/safe/look.h"
#include "agent/safe/thread_state.h"
#include "agent/safe/waits.h"

namespace profagent::safe {

struct alignas(64) ThreadSlot {
  std::atomic<pid_t> tid{0};  // 0: free
  // Its alternate stack has no room for a signal of ours. This and takes_cpu_signal are set by
  // Threads::mark().
  std::atomic<bool> small_signal_stack{false};
  WaitSite wait;
  // It takes the signal of the CPU timers by sigwait(), so it blocks it, whatever the kernel shows: while a
  // thread is in there, the signals that it waits for are shown as not blocked.
  std::atomic<bool> takes_cpu_signal{false};
};

class Threads {
 public:
  static constexpr std::size_t kMaxThreads = 32768;

  // The calling thread's slot, claimed on first use; nullptr when the table is full (counted).
  ThreadSlot* current() noexcept;

  // The same for a thread that is about to wait: claimed only while that is allowed. It takes system calls,
  // so it is not in programs that are not profiled, nor once the program has a system call filter.
  ThreadSlot* current_of_waiter() noexcept {
    return thread_state.slot != nullptr || !waiters_may_claim() ? thread_state.slot : current();
  }
  void let_waiters_claim() noexcept { waiters_claim_.store(true, std::memory_order_relaxed); }
  [[nodiscard]] bool waiters_may_claim() const noexcept {
    return is_set(waiters_claim_) && events.any_is_filtered.load(std::memory_order_relaxed) == 0;
  }

  // Says in its slot that a thread can take no signal of ours, or that it can again. Whoever makes a timer
  // for a thread asks for marks() before it reads the marks, and once more when others can find the timer;
  // whoever marks itself looks for its timers after that. All of it is sequentially consistent, so one of the
  // two sees the other. Returns what the mark was.
  bool mark(std::atomic<bool>& mark, bool value) noexcept;
  // The mark of the calling thread for an alternate stack without room; events.small_signal_stacks goes
  // along. Also for a thread without a slot: there are places for some, and when they are taken, every thread
  // counts as such a one from then on. From under a filter only where it has a slot. Returns what the mark
  // was.
  bool mark_small_stack(bool value) noexcept;
  [[nodiscard]] bool is_marked_without_slot(pid_t tid) const noexcept;
  // How often a mark has changed.
  [[nodiscard]] std::uint32_t marks() const noexcept { return marks_.load(std::memory_order_seq_cst); }

  // Frees the slots of threads that are gone. Our thread only.
  void reclaim() noexcept;

  // In the child of fork(): the calling thread goes on under a new tid; the others' slots are reclaimed as
  // those of threads that are gone.
  void on_fork_child() noexcept;

  // Counted by looking: a total that is kept could be copied by fork() between a claim and its addition.
  [[nodiscard]] std::size_t live() const noexcept {
    std::size_t count = 0;
    for_each([&](const ThreadSlot&) { ++count; });
    return count;
  }

  template <typename Visit>
  void for_each(Visit visit) const {
    const std::size_t end = used_.load(std::memory_order_acquire);
    for (std::size_t i = 0; i < end && i < kMaxThreads; ++i) {
      ThreadSlot* slab = slabs_[i / kSlabSize].load(std::memory_order_acquire);
      if (slab == nullptr) continue;
      if (slab[i % kSlabSize].tid.load(std::memory_order_acquire) != 0) visit(slab[i % kSlabSize]);
    }
  }

 private:
  static constexpr std::size_t kSlabSize = 64;

  ThreadSlot* claim(pid_t tid) noexcept;
  bool mark_without_slot(pid_t tid, bool value) noexcept;
  void unmark(ThreadSlot& slot) noexcept;

  std::atomic<ThreadSlot*> slabs_[kMaxThreads / kSlabSize] = {};
  std::atomic<std::size_t> used_{0};  // slots below were given out at least once
  std::atomic<std::size_t> free_{0};  // about how many of them are free again
  std::atomic<std::uint32_t> marks_{0};
  std::atomic<pid_t> marked_without_slot_[64] = {};
  std::atomic<bool> all_are_marked_{false};
  std::atomic<bool> waiters_claim_{false};
};

extern constinit Threads threads;

}  // namespace profagent::safe
