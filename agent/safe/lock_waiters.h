// Who waits for which lock, kept apart from the locks: an unlock that finds waiters takes over what they have
// waited since the last such unlock. Any thread; never waits; nothing of the program's is touched.
//
// An entry is one 16-byte word, changed by one compare-and-swap: the lock's address, how many wait, and the
// sum of the times since which they wait. So an entry cannot be half changed, and one that is given to
// another lock meanwhile makes the exchange fail. Four entries make a cache line, and a lock may be in any of
// the four of its line, in more than one at the same time.
//
// Who leaves takes its own time with it: that since which it waits, or that of the last unlock when that was
// later, since an unlock starts all clocks again. That time is kept beside the entry, not in it, so who
// leaves in the very moment of an unlock may take the one before; no more than the sum has.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "agent/safe/look.h"
#include "agent/safe/types.h"

namespace profagent::safe {

class LockWaiters {
 public:
  // The place where a waiter was entered.
  struct Ticket {
    std::uint32_t place = 0;  // 1 and up; 0: none
    Nanos since = 0;          // it waits
    Nanos entered = 0;
  };

  // Before the first waiter: our thread, at load, and in the child of a fork. False when there is no memory.
  [[nodiscard]] bool prepare() noexcept;

  // The calling thread waits for `lock`, `since` a while, as a rule, or from now on. No ticket when the line
  // is full (counted).
  [[nodiscard]] Ticket join(const void* lock, Nanos since, Nanos now) noexcept;
  [[nodiscard]] Ticket join(const void* lock, Nanos now) noexcept { return join(lock, now, now); }
  void leave(const void* lock, Ticket ticket) noexcept;

  // What somebody waits for that is no lock (a condition, a semaphore) goes under an address that no lock
  // has: its waiters may be left behind by cancellation, and no lock must be charged for them.
  [[nodiscard]] static const void* wakeable(const void* object) noexcept {
    return static_cast<const char*>(object) + 1;
  }
  // Takes all of those out. Our thread.
  void forget_wakeables() noexcept;

  // Who only looks for a moment whether the lock becomes free goes under this address, and only one in
  // kLookersPerEntered does, at random: it stands for all of them. To enter each would take longer than most
  // locks are held.
  [[nodiscard]] static const void* looked_at(const void* lock) noexcept {
    return static_cast<const char*>(lock) + kLooker;
  }
  static constexpr int kLookersPerEntered = 16;
  // Since the last of them came: beyond that it was the processor that they waited for, or they have gone by
  // a jump; ns.
  static constexpr Nanos kLongestLook = 50'000;
  // One that has looked in vain waits since it began to look, as all that have, less what was charged for all
  // while it looked. That may be more than it has waited, and then lessens what the others have.
  [[nodiscard]] Ticket go_on_waiting(const void* lock, const Ticket& looker, Nanos now) noexcept;

  // Somebody waits, for whatever lock: one look at a word that nobody writes to while nobody waits.
  [[nodiscard, gnu::always_inline]] bool is_anybody_waiting() const noexcept { return !is_zero(in_use_); }
  // False: nobody who began to wait for `lock` before this call has to be charged to anybody.
  [[nodiscard]] bool may_have(const void* lock) const noexcept;

  // As may_have(), and nobody has taken over what they waited within the last few microseconds, about, or
  // somebody looks at it.
  [[nodiscard]] bool may_be_due(const void* lock) const noexcept;

  // The stack of the one who releases a lock; asked for only when somebody waits.
  struct Releaser {
    StackId (*stack)(const void* argument) noexcept = nullptr;  // null: nobody wants to know
    const void* argument = nullptr;
  };
  struct Taken {
    Nanos nanos = 0;           // what all have waited since the last call; 0: nobody waits
    std::int64_t unlocks = 1;  // so many like this one it stands for
  };
  // `lock` is about to be released. Its waiters' clocks start again.
  [[nodiscard]] Taken take_over(const void* lock, Nanos (*clock)() noexcept,
                                const Releaser& releaser) noexcept;

  // Who of those that released the lock while this waiter waited had it longest, about; kNoStack: nobody, or
  // nobody was asked. Before leave().
  [[nodiscard]] StackId holder(Ticket ticket) const noexcept;

  // In the child of fork(), which has one thread: nobody waits.
  void forget_after_fork() noexcept;

 private:
  // lock: 47 bits, and above them the time that `sum` counts from, in units of 2^30 ns, modulo 2^17.
  // sum: 12 bits of how many, 52 bits of the sum of their times, in units of 64 ns.
  struct alignas(16) Entry {
    std::uint64_t lock;
    std::uint64_t sum;
  };
  // In an address, as locks are aligned to more.
  static constexpr std::uintptr_t kLooker = 2;
  static constexpr std::size_t kPerLine = 4;
  static constexpr std::size_t kLines = 1024;
  struct alignas(64) Line {
    Entry entries[kPerLine];
  };
  // Beside an entry. Written by who is about to release the lock, so as a rule by one thread at a time.
  struct Released {
    std::atomic<std::uint64_t> last_ticks;  // the processor's, which cost less than a clock
    std::atomic<Nanos> last_at;
    std::atomic<Nanos> looked_at;  // by the last to come of those who look
    std::atomic<Nanos> longest_at;
    std::atomic<Nanos> longest;  // how long it was held while others waited
    std::atomic<StackId> last_by;
    std::atomic<StackId> longest_by;
  };
  static constexpr std::size_t kPlaces = kLines * kPerLine;

  static Entry read(const Entry& entry) noexcept;
  static bool exchange(Entry& entry, const Entry& expected, const Entry& desired) noexcept;
  [[nodiscard]] static bool is_for(std::uint64_t word, const void* lock) noexcept;
  [[nodiscard]] static std::size_t line_of(const void* lock) noexcept;
  static void note(Released& released, StackId holder, Nanos held, Nanos now) noexcept;

  // How many entries have waiters. One is added before it has its first, so who reads 0 has unlocked before
  // that: of the two writes, the exchange is a full barrier, and x86 does not swap them. On a line of its
  // own, for what follows is only ever read.
  alignas(64) std::atomic<std::int32_t> in_use_{0};
  alignas(64) std::atomic<Line*> lines_{nullptr};
  std::atomic<Released*> released_{nullptr};
};

// Hidden, so that hooks find it without a table.
[[gnu::visibility("hidden")]] extern constinit LockWaiters lock_waiters;

}  // namespace profagent::safe
