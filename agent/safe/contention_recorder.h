// Records waits for the block profile (at the waiter's stack) and the mutex profile (at the stack of the one
// that the others waited for, when it unlocks). Any thread; never waits; errno is the caller's to keep.
//
// The rules are Go's (runtime.SetBlockProfileRate, runtime.SetMutexProfileFraction): each sample is complete
// when recorded, so a rate that is changed leaves what was counted before true.
#pragma once

#include <atomic>
#include <cstdint>

#include "agent/safe/clock.h"
#include "agent/safe/contention_buckets.h"
#include "agent/safe/lock_waiters.h"
#include "agent/safe/look.h"
#include "agent/safe/types.h"
#include "agent/safe/unwind.h"
#include "agent/safe/waits.h"

namespace profagent::safe {

// A wait, or what ends one.
struct Wait {
  WaitKind kind = WaitKind::kNone;
  const void* object = nullptr;
  Pc function = 0;  // the libc function that waited: the leaf of the stack
  StartFrame caller;
};

// Whether a wait is recorded, as far as it can be said before it is over.
struct Draw {
  std::int64_t rate = 0;     // of the block profile; 0: nothing was drawn
  Nanos beyond = 0;          // recorded when it lasts longer, or as long as the rate
  StackId stack = kNoStack;  // kNoStack: not walked yet
  BucketId row = 0;          // in which it will be recorded; 0: not known yet
  std::uint32_t jitter = 0;  // any number
  bool is_looker = false;    // one to enter among those who look at the lock (lock_waiters.h)
};

// What an unlock is charged with.
struct Charge {
  Nanos nanos = 0;            // all that its waiters have waited; 0: nothing to record
  std::int64_t fraction = 1;  // it stands for so many
  std::int64_t unlocks = 1;   // each of which for so many
};

// What rows tell apart besides stacks and kinds of waits.
struct ContentionLabels {
  bool locks = false;    // the address of what was waited for
  bool holders = false;  // who gave it back
};
// The setting's.
[[nodiscard]] ContentionLabels contention_labels() noexcept;

class ContentionRecorder {
 public:
  // ns: a wait of that length or longer is always recorded, a shorter one with the probability length / rate
  // and then counts for so many more. 0: off. Our thread.
  void set_block_rate(std::int64_t rate) noexcept;
  // One contended unlock in so many is recorded, and counts for all of them. 0: off; below 0: as it was, as
  // in Go. Our thread.
  void set_mutex_fraction(std::int64_t fraction) noexcept;
  // Our thread.
  void set_labels(const ContentionLabels& labels) noexcept;

  [[nodiscard]] std::int64_t block_rate() const noexcept {
    return block_rate_.load(std::memory_order_relaxed);
  }
  [[nodiscard]] std::int64_t mutex_fraction() const noexcept {
    return mutex_fraction_.load(std::memory_order_relaxed);
  }
  // Somebody wants to know how long waits last. Read only, but by its name from assembly.
  std::atomic<bool> timing{false};
  [[nodiscard]] bool is_timing() const noexcept { return is_set(timing); }
  // Somebody wants to know who waits for a lock when it is unlocked.
  [[nodiscard]] bool is_watching_locks() const noexcept { return is_set(watching_locks_); }

  // Somebody wants to know who gave a thread what it waited for.
  [[nodiscard]] bool is_telling_holders() const noexcept { return is_set(label_holders_); }

  // CLOCK_MONOTONIC, ns.
  [[nodiscard]] static Nanos now() noexcept { return monotonic_now(); }

  // Before a wait for a lock, so that who has got it, and keeps others waiting, has no stack to walk. The
  // stack is left out when only a long wait would be recorded.
  [[nodiscard]] Draw before_lock_wait(const Wait& wait) const noexcept;
  void on_wait(const Wait& wait, Nanos duration, StackId holder, const Draw& drawn = {}) noexcept;

  // Before the real unlock, after which the lock may be no more.
  [[nodiscard]] Charge before_unlock(const Wait& unlock) const noexcept;
  // After it.
  void on_unlock(const Wait& unlock, const Charge& charge) noexcept;
  // A thread that gives others what they may wait for, before it does. Only who it was: nobody is charged
  // with a wait for what did not exist yet.
  static void on_wake(const Wait& wake) noexcept;

 private:
  void update() noexcept;
  [[nodiscard]] ContentionKey block_key(const Wait& wait, StackId stack, StackId holder) const noexcept;

  std::atomic<std::int64_t> block_rate_{0};
  std::atomic<std::int64_t> mutex_fraction_{0};
  std::atomic<bool> watching_locks_{false};
  std::atomic<bool> label_locks_{false};
  std::atomic<bool> label_holders_{false};
};

// Hidden, so that hooks find it without a table.
[[gnu::visibility("hidden")]] extern constinit ContentionRecorder contention_recorder;

}  // namespace profagent::safe
