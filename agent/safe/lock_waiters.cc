#include "agent/safe/lock_waiters.h"

#include <algorithm>
#include <type_traits>

#include "agent/safe/clock.h"
#include "agent/safe/counters.h"
#include "agent/safe/lazy.h"
#include "agent/safe/thread_state.h"

namespace profagent::safe {

constinit LockWaiters lock_waiters;
static_assert(std::is_trivially_destructible_v<LockWaiters>);

namespace {

constexpr int kMaxTries = 64;

constexpr unsigned kAddressBits = 47;
constexpr std::uint64_t kAddressMask = (std::uint64_t{1} << kAddressBits) - 1;
constexpr unsigned kBaseUnitBits = 30;
constexpr std::uint64_t kBaseMask = (std::uint64_t{1} << (64 - kAddressBits)) - 1;
constexpr unsigned kSumBits = 52;
constexpr std::uint64_t kSumMask = (std::uint64_t{1} << kSumBits) - 1;
constexpr std::uint64_t kMostWaiters = (std::uint64_t{1} << (64 - kSumBits)) - 1;
constexpr unsigned kTimeUnitBits = 6;
// A clock is read a little before the table is changed, at most so many base units.
constexpr std::uint64_t kMostUnitsEarly = 60;

constexpr std::uint64_t base_of(Nanos now) noexcept {
  return (static_cast<std::uint64_t>(now) >> kBaseUnitBits) & kBaseMask;
}
inline std::uint64_t lock_word(const void* lock, std::uint64_t base) noexcept {
  return (reinterpret_cast<std::uintptr_t>(lock) & kAddressMask) | base << kAddressBits;
}
inline bool is_of(std::uint64_t word, const void* lock) noexcept {
  return (word & kAddressMask) == (reinterpret_cast<std::uintptr_t>(lock) & kAddressMask);
}
constexpr std::uint64_t waiters_in(std::uint64_t sum) noexcept {
  return sum >> kSumBits;
}
constexpr std::uint64_t sum_word(std::uint64_t waiters, std::uint64_t times) noexcept {
  return waiters << kSumBits | times;
}
// In units of 64 ns since the base of `word`, which lies less than 2^47 ns back (but for a minute), or a
// moment ahead, when somebody who read the clock later came first: then 0.
constexpr std::uint64_t time_since_base(std::uint64_t word, Nanos now) noexcept {
  const std::uint64_t base = word >> kAddressBits;
  const std::uint64_t full_units = (base_of(now) - base) & kBaseMask;
  if (full_units > kBaseMask - kMostUnitsEarly) return 0;
  constexpr std::uint64_t kInUnit = (std::uint64_t{1} << kBaseUnitBits) - 1;
  return (full_units << kBaseUnitBits | (static_cast<std::uint64_t>(now) & kInUnit)) >> kTimeUnitBits;
}

// Some 10 us. Nothing depends on how long exactly.
constexpr std::uint64_t kBriefTicks = 1 << 15;
// Where the counter is a fault (seccomp's strict mode, PR_SET_TSC) there are none.
inline bool may_have_ticks() noexcept {
  return !thread_state.is_agent && may_read_ticks();
}
inline std::uint64_t read_ticks() noexcept {
  return may_have_ticks() ? __builtin_ia32_rdtsc() : 0;
}

}  // namespace

// Each half by itself: a mixture of two states is refused by the exchange.
LockWaiters::Entry LockWaiters::read(const Entry& entry) noexcept {
  return {__atomic_load_n(&entry.lock, __ATOMIC_RELAXED), __atomic_load_n(&entry.sum, __ATOMIC_RELAXED)};
}

// cmpxchg16b, which is a full barrier. Nothing is published by an entry but itself.
bool LockWaiters::exchange(Entry& entry, const Entry& expected, const Entry& desired) noexcept {
  bool done = false;
  std::uint64_t low = expected.lock;
  std::uint64_t high = expected.sum;
  asm volatile("lock cmpxchg16b %1"
               : "=@ccz"(done), "+m"(entry), "+a"(low), "+d"(high)
               : "b"(desired.lock), "c"(desired.sum)
               : "memory");
  return done;
}

// Of those who wait for `lock` or look at it.
bool LockWaiters::is_for(std::uint64_t word, const void* lock) noexcept {
  return is_of(word & ~std::uint64_t{kLooker}, lock);
}

// The same for those who look.
std::size_t LockWaiters::line_of(const void* lock) noexcept {
  return (reinterpret_cast<std::uintptr_t>(lock) >> 3) * 0x9e3779b97f4a7c15ULL >> 32 & (kLines - 1);
}

bool LockWaiters::prepare() noexcept {
  return lazy_array(released_, kPlaces) != nullptr && lazy_array(lines_, kLines) != nullptr;
}

LockWaiters::Ticket LockWaiters::join(const void* lock, Nanos since, Nanos now) noexcept {
  Line* lines = lines_.load(std::memory_order_acquire);
  if (lines == nullptr) return {};
  const std::size_t line = line_of(lock);
  for (int attempt = 0; attempt < kMaxTries; ++attempt) {
    std::size_t place = kPerLine;
    Entry present{};
    for (std::size_t i = 0; i < kPerLine; ++i) {
      const Entry entry = read(lines[line].entries[i]);
      const bool is_free = waiters_in(entry.sum) == 0;
      const bool is_ours = !is_free && is_of(entry.lock, lock) && waiters_in(entry.sum) < kMostWaiters;
      if (!is_ours && !(is_free && place == kPerLine)) continue;
      place = i;
      present = entry;
      if (is_ours) break;
    }
    if (place == kPerLine) break;
    const bool is_first = waiters_in(present.sum) == 0;
    Entry next{lock_word(lock, base_of(since)), 0};
    if (!is_first) next.lock = present.lock;
    const std::uint64_t times =
        (present.sum & kSumMask) * (is_first ? 0 : 1) + time_since_base(next.lock, since);
    if (times > kSumMask) break;
    next.sum = sum_word(waiters_in(present.sum) + 1, times);
    const std::size_t index = line * kPerLine + place;
    if (is_first) in_use_.fetch_add(1, std::memory_order_relaxed);
    if ((next.lock & kLooker) != 0)
      released_.load(std::memory_order_relaxed)[index].looked_at.store(since, std::memory_order_relaxed);
    if (exchange(lines[line].entries[place], present, next)) {
      // What was released at this place before lies before `now`, and needs no reset.
      return {static_cast<std::uint32_t>(index + 1), since, now};
    }
    if (is_first) in_use_.fetch_sub(1, std::memory_order_relaxed);
  }
  count(counters.dropped_lock_waiters);
  return {};
}

bool LockWaiters::may_have(const void* lock) const noexcept {
  const Line* lines = lines_.load(std::memory_order_acquire);
  if (lines == nullptr) return false;
  for (const Entry& entry : lines[line_of(lock)].entries) {
    if (is_for(__atomic_load_n(&entry.lock, __ATOMIC_RELAXED), lock)) return true;
  }
  return false;
}

bool LockWaiters::may_be_due(const void* lock) const noexcept {
  const Line* lines = lines_.load(std::memory_order_acquire);
  if (lines == nullptr) return false;
  const std::size_t line = line_of(lock);
  const Released* released = released_.load(std::memory_order_relaxed) + line * kPerLine;
  for (std::size_t i = 0; i < kPerLine; ++i) {
    const std::uint64_t word = __atomic_load_n(&lines[line].entries[i].lock, __ATOMIC_RELAXED);
    if (!is_for(word, lock)) continue;
    if ((word & kLooker) != 0 || !may_have_ticks()) return true;
    // Of processors that do not agree it may be any number; then the next is due, or this one is.
    const std::uint64_t ticks = read_ticks() - released[i].last_ticks.load(std::memory_order_relaxed);
    if (ticks >= kBriefTicks) return true;
  }
  return false;
}

void LockWaiters::forget_wakeables() noexcept {
  Line* lines = lines_.load(std::memory_order_acquire);
  for (std::size_t i = 0; lines != nullptr && i < kLines; ++i) {
    for (Entry& entry : lines[i].entries) {
      for (int attempt = 0; attempt < kMaxTries; ++attempt) {
        const Entry present = read(entry);
        if ((present.lock & 1) == 0 || waiters_in(present.sum) == 0) break;
        if (!exchange(entry, present, Entry{})) continue;
        in_use_.fetch_sub(1, std::memory_order_relaxed);
        break;
      }
    }
  }
}

void LockWaiters::leave(const void* lock, Ticket ticket) noexcept {
  if (ticket.place == 0) return;
  const std::size_t index = ticket.place - 1;
  Entry& entry = lines_.load(std::memory_order_acquire)[index / kPerLine].entries[index % kPerLine];
  // Each failed try is somebody's progress.
  for (int attempt = 0; attempt < kMaxTries * kMaxTries; ++attempt) {
    const Entry present = read(entry);
    const std::uint64_t waiters = waiters_in(present.sum);
    if (waiters == 0 || !is_of(present.lock, lock)) return;
    const std::uint64_t times = present.sum & kSumMask;
    Entry next{};
    if (waiters > 1) {
      const Nanos restarted =
          released_.load(std::memory_order_relaxed)[index].last_at.load(std::memory_order_relaxed);
      const std::uint64_t own =
          time_since_base(present.lock, restarted > ticket.entered ? restarted : ticket.since);
      next = {present.lock, sum_word(waiters - 1, times - std::min(own, times))};
    }
    if (exchange(entry, present, next)) {
      if (waiters == 1) in_use_.fetch_sub(1, std::memory_order_relaxed);
      return;
    }
  }
  count(counters.dropped_lock_waiters);
}

// Of each wait that goes on, the look is charged; of this one, and for the others, a part was charged
// already.
LockWaiters::Ticket LockWaiters::go_on_waiting(const void* lock, const Ticket& looker, Nanos now) noexcept {
  const Nanos restarted =
      released_.load(std::memory_order_relaxed)[looker.place - 1].last_at.load(std::memory_order_relaxed);
  const Nanos charged =
      restarted > looker.entered ? std::clamp(restarted - looker.since, Nanos{0}, kLongestLook) : 0;
  leave(looked_at(lock), looker);
  return join(lock, looker.since + charged * kLookersPerEntered, now);
}

// Who held it long stays known for as long again: those who waited behind it are served one after the other,
// and each of them holds it, too.
void LockWaiters::note(Released& released, StackId holder, Nanos held, Nanos now) noexcept {
  released.last_by.store(holder, std::memory_order_relaxed);
  const Nanos ago = now - released.longest_at.load(std::memory_order_relaxed);
  if (held < released.longest.load(std::memory_order_relaxed) - ago) return;
  released.longest_by.store(holder, std::memory_order_relaxed);
  released.longest.store(held, std::memory_order_relaxed);
  released.longest_at.store(now, std::memory_order_relaxed);
}

LockWaiters::Taken LockWaiters::take_over(const void* lock, Nanos (*clock)() noexcept,
                                          const Releaser& releaser) noexcept {
  Line* lines = lines_.load(std::memory_order_acquire);
  if (lines == nullptr) return {};
  const std::size_t line = line_of(lock);
  Nanos waiters_total = 0;
  Nanos lookers_total = 0;
  Nanos now = 0;
  for (std::size_t i = 0; i < kPerLine; ++i) {
    Entry& entry = lines[line].entries[i];
    for (int attempt = 0; attempt < kMaxTries; ++attempt) {
      const Entry present = read(entry);
      const std::uint64_t waiters = waiters_in(present.sum);
      if (waiters == 0 || !is_for(present.lock, lock)) break;
      // Only a contended unlock pays for a clock.
      if (now == 0) now = clock();
      const std::uint64_t waited = waiters * time_since_base(present.lock, now);
      const std::uint64_t times = present.sum & kSumMask;
      Entry next{(present.lock & kAddressMask) | base_of(now) << kAddressBits, 0};
      next.sum = sum_word(waiters, waiters * time_since_base(next.lock, now));
      if (!exchange(entry, present, next)) continue;
      const Nanos charged = waited > times ? static_cast<Nanos>((waited - times) << kTimeUnitBits) : 0;
      Released& released = released_.load(std::memory_order_relaxed)[line * kPerLine + i];
      if ((present.lock & kLooker) == 0) {
        waiters_total += charged;
      } else if (now - released.looked_at.load(std::memory_order_relaxed) <= kLongestLook) {
        lookers_total += charged;
      }
      if (releaser.stack != nullptr) {
        note(released, releaser.stack(releaser.argument), charged / static_cast<Nanos>(waiters), now);
      } else {
        released.last_by.store(kNoStack, std::memory_order_relaxed);
      }
      released.last_at.store(now, std::memory_order_relaxed);
      released.last_ticks.store(read_ticks(), std::memory_order_relaxed);
      break;
    }
  }
  return {waiters_total + lookers_total * kLookersPerEntered,
          waiters_total == 0 && lookers_total != 0 ? kLookersPerEntered : 1};
}

StackId LockWaiters::holder(Ticket ticket) const noexcept {
  if (ticket.place == 0) return kNoStack;
  const Released& released = released_.load(std::memory_order_relaxed)[ticket.place - 1];
  if (released.longest_at.load(std::memory_order_relaxed) > ticket.entered)
    return released.longest_by.load(std::memory_order_relaxed);
  if (released.last_at.load(std::memory_order_relaxed) > ticket.entered)
    return released.last_by.load(std::memory_order_relaxed);
  return kNoStack;
}

void LockWaiters::forget_after_fork() noexcept {
  in_use_.store(0, std::memory_order_relaxed);
  Line* lines = lines_.load(std::memory_order_relaxed);
  for (std::size_t i = 0; lines != nullptr && i < kLines; ++i) lines[i] = {};
}

}  // namespace profagent::safe
