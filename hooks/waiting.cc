#include "hooks/waiting.h"

#include "agent/safe/threads.h"

namespace profagent::hooks {

using safe::contention_recorder;
using safe::lock_waiters;

namespace {

// One that was left by a jump, or by cancellation, lies further in than this one.
void remember_outer(WaitBegin& begin, const safe::Wait& wait) noexcept {
  const safe::WaitSite& site = *begin.site;
  const safe::WaitKind kind = site.kind.load(std::memory_order_relaxed);
  if (kind == safe::WaitKind::kNone || site.sp.load(std::memory_order_relaxed) <= wait.caller.sp) return;
  begin.outer_kind = kind;
  begin.outer_object = site.object.load(std::memory_order_relaxed);
  begin.outer_caller.pc = site.pc.load(std::memory_order_relaxed);
  begin.outer_caller.sp = site.sp.load(std::memory_order_relaxed);
  begin.outer_caller.bp = site.bp.load(std::memory_order_relaxed);
}

}  // namespace

WaitBegin begin_wait(const safe::Wait& wait, Entered entered) noexcept {
  const safe::SafeSection keeps_errno;
  WaitBegin begin;
  if (safe::ThreadSlot* slot = safe::threads.current_of_waiter(); slot != nullptr) {
    begin.site = &slot->wait;
    remember_outer(begin, wait);
    begin.site->publish(wait.kind, wait.object, wait.caller);
  }
  const bool is_watched =
      (entered == Entered::kWhileLocksAreWatched && contention_recorder.is_watching_locks()) ||
      (entered == Entered::kWhileHoldersAreTold && contention_recorder.is_telling_holders());
  if (is_watched || contention_recorder.is_timing()) begin.at = safe::ContentionRecorder::now();
  // Before it blocks, so that the one who unlocks meets it.
  if (is_watched) {
    begin.key =
        entered == Entered::kWhileHoldersAreTold ? safe::LockWaiters::wakeable(wait.object) : wait.object;
    begin.ticket = lock_waiters.join(begin.key, begin.at);
  }
  return begin;
}

void end_wait(const WaitBegin& begin, const safe::Wait& wait, bool waited) noexcept {
  const safe::SafeSection keeps_errno;
  safe::StackId holder = safe::kNoStack;
  if (begin.ticket.place != 0) {
    holder = lock_waiters.holder(begin.ticket);
    lock_waiters.leave(begin.key, begin.ticket);
  }
  if (begin.outer_kind != safe::WaitKind::kNone) {
    begin.site->publish(begin.outer_kind, begin.outer_object, begin.outer_caller);
  } else if (begin.site != nullptr) {
    begin.site->withdraw();
  }
  if (begin.at != 0 && waited)
    contention_recorder.on_wait(wait, safe::ContentionRecorder::now() - begin.at, holder);
}

safe::Charge before_unlock(const safe::Wait& unlock) noexcept {
  if (!contention_recorder.is_watching_locks()) return {};
  return contention_recorder.before_unlock(unlock);
}

void record_unlock(const safe::Wait& unlock, const safe::Charge& charge) noexcept {
  const safe::SafeSection keeps_errno;
  contention_recorder.on_unlock(unlock, charge);
}

void record_wake(const safe::Wait& wake) noexcept {
  safe::ContentionRecorder::on_wake(wake);
}

}  // namespace profagent::hooks
