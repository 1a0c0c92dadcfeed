#include "agent/service/live_threads.h"

#include <algorithm>
#include <set>
#include <vector>

#include "agent/safe/created_threads.h"
#include "agent/safe/sys.h"
#include "agent/service/thread_handles.h"
#include "agent/service/thread_list.h"

namespace profagent::service {

LiveThreads find_live_threads() {
  LiveThreads live;
  const ThreadHandles handles;
  live.handles_are_readable = handles.are_readable();
  std::vector<pid_t> tids = list_threads();
  std::sort(tids.begin(), tids.end());
  std::set<pid_t> accounted = {safe::sys::gettid()};
  safe::created_threads.for_each([&](std::uintptr_t handle, safe::BucketId creator) {
    const pid_t tid = handles.tid_of(handle);
    if (tid == 0 || !std::binary_search(tids.begin(), tids.end(), tid)) return;
    if (accounted.insert(tid).second) ++live.created[creator];
  });

  // The list of the kernel shows the main thread for as long as there are others.
  const pid_t main_thread = safe::sys::getpid();
  accounted.insert(main_thread);
  live.has_main = !has_ended(main_thread);

  for (const pid_t tid : tids) {
    // A thread is listed for a moment after it has ended.
    if (!accounted.contains(tid) && !has_ended(tid)) ++live.unknown;
  }
  return live;
}

}  // namespace profagent::service
