// The rows of the heap profile: one per (stack, size, rate), with how many were allocated and freed. See
// bucket_table.h.
//
// Because size and rate are part of the key, every sample of a row has the same weight, fixed when it was
// taken: changing the rate starts new rows and leaves the old ones true.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "agent/safe/bucket_table.h"
#include "agent/safe/live_table.h"
#include "agent/safe/types.h"

namespace profagent::safe {

struct HeapKey {
  StackId stack = kNoStack;
  std::uint64_t size = 0;  // bytes asked for
  std::uint64_t rate = 0;  // mean bytes between samples when these were taken

  [[nodiscard]] std::uint64_t hash() const noexcept;
  friend bool operator==(const HeapKey&, const HeapKey&) = default;
};

struct HeapBucket : HeapKey {
  // Added to with release. Read frees first, with acquire: then allocations are never fewer.
  std::atomic<std::uint64_t> allocations;
  std::atomic<std::uint64_t> frees;

  [[nodiscard]] bool is_used() const noexcept { return allocations.load(std::memory_order_acquire) != 0; }
};

inline constexpr std::size_t kMaxHeapBuckets = std::size_t{1} << 18;
static_assert(kMaxHeapBuckets - 1 <= LiveTable::kMaxBucketId);

using HeapBuckets = BucketTable<HeapBucket, HeapKey, kMaxHeapBuckets>;

extern constinit HeapBuckets heap_buckets;

}  // namespace profagent::safe
