#include "agent/safe/contention_buckets.h"

#include <type_traits>

namespace profagent::safe {

constinit ContentionBuckets block_buckets;
constinit ContentionBuckets mutex_buckets;
static_assert(std::is_trivially_destructible_v<ContentionBuckets>);

std::uint64_t ContentionKey::hash() const noexcept {
  std::uint64_t h = (stack + (static_cast<std::uint64_t>(kind) << 32)) * 0xff51afd7ed558ccdULL;
  h = (h ^ (h >> 32) ^ reinterpret_cast<std::uintptr_t>(lock)) * 0xc4ceb9fe1a85ec53ULL;
  h = (h ^ (h >> 29) ^ holder) * 0x9e3779b97f4a7c15ULL;
  h = (h ^ (h >> 31) ^ thread.words[0]) * 0xff51afd7ed558ccdULL;
  h = (h ^ (h >> 30) ^ thread.words[1]) * 0xc4ceb9fe1a85ec53ULL;
  return h ^ (h >> 32);
}

}  // namespace profagent::safe
