#include "agent/safe/heap_filter.h"

#include <atomic>
#include <type_traits>

namespace profagent::safe {

constinit HeapFilter heap_filter;
static_assert(std::is_trivially_destructible_v<HeapFilter>);

bool HeapFilter::add(const void* block) noexcept {
  const std::atomic_ref<std::uint8_t> byte(bytes_[index(block)]);
  std::uint8_t value = byte.load(std::memory_order_relaxed);
  for (int attempt = 0; attempt < kMaxTries; ++attempt) {
    if (value == kStuck) return true;
    if (byte.compare_exchange_weak(value, static_cast<std::uint8_t>(value + 1), std::memory_order_relaxed))
      return true;
  }
  return false;
}

void HeapFilter::remove(const void* block) noexcept {
  const std::atomic_ref<std::uint8_t> byte(bytes_[index(block)]);
  std::uint8_t value = byte.load(std::memory_order_relaxed);
  for (int attempt = 0; attempt < kMaxTries; ++attempt) {
    // Once stuck, how many there are is unknown: it stays.
    if (value == kStuck || value == 0) return;
    if (byte.compare_exchange_weak(value, static_cast<std::uint8_t>(value - 1), std::memory_order_relaxed))
      return;
  }
  // Giving up leaves the byte one too high, which only costs a look into the live table.
}

}  // namespace profagent::safe
