#include "agent/service/lock_waits.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <string_view>

#include <linux/futex.h>
#include <pthread.h>

#include "agent/safe/sys.h"
#include "agent/service/lock_owner.h"
#include "agent/service/task_file.h"

namespace profagent::service {

namespace {

using safe::WaitKind;

bool is_inside(std::uintptr_t address, std::uintptr_t object, std::size_t bytes) {
  return address - object < bytes;
}

bool take_owner(LockWait& wait, WaitKind kind) {
  const LockOwner owner = read_lock_owner(kind, wait.object);
  wait.kind = kind;
  wait.holder = owner.tid;
  wait.is_shared = owner.is_shared;
  return wait.holder > 0;
}

bool take_mutex(LockWait& wait) {
  return wait.futex.address == wait.object && take_owner(wait, WaitKind::kMutex);
}

bool take_rwlock(LockWait& wait) {
  return is_inside(wait.futex.address, wait.object, sizeof(pthread_rwlock_t)) &&
         take_owner(wait, WaitKind::kRwlock);
}

// The word that a joining thread waits for is the other's tid, which the kernel zeroes at its end. It lies in
// the descriptor that the handle is the address of.
bool take_join(LockWait& wait) {
  constexpr std::size_t kDescriptorBytes = 4096;
  if (!is_inside(wait.futex.address, wait.object, kDescriptorBytes)) return false;
  wait.holder = static_cast<pid_t>(wait.futex.value & FUTEX_TID_MASK);
  return wait.holder > 0;
}

// A thread that has been woken from a condition takes the mutex again, inside of the same call. That the word
// is outside of the condition shows it: a condition of before glibc 2.3.2 is a pointer to the real one.
bool take_mutex_of_condition(LockWait& wait) {
  constexpr std::uint32_t kContended = 2;  // the value of a mutex' word that is waited for
  std::uintptr_t pointed_to = 0;
  if (is_inside(wait.futex.address, wait.object, sizeof(pthread_cond_t))) return false;
  if (safe::sys::read_memory(wait.object, &pointed_to, sizeof(pointed_to)) != sizeof(pointed_to))
    return false;
  if (is_inside(wait.futex.address, pointed_to, sizeof(pthread_cond_t))) return false;
  wait.object = wait.futex.address;
  return wait.futex.value == kContended && take_mutex(wait);
}

bool take_holder(LockWait& wait) {
  switch (wait.kind) {
    case WaitKind::kMutex:
      return take_mutex(wait);
    case WaitKind::kRwlock:
      return take_rwlock(wait);
    case WaitKind::kJoin:
      return take_join(wait);
    case WaitKind::kCond:
      return take_mutex_of_condition(wait);
    default:
      return false;
  }
}

std::optional<LockWait> look_at(const safe::ThreadSlot& slot, bool& is_refused) {
  // Most threads wait for something else: not worth a file.
  switch (slot.wait.kind.load(std::memory_order_relaxed)) {
    case WaitKind::kMutex:
    case WaitKind::kRwlock:
    case WaitKind::kJoin:
    case WaitKind::kCond:
      break;
    default:
      return std::nullopt;
  }
  LockWait wait;
  wait.slot = &slot;
  wait.waiter = slot.tid.load(std::memory_order_acquire);
  const TaskFile file(wait.waiter, "syscall");
  is_refused = is_refused || file.is_refused();
  std::array<char, 256> room{};
  const auto futex = parse_futex_wait(file.read(room));
  if (!futex) return std::nullopt;
  wait.futex = *futex;
  // After the kernel has said that the thread is blocked: what it has published before is there. Acquire
  // pairs with the release in WaitSite::publish().
  wait.kind = slot.wait.kind.load(std::memory_order_acquire);
  wait.object = reinterpret_cast<std::uintptr_t>(slot.wait.object.load(std::memory_order_relaxed));
  wait.site_pc = slot.wait.pc.load(std::memory_order_relaxed);
  wait.site_sp = slot.wait.sp.load(std::memory_order_relaxed);
  wait.site_bp = slot.wait.bp.load(std::memory_order_relaxed);
  if (wait.site_sp <= wait.futex.sp || !take_holder(wait)) return std::nullopt;
  return wait;
}

bool is_still(const LockWait& wait) {
  bool is_refused = false;
  return look_at(*wait.slot, is_refused) == wait;
}

// How often the thread has left a processor; a thread that has run since is found to have left it once more
// as soon as it is blocked again. 0: not told.
std::uint64_t count_switches(pid_t tid) {
  constexpr std::string_view kName = "voluntary_ctxt_switches:\t";  // and "non…"
  std::array<char, 4096> room{};
  const std::string_view text = TaskFile(tid, "status").read(room);
  std::uint64_t sum = 0;
  for (std::size_t at = text.find(kName); at != std::string_view::npos; at = text.find(kName, at)) {
    at += kName.size();
    std::uint64_t switches = 0;
    std::from_chars(text.data() + at, text.data() + text.size(), switches);
    sum += switches;
  }
  return sum;
}

}  // namespace

LockWaits read_lock_waits() {
  LockWaits all;
  safe::threads.for_each([&](const safe::ThreadSlot& slot) {
    if (const auto wait = look_at(slot, all.is_refused)) all.waits.push_back(*wait);
  });
  // A thread that was given the tid of one that has ended may have two slots, one with an old wait. The
  // present one is the innermost.
  std::sort(all.waits.begin(), all.waits.end(), [](const LockWait& a, const LockWait& b) {
    return a.waiter != b.waiter ? a.waiter < b.waiter : a.site_sp < b.site_sp;
  });
  const auto same = [](const LockWait& a, const LockWait& b) { return a.waiter == b.waiter; };
  all.waits.erase(std::unique(all.waits.begin(), all.waits.end(), same), all.waits.end());
  return all;
}

bool held_together(std::span<const LockWait> waits, const std::function<void()>& meanwhile) {
  std::vector<std::uint64_t> switches;
  switches.reserve(waits.size());
  // The count first, and at the end last: the thread is found blocked between the two.
  for (const LockWait& wait : waits) {
    switches.push_back(count_switches(wait.waiter));
    if (switches.back() == 0 || !is_still(wait)) return false;
  }
  meanwhile();
  for (std::size_t i = 0; i < waits.size(); ++i) {
    if (!is_still(waits[i]) || count_switches(waits[i].waiter) != switches[i]) return false;
  }
  return true;
}

}  // namespace profagent::service
