#include "hooks/waiting.h"

#include "agent/safe/events.h"
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

void publish(WaitBegin& begin, const safe::Wait& wait) noexcept {
  if (safe::ThreadSlot* slot = safe::threads.current_of_waiter(); slot != nullptr) {
    begin.site = &slot->wait;
    remember_outer(begin, wait);
    begin.site->publish(wait.kind, wait.object, wait.caller);
  }
}

// Before it blocks, so that the one who unlocks or wakes meets it.
void enter(WaitBegin& begin, const void* key, safe::Nanos since) noexcept {
  begin.key = key;
  begin.ticket = lock_waiters.join(key, since, safe::ContentionRecorder::now());
}

void leave(WaitBegin& begin) noexcept {
  if (begin.ticket.place != 0) lock_waiters.leave(begin.key, begin.ticket);
  begin.ticket = {};
}

}  // namespace

WaitBegin begin_wait(const safe::Wait& wait, Entered entered) noexcept {
  const safe::SafeSection keeps_errno;
  WaitBegin begin;
  publish(begin, wait);
  const bool is_told = entered == Entered::kWhileHoldersAreTold && contention_recorder.is_telling_holders() &&
                       safe::may_read_clock();
  if (is_told || (contention_recorder.is_timing() && safe::may_ask_kernel()))
    begin.at = safe::ContentionRecorder::now();
  if (is_told) enter(begin, safe::LockWaiters::wakeable(wait.object), begin.at);
  return begin;
}

WaitBegin begin_lock_wait(const safe::Wait& wait, bool may_be_tried_again) noexcept {
  const safe::SafeSection keeps_errno;
  WaitBegin begin;
  if ((contention_recorder.is_watching_locks() || contention_recorder.is_timing()) && safe::may_read_clock())
    begin.at = safe::ContentionRecorder::now();
  publish(begin, wait);
  if (begin.at == 0) return begin;
  begin.draw = contention_recorder.before_lock_wait(wait);
  // While somebody asks for holders each unlock is to meet its waiters, however short they wait.
  begin.may_look = may_be_tried_again && !contention_recorder.is_telling_holders() && safe::may_ask_kernel();
  if (begin.may_look && begin.draw.is_looker)
    enter(begin, safe::LockWaiters::looked_at(wait.object), begin.at);
  return begin;
}

bool look_away(WaitBegin& begin, int looked) noexcept {
  // In all some 3 to 6 us (AMD), 5 to 10 (Intel), about a sleep's price, and drawn, or they keep time with
  // the holder. Few looks: each takes the lock's cache line away from who has it.
  constexpr int kLooks = 3;
  constexpr int kPauses = 16;
  if (looked == kLooks) return false;
  const int pauses = kPauses + static_cast<int>(begin.draw.jitter % kPauses);
  for (int i = 0; i < pauses << looked; ++i) __builtin_ia32_pause();
  // Not when it has the lock, and others may wait for it.
  if (begin.draw.rate > 0) begin.until = safe::ContentionRecorder::now();
  return true;
}

void enter_lock_wait(WaitBegin& begin, const safe::Wait& wait) noexcept {
  begin.until = 0;
  if (begin.at == 0) return;
  if (!contention_recorder.is_watching_locks()) return leave(begin);
  const safe::Nanos now = safe::ContentionRecorder::now();
  begin.ticket = begin.ticket.place != 0 ? lock_waiters.go_on_waiting(wait.object, begin.ticket, now)
                                         : lock_waiters.join(wait.object, begin.at, now);
  begin.key = wait.object;
}

void end_wait(WaitBegin& begin, const safe::Wait& wait, bool waited) noexcept {
  const safe::SafeSection keeps_errno;
  const safe::StackId holder = lock_waiters.holder(begin.ticket);
  leave(begin);
  if (begin.outer_kind != safe::WaitKind::kNone) {
    begin.site->publish(begin.outer_kind, begin.outer_object, begin.outer_caller);
  } else if (begin.site != nullptr) {
    begin.site->withdraw();
  }
  if (begin.at == 0 || !waited || contention_recorder.block_rate() <= 0) return;
  const safe::Nanos until = begin.until != 0 ? begin.until : safe::ContentionRecorder::now();
  contention_recorder.on_wait(wait, until - begin.at, holder, begin.draw);
}

safe::Charge before_unlock(const safe::Wait& unlock) noexcept {
  if (!contention_recorder.is_watching_locks() || !safe::may_read_clock()) return {};
  return contention_recorder.before_unlock(unlock);
}

void record_unlock(const safe::Wait& unlock, const safe::Charge& charge) noexcept {
  const safe::SafeSection keeps_errno;
  contention_recorder.on_unlock(unlock, charge);
}

void record_wake(const safe::Wait& wake) noexcept {
  if (safe::may_read_clock()) safe::ContentionRecorder::on_wake(wake);
}

}  // namespace profagent::hooks
