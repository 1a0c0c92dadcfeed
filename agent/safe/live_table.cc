#include "agent/safe/live_table.h"

#include <type_traits>

#include "agent/safe/lazy.h"

namespace profagent::safe {

constinit LiveTable live_table;
static_assert(std::is_trivially_destructible_v<LiveTable>);

namespace {

// 44 significant address bits above the bucket's 20.
std::uint64_t key_of(const void* block) {
  return (reinterpret_cast<std::uintptr_t>(block) >> 3) << LiveTable::kBucketBits;
}

struct Choices {
  std::size_t first;
  std::size_t second;
};

Choices choices(std::uint64_t key, std::size_t lines) {
  const std::uint64_t mixed = (key >> LiveTable::kBucketBits) * 0x9e3779b97f4a7c15ULL;
  return {(mixed >> 32) & (lines - 1), (mixed >> 10) & (lines - 1)};
}

constexpr std::uint64_t kBucketMask = LiveTable::kMaxBucketId;

}  // namespace

bool LiveTable::insert(const void* block, BucketId bucket) noexcept {
  const std::uint64_t key = key_of(block);
  std::size_t newest = 0;
  while (newest + 1 < kTables && tables_[newest + 1].load(std::memory_order_acquire) != nullptr) ++newest;
  // Newest first: it has the most room. Then the older ones, where blocks were freed meanwhile. Then one
  // more.
  for (std::size_t step = 0; step <= newest + 1; ++step) {
    const std::size_t table = step <= newest ? newest - step : newest + 1;
    if (table >= kTables) return false;
    Line* lines = lazy_array(tables_[table], lines_of(table));
    if (lines == nullptr) return false;
    const Choices at = choices(key, lines_of(table));
    for (const std::size_t line : {at.first, at.second}) {
      for (std::atomic<std::uint64_t>& word : lines[line].words) {
        std::uint64_t expected = 0;
        if (word.load(std::memory_order_relaxed) != 0) continue;
        // Release pairs with the acquire in remove(): the bucket was filled in before. Losing the word to
        // another block is no reason to wait: the next word.
        if (word.compare_exchange_strong(expected, key | bucket, std::memory_order_release)) return true;
      }
    }
  }
  return false;
}

BucketId LiveTable::remove(const void* block) noexcept {
  if (!accepts(block)) return 0;
  const std::uint64_t key = key_of(block);
  for (std::size_t table = kTables; table-- > 0;) {
    Line* lines = tables_[table].load(std::memory_order_acquire);
    if (lines == nullptr) continue;
    const Choices at = choices(key, lines_of(table));
    for (const std::size_t line : {at.first, at.second}) {
      for (std::atomic<std::uint64_t>& word : lines[line].words) {
        std::uint64_t value = word.load(std::memory_order_acquire);
        if ((value & ~kBucketMask) != key || value == 0) continue;
        // Fails only when the program frees one block twice at once; then the other one has it.
        if (word.compare_exchange_strong(value, 0, std::memory_order_acq_rel)) {
          return static_cast<BucketId>(value & kBucketMask);
        }
      }
    }
  }
  return 0;
}

}  // namespace profagent::safe
