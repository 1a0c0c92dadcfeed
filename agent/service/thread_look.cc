#include "agent/service/thread_look.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "agent/safe/cpu_timers.h"
#include "agent/safe/record_stack.h"
#include "agent/safe/sys.h"
#include "agent/service/lock_owner.h"
#include "agent/service/task_file.h"

namespace profagent::service {

namespace {

using safe::WaitKind;

// A thread that is caught between two waits is looked at again.
constexpr int kMostLooks = 3;

std::string_view state_of(WaitKind kind) {
  return kind == WaitKind::kNone ? kUnknownState : safe::text_of(kind);
}

// ns; 0 when the kernel does not tell.
std::uint64_t cpu_time_of(pid_t tid) {
  std::uint64_t nanos = 0;
  return safe::read_cpu_clock(safe::cpu_clock_of(tid), nanos) ? nanos : 0;
}

}  // namespace

std::uint64_t read_runs(pid_t tid) {
  std::array<char, 96> room{};
  std::string_view text = TaskFile(tid, "schedstat").read(room);
  while (text.ends_with('\n')) text.remove_suffix(1);
  const std::string_view last = text.substr(std::min(text.rfind(' '), text.size() - 1) + 1);
  std::uint64_t runs = 0;
  std::from_chars(last.data(), last.data() + last.size(), runs);
  return runs;
}

void ThreadLooker::find_slots() {
  safe::threads.reclaim();
  slots_.clear();
  safe::threads.for_each([&](const safe::ThreadSlot& slot) {
    slots_.emplace_back(slot.tid.load(std::memory_order_relaxed), &slot);
  });
  std::sort(slots_.begin(), slots_.end());
  has_proc_ = TaskFile(safe::sys::gettid(), "comm").is_open();
}

// More than one when an id was given to another thread: which is the present one's shows when it waits.
std::span<const ThreadLooker::Slot> ThreadLooker::slots_of(pid_t tid) const {
  const auto first =
      std::partition_point(slots_.begin(), slots_.end(), [=](const auto& slot) { return slot.first < tid; });
  auto last = first;
  while (last != slots_.end() && last->first == tid) ++last;
  return {first, last};
}

// The nearest above `sp`.
ThreadLooker::Site ThreadLooker::site_of(pid_t tid, std::uintptr_t sp) const {
  Site nearest;
  for (const auto& [owner, slot] : slots_of(tid)) {
    // It may have been given to another thread since.
    if (slot->tid.load(std::memory_order_relaxed) != owner) continue;
    Site site;
    // Acquire pairs with the release in WaitSite::publish().
    site.kind = slot->wait.kind.load(std::memory_order_acquire);
    if (site.kind == WaitKind::kNone) continue;
    site.slot = slot;
    site.object = slot->wait.object.load(std::memory_order_relaxed);
    site.frame.pc = slot->wait.pc.load(std::memory_order_relaxed);
    site.frame.sp = slot->wait.sp.load(std::memory_order_relaxed);
    site.frame.bp = slot->wait.bp.load(std::memory_order_relaxed);
    const bool is_nearer = nearest.slot == nullptr || site.frame.sp < nearest.frame.sp;
    if (site.frame.sp > sp && is_nearer) nearest = site;
  }
  return nearest;
}

// True when the thread waits where its site says.
bool ThreadLooker::walk(ThreadRow& row, StackPool& stacks, const BlockedAt& at, const Site& site) {
  std::array<safe::Pc, safe::kMaxStackDepth> pcs{};
  const std::span<safe::Pc> room = std::span(pcs).first(safe::recorded_depth());
  const safe::OutsideStack stack = safe::walk_outside({at.pc, at.sp, site.frame}, room);
  row.stack = stacks.add(room.first(stack.depth));
  const bool is_met = stack.site != safe::OutsideStack::kNotMet;
  row.kind = is_met ? site.kind : wait_kind_of(at.number);
  row.state = state_of(row.kind);
  row.system_call = at.number;
  row.object = nullptr;
  row.waiting_frame = is_met && stack.site > 0 ? stack.site - 1 : 0;
  if (is_met) row.object = site.object;
  if (!is_met && row.kind == WaitKind::kFutex) row.object = reinterpret_cast<const void*>(at.argument);
  row.holder = read_lock_owner(row.kind, reinterpret_cast<std::uintptr_t>(row.object)).tid;
  return is_met;
}

// What a walk found of a thread that then turned out to have moved.
ThreadLooker::Look ThreadLooker::running(ThreadRow& row, StackPool& stacks, std::string_view state) {
  row.state = state;
  row.kind = WaitKind::kNone;
  row.system_call = -1;
  row.object = nullptr;
  row.waiting_frame = 0;
  row.holder = 0;
  row.stack = stacks.add({});
  return Look::kRunning;
}

ThreadLooker::Look ThreadLooker::look_at(ThreadRow& row, StackPool& stacks) const {
  const TaskFile file(row.tid, "syscall");
  if (!file.is_open()) return file.is_refused() || !has_proc_ ? look_at_site(row, stacks) : Look::kGone;
  std::array<char, 256> before_room{};
  std::array<char, 256> after_room{};
  for (int look = 0; look < kMostLooks; ++look) {
    const std::uint64_t ran = cpu_time_of(row.tid);
    const std::string_view before = file.read(before_room);
    if (before.empty()) return Look::kGone;
    if (before == kRunningLine) return running(row, stacks, {});
    const auto at = parse_syscall(before);
    if (!at) return look_at_site(row, stacks);
    if (at->sp == 0) {
      row.state = kUnknownState;
      row.obstacle = "[ended]";
      return Look::kDone;
    }
    const Site site = site_of(row.tid, at->sp);
    static_cast<void>(walk(row, stacks, *at, site));
    // The clock, because it may have gone on and come back to the same wait.
    if (file.read(after_room) == before && site_of(row.tid, at->sp) == site && cpu_time_of(row.tid) == ran)
      return Look::kDone;
  }
  return running(row, stacks, {});
}

// The kernel does not say where the thread is. Its site is believed when it leads to a stack, and when the
// thread has not run meanwhile, as far as that is told.
ThreadLooker::Look ThreadLooker::look_at_site(ThreadRow& row, StackPool& stacks) const {
  const std::uint64_t runs = read_runs(row.tid);
  const Site site = site_of(row.tid, 0);
  if (site.slot != nullptr && walk(row, stacks, {}, site) && read_runs(row.tid) == runs &&
      site_of(row.tid, 0) == site) {
    row.system_call = -1;
    return Look::kDone;
  }
  return running(row, stacks, kUnknownState);
}

}  // namespace profagent::service
