// Where one thread stands now, without waking it. On our thread only.
//
// A blocked thread is walked from outside (agent/safe/outside_walk.h), between two looks at what the kernel
// says of it: when both are the same, it has stood still. One that cannot be read has a frame that says why.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include <sys/types.h>

#include "agent/safe/cpu_buckets.h"
#include "agent/safe/outside_walk.h"
#include "agent/safe/threads.h"
#include "agent/safe/waits.h"
#include "agent/service/stack_pool.h"
#include "agent/service/thread_syscall.h"

namespace profagent::service {

inline constexpr std::string_view kRunningState = "running";
inline constexpr std::string_view kUnknownState = "unknown";

struct ThreadRow {
  pid_t tid = 0;
  safe::ThreadName name;
  std::string_view state;  // kRunningState, kUnknownState, or the text of a WaitKind
  safe::WaitKind kind = safe::WaitKind::kNone;
  std::int64_t system_call = -1;    // that it is blocked in
  std::uint32_t stack = 0;          // in the pool that it was put into
  std::string_view obstacle;        // why the stack is not known: stands in front of it
  const void* object = nullptr;     // what it waits for
  std::uint32_t waiting_frame = 0;  // of the stack: the function that was called with the object
  pid_t holder = 0;                 // of that lock
  std::int64_t blocked_since = 0;   // CLOCK_MONOTONIC, ns: at least since then; 0: not known
};

// How often the thread was given a processor; 0: the kernel does not count.
[[nodiscard]] std::uint64_t read_runs(pid_t tid);

class ThreadLooker {
 public:
  // kRunning: it is to be asked (thread_asking.h), unless the row's state says that nothing is known.
  enum class Look : std::uint8_t { kDone, kRunning, kGone };

  // To be called before the looks, again when threads have come.
  void find_slots();
  // False: it had not entered a hook when the slots were found, so its waits are shown by their system calls.
  [[nodiscard]] bool has_slot(pid_t tid) const { return !slots_of(tid).empty(); }

  // Fills the row of `row.tid`, but for its name and what others remember.
  [[nodiscard]] Look look_at(ThreadRow& row, StackPool& stacks) const;

 private:
  struct Site {
    const safe::ThreadSlot* slot = nullptr;
    safe::WaitKind kind = safe::WaitKind::kNone;
    const void* object = nullptr;
    safe::StartFrame frame;
    friend bool operator==(const Site& a, const Site& b) {
      return a.slot == b.slot && a.kind == b.kind && a.object == b.object && a.frame.pc == b.frame.pc &&
             a.frame.sp == b.frame.sp;
    }
  };
  using Slot = std::pair<pid_t, const safe::ThreadSlot*>;

  [[nodiscard]] std::span<const Slot> slots_of(pid_t tid) const;
  [[nodiscard]] Site site_of(pid_t tid, std::uintptr_t sp) const;
  [[nodiscard]] Look look_at_site(ThreadRow& row, StackPool& stacks) const;
  static Look running(ThreadRow& row, StackPool& stacks, std::string_view state);
  [[nodiscard]] static bool walk(ThreadRow& row, StackPool& stacks, const BlockedAt& at, const Site& site);

  bool has_proc_ = true;
  std::vector<Slot> slots_;  // by tid
};

}  // namespace profagent::service
