// Calls by which a thread, or all threads at once, get other rights. With a thread of ours about they would
// go wrong: glibc aborts the process when threads disagree about their user, the kernel refuses a new user
// namespace, and ours would stay behind with the old rights. So our thread is ended and
// joined first, and comes back when the program goes on.
#pragma once

#include <ctime>
#include <utility>

#include <linux/prctl.h>

#include "agent/safe/clock.h"
#include "agent/safe/events.h"
#include "agent/safe/sys.h"
#include "agent/safe/thread_state.h"

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

// The marks are set before the call: other threads may be under the filter before it is back.
class FilterMarks {
 public:
  explicit FilterMarks(Filter filter) noexcept
      : filter_(filter), was_filtered_(std::exchange(safe::thread_state.is_filtered, true)) {
    if (filter_ != Filter::kOfAllThreads) return;
    safe::events.all_are_filtered.fetch_add(1);
    if (safe::events.process.load(std::memory_order_relaxed) != 0) let_others_finish();
  }
  // The filter was refused.
  void take_back() const noexcept {
    if (filter_ == Filter::kOfAllThreads) safe::events.all_are_filtered.fetch_sub(1);
    safe::events.any_is_filtered.fetch_sub(1);
    safe::thread_state.is_filtered = was_filtered_;
  }

 private:
  // Who has looked at the mark before and asks the kernel now: a few calls in a row.
  void let_others_finish() const noexcept {
    constexpr safe::Nanos kLength = 1'000'000;
    constexpr timespec kNap{.tv_sec = 0, .tv_nsec = kLength};
    if (was_filtered_) {
      safe::spin(kLength);
    } else {
      safe::sys::call(SYS_nanosleep, safe::sys::address_of(&kNap), 0);
    }
  }

  Filter filter_;
  bool was_filtered_;
};

// From now on a system call of ours may end the program. In the strict mode also a look at the clock: then
// the thread is left alone for good. `fails(result)`: the filter was refused.
template <typename Call, typename Fails>
auto installing_filter(Filter filter, Call call, Fails fails) {
  // 0: not loaded yet, or a program that we have nothing to do with.
  const pid_t process = safe::events.process.load(std::memory_order_relaxed);
  const bool is_first = safe::may_ask_kernel();
  if (is_first && !safe::is_own_process()) return call();
  if (is_first && process != 0) safe::find_whether_clock_asks();
  // From here on no signal is armed any more; a filter that is refused takes it back.
  safe::events.any_is_filtered.fetch_add(1);
  // From under a filter our thread is only in the way of one for all.
  if (!is_first && filter == Filter::kOfAllThreads) safe::raise(safe::events.filter_will_come_for_all);
  const auto result = without_our_thread(
      [&] {
        const FilterMarks marks(filter);
        const auto answer = call();
        if (fails(answer)) {
          marks.take_back();
        } else if (filter == Filter::kStrict) {
          safe::thread_state.is_agent = true;
        }
        return answer;
      },
      safe::events.filter_will_come);
  if (!is_first && filter == Filter::kOfAllThreads) safe::raise(safe::events.rights_changed);
  return result;
}

// prctl(), also by syscall(). The vDSO's clock would be a fault from then on, in this thread and in those
// that it makes.
inline void on_prctl(int option, unsigned long argument) noexcept {
  if (option != PR_SET_TSC || argument != PR_TSC_SIGSEGV) return;
  safe::set_clock_function(nullptr);
  safe::allow_ticks(false);
}

}  // namespace profagent::hooks
