#include "agent/safe/cpu_timers.h"

#include <csignal>
#include <ctime>
#include <type_traits>

#include "agent/safe/clock.h"
#include "agent/safe/lazy.h"
#include "agent/safe/sys.h"
#include "agent/safe/threads.h"

namespace profagent::safe {

constinit CpuTimers cpu_timers;
static_assert(std::is_trivially_destructible_v<CpuTimers>);

namespace {

constexpr std::size_t kMaxProbes = 128;
constexpr long kTryAgain = -11;  // EAGAIN

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
  const std::uint32_t hash = static_cast<std::uint32_t>(tid) * 0x9e3779b1U;
  return hash % CpuTimers::kSlots;
}

timespec to_timespec(std::uint64_t nanos) noexcept {
  constexpr auto kPerSecond = static_cast<std::uint64_t>(kNanosPerSecond);
  return {static_cast<time_t>(nanos / kPerSecond), static_cast<long>(nanos % kPerSecond)};
}

// Of no timer when there is none any more: the kernel refuses it then.
int kernel_id(const CpuTimer& timer) noexcept {
  return timer.id.load(std::memory_order_relaxed) - 1;
}

// No period disarms. A first distance of 0 would do that, too.
bool set_time(const CpuTimer& timer, std::uint64_t first, std::uint64_t period) noexcept {
  itimerspec time{};
  if (period != 0) {
    time.it_value = to_timespec(first == 0 ? 1 : first);
    time.it_interval = to_timespec(period);
  }
  return sys::call(SYS_timer_settime, kernel_id(timer), 0, reinterpret_cast<long>(&time), 0) == 0;
}

void delete_timer(CpuTimer& timer) noexcept {
  if (const std::int32_t id = timer.id.exchange(0, std::memory_order_seq_cst); id != 0)
    sys::call(SYS_timer_delete, id - 1);
}

}  // namespace

bool read_cpu_clock(clockid_t clock, std::uint64_t& nanos) noexcept {
  timespec time{};
  if (sys::call(SYS_clock_gettime, clock, reinterpret_cast<long>(&time)) != 0) return false;
  nanos = static_cast<std::uint64_t>(to_nanos(time));
  return true;
}

bool CpuTimers::prepare() noexcept {
  return lazy_array(slots_, kSlots) != nullptr;
}

pid_t CpuTimers::tid_of(const CpuTimer& timer) noexcept {
  return tid_in(timer.owner.load(std::memory_order_acquire));
}

// Makes the kernel's timer for a slot that the caller holds. Time that is due counts for the first distance.
// A paused one is left standing.
AddResult CpuTimers::arm(CpuTimer& timer, pid_t tid) noexcept {
  const auto index = static_cast<std::uint64_t>(&timer - slots_.load(std::memory_order_acquire));
  const std::uint64_t value =
      kCookie << kCookieShift |
      std::uint64_t{timer.generation.load(std::memory_order_relaxed)} << kGenerationShift | index;
  sigevent event{};
  event.sigev_notify = SIGEV_THREAD_ID;
  event.sigev_signo = signal_.load(std::memory_order_seq_cst);
  event.sigev_value.sival_ptr = reinterpret_cast<void*>(value);
  event._sigev_un._tid = tid;
  int id = 0;
  const long result = sys::call(SYS_timer_create, cpu_clock_of(tid), reinterpret_cast<long>(&event),
                                reinterpret_cast<long>(&id));
  if (result != 0) return result == kTryAgain ? AddResult::kNoRoom : AddResult::kRefused;
  // Either leave_alone() finds it, before or after it is set, or the mark is seen here (threads.h).
  timer.id.store(id + 1, std::memory_order_seq_cst);
  if (threads.marks() != timer.marks.load(std::memory_order_relaxed)) {
    delete_timer(timer);
    return AddResult::kStale;
  }
  timer.signal.store(event.sigev_signo, std::memory_order_relaxed);
  const std::uint64_t period = period_.load(std::memory_order_seq_cst);
  std::uint64_t now = 0;
  const std::int64_t charged = timer.charged_until.load(std::memory_order_relaxed);
  const bool known = read_cpu_clock(cpu_clock_of(tid), now);
  const auto due = known ? static_cast<std::int64_t>(now) - charged : 0;
  const std::int64_t left = static_cast<std::int64_t>(period) - due;
  const bool stands = timer.paused.load(std::memory_order_relaxed) != 0;
  if (stands || set_time(timer, left > 0 ? static_cast<std::uint64_t>(left) : 1, period))
    return AddResult::kAdded;
  delete_timer(timer);
  return AddResult::kRefused;
}

