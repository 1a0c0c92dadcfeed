#include "agent/safe/cpu_buckets.h"

#include <type_traits>

namespace profagent::safe {

constinit CpuBuckets cpu_buckets;
static_assert(std::is_trivially_destructible_v<CpuBuckets>);

std::uint64_t CpuKey::hash() const noexcept {
  std::uint64_t h = (stack + (std::uint64_t{static_cast<std::uint32_t>(tid)} << 32)) * 0xff51afd7ed558ccdULL;
  h = (h ^ (h >> 32) ^ thread.words[0]) * 0xc4ceb9fe1a85ec53ULL;
  h = (h ^ (h >> 29) ^ thread.words[1]) * 0x9e3779b97f4a7c15ULL;
  return h ^ (h >> 32);
}

}  // namespace profagent::safe
