// The sampled side of the heap profile: how far from the truth it may be, and that it leans to neither side.
//
// At the mean distance R a block of size s is sampled with probability p = 1 - exp(-s/R), and then stands for
// 1/p blocks. The estimated bytes of n such blocks have the variance n s^2 (1-p)/p = bytes * s/(exp(s/R)-1),
// which is at most bytes * R. With R = 512 KiB:
//   small pieces   sigma = sqrt(R/T):       1 GiB 2.21 %,  4 GiB 1.10 %
//   mixed()        sigma = sqrt(0.6 R/T):   2 GiB 1.21 %,  4 GiB 0.86 %   (half of its bytes are in blocks
//   above R)
// One run of 1 GiB would miss 5 % once in 40 (pieces) or 250 (mixed) runs, so that the limits of 5 % and 1 %
// are applied to as much as makes a failure by chance rarer than 1 in 10,000; each case says its own figure.
#include <cmath>
#include <sstream>

#include <catch2/catch.hpp>

#include "test/support/victim.h"

using namespace profagent::test;

namespace {

const std::string kGiB = std::to_string(1ULL << 30);
const std::string kTwoGiB = std::to_string(2ULL << 30);
const std::string kFourGiB = std::to_string(4ULL << 30);
const std::string kEightGiB = std::to_string(8ULL << 30);

struct Truth {
  double all_objects = 0, all_bytes = 0, live_objects = 0, live_bytes = 0;
};

Truth truth_of(Victim& victim) {
  std::istringstream words(victim.process().out());
  std::string word;
  Truth truth;
  words >> word >> truth.all_objects >> truth.all_bytes >> truth.live_objects >> truth.live_bytes;
  REQUIRE(word == "truth");
  REQUIRE(truth.all_bytes > 0);
  return truth;
}

double ratio(const Profile& heap, const std::string& type, const std::string& function, double truth) {
  return static_cast<double>(heap.total(type).in(function)) / truth;
}

}  // namespace

// Four runs of 1 GiB: sigma 1.10 %, 5 % is 4.5 sigma: 6 failures in a million, for each of the two.
TEST_CASE("bytes in 4 KiB pieces are within 5 % of the truth", "[M05]") {
  double alloc = 0;
  double inuse = 0;
  constexpr int kRuns = 4;
  for (int run = 0; run < kRuns; ++run) {
    Victim victim("mixed", {"pieces", kGiB, "4096"});
    const Truth truth = truth_of(victim);
    const Profile heap = victim.profile();
    alloc += ratio(heap, "alloc_space", "pieces", truth.all_bytes) / kRuns;
    inuse += ratio(heap, "inuse_space", "pieces", truth.live_bytes) / kRuns;
    // Objects are bytes over the size, up to the rounding of each bucket's sum.
    CHECK(static_cast<double>(heap.total("alloc_objects").in("pieces")) * 4096 ==
          Approx(static_cast<double>(heap.total("alloc_space").in("pieces"))).epsilon(0.001));
  }
  CHECK(alloc == Approx(1.0).margin(0.05));
  CHECK(inuse == Approx(1.0).margin(0.05));
}

// 4 GiB: sigma 0.86 %, 5 % is 5.8 sigma.
TEST_CASE("bytes in mixed sizes are within 5 % of the truth", "[M05]") {
  Victim victim("mixed", {"mixed", kFourGiB});
  const Truth truth = truth_of(victim);
  const Profile heap = victim.profile();
  CHECK(ratio(heap, "alloc_space", "mixed", truth.all_bytes) == Approx(1.0).margin(0.05));
  CHECK(ratio(heap, "inuse_space", "mixed", truth.live_bytes) == Approx(1.0).margin(0.05));
}

// 8 GiB of which 2 GiB stay: sigma 1.21 % for what is in use, 5 % is 4.1 sigma: 4 failures in 100,000.
TEST_CASE("bytes in use are within 5 % of the truth when three blocks of four were freed", "[M05]") {
  Victim victim("mixed", {"churn", kEightGiB});
  const Truth truth = truth_of(victim);
  const Profile heap = victim.profile();
  CHECK(ratio(heap, "alloc_space", "churn", truth.all_bytes) == Approx(1.0).margin(0.05));
  CHECK(ratio(heap, "inuse_space", "churn", truth.live_bytes) == Approx(1.0).margin(0.05));
}

// 30 runs of 2 GiB: sigma of the mean 1.21 % / sqrt(30) = 0.22 %, 1 % is 4.5 sigma: 7 failures in a million.
TEST_CASE("the mean of 30 runs is within 1 % of the truth", "[M05]") {
  constexpr int kRuns = 30;
  double alloc = 0;
  double inuse = 0;
  for (int run = 0; run < kRuns; ++run) {
    Victim victim("mixed", {"mixed", kTwoGiB});
    const Truth truth = truth_of(victim);
    const Profile heap = victim.profile();
    alloc += ratio(heap, "alloc_space", "mixed", truth.all_bytes) / kRuns;
    inuse += ratio(heap, "inuse_space", "mixed", truth.live_bytes) / kRuns;
  }
  CHECK(alloc == Approx(1.0).margin(0.01));
  CHECK(inuse == Approx(1.0).margin(0.01));
}

TEST_CASE("rate 1 is exact, whatever the sizes", "[M05]") {
  for (const char* mode : {"mixed", "churn"}) {
    Victim victim("mixed", {mode, kGiB}, {{"PROFAGENT_MEM_PROFILE_RATE", "1"}});
    const Truth truth = truth_of(victim);
    const Profile heap = victim.profile();
    CHECK(static_cast<double>(heap.total("alloc_objects").in(mode)) == truth.all_objects);
    CHECK(static_cast<double>(heap.total("alloc_space").in(mode)) == truth.all_bytes);
    CHECK(static_cast<double>(heap.total("inuse_objects").in(mode)) == truth.live_objects);
    CHECK(static_cast<double>(heap.total("inuse_space").in(mode)) == truth.live_bytes);
  }
}

// Go's vectors say what a sampled block stands for: 1/(1-exp(-s/R)) blocks, 512.5 of 1024 bytes and 1.58198
// of 512 KiB. How many were sampled is read from the bytes: a row's values are cut to whole numbers, and less
// than one byte cannot hide a sample, but less than one object can when a sample stands for 1.58 of them.
TEST_CASE("a sampled block stands for Go's number of blocks", "[M03]") {
  for (const double size : {1024.0, 524288.0}) {
    CAPTURE(size);
    const double scale = 1 / (1 - std::exp(-size / 524288));
    Victim victim("mixed", {"pieces", kGiB, std::to_string(static_cast<long>(size))});
    const Profile heap = victim.profile();
    const auto objects = static_cast<double>(heap.total("inuse_objects").in("pieces"));
    const auto bytes = static_cast<double>(heap.total("inuse_space").in("pieces"));
    const auto rows = static_cast<double>(heap.in("pieces").size());
    REQUIRE(objects > 100);
    const double sampled = std::round(bytes / (scale * size));
    CHECK(objects == Approx(sampled * scale).epsilon(0).margin(rows));
    CHECK(bytes == Approx(sampled * scale * size).epsilon(0).margin(rows));
  }
}
