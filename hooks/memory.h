// What the hooks of the malloc family share, and the switch that the roof throws.
#pragma once

#include <cstddef>
#include <cstdint>

#include "agent/safe/heap_recorder.h"
#include "agent/safe/thread_state.h"
#include "agent/safe/unwind.h"

namespace profagent::hooks {

// Lets free() look for sampled blocks, from now on for ever: blocks that were recorded must be found even
// when sampling is turned off again.
void watch_frees() noexcept;

// Until then, once the real functions are resolved: free() is one indirect jump to the real one.
void leave_frees_alone() noexcept;

// After a real allocation for which HeapRecorder::is_due() was true. `block` may be null.
void record_allocation(void* block, std::size_t size, const safe::StartFrame& caller) noexcept;

// Before the real free or realloc.
[[nodiscard, gnu::always_inline]] inline bool may_be_sampled(const void* block) noexcept {
  return safe::heap_filter.may_contain(block);
}

// Spans a call to a real function that may be built on another of the family (glibc's reallocarray calls
// realloc, by name): what the inner hook would count, the outer one counts.
class Composed {
 public:
  explicit Composed(std::uintptr_t place) noexcept
      : bytes_until_sample_(safe::thread_state.bytes_until_sample), section_(place) {
    if (!section_.is_outermost()) return;
    // Everything is due meanwhile, and record_allocation() sees that it is not to be recorded; or that a
    // handler's siglongjmp has ended this.
    safe::thread_state.is_composed = true;
    safe::thread_state.bytes_until_sample = 0;
  }
  ~Composed() {
    if (!section_.is_outermost()) return;
    safe::thread_state.is_composed = false;
    safe::thread_state.bytes_until_sample = bytes_until_sample_;
  }
  Composed(const Composed&) = delete;
  Composed& operator=(const Composed&) = delete;

 private:
  std::uint64_t bytes_until_sample_;
  safe::Section section_;
};

// Calls the real function for an allocation of `size` bytes and records it when it is sampled. `allocate`
// returns the block.
template <typename Allocate>
[[gnu::always_inline]] inline void* allocate_composed(std::size_t size, Allocate allocate) noexcept {
  void* block = nullptr;
  {
    Composed composed(safe::caller_frame().sp);
    block = allocate();
  }
  if (safe::HeapRecorder::is_due(size)) [[unlikely]]
    record_allocation(block, size, safe::caller_frame());
  return block;
}

// Calls a real reallocation of `block` to `size` bytes. The old record is taken out before, because after it
// another thread may own the address, and put back when the call failed.
template <typename Reallocate>
[[gnu::always_inline]] inline void* reallocate_recorded(void* block, std::size_t size, bool due,
                                                        Reallocate reallocate) noexcept {
  const safe::BucketId taken = may_be_sampled(block) ? safe::heap_recorder.take(block) : 0;
  void* moved = reallocate();
  // realloc(block, 0) frees and returns null; any other null left the block as it was.
  if (moved == nullptr && size != 0) {
    safe::heap_recorder.put_back(block, taken);
  } else {
    safe::heap_recorder.let_go(taken);
  }
  if (due) record_allocation(moved, size, safe::caller_frame());
  return moved;
}

}  // namespace profagent::hooks
