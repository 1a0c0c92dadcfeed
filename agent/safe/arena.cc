#include "agent/safe/arena.h"

#include <type_traits>

#include "agent/safe/sys.h"

namespace profagent::safe {

constinit Arena arena;
static_assert(std::is_trivially_destructible_v<Arena>);

namespace {

constexpr int kMaxTries = 64;

constexpr std::size_t round_up(std::size_t bytes, std::size_t to) {
  return (bytes + to - 1) & ~(to - 1);
}

}  // namespace

void* Arena::allocate_pages(std::size_t bytes) noexcept {
  const std::size_t rounded = round_up(bytes, 4096);
  // Claimed only when it fits: adding first and taking back would let one thread's vain try for a big table
  // refuse another one's small chunk.
  std::size_t mapped = mapped_.load(std::memory_order_relaxed);
  for (int attempt = 0;; ++attempt) {
    const std::size_t most = limit();
    if (attempt == kMaxTries || rounded > most || mapped > most - rounded) return nullptr;
    if (mapped_.compare_exchange_weak(mapped, mapped + rounded, std::memory_order_relaxed)) break;
  }
  void* pages = sys::map_pages(rounded);
  if (pages == nullptr) mapped_.fetch_sub(rounded, std::memory_order_relaxed);
  return pages;
}

void Arena::give_back_pages(void* pages, std::size_t bytes) noexcept {
  sys::unmap_pages(pages, round_up(bytes, 4096));
  mapped_.fetch_sub(round_up(bytes, 4096), std::memory_order_relaxed);
}

void* Arena::allocate(std::size_t bytes) noexcept {
  if (bytes > kChunkBytes) return nullptr;
  const std::size_t rounded = round_up(bytes, 16);
  // Acquire, here and in the failing exchanges, pairs with the release below: who sees a chunk's number sees
  // its address.
  std::uint64_t cursor = cursor_.load(std::memory_order_acquire);
  for (int attempt = 0; attempt < kMaxTries; ++attempt) {
    const std::size_t chunk = cursor >> 32;
    const std::size_t offset = static_cast<std::uint32_t>(cursor);
    if (rounded <= kChunkBytes - offset) {
      if (!cursor_.compare_exchange_weak(cursor, cursor + rounded, std::memory_order_acquire)) continue;
      return chunks_[chunk].load(std::memory_order_relaxed) + offset;
    }

    // No room in this chunk. Everybody who finds it so offers the next one; one offer is taken. At the cap
    // the cursor stays where it is, so what is smaller may still fit.
    if (chunk + 1 >= kMaxChunks) return nullptr;
    if (chunks_[chunk + 1].load(std::memory_order_acquire) == nullptr) {
      char* fresh = static_cast<char*>(allocate_pages(kChunkBytes));
      if (fresh == nullptr) return nullptr;
      char* expected = nullptr;
      if (!chunks_[chunk + 1].compare_exchange_strong(expected, fresh, std::memory_order_acq_rel)) {
        give_back_pages(fresh, kChunkBytes);
      }
    }
    const std::uint64_t next = static_cast<std::uint64_t>(chunk + 1) << 32;
    if (cursor_.compare_exchange_strong(cursor, next, std::memory_order_acq_rel)) cursor = next;
  }
  return nullptr;
}

}  // namespace profagent::safe
