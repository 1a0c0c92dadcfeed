// From sampled heap counts to estimates of the truth.
#pragma once

#include <cstdint>
#include <limits>

#include "encoder/exp.h"

namespace profagent::encoder {

struct HeapAmount {
  std::int64_t objects = 0;
  std::int64_t bytes = 0;
};

// With byte distances between samples distributed exponentially (mean `rate`), an object of `object_size`
// bytes is sampled with probability 1 - exp(-object_size / rate): each sampled one stands for 1 over that
// many. Rate 1 and below means that everything was recorded. Results are truncated towards zero as Go does,
// with Go's formula (no expm1): a client that scales the text form itself must arrive at the same integers.
[[nodiscard]] inline HeapAmount scale_heap_sample(std::int64_t count, std::int64_t object_size,
                                                  std::int64_t rate) {
  const auto truncated = [](double value) {
    constexpr double kLimit = 9223372036854774784.0;  // the largest double below 2^63
    if (!(value < kLimit)) return std::numeric_limits<std::int64_t>::max();
    if (value < -kLimit) return std::numeric_limits<std::int64_t>::min();
    return static_cast<std::int64_t>(value);
  };
  if (count == 0 || object_size <= 0) return {};
  const double objects = static_cast<double>(count);
  const double size = static_cast<double>(object_size);
  if (rate <= 1) {
    std::int64_t bytes = 0;
    if (__builtin_mul_overflow(count, object_size, &bytes)) bytes = truncated(objects * size);
    return {count, bytes};
  }
  const double scale = 1 / (1 - exp_of(-size / static_cast<double>(rate)));
  return {truncated(objects * scale), truncated(objects * size * scale)};
}

}  // namespace profagent::encoder
