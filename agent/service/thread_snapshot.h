// Where every thread of the process stands, without waking one that waits. On our thread only.
//
// A blocked thread is walked from outside (agent/safe/outside_walk.h), between two looks at what the kernel
// says of it: when both are the same, it has stood still. A running one is asked (thread_asking.h). One that
// cannot be read has a frame that says why. Our own thread is left out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include <sys/types.h>

#include "agent/safe/cpu_buckets.h"
#include "agent/safe/outside_walk.h"
#include "agent/safe/threads.h"
#include "agent/safe/waits.h"
#include "agent/service/stack_pool.h"
#include "agent/service/thread_asking.h"
#include "agent/service/thread_syscall.h"

namespace profagent::service {

struct ThreadRow {
  pid_t tid = 0;
  safe::ThreadName name;
  std::string_view state;  // "running", "unknown", or the text of a WaitKind
  safe::WaitKind kind = safe::WaitKind::kNone;
  std::int64_t system_call = -1;    // that it is blocked in
  std::uint32_t stack = 0;          // in ThreadSnapshot::stacks
  std::string_view obstacle;        // why the stack is not known: stands in front of it
  const void* object = nullptr;     // what it waits for
  std::uint32_t waiting_frame = 0;  // of the stack: the function that was called with the object
  pid_t holder = 0;                 // of that lock
  std::int64_t blocked_since = 0;   // CLOCK_MONOTONIC, ns: at least since then; 0: not known
};

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
  enum class Look : std::uint8_t { kDone, kRunning, kGone };
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
  // A thread that has not run since it was seen first has waited all that time.
  struct Seen {
    std::uint64_t runs = 0;
    std::int64_t first = 0;
  };

  void find_slots();
  [[nodiscard]] std::span<const std::pair<pid_t, const safe::ThreadSlot*>> slots_of(pid_t tid) const;
  [[nodiscard]] Site site_of(pid_t tid, std::uintptr_t sp) const;
  [[nodiscard]] Look look_at(ThreadRow& row);
  [[nodiscard]] Look look_at_site(ThreadRow& row);
  [[nodiscard]] bool walk(ThreadRow& row, const BlockedAt& at, const Site& site);
  void remember(ThreadRow& row, std::int64_t now);
  void ask_running(const std::vector<std::size_t>& running);

  ThreadAsking asking_;
  ThreadSnapshot snapshot_;  // that is being taken
  bool has_proc_ = true;
  std::vector<std::pair<pid_t, const safe::ThreadSlot*>> slots_;  // by tid
  std::unordered_map<pid_t, Seen> seen_, seen_before_;
};

}  // namespace profagent::service
