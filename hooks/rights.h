// Calls by which a thread, or all threads at once, get other rights. With a thread of ours about they would
// go wrong: glibc aborts the process when threads disagree about their user, the kernel refuses a new user
// namespace, and ours would stay behind with the old rights. So our thread is ended and
// joined first, and comes back when the program goes on.
#pragma once

#include "agent/safe/events.h"
#include "agent/safe/sys.h"
#include "agent/safe/thread_state.h"
#include "agent/safe/threads.h"

namespace profagent::hooks {

template <typename Call>
auto without_our_thread(Call call,
                        const std::atomic<safe::EventHandler>& before = safe::events.rights_will_change) {
  {
    const safe::SafeSection keeps_errno;
    safe::raise(before);
  }
  const auto result = call();
  const safe::SafeSection keeps_errno;
  safe::raise(safe::events.rights_changed);
  return result;
}

enum class Filter { kOfThread, kOfAllThreads, kStrict };

// From now on a system call of ours may end the program. In the strict mode also a look at the clock: then
// the thread is left alone for good.
template <typename Call>
auto installing_filter(Filter filter, Call call) {
  const pid_t process = safe::events.process.load(std::memory_order_relaxed);
  if (process != 0 && process != safe::sys::getpid()) return call();
  safe::threads.let_waiters_claim(false);
  return without_our_thread(
      [&] {
        const auto result = call();
        if (result != 0) return result;
        safe::thread_state.is_filtered = true;
        if (filter == Filter::kStrict) safe::thread_state.is_agent = true;
        if (filter == Filter::kOfAllThreads) safe::events.all_are_filtered = true;
        return result;
      },
      safe::events.filter_will_come);
}

}  // namespace profagent::hooks
