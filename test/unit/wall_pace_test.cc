// When the wall sampler may look, over hours that pass in no time.
#include <catch2/catch.hpp>

#include "agent/service/wall_pace.h"

using profagent::service::WallPace;

namespace {

constexpr std::int64_t kMillisecond = 1'000'000;
constexpr std::int64_t kSecond = 1'000'000'000;
constexpr std::int64_t kPeriod = 10 * kMillisecond;

// What is spent in `time` by one who looks whenever it may, at `price` each, and at most `most` times a tick.
std::int64_t spent_in(WallPace& pace, std::int64_t& now, std::int64_t time, std::int64_t price, int most) {
  std::int64_t spent = 0;
  for (const std::int64_t end = now + time; now < end; now = pace.next(now, kPeriod)) {
    pace.earn(now);
    for (int i = 0; i < most && pace.may_look(); ++i) {
      pace.spend(price);
      spent += price;
    }
  }
  return spent;
}

}  // namespace

TEST_CASE("a hundredth is spent, whatever a look costs") {
  for (const std::int64_t price : {100L, 50'000L, 1 * kMillisecond, 40 * kMillisecond}) {
    CAPTURE(price);
    WallPace pace;
    std::int64_t now = kSecond;
    pace.begin(now);
    const std::int64_t spent = spent_in(pace, now, 100 * kSecond, price, 1'000'000);
    // And what it begins with, and one look that was dearer than what was left.
    CHECK(spent <= kSecond + kMillisecond + price);
    CHECK(spent >= kSecond * 9 / 10 - price);
  }
}

TEST_CASE("what is owed is paid, and looks go on meanwhile") {
  WallPace pace;
  std::int64_t now = 0;
  pace.begin(now);
  pace.owe(150 * kMillisecond);
  // 20 s bring 200 ms: 150 for the debt.
  const std::int64_t spent = spent_in(pace, now, 20 * kSecond, 50'000, 1000);
  CHECK(spent > 45 * kMillisecond);
  CHECK(spent < 55 * kMillisecond);
  CHECK(spent_in(pace, now, 10 * kSecond, 50'000, 1000) > 95 * kMillisecond);
}

TEST_CASE("what nobody has needed makes no burst") {
  WallPace pace;
  std::int64_t now = 0;
  pace.begin(now);
  now += 3600 * kSecond;
  CHECK(spent_in(pace, now, kPeriod, 100, 1'000'000) <= kMillisecond + kPeriod / 50);
}

TEST_CASE("looks that cost nothing come once in each period, at any moment of it") {
  WallPace pace;
  pace.begin(0);
  std::int64_t now = 0;
  std::int64_t period = 0;
  int tenths[10] = {};
  for (int i = 0; i < 10000; ++i) {
    now = pace.next(now, kPeriod);
    REQUIRE(now / kPeriod == ++period);
    ++tenths[now % kPeriod * 10 / kPeriod];
  }
  // 1000 each, with a deviation of 30.
  for (const int count : tenths) CHECK(std::abs(count - 1000) < 180);
}

TEST_CASE("a late look is followed by the next one in time") {
  WallPace pace;
  pace.begin(0);
  std::int64_t now = pace.next(0, kPeriod);
  now = 7 * kPeriod + kPeriod / 2;
  const std::int64_t next = pace.next(now, kPeriod);
  CHECK(next >= now);
  CHECK(next < 8 * kPeriod);
}
