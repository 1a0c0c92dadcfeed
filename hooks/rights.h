// Calls by which a thread, or all threads at once, get other rights. With a thread of ours about they would
// go wrong: glibc aborts the process when threads disagree about their user, the kernel refuses a new user
// namespace, and ours would stay behind with the old rights. So our thread is ended and
// joined first, and comes back when the program goes on.
#pragma once

#include <utility>

#include "agent/safe/events.h"
#include "agent/safe/sys.h"
#include "agent/safe/thread_state.h"
#include "agent/safe/threads.h"

namespace profagent::hooks {

template <typename Call>
auto without_our_thread(Call call,
                        const std::atomic<safe::EventHandler>& before = safe::events.rights_will_change) {
  // To end our thread from under a filter may end the program.
  if (!safe::may_ask_kernel()) return call();
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
// the thread is left alone for good. `fails(result)`: the filter was refused.
template <typename Call, typename Fails>
auto installing_filter(Filter filter, Call call, Fails fails) {
  const pid_t process = safe::events.process.load(std::memory_order_relaxed);
  if (process != 0 && safe::may_ask_kernel() && process != safe::sys::getpid()) return call();
  safe::threads.let_waiters_claim(false);
  return without_our_thread(
      [&] {
        // Before the call: the others may be under the filter before it is back.
        const bool was_filtered = std::exchange(safe::thread_state.is_filtered, true);
        const bool were_all = safe::events.all_are_filtered.load();
        const bool was_any = safe::events.any_is_filtered.exchange(true);
        if (filter == Filter::kOfAllThreads) safe::events.all_are_filtered = true;
        const auto result = call();
        if (!fails(result)) {
          if (filter == Filter::kStrict) safe::thread_state.is_agent = true;
          return result;
        }
        safe::thread_state.is_filtered = was_filtered;
        safe::events.all_are_filtered = were_all;
        safe::events.any_is_filtered = was_any;
        return result;
      },
      safe::events.filter_will_come);
}

}  // namespace profagent::hooks
