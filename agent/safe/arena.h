// The ground floor's memory: apart from the program's heap, never freed, bounded.
// Any thread, signal handlers too; never waits. A null return means "at the cap, or the kernel refused":
// the caller drops its sample and counts it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace profagent::safe {

class Arena {
 public:
  // Zeroed memory, 16-byte aligned, at most kChunkBytes; for records that come one by one.
  [[nodiscard]] void* allocate(std::size_t bytes) noexcept;
  // Zeroed whole pages for tables; touched only as the table fills.
  [[nodiscard]] void* allocate_pages(std::size_t bytes) noexcept;
  // Only for pages that nobody has seen yet (a lost race to install a table).
  void give_back_pages(void* pages, std::size_t bytes) noexcept;

  // Address space that may be taken in all, and what has been taken.
  void set_limit(std::size_t bytes) noexcept { limit_.store(bytes, std::memory_order_relaxed); }
  [[nodiscard]] std::size_t limit() const noexcept { return limit_.load(std::memory_order_relaxed); }
  [[nodiscard]] std::size_t mapped() const noexcept { return mapped_.load(std::memory_order_relaxed); }

  static constexpr std::size_t kChunkBytes = std::size_t{256} << 10;
  static constexpr std::size_t kMaxChunks = 1024;

 private:
  // Chunk number in the upper half, bytes taken of it in the lower (never more than kChunkBytes): one word,
  // so that a bump is one compare-and-swap. Chunk 0 does not exist and counts as full.
  std::atomic<std::uint64_t> cursor_{kChunkBytes};
  std::atomic<char*> chunks_[kMaxChunks] = {};
  std::atomic<std::size_t> mapped_{0};
  std::atomic<std::size_t> limit_{std::size_t{64} << 20};
};

extern constinit Arena arena;

}  // namespace profagent::safe
