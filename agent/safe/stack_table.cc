#include "agent/safe/stack_table.h"

#include <cstring>
#include <type_traits>

#include "agent/safe/arena.h"
#include "agent/safe/counters.h"
#include "agent/safe/lazy.h"
#include "agent/safe/module_log.h"

namespace profagent::safe {

constinit StackTable stack_table;
static_assert(std::is_trivially_destructible_v<StackTable>);

namespace {

constexpr std::uint64_t kIdMask = 0xffffffff;

bool same_stack(const InternedStack& entry, std::span<const Pc> pcs, std::uint64_t hash) {
  return entry.hash == hash && entry.depth == pcs.size() &&
         std::memcmp(entry.pcs().data(), pcs.data(), pcs.size_bytes()) == 0;
}

}  // namespace

// A stack that has a number and can be found by it, but is not in the index yet.
StackId StackTable::publishable(std::span<const Pc> pcs, std::uint64_t hash) noexcept {
  // Numbers and their segment first: what a full table refuses must not use up the arena.
  const StackId likely = next_id_.load(std::memory_order_relaxed);
  if (likely >= kSlots || lazy_array(segments_[likely / kSegmentSize], kSegmentSize) == nullptr)
    return kOverflowStack;
  auto* entry = static_cast<InternedStack*>(arena.allocate(sizeof(InternedStack) + pcs.size_bytes()));
  if (entry == nullptr) return kOverflowStack;
  entry->hash = hash;
  entry->depth = static_cast<std::uint32_t>(pcs.size());
  entry->module_epoch = module_log.note(pcs);
  std::memcpy(entry + 1, pcs.data(), pcs.size_bytes());

  const StackId id = next_id_.fetch_add(1, std::memory_order_relaxed);
  if (id >= kSlots) {
    next_id_.fetch_sub(1, std::memory_order_relaxed);  // stays near the bound, so it never wraps
    return kOverflowStack;
  }
  Segment* segment = lazy_array(segments_[id / kSegmentSize], kSegmentSize);
  if (segment == nullptr) return kOverflowStack;
  // Pairs with the acquire in find().
  segment[id % kSegmentSize].store(entry, std::memory_order_release);
  return id;
}

StackId StackTable::intern(std::span<const Pc> pcs, std::uint64_t hash) noexcept {
  if (pcs.empty()) return kNoStack;
  Index* index = lazy_array(index_, kSlots);
  StackId fresh = kNoStack;
  const std::uint64_t tag = hash & ~kIdMask;
  for (std::size_t probe = 0; index != nullptr && probe < kMaxProbes; ++probe) {
    Index& slot = index[(hash + probe) % kSlots];
    // Acquire pairs with the release of the compare-and-swap: who sees the id sees the stack.
    std::uint64_t word = slot.load(std::memory_order_acquire);
    if (word == 0) {
      if (fresh == kNoStack) fresh = publishable(pcs, hash);
      if (fresh == kOverflowStack) break;
      if (slot.compare_exchange_strong(word, tag | fresh, std::memory_order_acq_rel)) return fresh;
    }
    // Taken, perhaps just now by a thread with the same stack.
    if ((word & ~kIdMask) != tag) continue;
    const auto id = static_cast<StackId>(word & kIdMask);
    const InternedStack* entry = find(id);
    if (entry != nullptr && same_stack(*entry, pcs, hash)) {
      if (fresh != kNoStack) count(counters.stacks_raced);
      return id;
    }
  }
  count(counters.dropped_stack_table_full);
  return kOverflowStack;
}

const InternedStack* StackTable::find(StackId id) const noexcept {
  if (id <= kOverflowStack || id / kSegmentSize >= kSegments) return nullptr;
  const Segment* segment = segments_[id / kSegmentSize].load(std::memory_order_acquire);
  return segment == nullptr ? nullptr : segment[id % kSegmentSize].load(std::memory_order_acquire);
}

std::size_t StackTable::size() const noexcept {
  return next_id_.load(std::memory_order_relaxed) - (kOverflowStack + 1);
}

}  // namespace profagent::safe