// True when another slot belongs to the thread as well: two that add a timer for it at the same moment may
// each have found another slot free. Each claim is a sequentially consistent exchange followed by
// sequentially consistent loads here, so at least one of the two sees the other. Whoever does gives way; when
// both do, the thread gets its timer with the next scan.
bool CpuTimers::is_doubled(const CpuTimer* mine, pid_t tid) const noexcept {
  const CpuTimer* all = slots_.load(std::memory_order_acquire);
  for (std::size_t probe = 0; probe < kMaxProbes; ++probe) {
    const CpuTimer& slot = all[(first_slot(tid) + probe) % kSlots];
    if (&slot != mine && tid_in(slot.owner.load(std::memory_order_seq_cst)) == tid) return true;
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

// Nobody's any more; the caller holds it.
void CpuTimers::release(CpuTimer& timer) noexcept {
  timer.charged_until.store(CpuTimer::kNotCharging, std::memory_order_relaxed);
  timer.owner.store(0, std::memory_order_release);
  count_.fetch_sub(1, std::memory_order_relaxed);
}

bool CpuTimers::is_up_to_date(const CpuTimer& timer, std::uint64_t period) const noexcept {
  return timer.signal.load(std::memory_order_relaxed) == signal_.load(std::memory_order_seq_cst) &&
         period == period_.load(std::memory_order_seq_cst);
}

AddResult CpuTimers::add(pid_t tid, std::int64_t charged_until, std::uint32_t marks) noexcept {
  AddResult result = AddResult::kNoRoom;
  CpuTimer* slot = claim(tid, result);
  if (slot == nullptr) return result;
  // A signal of the slot's former owner that is still under way is stale from here on. Release pairs with the
  // acquire in owner_of().
  slot->generation.fetch_add(1, std::memory_order_release);
  slot->paused.store(0, std::memory_order_relaxed);
  slot->charged_until.store(charged_until, std::memory_order_relaxed);
  slot->marks.store(marks, std::memory_order_relaxed);
  for (;;) {
    const std::uint64_t period = period_.load(std::memory_order_seq_cst);
    if (period == 0) {
      release(*slot);
      return AddResult::kRefused;
    }
    if (const AddResult armed = arm(*slot, tid); armed != AddResult::kAdded) {
      release(*slot);
      return armed;
    }
    // set_signal(), set_period() and remove_all() pass busy slots by: it is for us to notice, after the slot
    // is no longer busy, that they came meanwhile. Sequentially consistent here and there: either they see
    // the slot, or we see what they stored before.
    slot->owner.store(owner_word(tid), std::memory_order_seq_cst);
    if (is_up_to_date(*slot, period) || !lock(*slot, tid)) return AddResult::kAdded;
    delete_timer(*slot);
  }
}

// From exactly this owner: the slot may have been given to another thread since it was found.
bool CpuTimers::lock(CpuTimer& timer, pid_t tid) noexcept {
  std::uint64_t owner = owner_word(tid);
  return tid != 0 && timer.owner.compare_exchange_strong(owner, owner | kBusy, std::memory_order_seq_cst);
}

bool CpuTimers::remove(pid_t tid, std::int64_t* charged_until) noexcept {
  CpuTimer* slot = find(tid);
  if (slot == nullptr || !lock(*slot, tid)) return false;
  delete_timer(*slot);
  slot->generation.fetch_add(1, std::memory_order_release);
  // A handler that is under way charges before this, and then it is in the account, or not at all.
  const std::int64_t until = slot->charged_until.exchange(CpuTimer::kNotCharging, std::memory_order_acq_rel);
  if (charged_until != nullptr) *charged_until = until;
  release(*slot);
  return true;
}

void CpuTimers::remove_all() noexcept {
  for_each([&](CpuTimer& slot) { remove(tid_of(slot)); });
}

void CpuTimers::leave_alone(pid_t tid) noexcept {
  // More than one may just be tried for it.
  CpuTimer* all = slots_.load(std::memory_order_acquire);
  for (std::size_t probe = 0; all != nullptr && probe < kMaxProbes; ++probe) {
    CpuTimer& slot = all[(first_slot(tid) + probe) % kSlots];
    if (tid_in(slot.owner.load(std::memory_order_seq_cst)) == tid) delete_timer(slot);
  }
}

CpuTimer* CpuTimers::find(pid_t tid) const noexcept {
  CpuTimer* all = slots_.load(std::memory_order_acquire);
  for (std::size_t probe = 0; all != nullptr && probe < kMaxProbes; ++probe) {
    CpuTimer& slot = all[(first_slot(tid) + probe) % kSlots];
    if (tid_in(slot.owner.load(std::memory_order_seq_cst)) == tid) return &slot;
  }
  return nullptr;
}

void CpuTimers::set_period(std::uint64_t nanos) noexcept {
  if (period_.exchange(nanos, std::memory_order_seq_cst) == nanos) return;
  for_each([&](CpuTimer& slot) {
    const pid_t tid = tid_of(slot);
    if (!lock(slot, tid)) return;
    if (slot.paused.load(std::memory_order_relaxed) == 0) set_time(slot, nanos, nanos);
    slot.owner.store(owner_word(tid), std::memory_order_release);
  });
}

void CpuTimers::set_signal(int number) noexcept {
  if (signal_.exchange(number, std::memory_order_seq_cst) == number) return;
  for_each([&](CpuTimer& slot) {
    const pid_t tid = tid_of(slot);
    if (!lock(slot, tid)) return;
    delete_timer(slot);
    // Where there is none, for instance as a mark has changed since, the account waits for our thread.
    if (number != 0) static_cast<void>(arm(slot, tid));
    slot.owner.store(owner_word(tid), std::memory_order_release);
  });
}

void CpuTimers::pause(pid_t tid) noexcept {
  const sys::SignalsBlocked until_done;
  CpuTimer* slot = find(tid);
  if (slot == nullptr || slot->paused.load(std::memory_order_relaxed) != 0 || !lock(*slot, tid)) return;
  const itimerspec off{};
  itimerspec left{};
  if (sys::call(SYS_timer_settime, kernel_id(*slot), 0, reinterpret_cast<long>(&off),
                reinterpret_cast<long>(&left)) == 0) {
    const Nanos nanos = to_nanos(left.it_value);
    slot->paused.store(nanos > 0 ? nanos : 1, std::memory_order_relaxed);
  }
  slot->owner.store(owner_word(tid), std::memory_order_release);
}

void CpuTimers::resume(pid_t tid) noexcept {
  const sys::SignalsBlocked until_done;
  CpuTimer* slot = find(tid);
  if (slot == nullptr || slot->paused.load(std::memory_order_relaxed) == 0 || !lock(*slot, tid)) return;
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
  return {&timer, generation, timer.generation.load(std::memory_order_acquire) != generation};
}

void CpuTimers::forget_after_fork() noexcept {
  for_each([](CpuTimer& slot) {
    slot.generation.fetch_add(1, std::memory_order_relaxed);
    slot.id.store(0, std::memory_order_relaxed);
    slot.charged_until.store(CpuTimer::kNotCharging, std::memory_order_relaxed);
    slot.owner.store(0, std::memory_order_relaxed);
  });
  count_.store(0, std::memory_order_relaxed);
  period_.store(0, std::memory_order_relaxed);
}

}  // namespace profagent::safe
