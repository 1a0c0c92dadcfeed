#include "agent/safe/created_threads.h"

#include <type_traits>

#include "agent/safe/counters.h"
#include "agent/safe/creator_buckets.h"
#include "agent/safe/lazy.h"

namespace profagent::safe {

constinit CreatedThreads created_threads;
static_assert(std::is_trivially_destructible_v<CreatedThreads>);

std::uintptr_t CreatedThreads::own_handle() noexcept {
  std::uintptr_t handle = 0;
  asm("mov %%fs:0, %0" : "=r"(handle));
  return handle;
}

void CreatedThreads::note(std::uintptr_t handle, BucketId creator) noexcept {
  static_assert(kMaxCreatorBuckets <= kCreatorMask);
  Entry* entries = lazy_array(entries_, kEntries);
  const bool fits =
      handle >> kAddressBits == 0 && handle % (std::uintptr_t{1} << kAlignmentBits) == 0 && handle != 0;
  if (entries == nullptr || !fits) return count(counters.dropped_thread_creators);
  const std::uint64_t word = (handle >> kAlignmentBits) << kCreatorBits | creator;
  // Handles are a stack apart from each other, so one multiplication would put many in one place.
  std::uint64_t home = (handle ^ handle >> 23) * 0xff51afd7ed558ccdULL;
  home = (home ^ home >> 32) * 0xc4ceb9fe1a85ec53ULL;
  home ^= home >> 32;

  // All places are looked at before a free one is taken: the handle may have one further on.
  bool has_room = false;
  for (std::size_t probe = 0; probe < kMaxProbes; ++probe) {
    Entry& entry = entries[(home + probe) % kEntries];
    const std::uint64_t seen = entry.load(std::memory_order_relaxed);
    // Only the thread itself writes to its entry. Pairs with the acquire in for_each().
    if (seen != 0 && handle_of(seen) == handle) return entry.store(word, std::memory_order_release);
    has_room = has_room || seen == 0;
  }
  // Others may be faster, and then the next free place is ours; there are only so many.
  for (std::size_t probe = 0; has_room && probe < kMaxProbes; ++probe) {
    Entry& entry = entries[(home + probe) % kEntries];
    std::uint64_t expected = 0;
    // The release pairs with the acquire in for_each().
    if (entry.compare_exchange_strong(expected, word, std::memory_order_release, std::memory_order_relaxed))
      return;
  }
  count(counters.dropped_thread_creators);
  entries[home % kEntries].store(word, std::memory_order_release);  // as above
}

}  // namespace profagent::safe
