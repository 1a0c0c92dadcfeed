#include "hooks/waiting.h"

#include "agent/safe/threads.h"

namespace profagent::hooks {

using safe::contention_recorder;
using safe::lock_waiters;

WaitBegin begin_wait(const safe::Wait& wait, Entered entered) noexcept {
  const safe::SafeSection keeps_errno;
  WaitBegin begin;
  if (safe::ThreadSlot* slot = safe::threads.current(); slot != nullptr) {
    begin.site = &slot->wait;
    begin.site->publish(wait.kind, wait.object, wait.caller);
  }
  const bool is_watched =
      (entered == Entered::kWhileLocksAreWatched && contention_recorder.is_watching_locks()) ||
      (entered == Entered::kWhileHoldersAreTold && contention_recorder.is_telling_holders());
  if (is_watched || contention_recorder.is_timing()) begin.at = safe::ContentionRecorder::now();
  // Before it blocks, so that the one who unlocks meets it.
  if (is_watched) begin.ticket = lock_waiters.join(wait.object, begin.at);
  return begin;
}

void end_wait(const WaitBegin& begin, const safe::Wait& wait, bool waited) noexcept {
  const safe::SafeSection keeps_errno;
  safe::Pc holder = 0;
  if (begin.ticket.place != 0) {
    holder = lock_waiters.holder(begin.ticket);
    lock_waiters.leave(wait.object, begin.ticket);
  }
  if (begin.site != nullptr) begin.site->withdraw();
  if (begin.at != 0 && waited)
    contention_recorder.on_wait(wait, safe::ContentionRecorder::now() - begin.at, holder);
}

safe::Charge before_unlock(const safe::Wait& unlock) noexcept {
  if (!contention_recorder.is_watching_locks()) return {};
  return contention_recorder.before_unlock(unlock.object,
                                           safe::caller_pc(safe::ReturnAddress{unlock.caller.pc}));
}

void record_unlock(const safe::Wait& unlock, const safe::Charge& charge) noexcept {
  const safe::SafeSection keeps_errno;
  contention_recorder.on_unlock(unlock, charge);
}

// Only who it was: nobody is charged with a wait for what did not exist yet.
void note_wake(const void* object, safe::Pc caller) noexcept {
  (void)lock_waiters.take_over(object, safe::ContentionRecorder::now, caller);
}

}  // namespace profagent::hooks
