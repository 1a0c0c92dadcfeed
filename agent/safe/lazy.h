// Memory that is taken from the arena at first use, by whoever comes first.
#pragma once

#include <atomic>
#include <cstddef>

#include "agent/safe/arena.h"

namespace profagent::safe {

// The zeroed array of `count` elements behind `pointer`, mapped on first use; nullptr when at the cap.
// Two threads may both map; one array is taken, the other goes back to the kernel.
template <typename Element>
[[nodiscard]] Element* lazy_array(std::atomic<Element*>& pointer, std::size_t count) noexcept {
  // Acquire pairs with the release of the compare-and-swap: zeroed pages come with their address.
  Element* array = pointer.load(std::memory_order_acquire);
  if (array != nullptr) [[likely]]
    return array;
  const std::size_t bytes = count * sizeof(Element);
  auto* fresh = static_cast<Element*>(arena.allocate_pages(bytes));
  if (fresh == nullptr) return nullptr;
  if (pointer.compare_exchange_strong(array, fresh, std::memory_order_acq_rel)) return fresh;
  arena.give_back_pages(fresh, bytes);
  return array;
}

}  // namespace profagent::safe
