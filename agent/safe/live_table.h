// The sampled blocks that are alive: address -> bucket. Any thread, signal handlers too; wait-free.
//
// One 64-bit word per block (address and bucket packed), so that inserting and removing is one compare-and-
// swap and no intermediate state exists. A block may stand in any of the sixteen words of its two cache
// lines, and a lookup reads all of them, so removing leaves no tombstone. When both lines of the newest table
// are full, a table four times its size is added (never moved: entries stay where they are).
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "agent/safe/types.h"

namespace profagent::safe {

class LiveTable {
 public:
  static constexpr unsigned kBucketBits = 20;
  static constexpr BucketId kMaxBucketId = (BucketId{1} << kBucketBits) - 1;

  // Blocks that can be entered: 8-byte aligned, below 2^47 (all of user space, but for LA57 programs that ask
  // for more).
  [[nodiscard]] static bool accepts(const void* block) noexcept {
    const auto address = reinterpret_cast<std::uintptr_t>(block);
    return (address & 7) == 0 && (address >> 47) == 0;
  }

  // False when there is no room. `block` must not be in the table: its address is owned by the caller until
  // malloc returns it to the program.
  [[nodiscard]] bool insert(const void* block, BucketId bucket) noexcept;

  // Takes the block out; 0 when it is not there.
  BucketId remove(const void* block) noexcept;

 private:
  static constexpr std::size_t kWordsPerLine = 8;
  struct alignas(64) Line {
    std::atomic<std::uint64_t> words[kWordsPerLine];
  };

  static constexpr std::size_t kTables = 6;
  [[nodiscard]] static constexpr std::size_t lines_of(std::size_t table) noexcept {
    return std::size_t{1024} << (2 * table);
  }

  std::atomic<Line*> tables_[kTables] = {};
};

extern constinit LiveTable live_table;

}  // namespace profagent::safe
