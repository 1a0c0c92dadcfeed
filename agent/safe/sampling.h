// Poisson sampling of bytes. Every byte is chosen with probability 1/R, independently; an allocation is
// sampled when one of its bytes is chosen, so with probability 1 - exp(-size/R), and then stands for
// 1/(1 - exp(-size/R)) allocations like it (see docs/sampling.md). The distance to the next chosen byte is
// exponential with mean R and memoryless: the part of it that an unsampled allocation used up leaves an
// exponential rest.
#pragma once

#include <cstdint>

namespace profagent::safe {

// Bytes to leave out before the next chosen one: floor of an exponential variate of mean `rate` > 1, so
// that "some byte of the next n is chosen" is exactly "result < n".
[[nodiscard]] std::uint64_t next_sample_distance(std::uint64_t& random_state, std::uint64_t rate) noexcept;

// Natural logarithm of x in (0, 1], absolute error under 1e-9. libm is not on the list of what may be called.
[[nodiscard]] double log_of_unit(double x) noexcept;

}  // namespace profagent::safe
