// The rows of a profile: one per key, with counters that only grow. Any thread, signal handlers too; never
// waits, never frees. Each profile says what its key and its counters are (heap_buckets.h, cpu_buckets.h).
//
// A row is `struct Row : Key { atomics… }` with `bool is_used() const`, true once a counter was added to,
// read with acquire: who sees a count sees the key. Key is trivially copyable, compares with ==, and has
// `std::uint64_t hash() const`. Memory is zero before a row is used.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "agent/safe/lazy.h"
#include "agent/safe/types.h"

namespace profagent::safe {

template <typename Row, typename Key, std::size_t kMaxRows>
class BucketTable {
 public:
  // The row's number, made when new; 0 when the table is full.
  [[nodiscard]] BucketId find_or_add(const Key& key) noexcept;

  // `id` was given out by find_or_add().
  [[nodiscard]] Row& operator[](BucketId id) noexcept { return *at(id); }

  // Calls visit(id, const Row&) for every row, in the order in which they were made.
  template <typename Visit>
  void for_each_id(Visit visit) const {
    const BucketId end = next_id_.load(std::memory_order_acquire);
    for (BucketId id = 1; id < end && id < kMaxRows; ++id) {
      const Row* row = at(id);
      // A number whose row lost the race for its index word is never counted.
      if (row != nullptr && row->is_used()) visit(id, *row);
    }
  }
  template <typename Visit>
  void for_each(Visit visit) const {
    for_each_id([&](BucketId, const Row& row) { visit(row); });
  }

  [[nodiscard]] std::size_t size() const noexcept { return next_id_.load(std::memory_order_relaxed) - 1; }

 private:
  static constexpr std::uint64_t kIdMask = 0xffffffff;
  static constexpr std::size_t kSlots = kMaxRows * 2;
  static constexpr std::size_t kMaxProbes = 64;
  static constexpr std::size_t kSegmentSize = 2048;
  static constexpr std::size_t kSegments = kMaxRows / kSegmentSize;

  [[nodiscard]] Row* at(BucketId id) const noexcept {
    Row* segment = segments_[id / kSegmentSize].load(std::memory_order_acquire);
    return segment == nullptr ? nullptr : &segment[id % kSegmentSize];
  }
  // A row that has a number but is not in the index yet.
  [[nodiscard]] BucketId publishable(const Key& key) noexcept;

  // Upper half: hash tag, lower half: number. 0 is free.
  std::atomic<std::atomic<std::uint64_t>*> index_{nullptr};
  std::atomic<Row*> segments_[kSegments] = {};
  std::atomic<BucketId> next_id_{1};
};

template <typename Row, typename Key, std::size_t kMaxRows>
BucketId BucketTable<Row, Key, kMaxRows>::publishable(const Key& key) noexcept {
  // The segment first: numbers must not run out while memory has.
  const BucketId likely = next_id_.load(std::memory_order_relaxed);
  if (likely >= kMaxRows || lazy_array(segments_[likely / kSegmentSize], kSegmentSize) == nullptr) return 0;
  const BucketId id = next_id_.fetch_add(1, std::memory_order_relaxed);
  if (id >= kMaxRows) {
    next_id_.fetch_sub(1, std::memory_order_relaxed);  // stays near the bound, so it never wraps
    return 0;
  }
  Row* segment = lazy_array(segments_[id / kSegmentSize], kSegmentSize);
  if (segment == nullptr) return 0;
  static_cast<Key&>(segment[id % kSegmentSize]) = key;
  return id;
}

template <typename Row, typename Key, std::size_t kMaxRows>
BucketId BucketTable<Row, Key, kMaxRows>::find_or_add(const Key& key) noexcept {
  auto* index = lazy_array(index_, kSlots);
  if (index == nullptr) return 0;
  const std::uint64_t hash = key.hash();
  const std::uint64_t tag = hash & ~kIdMask;
  BucketId fresh = 0;
  for (std::size_t probe = 0; probe < kMaxProbes; ++probe) {
    std::atomic<std::uint64_t>& slot = index[(hash + probe) % kSlots];
    // Acquire pairs with the release of the compare-and-swap: who sees the number sees the row.
    std::uint64_t word = slot.load(std::memory_order_acquire);
    if (word == 0) {
      if (fresh == 0) fresh = publishable(key);
      if (fresh == 0) return 0;
      if (slot.compare_exchange_strong(word, tag | fresh, std::memory_order_acq_rel)) return fresh;
    }
    if ((word & ~kIdMask) != tag) continue;
    const auto id = static_cast<BucketId>(word & kIdMask);
    if (static_cast<const Key&>(*at(id)) == key) return id;
  }
  return 0;
}

}  // namespace profagent::safe
