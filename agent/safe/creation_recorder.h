// Counts threads at the stack that created them, for the threadcreate profile. Any thread; never waits; errno
// is not touched.
#pragma once

#include <atomic>
#include <cstdint>

#include "agent/safe/types.h"
#include "agent/safe/unwind.h"

namespace profagent::safe {

class CreationRecorder {
 public:
  // Once, while the agent starts.
  void start() noexcept { recording_.store(true, std::memory_order_relaxed); }
  [[nodiscard]] bool is_recording() const noexcept { return recording_.load(std::memory_order_relaxed); }

  // The row of the stack above `caller`. 0 when there is no room for it, counted by on_created().
  [[nodiscard]] BucketId find_creator(const StartFrame& caller) noexcept;

  // A thread was created there.
  void on_created(BucketId creator) noexcept;

  // Threads whose creator has no row.
  [[nodiscard]] std::uint64_t overflow() const noexcept { return overflow_.load(std::memory_order_relaxed); }

  // In the child of fork(), which has created no thread yet.
  void forget_after_fork() noexcept;

 private:
  std::atomic<bool> recording_{false};
  std::atomic<std::uint64_t> overflow_{0};
};

extern constinit CreationRecorder creation_recorder;

}  // namespace profagent::safe
