#include "agent/safe/heap_buckets.h"

#include <type_traits>

#include "agent/safe/lazy.h"

namespace profagent::safe {

constinit HeapBuckets heap_buckets;
static_assert(std::is_trivially_destructible_v<HeapBuckets>);

namespace {

constexpr std::uint64_t kIdMask = 0xffffffff;

std::uint64_t hash_of(StackId stack, std::uint64_t size, std::uint64_t rate) {
  std::uint64_t h = (stack + rate * 0x9e3779b97f4a7c15ULL) * 0xff51afd7ed558ccdULL;
  h = (h ^ (h >> 32) ^ size) * 0xc4ceb9fe1a85ec53ULL;
  return h ^ (h >> 29);
}

}  // namespace

// A row that has a number but is not in the index yet.
BucketId HeapBuckets::publishable(StackId stack, std::uint64_t size, std::uint64_t rate) noexcept {
  // The segment first: numbers must not run out while memory has.
  const BucketId likely = next_id_.load(std::memory_order_relaxed);
  if (likely >= kMaxBuckets || lazy_array(segments_[likely / kSegmentSize], kSegmentSize) == nullptr)
    return 0;
  const BucketId id = next_id_.fetch_add(1, std::memory_order_relaxed);
  if (id >= kMaxBuckets) {
    next_id_.fetch_sub(1, std::memory_order_relaxed);  // stays near the bound, so it never wraps
    return 0;
  }
  HeapBucket* segment = lazy_array(segments_[id / kSegmentSize], kSegmentSize);
  if (segment == nullptr) return 0;
  HeapBucket& bucket = segment[id % kSegmentSize];
  bucket.stack = stack;
  bucket.size = size;
  bucket.rate = rate;
  return id;
}

BucketId HeapBuckets::find_or_add(StackId stack, std::uint64_t size, std::uint64_t rate) noexcept {
  auto* index = lazy_array(index_, kSlots);
  if (index == nullptr) return 0;
  const std::uint64_t hash = hash_of(stack, size, rate);
  const std::uint64_t tag = hash & ~kIdMask;
  BucketId fresh = 0;
  for (std::size_t probe = 0; probe < kMaxProbes; ++probe) {
    std::atomic<std::uint64_t>& slot = index[(hash + probe) % kSlots];
    // Acquire pairs with the release of the compare-and-swap: who sees the number sees the row.
    std::uint64_t word = slot.load(std::memory_order_acquire);
    if (word == 0) {
      if (fresh == 0) fresh = publishable(stack, size, rate);
      if (fresh == 0) return 0;
      if (slot.compare_exchange_strong(word, tag | fresh, std::memory_order_acq_rel)) return fresh;
    }
    if ((word & ~kIdMask) != tag) continue;
    const auto id = static_cast<BucketId>(word & kIdMask);
    const HeapBucket& bucket = *at(id);
    if (bucket.stack == stack && bucket.size == size && bucket.rate == rate) return id;
  }
  return 0;
}

}  // namespace profagent::safe
