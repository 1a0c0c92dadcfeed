// The rows of the threadcreate profile: one per stack that has created threads. See bucket_table.h.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "agent/safe/bucket_table.h"
#include "agent/safe/types.h"

namespace profagent::safe {

struct CreatorKey {
  StackId stack = kNoStack;

  [[nodiscard]] std::uint64_t hash() const noexcept;
  friend bool operator==(const CreatorKey&, const CreatorKey&) = default;
};

struct CreatorBucket : CreatorKey {
  std::atomic<std::uint64_t> created;  // threads; added to with release

  [[nodiscard]] bool is_used() const noexcept { return created.load(std::memory_order_acquire) != 0; }
};

inline constexpr std::size_t kMaxCreatorBuckets = std::size_t{1} << 14;

using CreatorBuckets = BucketTable<CreatorBucket, CreatorKey, kMaxCreatorBuckets>;

extern constinit CreatorBuckets creator_buckets;

}  // namespace profagent::safe
