// Who created each thread: from a thread's handle (pthread_t) to the row of its creator. Written by the new
// thread, any context; never waits, never frees.
//
// Nothing is to be done when a thread ends. In glibc the handle is the address of the thread's descriptor, so
// our thread finds out there whether the thread still exists; and the next thread with that descriptor
// replaces the entry.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "agent/safe/types.h"

namespace profagent::safe {

class CreatedThreads {
 public:
  // The calling thread's handle.
  [[nodiscard]] static std::uintptr_t own_handle() noexcept;

  // When there is no room near its place, it takes the place of another thread, most likely of one that has
  // ended (counted).
  void note(std::uintptr_t handle, BucketId creator) noexcept;

  // Calls visit(handle, creator) for every entry, those of threads that have ended as well.
  template <typename Visit>
  void for_each(Visit visit) const {
    const Entry* entries = entries_.load(std::memory_order_acquire);
    for (std::size_t i = 0; entries != nullptr && i < kEntries; ++i) {
      // Pairs with the releases in note(): who sees the creator sees its row.
      const std::uint64_t word = entries[i].load(std::memory_order_acquire);
      if (word != 0) visit(handle_of(word), static_cast<BucketId>(word & kCreatorMask));
    }
  }

 private:
  // Descriptors are aligned to cache lines, and addresses have 47 bits: the upper bits are the handle, the
  // lower ones its creator. 0 is free.
  using Entry = std::atomic<std::uint64_t>;
  static constexpr std::size_t kEntries = std::size_t{1} << 16;
  static constexpr std::size_t kMaxProbes = 16;
  static constexpr unsigned kAlignmentBits = 6;
  static constexpr unsigned kAddressBits = 47;
  static constexpr unsigned kCreatorBits = 64 - (kAddressBits - kAlignmentBits);
  static constexpr std::uint64_t kCreatorMask = (std::uint64_t{1} << kCreatorBits) - 1;

  static constexpr std::uintptr_t handle_of(std::uint64_t word) noexcept {
    return (word >> kCreatorBits) << kAlignmentBits;
  }

  std::atomic<Entry*> entries_{nullptr};
};

extern constinit CreatedThreads created_threads;

}  // namespace profagent::safe
