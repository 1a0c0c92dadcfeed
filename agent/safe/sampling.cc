#include "agent/safe/sampling.h"

#include <bit>

#include "agent/safe/random.h"

namespace profagent::safe {

double log_of_unit(double x) noexcept {
  // x = m * 2^e with m in [sqrt(1/2), sqrt(2)); ln m = 2 artanh(z), z = (m-1)/(m+1), |z| < 0.172, whose
  // series 2 (z + z^3/3 + z^5/5 + …) is cut after z^13: the rest is under 2 * 0.172^15 / 15 / (1 - 0.172^2) =
  // 5e-13.
  constexpr double kLn2 = 0.693147180559945309417;
  const auto bits = std::bit_cast<std::uint64_t>(x);
  int exponent = static_cast<int>(bits >> 52) - 1023;
  double mantissa = std::bit_cast<double>((bits & 0xfffffffffffffULL) | 0x3ff0000000000000ULL);
  if (mantissa > 1.4142135623730951) {
    mantissa *= 0.5;
    ++exponent;
  }
  const double z = (mantissa - 1) / (mantissa + 1);
  const double s = z * z;
  const double series =
      1 + s * (1.0 / 3 + s * (1.0 / 5 + s * (1.0 / 7 + s * (1.0 / 9 + s * (1.0 / 11 + s / 13)))));
  return exponent * kLn2 + 2 * z * series;
}

std::uint64_t next_sample_distance(std::uint64_t& random_state, std::uint64_t rate) noexcept {
  // 53 random bits, plus one so that the logarithm exists: u in (0, 1].
  const double u = static_cast<double>((next_random(random_state) >> 11) + 1) * 0x1p-53;
  return static_cast<std::uint64_t>(-log_of_unit(u) * static_cast<double>(rate));
}

}  // namespace profagent::safe
