// Where every thread of the process stands, without waking one that waits. On our thread only.
//
// A blocked thread is walked from outside (thread_look.h). A running one is asked (thread_asking.h), and when
// it does not answer has a frame that says why. Our own thread is left out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <unordered_map>
#include <utility>
#include <vector>

#include <sys/types.h>

#include "agent/service/stack_pool.h"
#include "agent/service/thread_asking.h"
#include "agent/service/thread_look.h"

namespace profagent::service {

struct ThreadSnapshot {
  std::vector<ThreadRow> threads;
  StackPool stacks;
};

class ThreadWatch {
 public:
  ThreadWatch(std::function<int()> asking_signal, std::int64_t filters_at_load)
      : asking_(std::move(asking_signal), filters_at_load) {}

  [[nodiscard]] ThreadSnapshot take();

 private:
  using Look = ThreadLooker::Look;
  // A thread that has not run since it was seen first has waited all that time.
  struct Seen {
    std::uint64_t runs = 0;
    std::int64_t first = 0;
  };

  void remember(ThreadRow& row, std::int64_t now);
  void ask_running(const std::vector<std::size_t>& running);

  ThreadLooker looker_;
  ThreadAsking asking_;
  ThreadSnapshot snapshot_;  // that is being taken
  std::unordered_map<pid_t, Seen> seen_, seen_before_;
};

}  // namespace profagent::service
