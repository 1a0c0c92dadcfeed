// Threads that have said, by a mark in their slot (agent/safe/threads.h), that they can take no signal of
// ours. On our thread only.
#pragma once

#include <cstdint>
#include <vector>

#include <sys/types.h>

namespace profagent::service {

class MarkedThreads {
 public:
  // Looks at the registry when a mark has changed since. Returns what CpuTimers::add() and ThreadAsks::ask()
  // want to know: that the answers below are no older than this.
  std::uint32_t refresh();

  [[nodiscard]] bool has_small_signal_stack(pid_t tid) const;
  [[nodiscard]] bool takes_cpu_signal(pid_t tid) const;

 private:
  bool was_read_ = false;
  std::uint32_t marks_ = 0;
  std::vector<pid_t> small_signal_stacks_;  // ascending, as the next
  std::vector<pid_t> signal_takers_;
};

}  // namespace profagent::service
