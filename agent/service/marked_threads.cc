#include "agent/service/marked_threads.h"

#include <algorithm>
#include <utility>

#include "agent/safe/threads.h"

namespace profagent::service {

std::uint32_t MarkedThreads::refresh() {
  const std::uint32_t marks = safe::threads.marks();
  if (std::exchange(was_read_, true) && marks == marks_) return marks;
  marks_ = marks;
  small_signal_stacks_.clear();
  signal_takers_.clear();
  safe::threads.for_each([&](const safe::ThreadSlot& slot) {
    const pid_t tid = slot.tid.load(std::memory_order_relaxed);
    if (slot.small_signal_stack.load(std::memory_order_relaxed)) small_signal_stacks_.push_back(tid);
    if (slot.takes_cpu_signal.load(std::memory_order_relaxed)) signal_takers_.push_back(tid);
  });
  std::sort(small_signal_stacks_.begin(), small_signal_stacks_.end());
  std::sort(signal_takers_.begin(), signal_takers_.end());
  return marks;
}

bool MarkedThreads::has_small_signal_stack(pid_t tid) const {
  return std::binary_search(small_signal_stacks_.begin(), small_signal_stacks_.end(), tid) ||
         safe::threads.is_marked_without_slot(tid);
}

bool MarkedThreads::takes_cpu_signal(pid_t tid) const {
  return std::binary_search(signal_takers_.begin(), signal_takers_.end(), tid);
}

}  // namespace profagent::service
