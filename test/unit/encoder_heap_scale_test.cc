#include "encoder/heap_scale.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

namespace profagent::encoder {

bool operator==(const HeapAmount& a, const HeapAmount& b) {
  return a.objects == b.objects && a.bytes == b.bytes;
}

namespace {

constexpr std::int64_t kRate = 524288;

TEST_CASE("sampled heap counts scale to Go's integers") {
  // The three records of Go's TestConvertMemProfile: allocated, then in use.
  CHECK(scale_heap_sample(4, 1024, kRate) == HeapAmount{2050, 2099200});
  CHECK(scale_heap_sample(3, 1024, kRate) == HeapAmount{1537, 1574400});
  CHECK(scale_heap_sample(1, kRate, kRate) == HeapAmount{1, 829411});
  CHECK(scale_heap_sample(0, kRate, kRate) == HeapAmount{0, 0});
}

TEST_CASE("nothing is scaled when everything was recorded") {
  CHECK(scale_heap_sample(7, 1999993, 1) == HeapAmount{7, 13999951});
  CHECK(scale_heap_sample(7, 1999993, 0) == HeapAmount{7, 13999951});
  CHECK(scale_heap_sample(3, 3002399751580331, 1) == HeapAmount{3, 9007199254740993});  // not a double
}

TEST_CASE("an object far larger than the rate stands for itself") {
  CHECK(scale_heap_sample(2, std::int64_t{1} << 40, kRate) == HeapAmount{2, std::int64_t{1} << 41});
}

TEST_CASE("our exponential is the library's, to the last bit or its neighbour") {
  CHECK(exp_of(0) == 1);
  CHECK(exp_of(-701) == 0);
  CHECK(exp_of(-1e300) == 0);
  for (int step = 0; step <= 2740; ++step) {
    const double x = -1e-9 * std::pow(1.01, step);  // to about -693
    const double expected = std::exp(x);
    CAPTURE(x);
    CHECK(exp_of(x) >= std::nextafter(expected, 0.0));
    CHECK(exp_of(x) <= std::nextafter(expected, 2.0));
  }
}

TEST_CASE("scaling never leaves the range of its type") {
  constexpr std::int64_t kMax = std::numeric_limits<std::int64_t>::max();
  constexpr std::int64_t kMin = std::numeric_limits<std::int64_t>::min();
  CHECK(scale_heap_sample(5, 0, kRate) == HeapAmount{0, 0});
  CHECK(scale_heap_sample(5, -8, kRate) == HeapAmount{0, 0});
  CHECK(scale_heap_sample(kMax, kMax, kRate) == HeapAmount{kMax, kMax});
  CHECK(scale_heap_sample(kMin, kMax, kRate) == HeapAmount{kMin, kMin});
  CHECK(scale_heap_sample(kMax, kMax, 1) == HeapAmount{kMax, kMax});
  CHECK(scale_heap_sample(1, 1, kMax) == HeapAmount{kMax, kMax});
}

}  // namespace
}  // namespace profagent::encoder
