#include "agent/safe/cpu_timers.h"

#include <csignal>
#include <ctime>
#include <type_traits>

#include "agent/safe/lazy.h"
#include "agent/safe/sys.h"

namespace profagent::safe {

constinit CpuTimers cpu_timers;
static_assert(std::is_trivially_destructible_v<CpuTimers>);

namespace {

constexpr std::size_t kMaxProbes = 128;
constexpr long kTryAgain = -11;  // EAGAIN
constexpr std::uint64_t kNanosPerSecond = 1'000'000'000;

constexpr std::uint64_t kBusy = std::uint64_t{1} << 32;
constexpr pid_t tid_in(std::uint64_t owner) noexcept {
  return static_cast<pid_t>(owner & 0xffffffff);
}
constexpr std::uint64_t owner_word(pid_t tid) noexcept {
  return static_cast<std::uint32_t>(tid);
}

// Of the value that comes with a signal: that it is ours, which slot, which generation of it.
constexpr std::uint64_t kCookie = 0x7061;
constexpr unsigned kCookieShift = 48;
constexpr unsigned kGenerationShift = 16;
constexpr std::uint64_t kIndexMask = 0xffff;
static_assert(CpuTimers::kSlots <= kIndexMask + 1);

std::size_t first_slot(pid_t tid) noexcept {
  return static_cast<std::uint32_t>(tid) * 0x9e3779b1U % CpuTimers::kSlots;
}

timespec to_timespec(std::uint64_t nanos) noexcept {
  return {static_cast<time_t>(nanos / kNanosPerSecond), static_cast<long>(nanos % kNanosPerSecond)};
}

// A first distance of 0 would disarm.
bool set_time(const CpuTimer& timer, std::uint64_t first, std::uint64_t period) noexcept {
  itimerspec time{};
  time.it_value = to_timespec(first == 0 ? 1 : first);
  time.it_interval = to_timespec(period);
  return sys::call(SYS_timer_settime, timer.id.load(std::memory_order_relaxed), 0,
                   reinterpret_cast<long>(&time), 0) == 0;
}

void delete_timer(CpuTimer& timer) noexcept {
  sys::call(SYS_timer_delete, timer.id.load(std::memory_order_relaxed));
}

}  // namespace

bool read_cpu_clock(clockid_t clock, std::uint64_t& nanos) noexcept {
  timespec time{};
  if (sys::call(SYS_clock_gettime, clock, reinterpret_cast<long>(&time)) != 0) return false;
  nanos =
      static_cast<std::uint64_t>(time.tv_sec) * kNanosPerSecond + static_cast<std::uint64_t>(time.tv_nsec);
  return true;
}

bool CpuTimers::prepare() noexcept {
  return lazy_array(slots_, kSlots) != nullptr;
}

pid_t CpuTimers::tid_of(const CpuTimer& timer) noexcept {
  return tid_in(timer.owner.load(std::memory_order_acquire));
}

// Makes the kernel's timer for a slot that the caller holds. CPU time that is not charged yet counts for the
// first distance.
bool CpuTimers::arm(CpuTimer& timer, pid_t tid) const noexcept {
  const auto index = static_cast<std::uint64_t>(&timer - slots_.load(std::memory_order_acquire));
  const std::uint64_t value =
      kCookie << kCookieShift |
      std::uint64_t{timer.generation.load(std::memory_order_relaxed)} << kGenerationShift | index;
  sigevent event{};
  event.sigev_notify = SIGEV_THREAD_ID;
  event.sigev_signo = signal_.load(std::memory_order_acquire);
  event.sigev_value.sival_ptr = reinterpret_cast<void*>(value);
  event._sigev_un._tid = tid;
  int id = 0;
  const long result = sys::call(SYS_timer_create, cpu_clock_of(tid), reinterpret_cast<long>(&event),
                                reinterpret_cast<long>(&id));
  if (result != 0) {
    timer.id.store(static_cast<std::int32_t>(result), std::memory_order_relaxed);
    return false;
  }
  timer.id.store(id, std::memory_order_relaxed);
  timer.signal.store(event.sigev_signo, std::memory_order_relaxed);
  timer.paused.store(0, std::memory_order_relaxed);
  const std::uint64_t period = period_.load(std::memory_order_relaxed);
  const std::uint64_t rest = timer.rest.load(std::memory_order_relaxed);
  if (set_time(timer, rest < period ? period - rest : 1, period)) return true;
  delete_timer(timer);
  timer.id.store(0, std::memory_order_relaxed);
  return false;
}

// True when another slot, before `mine` in the order of probing, belongs to the thread as well: two that add
// a timer for it at the same moment may each have found another slot free. Each claim is a sequentially
// consistent exchange followed by sequentially consistent loads here, so at least one of the two sees the
// other, and only the later one in that order gives way.
bool CpuTimers::is_doubled(const CpuTimer* mine, pid_t tid) const noexcept {
  const CpuTimer* all = slots_.load(std::memory_order_acquire);
  for (std::size_t probe = 0; probe < kMaxProbes; ++probe) {
    const CpuTimer& slot = all[(first_slot(tid) + probe) % kSlots];
    if (&slot == mine) return false;
    if (tid_in(slot.owner.load(std::memory_order_seq_cst)) == tid) return true;
  }
  return false;
}

CpuTimer* CpuTimers::claim(pid_t tid, AddResult& result) noexcept {
  CpuTimer* all = slots_.load(std::memory_order_acquire);
  result = AddResult::kNoRoom;
  if (all == nullptr) return nullptr;
  if (find(tid) != nullptr) {
    result = AddResult::kHasOne;
    return nullptr;
  }
  if (count_.fetch_add(1, std::memory_order_relaxed) < limit()) {
    for (std::size_t probe = 0; probe < kMaxProbes; ++probe) {
      CpuTimer& slot = all[(first_slot(tid) + probe) % kSlots];
      std::uint64_t expected = 0;
      if (!slot.owner.compare_exchange_strong(expected, kBusy | owner_word(tid), std::memory_order_seq_cst))
        continue;
      if (!is_doubled(&slot, tid)) return &slot;
      slot.owner.store(0, std::memory_order_release);
      result = AddResult::kHasOne;
      break;
    }
  }
  count_.fetch_sub(1, std::memory_order_relaxed);
  return nullptr;
}

AddResult CpuTimers::add(pid_t tid, const CpuAccount& account) noexcept {
  AddResult result = AddResult::kNoRoom;
  CpuTimer* slot = claim(tid, result);
  if (slot == nullptr) return result;
  // A signal of the slot's former owner that is still under way is stale from here on. Release pairs with the
  // acquire in owner_of().
  slot->generation.fetch_add(1, std::memory_order_release);
  slot->until.store(account.until, std::memory_order_relaxed);
  slot->rest.store(account.rest, std::memory_order_relaxed);
  slot->charged.store(0, std::memory_order_relaxed);
  for (;;) {
    if (!arm(*slot, tid)) {
      const bool no_room = slot->id.load(std::memory_order_relaxed) == kTryAgain;
      slot->owner.store(0, std::memory_order_release);
      count_.fetch_sub(1, std::memory_order_relaxed);
      return no_room ? AddResult::kNoRoom : AddResult::kRefused;
    }
    // set_signal() passes busy slots by: it is for us to notice that it came meanwhile.
    slot->owner.store(owner_word(tid), std::memory_order_seq_cst);
    if (slot->signal.load(std::memory_order_relaxed) == signal_.load(std::memory_order_seq_cst)) break;
    if (!lock(*slot)) break;
    delete_timer(*slot);
  }
  return AddResult::kAdded;
}

bool CpuTimers::lock(CpuTimer& timer) noexcept {
  std::uint64_t owner = timer.owner.load(std::memory_order_acquire);
  return owner != 0 && (owner & kBusy) == 0 &&
         timer.owner.compare_exchange_strong(owner, owner | kBusy, std::memory_order_acq_rel);
}

bool CpuTimers::remove(pid_t tid, CpuAccount* account) noexcept {
  CpuTimer* slot = find(tid);
  if (slot == nullptr || !lock(*slot)) return false;
  delete_timer(*slot);
  if (account != nullptr) {
    account->until = slot->until.load(std::memory_order_relaxed);
    account->rest = slot->rest.load(std::memory_order_relaxed);
  }
  slot->generation.fetch_add(1, std::memory_order_release);
  slot->owner.store(0, std::memory_order_release);
  count_.fetch_sub(1, std::memory_order_relaxed);
  return true;
}

void CpuTimers::remove_all() noexcept {
  for_each([&](CpuTimer& slot) {
    if (const pid_t tid = tid_of(slot); tid != 0) remove(tid);
  });
}

CpuTimer* CpuTimers::find(pid_t tid) const noexcept {
  CpuTimer* all = slots_.load(std::memory_order_acquire);
  for (std::size_t probe = 0; all != nullptr && probe < kMaxProbes; ++probe) {
    CpuTimer& slot = all[(first_slot(tid) + probe) % kSlots];
    if (tid_in(slot.owner.load(std::memory_order_acquire)) == tid) return &slot;
  }
  return nullptr;
}

void CpuTimers::set_period(std::uint64_t nanos) noexcept {
  if (period_.exchange(nanos, std::memory_order_relaxed) == nanos) return;
  for_each([&](CpuTimer& slot) {
    if (!lock(slot)) return;
    const std::uint64_t owner = slot.owner.load(std::memory_order_relaxed);
    if (slot.paused.load(std::memory_order_relaxed) == 0) set_time(slot, nanos, nanos);
    slot.owner.store(owner & ~kBusy, std::memory_order_release);
  });
}

void CpuTimers::set_signal(int number) noexcept {
  signal_.store(number, std::memory_order_seq_cst);
  for_each([&](CpuTimer& slot) {
    if (!lock(slot)) return;
    const pid_t tid = tid_of(slot);
    delete_timer(slot);
    const bool armed = number != 0 && arm(slot, tid);
    slot.owner.store(armed ? owner_word(tid) : 0, std::memory_order_release);
    if (!armed) count_.fetch_sub(1, std::memory_order_relaxed);
  });
}

void CpuTimers::pause(pid_t tid) noexcept {
  CpuTimer* slot = find(tid);
  if (slot == nullptr || slot->paused.load(std::memory_order_relaxed) != 0 || !lock(*slot)) return;
  const itimerspec off{};
  itimerspec left{};
  if (sys::call(SYS_timer_settime, slot->id.load(std::memory_order_relaxed), 0, reinterpret_cast<long>(&off),
                reinterpret_cast<long>(&left)) == 0) {
    const std::int64_t nanos =
        left.it_value.tv_sec * static_cast<std::int64_t>(kNanosPerSecond) + left.it_value.tv_nsec;
    slot->paused.store(nanos > 0 ? nanos : 1, std::memory_order_relaxed);
  }
  slot->owner.store(owner_word(tid), std::memory_order_release);
}

void CpuTimers::resume(pid_t tid) noexcept {
  CpuTimer* slot = find(tid);
  if (slot == nullptr || slot->paused.load(std::memory_order_relaxed) == 0 || !lock(*slot)) return;
  const auto left = static_cast<std::uint64_t>(slot->paused.exchange(0, std::memory_order_relaxed));
  set_time(*slot, left, period_.load(std::memory_order_relaxed));
  slot->owner.store(owner_word(tid), std::memory_order_release);
}

CpuTimers::Owner CpuTimers::owner_of(const siginfo_t& info) const noexcept {
  if (info.si_code != SI_TIMER) return {};
  const auto value = reinterpret_cast<std::uint64_t>(info.si_value.sival_ptr);
  CpuTimer* all = slots_.load(std::memory_order_acquire);
  const std::uint64_t index = value & kIndexMask;
  if (value >> kCookieShift != kCookie || index >= kSlots || all == nullptr) return {};
  const auto generation = static_cast<std::uint32_t>(value >> kGenerationShift);
  CpuTimer& timer = all[index];
  return {&timer, timer.generation.load(std::memory_order_acquire) != generation};
}

void CpuTimers::forget_after_fork() noexcept {
  for_each([](CpuTimer& slot) {
    slot.generation.fetch_add(1, std::memory_order_relaxed);
    slot.owner.store(0, std::memory_order_relaxed);
  });
  count_.store(0, std::memory_order_relaxed);
  period_.store(0, std::memory_order_relaxed);
}

}  // namespace profagent::safe
