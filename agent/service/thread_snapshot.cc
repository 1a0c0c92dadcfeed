#include "agent/service/thread_snapshot.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "agent/safe/record_stack.h"
#include "agent/safe/sys.h"
#include "agent/service/task_file.h"
#include "agent/service/text_parts.h"
#include "agent/service/thread_list.h"

namespace profagent::service {

namespace {

using safe::WaitKind;

constexpr std::string_view kRunning = "running";
constexpr std::string_view kUnknown = "unknown";
// A thread that is caught between two waits is looked at again.
constexpr int kMostLooks = 3;

std::string_view state_of(WaitKind kind) {
  return kind == WaitKind::kNone ? kUnknown : safe::text_of(kind);
}

// How often the thread was given a processor; 0: the kernel does not count.
std::uint64_t read_runs(pid_t tid) {
  std::array<char, 96> room{};
  std::string_view text = TaskFile(tid, "schedstat").read(room);
  while (text.ends_with('\n')) text.remove_suffix(1);
  const std::string_view last = text.substr(std::min(text.rfind(' '), text.size() - 1) + 1);
  std::uint64_t runs = 0;
  std::from_chars(last.data(), last.data() + last.size(), runs);
  return runs;
}

// Who holds the lock, as glibc notes it: pthread_mutex_t's __owner, pthread_rwlock_t's __cur_writer. That of
// a lock of another make is a number that belongs to no thread.
pid_t holder_of(WaitKind kind, const void* lock) {
  constexpr std::uintptr_t kOwner = offsetof(pthread_mutex_t, __data.__owner);
  constexpr std::uintptr_t kWriter = offsetof(pthread_rwlock_t, __data.__cur_writer);
  if (lock == nullptr || (kind != WaitKind::kMutex && kind != WaitKind::kRwlock)) return 0;
  const std::uintptr_t at =
      reinterpret_cast<std::uintptr_t>(lock) + (kind == WaitKind::kMutex ? kOwner : kWriter);
  std::int32_t holder = 0;
  return safe::sys::read_memory(at, &holder, sizeof(holder)) == sizeof(holder) ? holder : 0;
}

}  // namespace

void ThreadWatch::find_slots() {
  safe::threads.reclaim();
  slots_.clear();
  safe::threads.for_each([&](const safe::ThreadSlot& slot) {
    slots_.emplace_back(slot.tid.load(std::memory_order_relaxed), &slot);
  });
  std::sort(slots_.begin(), slots_.end());
}

// More than one when an id was given to another thread: which is the present one's shows when it waits.
std::span<const std::pair<pid_t, const safe::ThreadSlot*>> ThreadWatch::slots_of(pid_t tid) const {
  const auto first =
      std::partition_point(slots_.begin(), slots_.end(), [=](const auto& slot) { return slot.first < tid; });
  auto last = first;
  while (last != slots_.end() && last->first == tid) ++last;
  return {first, last};
}

// The nearest above `sp`.
ThreadWatch::Site ThreadWatch::site_of(pid_t tid, std::uintptr_t sp) const {
  Site nearest;
  for (const auto& [owner, slot] : slots_of(tid)) {
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
bool ThreadWatch::walk(ThreadRow& row, const BlockedAt& at, const Site& site) {
  std::array<safe::Pc, safe::kMaxStackDepth> pcs{};
  const std::span<safe::Pc> room = std::span(pcs).first(safe::recorded_depth());
  const safe::OutsideStack stack = safe::walk_outside({at.pc, at.sp, site.frame}, room);
  row.stack = snapshot_.stacks.add(room.first(stack.depth));
  const bool is_met = stack.site != safe::OutsideStack::kNotMet;
  row.kind = is_met ? site.kind : wait_kind_of(at.number);
  row.state = state_of(row.kind);
  row.system_call = at.number;
  row.object = nullptr;
  row.waiting_frame = is_met && stack.site > 0 ? stack.site - 1 : 0;
  if (is_met) row.object = site.object;
  if (!is_met && row.kind == WaitKind::kFutex) row.object = reinterpret_cast<const void*>(at.argument);
  row.holder = holder_of(row.kind, row.object);
  return is_met;
}

ThreadWatch::Look ThreadWatch::look_at(ThreadRow& row) {
  const TaskFile file(row.tid, "syscall");
  if (!file.is_open()) return file.is_refused() || !has_proc_ ? look_at_site(row) : Look::kGone;
  std::array<char, 256> before_room{};
  std::array<char, 256> after_room{};
  for (int look = 0; look < kMostLooks; ++look) {
    const std::string_view before = file.read(before_room);
    if (before.empty()) return Look::kGone;
    if (before == kRunningLine) return Look::kRunning;
    const auto at = parse_syscall(before);
    if (!at) return look_at_site(row);
    if (at->sp == 0) {
      row.state = kUnknown;
      row.obstacle = "[ended]";
      return Look::kDone;
    }
    const Site site = site_of(row.tid, at->sp);
    static_cast<void>(walk(row, *at, site));
    if (file.read(after_room) == before && site_of(row.tid, at->sp) == site) return Look::kDone;
  }
  row.state = {};
  return Look::kRunning;
}

// The kernel does not say where the thread is. Its site is believed when it leads to a stack, and when the
// thread has not run meanwhile, as far as that is told.
ThreadWatch::Look ThreadWatch::look_at_site(ThreadRow& row) {
  const std::uint64_t runs = read_runs(row.tid);
  const Site site = site_of(row.tid, 0);
  if (site.slot != nullptr && walk(row, {}, site) && read_runs(row.tid) == runs &&
      site_of(row.tid, 0) == site) {
    row.system_call = -1;
    return Look::kDone;
  }
  row.state = kUnknown;
  return Look::kRunning;
}

void ThreadWatch::remember(ThreadRow& row, std::int64_t now) {
  const std::uint64_t runs = read_runs(row.tid);
  if (runs == 0) return;
  const auto known = seen_before_.find(row.tid);
  const bool is_same = known != seen_before_.end() && known->second.runs == runs;
  row.blocked_since = is_same ? known->second.first : now;
  seen_[row.tid] = {runs, row.blocked_since};
}

void ThreadWatch::ask_running(const std::vector<std::size_t>& running) {
  std::vector<Question> questions;
  questions.reserve(running.size());
  for (const std::size_t row : running) {
    const pid_t tid = snapshot_.threads[row].tid;
    const auto slots = slots_of(tid);
    const bool is_small = std::any_of(slots.begin(), slots.end(), [](const auto& slot) {
      return slot.second->small_signal_stack.load(std::memory_order_relaxed);
    });
    questions.push_back({tid, is_small, row});
  }
  asking_.ask(
      questions,
      [&](const Question& question, std::span<const safe::Pc> pcs) {
        ThreadRow& row = snapshot_.threads[question.row];
        row.state = kRunning;
        row.kind = WaitKind::kNone;
        row.object = nullptr;
        row.stack = snapshot_.stacks.add(pcs);
      },
      [&](const Question& question, std::string_view why) {
        ThreadRow& row = snapshot_.threads[question.row];
        const bool is_known = row.state != kUnknown;
        // It may have begun to wait, or have ended.
        const Look again = look_at(row);
        if (again == Look::kDone) return;
        row.stack = snapshot_.stacks.add({});
        row.kind = WaitKind::kNone;
        row.object = nullptr;
        row.state = is_known ? kRunning : kUnknown;
        row.obstacle = is_known ? why : "[unknown]";
        if (again == Look::kGone) row.tid = 0;
      });
}

ThreadSnapshot ThreadWatch::take() {
  snapshot_ = {};
  static_cast<void>(snapshot_.stacks.add({}));  // 0: not known
  find_slots();
  const pid_t own = safe::sys::gettid();
  has_proc_ = TaskFile(own, "comm").is_open();
  seen_before_.swap(seen_);
  seen_.clear();

  const std::vector<pid_t> tids = list_threads();
  snapshot_.threads.reserve(tids.size());
  std::vector<std::size_t> running;
  for (const pid_t tid : tids) {
    if (tid == own) continue;
    ThreadRow row;
    row.tid = tid;
    const Look look = look_at(row);
    if (look == Look::kGone) continue;
    row.name = read_thread_name(tid);
    if (look == Look::kDone) remember(row, monotonic_nanos());
    if (look == Look::kRunning) running.push_back(snapshot_.threads.size());
    snapshot_.threads.push_back(row);
  }
  ask_running(running);
  std::erase_if(snapshot_.threads, [](const ThreadRow& row) { return row.tid == 0; });
  seen_before_.clear();
  return std::move(snapshot_);
}

}  // namespace profagent::service
