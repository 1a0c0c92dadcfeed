// Records sampled allocations and their frees. Any thread; every function is safe where malloc is called,
// signal handlers included: no lock, no wait, no allocation from the program, errno untouched.
//
// Which allocations are sampled is decided by wants(); what they weigh follows from their size and the rate
// in force, both kept with the record (see heap_buckets.h), so that every sample is complete when recorded.
#pragma once

#include <cstddef>
#include <cstdint>

#include "agent/safe/heap_filter.h"
#include "agent/safe/live_table.h"
#include "agent/safe/thread_state.h"
#include "agent/safe/unwind.h"

namespace profagent::safe {

class HeapRecorder {
 public:
  // The cheap half of the decision, for the hooks' fast path: false for nearly every allocation.
  [[nodiscard, gnu::always_inline]] static bool is_due(std::size_t size) noexcept {
#if defined(__x86_64__)
    // One instruction, which also means that a signal handler sees the counter before or after it.
    bool borrowed = false;
    asm("subq %2, %0" : "+m"(thread_state.bytes_until_sample), "=@ccb"(borrowed) : "er"(size));
    return borrowed;
#else
    return __builtin_sub_overflow(thread_state.bytes_until_sample, std::uint64_t{size},
                                  &thread_state.bytes_until_sample);
#endif
  }

  // Makes this thread's next allocation take the slow path, without touching the draw. For a signal handler
  // on that thread.
  static void look_soon() noexcept;

  // The other half, after is_due(size): the rate at which this allocation is sampled, 0 when it is not. Also
  // sets the thread up on first use. A distance that was drawn before a change of rate keeps the old one.
  [[nodiscard]] std::uint64_t wants(std::size_t size) noexcept;

  // Instead of wants(), where nothing can be recorded: a signal handler that interrupted a recorder. The
  // borrowed counter has to be set again, or this thread would not be sampled for the next 2^64 bytes.
  void pass_over(std::size_t size) noexcept;

  // `block` of `size` bytes was allocated and wants(size) gave `rate`, not 0. `caller` called the allocator.
  void on_alloc(const void* block, std::size_t size, std::uint64_t rate, const StartFrame& caller) noexcept;

  // Call before the real free: afterwards another thread may own the address. Only needed when
  // heap_filter.may_contain(block).
  void on_free(const void* block) noexcept;

  // realloc may fail and leave its block as it was: take the record out before, then either put it back or
  // let go of it. A null id stands for "was not sampled".
  [[nodiscard]] BucketId take(const void* block) noexcept;
  void put_back(const void* block, BucketId taken) noexcept;
  void let_go(BucketId taken) noexcept;

  // Starts or stops sampling: `rate` in mean bytes, 0 is off. Blocks recorded before stay known. The calling
  // thread follows at once; another one with its next sample, or, when sampling was off, within a MiB of
  // allocations.
  void set_rate(std::uint64_t rate) noexcept;
  [[nodiscard]] std::uint64_t rate() const noexcept {
    return rate_.load(std::memory_order_relaxed);
  }

 private:
  std::atomic<std::uint64_t> rate_{0};
};

[[gnu::visibility("hidden")]] extern constinit HeapRecorder heap_recorder;

}  // namespace profagent::safe
