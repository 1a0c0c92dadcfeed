// e^x without libm: the library this is linked into needs nothing but libc.
#pragma once

#include <bit>
#include <cstdint>

namespace profagent::encoder {

// For x <= 0. x = k ln 2 + r with |r| <= ln 2 / 2; e^r by its Taylor series, whose terms after the 17th are
// below 2^-66, in extended precision, so that the rounding to double is the only error but for rare last
// bits.
[[nodiscard]] inline double exp_of(double x) {
  constexpr long double kLn2 = 0.693147180559945309417232121458176568L;
  constexpr int kTerms = 17;
  constexpr double kVanishing = -700;  // below, 2^k would leave the normal doubles (and k, in the end, int)
  if (x < kVanishing) return 0;
  const auto k = static_cast<int>(static_cast<long double>(x) / kLn2 - 0.5L);
  const long double r = static_cast<long double>(x) - k * kLn2;
  long double series = 1;
  for (int n = kTerms; n > 0; --n) series = 1 + r * series / n;
  const auto power = std::bit_cast<double>(static_cast<std::uint64_t>(k + 1023) << 52);
  return static_cast<double>(series * power);
}

}  // namespace profagent::encoder
