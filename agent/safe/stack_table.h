// Turns call stacks into small dense numbers. Any thread, signal handlers too; never waits, never frees.
// When full, intern() returns kOverflowStack and counts it, so that totals stay true.
//
// A stack is written once, then published by one compare-and-swap of an index word; there is no "being
// written" state that an interrupted or forked thread could leave behind.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "agent/safe/types.h"

namespace profagent::safe {

inline constexpr StackId kOverflowStack = 1;

// An interned stack, immutable. `pcs` are call addresses, leaf first.
struct InternedStack {
  std::uint64_t hash;
  std::uint32_t depth;
  std::uint32_t module_epoch;  // module_log's epoch when it was first seen
  [[nodiscard]] std::span<const Pc> pcs() const noexcept {
    return {reinterpret_cast<const Pc*>(this + 1), depth};
  }
};

class StackTable {
 public:
  static constexpr std::size_t kMaxStacks = std::size_t{1} << 17;

  // `hash` is hash_stack(pcs). An empty stack is kNoStack.
  [[nodiscard]] StackId intern(std::span<const Pc> pcs, std::uint64_t hash) noexcept;

  // nullptr for kNoStack, kOverflowStack and numbers never given out.
  [[nodiscard]] const InternedStack* find(StackId id) const noexcept;

  [[nodiscard]] std::size_t size() const noexcept;

 private:
  static constexpr std::size_t kSlots = kMaxStacks;
  static constexpr std::size_t kMaxProbes = 64;
  static constexpr std::size_t kSegmentSize = 1024;
  static constexpr std::size_t kSegments = kSlots / kSegmentSize;

  using Index = std::atomic<std::uint64_t>;  // upper half: hash tag, lower half: id; 0 is free
  using Segment = std::atomic<const InternedStack*>;

  [[nodiscard]] StackId publishable(std::span<const Pc> pcs, std::uint64_t hash) noexcept;

  std::atomic<Index*> index_{nullptr};
  std::atomic<Segment*> segments_[kSegments] = {};
  std::atomic<StackId> next_id_{kOverflowStack + 1};
};

extern constinit StackTable stack_table;

}  // namespace profagent::safe
