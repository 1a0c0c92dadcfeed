// The rows of the CPU profile: one per stack and thread name, with the CPU time charged to it. See
// bucket_table.h. Kept from one profile to the next; a profile is the difference of two readings.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include <sys/types.h>

#include "agent/safe/bucket_table.h"
#include "agent/safe/thread_name.h"
#include "agent/safe/types.h"

namespace profagent::safe {

struct CpuKey {
  StackId stack = kNoStack;
  pid_t tid = 0;  // 0: of no thread in particular
  ThreadName thread;

  [[nodiscard]] std::uint64_t hash() const noexcept;
  friend bool operator==(const CpuKey&, const CpuKey&) = default;
};

struct CpuBucket : CpuKey {
  std::atomic<std::uint64_t> nanos;  // of CPU time; added to with release

  [[nodiscard]] bool is_used() const noexcept { return nanos.load(std::memory_order_acquire) != 0; }
};

inline constexpr std::size_t kMaxCpuBuckets = std::size_t{1} << 16;

using CpuBuckets = BucketTable<CpuBucket, CpuKey, kMaxCpuBuckets>;

extern constinit CpuBuckets cpu_buckets;

}  // namespace profagent::safe
