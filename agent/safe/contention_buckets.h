// The rows of the block and mutex profiles: one per stack, kind of wait, and, where a request wants to know
// them, the lock and who held it. See bucket_table.h.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "agent/safe/bucket_table.h"
#include "agent/safe/thread_name.h"
#include "agent/safe/types.h"
#include "agent/safe/waits.h"

namespace profagent::safe {

struct ContentionKey {
  StackId stack = kNoStack;
  WaitKind kind = WaitKind::kNone;
  const void* lock = nullptr;  // null: not asked for
  Pc holder = 0;               // who unlocked it last; 0: not asked for, or not known
  ThreadName thread;           // that held the lock; empty: not asked for

  [[nodiscard]] std::uint64_t hash() const noexcept;
  friend bool operator==(const ContentionKey&, const ContentionKey&) = default;
};

struct ContentionBucket : ContentionKey {
  // A sample may stand for 2.5 waits.
  static constexpr std::uint64_t kCountUnit = 1024;
  std::atomic<std::uint64_t> count;  // in units of 1/kCountUnit
  std::atomic<std::uint64_t> nanos;  // added to after `count`, with release

  [[nodiscard]] bool is_used() const noexcept { return nanos.load(std::memory_order_acquire) != 0; }
};

inline constexpr std::size_t kMaxContentionBuckets = std::size_t{1} << 16;

using ContentionBuckets = BucketTable<ContentionBucket, ContentionKey, kMaxContentionBuckets>;

extern constinit ContentionBuckets block_buckets;
extern constinit ContentionBuckets mutex_buckets;

}  // namespace profagent::safe
