// The rows of the heap profile: one per (stack, size, rate), with how many were allocated and freed. Any
// thread, signal handlers too; never waits, never frees.
//
// Because size and rate are part of the key, every sample of a row has the same weight, fixed when it was
// taken: changing the rate starts new rows and leaves the old ones true. Counts only grow.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "agent/safe/live_table.h"
#include "agent/safe/types.h"

namespace profagent::safe {

struct HeapBucket {
  StackId stack;
  std::uint32_t reserved;
  std::uint64_t size;  // bytes asked for
  std::uint64_t rate;  // mean bytes between samples when these were taken
  // Added to with release. Read frees first, with acquire: then allocations are never fewer.
  std::atomic<std::uint64_t> allocations;
  std::atomic<std::uint64_t> frees;
};

class HeapBuckets {
 public:
  // The row's number, made when new; 0 when the table is full.
  [[nodiscard]] BucketId find_or_add(StackId stack, std::uint64_t size, std::uint64_t rate) noexcept;

  // `id` was given out by find_or_add().
  [[nodiscard]] HeapBucket& operator[](BucketId id) noexcept { return *at(id); }

  // Calls visit(const HeapBucket&) for every row.
  template <typename Visit>
  void for_each(Visit visit) const {
    const BucketId end = next_id_.load(std::memory_order_acquire);
    for (BucketId id = 1; id < end && id < kMaxBuckets; ++id) {
      const HeapBucket* bucket = at(id);
      // A number whose row lost the race for its index word is never counted. Acquire pairs with the release
      // in HeapRecorder: who sees a count sees the row's key.
      if (bucket != nullptr && bucket->allocations.load(std::memory_order_acquire) != 0) visit(*bucket);
    }
  }

  [[nodiscard]] std::size_t size() const noexcept { return next_id_.load(std::memory_order_relaxed) - 1; }

 private:
  static constexpr std::size_t kMaxBuckets = std::size_t{1} << 18;
  static_assert(kMaxBuckets - 1 <= LiveTable::kMaxBucketId);
  static constexpr std::size_t kSlots = kMaxBuckets * 2;
  static constexpr std::size_t kMaxProbes = 64;
  static constexpr std::size_t kSegmentSize = 2048;
  static constexpr std::size_t kSegments = kMaxBuckets / kSegmentSize;

  [[nodiscard]] HeapBucket* at(BucketId id) const noexcept {
    HeapBucket* segment = segments_[id / kSegmentSize].load(std::memory_order_acquire);
    return segment == nullptr ? nullptr : &segment[id % kSegmentSize];
  }
  [[nodiscard]] BucketId publishable(StackId stack, std::uint64_t size, std::uint64_t rate) noexcept;

  // Upper half: hash tag, lower half: number. 0 is free.
  std::atomic<std::atomic<std::uint64_t>*> index_{nullptr};
  std::atomic<HeapBucket*> segments_[kSegments] = {};
  std::atomic<BucketId> next_id_{1};
};

extern constinit HeapBuckets heap_buckets;

}  // namespace profagent::safe
