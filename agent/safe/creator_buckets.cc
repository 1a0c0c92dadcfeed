#include "agent/safe/creator_buckets.h"

#include <type_traits>

namespace profagent::safe {

constinit CreatorBuckets creator_buckets;
static_assert(std::is_trivially_destructible_v<CreatorBuckets>);

std::uint64_t CreatorKey::hash() const noexcept {
  std::uint64_t h = stack * 0xff51afd7ed558ccdULL;
  h = (h ^ (h >> 32)) * 0xc4ceb9fe1a85ec53ULL;
  return h ^ (h >> 32);
}

}  // namespace profagent::safe
