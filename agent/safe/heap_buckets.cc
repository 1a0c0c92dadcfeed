#include "agent/safe/heap_buckets.h"

#include <type_traits>

namespace profagent::safe {

constinit HeapBuckets heap_buckets;
static_assert(std::is_trivially_destructible_v<HeapBuckets>);

std::uint64_t HeapKey::hash() const noexcept {
  std::uint64_t h = (stack + rate * 0x9e3779b97f4a7c15ULL) * 0xff51afd7ed558ccdULL;
  h = (h ^ (h >> 32) ^ size) * 0xc4ceb9fe1a85ec53ULL;
  return h ^ (h >> 29);
}

}  // namespace profagent::safe
