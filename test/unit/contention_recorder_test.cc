// The rules of Go's block and mutex profiles, B03, B04 and B07-B11 of the conformance table. The random
// sequences are fixed, so a run gives the same figures each time; the bound of 4.5 standard deviations would
// be missed by chance in one of 150,000 choices of the seed.
#include "agent/safe/contention_recorder.h"

#include <algorithm>
#include <atomic>
#include <catch2/catch.hpp>
#include <cerrno>
#include <cmath>
#include <vector>

#include "agent/safe/arena.h"
#include "agent/safe/counters.h"
#include "agent/safe/stack_table.h"
#include "agent/safe/thread_state.h"
#include "test/unit/fake_unwind.h"
#include "test/unit/storm.h"

namespace profagent::safe {
namespace {

using test::set_stack;

constexpr double kMaxDeviation = 4.5;
constexpr auto kUnit = static_cast<double>(ContentionBucket::kCountUnit);
constexpr Pc kWaitedIn = 0x1000;

const void* lock_at(std::uintptr_t number) {
  return reinterpret_cast<const void*>(0x7e0000000000 + number * 64);
}

Wait wait_for(const void* lock, WaitKind kind = WaitKind::kMutex, Pc function = kWaitedIn) {
  return {.kind = kind, .object = lock, .function = function, .caller = {}};
}

// Each test has a leaf of its own in all its stacks, by which its rows are told from the others'.
void begin_test(Pc leaf, std::uint64_t seed = 1) {
  arena.set_limit(arena.mapped() + (std::size_t{16} << 20));
  REQUIRE(lock_waiters.prepare());
  thread_state = {};
  thread_state.random = seed * 0x9e3779b97f4a7c15ULL | 1;
  contention_recorder.set_block_rate(0);
  contention_recorder.set_mutex_fraction(0);
  contention_recorder.set_labels({false, false});
  set_stack({leaf});
}

struct Amount {
  double count = 0;
  double nanos = 0;
  int rows = 0;
  bool operator==(const Amount&) const = default;
};

Amount sum(const ContentionBuckets& buckets, Pc leaf) {
  Amount amount;
  buckets.for_each([&](const ContentionBucket& row) {
    const InternedStack* stack = stack_table.find(row.stack);
    if (stack == nullptr || std::find(stack->pcs().begin(), stack->pcs().end(), leaf) == stack->pcs().end())
      return;
    amount.count += static_cast<double>(row.count.load()) / kUnit;
    amount.nanos += static_cast<double>(row.nanos.load());
    ++amount.rows;
  });
  return amount;
}

void check_within(double value, double mean, double sigma) {
  INFO(value << ", expected " << mean << " with a standard deviation of " << sigma);
  CHECK(std::abs(value - mean) <= kMaxDeviation * sigma);
}

void wait_often(int times, Nanos length) {
  for (int i = 0; i < times; ++i) contention_recorder.on_wait(wait_for(lock_at(1)), length, 0);
}

TEST_CASE("at rate 1 every wait is counted with its length") {
  begin_test(0x101);
  contention_recorder.set_block_rate(1);
  wait_often(3, 1999993);
  wait_often(1, 1);
  CHECK(sum(block_buckets, 0x101) == Amount{4, 3 * 1999993 + 1, 1});
  CHECK(sum(mutex_buckets, 0x101) == Amount{});
}

TEST_CASE("a wait that took no time, or less, counts as 1 ns") {
  begin_test(0x102);
  contention_recorder.set_block_rate(1);
  wait_often(1, 0);
  wait_often(1, -5);
  CHECK(sum(block_buckets, 0x102) == Amount{2, 2, 1});
}

TEST_CASE("waits as long as the rate or longer are all counted, with their own length") {
  begin_test(0x103);
  contention_recorder.set_block_rate(1000);
  wait_often(100, 1000);
  wait_often(100, 123456);
  CHECK(sum(block_buckets, 0x103) == Amount{200, 100 * 1000 + 100 * 123456, 1});
}

// Of N waits of length d below the rate R, Binomial(N, d/R) are chosen, and each adds R/d to the count and R
// to the time. So the mean of the count is N and its variance N (R/d - 1); those of the time are d and d
// squared times as much.
TEST_CASE("short waits are chosen in proportion to their length, and no total is biased", "[B03]") {
  constexpr Nanos kRate = 1'000'000;
  constexpr int kTimes = 100'000;
  Pc leaf = 0x200;
  for (const Nanos length : {Nanos{1000}, kRate / 10, kRate / 3, kRate / 7 * 5, kRate - 1}) {
    CAPTURE(length);
    ++leaf;
    begin_test(leaf, leaf);
    contention_recorder.set_block_rate(kRate);
    wait_often(kTimes, length);
    const Amount amount = sum(block_buckets, leaf);
    const double ratio = static_cast<double>(kRate) / static_cast<double>(length);
    const double sigma = std::sqrt(kTimes * (ratio - 1));
    check_within(amount.nanos, kTimes * static_cast<double>(length), sigma * static_cast<double>(length));
    // A count is kept in units of 1/1024, rounded down.
    const double kept = std::floor(ratio * kUnit) / kUnit;
    check_within(amount.count, kTimes * kept / ratio, sigma);
    CHECK(kept / ratio > 1 - 1 / kUnit);
  }
}

// Go's TestBlockProfileBias: as much time in many short waits as in few long ones.
TEST_CASE("100000 waits of a tenth of the rate weigh what 10000 of the rate do", "[B03]") {
  constexpr Nanos kRate = 50'000;
  begin_test(0x301, 42);
  contention_recorder.set_block_rate(kRate);
  wait_often(100'000, kRate / 10);
  const Amount few = sum(block_buckets, 0x301);
  set_stack({0x302});
  wait_often(10'000, kRate);
  const Amount many = sum(block_buckets, 0x302);
  check_within(few.nanos, many.nanos, std::sqrt(100'000 * 9.0) * kRate / 10);
  CHECK(std::abs(few.nanos - many.nanos) < many.nanos / 5);
  check_within(few.count, 100'000, std::sqrt(100'000 * 9.0));
}

TEST_CASE("a rate of 0 or below records no wait", "[B04]") {
  begin_test(0x401);
  for (const std::int64_t rate : {0, -1, -1'000'000}) {
    contention_recorder.set_block_rate(rate);
    CHECK_FALSE(contention_recorder.is_timing());
    wait_often(1000, 1'000'000'000);
  }
  CHECK(sum(block_buckets, 0x401) == Amount{});
}

TEST_CASE("what was drawn before a wait for a lock is what would have been drawn after it") {
  constexpr Nanos kRate = 1000;
  constexpr Nanos kLength = 250;
  constexpr int kTimes = 100'000;
  begin_test(0x481, 9);
  contention_recorder.set_block_rate(kRate);
  for (int i = 0; i < kTimes; ++i) {
    set_stack({0x481, 0x482});
    const Draw draw = contention_recorder.before_lock_wait(wait_for(lock_at(1)));
    // The stack is that of then.
    set_stack({0x999});
    contention_recorder.on_wait(wait_for(lock_at(1)), kLength, 0, draw);
  }
  const Amount amount = sum(block_buckets, 0x481);
  CHECK(amount.rows == 1);
  check_within(amount.count, kTimes, std::sqrt(kTimes * 3.0));
  check_within(amount.nanos, kTimes * kLength, std::sqrt(kTimes * 3.0) * kLength);
  CHECK(sum(block_buckets, 0x999) == Amount{});
}

TEST_CASE("a stack that only a long wait would need is walked after it") {
  constexpr Nanos kSecond = 1'000'000'000;
  begin_test(0x491, 5);
  contention_recorder.set_block_rate(kSecond);
  int walked = 0;
  for (int i = 0; i < 1000; ++i) {
    const Draw draw = contention_recorder.before_lock_wait(wait_for(lock_at(1)));
    if (draw.stack != kNoStack) ++walked;
    contention_recorder.on_wait(wait_for(lock_at(1)), kSecond, 0, draw);
  }
  CHECK(walked < 10);  // one in a thousand
  CHECK(sum(block_buckets, 0x491) == Amount{1000, 1000.0 * kSecond, 1});
}

TEST_CASE("at rate 1 the row is known before the wait, but for who ends it") {
  begin_test(0x4d1);
  contention_recorder.set_block_rate(1);
  contention_recorder.set_labels({.locks = true, .holders = false});
  const Draw draw = contention_recorder.before_lock_wait(wait_for(lock_at(7)));
  REQUIRE(draw.row != 0);
  CHECK(block_buckets[draw.row].lock == lock_at(7));
  set_stack({0x999});
  contention_recorder.on_wait(wait_for(lock_at(7)), 30, 0, draw);
  CHECK(sum(block_buckets, 0x4d1) == Amount{1, 30, 1});

  set_stack({0x4d1});
  contention_recorder.set_labels({.locks = true, .holders = true});
  const Draw told = contention_recorder.before_lock_wait(wait_for(lock_at(7)));
  CHECK(told.row == 0);
  contention_recorder.on_wait(wait_for(lock_at(7)), 30, 0x77, told);
  CHECK(sum(block_buckets, 0x4d1) == Amount{2, 60, 2});
  contention_recorder.set_labels({});
}

TEST_CASE("a wait that began before the profile was switched on is drawn for when it ends") {
  begin_test(0x4a1);
  const Draw nothing = contention_recorder.before_lock_wait(wait_for(lock_at(1)));
  CHECK(nothing.rate == 0);
  contention_recorder.set_block_rate(1);
  const Draw draw = contention_recorder.before_lock_wait(wait_for(lock_at(1)));
  contention_recorder.on_wait(wait_for(lock_at(1)), 10, 0, nothing);
  CHECK(sum(block_buckets, 0x4a1) == Amount{1, 10, 1});
  contention_recorder.set_block_rate(0);
  contention_recorder.on_wait(wait_for(lock_at(1)), 10, 0, draw);
  CHECK(sum(block_buckets, 0x4a1) == Amount{1, 10, 1});
}

// Binomial: N choices of 1 in 16.
TEST_CASE("one in so many is chosen to be entered while it looks, and only while locks are watched") {
  constexpr int kTimes = 100'000;
  constexpr double kChosen = 1.0 / LockWaiters::kLookersPerEntered;
  begin_test(0x4b1, 11);
  contention_recorder.set_mutex_fraction(1);
  int chosen = 0;
  for (int i = 0; i < kTimes; ++i)
    if (contention_recorder.before_lock_wait(wait_for(lock_at(1))).is_looker) ++chosen;
  check_within(chosen, kTimes * kChosen, std::sqrt(kTimes * kChosen * (1 - kChosen)));
  contention_recorder.set_mutex_fraction(0);
  contention_recorder.set_block_rate(1);
  for (int i = 0; i < 1000; ++i)
    REQUIRE_FALSE(contention_recorder.before_lock_wait(wait_for(lock_at(1))).is_looker);
}

TEST_CASE("an unlock that was seen by one who looks counts for as many as he stands for") {
  constexpr int kAll = LockWaiters::kLookersPerEntered;
  begin_test(0x4c1);
  contention_recorder.set_mutex_fraction(1);
  contention_recorder.on_unlock(wait_for(lock_at(1)), {.nanos = 1600, .fraction = 5, .unlocks = kAll});
  CHECK(sum(mutex_buckets, 0x4c1) == Amount{5.0 * kAll, 5 * 1600, 1});
}

// A contended unlock, with one waiter since `waited` ago; what it took over is recorded or not.
void unlock_contended(const void* lock, Nanos waited) {
  const LockWaiters::Ticket ticket = lock_waiters.join(lock, ContentionRecorder::now() - waited);
  REQUIRE(ticket.place != 0);
  const Charge charged = contention_recorder.before_unlock(wait_for(lock));
  if (charged.nanos != 0) contention_recorder.on_unlock(wait_for(lock), charged);
  lock_waiters.leave(lock, ticket);
}

TEST_CASE("at fraction 1 every contended unlock is counted, an uncontended one never") {
  constexpr Nanos kWaited = 1'000'000'000;
  begin_test(0x501);
  contention_recorder.set_mutex_fraction(1);
  CHECK(contention_recorder.is_watching_locks());
  const Nanos begin = ContentionRecorder::now();
  for (int i = 0; i < 100; ++i) unlock_contended(lock_at(3), kWaited);
  const Nanos spent = ContentionRecorder::now() - begin;
  const Amount amount = sum(mutex_buckets, 0x501);
  CHECK(amount.rows == 1);
  CHECK(amount.count == 100);
  // The table's unit is 64 ns; a begin is rounded down as well as an end.
  CHECK(amount.nanos >= 100 * static_cast<double>(kWaited - 64));
  CHECK(amount.nanos <= 100 * static_cast<double>(kWaited + 64) + static_cast<double>(spent));
  for (int i = 0; i < 100; ++i) CHECK(contention_recorder.before_unlock(wait_for(lock_at(3))).nanos == 0);
  CHECK(sum(block_buckets, 0x501) == Amount{});
}

// Binomial(N, 1/5) unlocks are chosen, each counts 5 times: mean N, standard deviation sqrt(N (5 - 1)).
TEST_CASE("one contended unlock in 5 counts for 5", "[B07]") {
  constexpr int kTimes = 100'000;
  constexpr Nanos kWaited =
      1'000'000'000'000;  // beside which the time between two lines of a test is nothing
  begin_test(0x601, 7);
  contention_recorder.set_mutex_fraction(5);
  const Nanos begin = ContentionRecorder::now();
  for (int i = 0; i < kTimes; ++i) unlock_contended(lock_at(4), kWaited);
  const auto spent = static_cast<double>(ContentionRecorder::now() - begin);
  const Amount amount = sum(mutex_buckets, 0x601);
  check_within(amount.count, kTimes, std::sqrt(kTimes * 4.0));
  CHECK(std::abs(amount.count - kTimes) < kTimes * 0.05);
  CHECK(std::fmod(amount.count, 5) == 0);
  CHECK(amount.nanos >= amount.count * static_cast<double>(kWaited - 64));
  CHECK(amount.nanos <= amount.count * static_cast<double>(kWaited + 64) + 5 * spent);
}

TEST_CASE("switched off, the profiles keep what they have and take nothing new", "[B08]") {
  begin_test(0x701);
  contention_recorder.set_block_rate(1);
  contention_recorder.set_mutex_fraction(1);
  wait_often(10, 500);
  for (int i = 0; i < 10; ++i) unlock_contended(lock_at(5), 1'000'000);
  const Amount block = sum(block_buckets, 0x701);
  const Amount mutex = sum(mutex_buckets, 0x701);
  CHECK(block == Amount{10, 5000, 1});
  CHECK(mutex.count == 10);

  contention_recorder.set_block_rate(0);
  contention_recorder.set_mutex_fraction(0);
  CHECK_FALSE(contention_recorder.is_timing());
  CHECK_FALSE(contention_recorder.is_watching_locks());
  for (int reading = 0; reading < 2; ++reading) {
    wait_often(10, 500);
    for (int i = 0; i < 10; ++i) unlock_contended(lock_at(5), 1'000'000);
    CHECK(sum(block_buckets, 0x701) == block);
    CHECK(sum(mutex_buckets, 0x701) == mutex);
  }
  // Another rate weighs what comes, not what was.
  contention_recorder.set_block_rate(1'000'000);
  contention_recorder.set_mutex_fraction(1000);
  CHECK(sum(block_buckets, 0x701) == block);
  CHECK(sum(mutex_buckets, 0x701) == mutex);
}

TEST_CASE("a negative fraction is no fraction: the one in force stays", "[B09]") {
  begin_test(0x801);
  contention_recorder.set_mutex_fraction(3);
  contention_recorder.set_mutex_fraction(-1);
  CHECK(contention_recorder.mutex_fraction() == 3);
  contention_recorder.set_mutex_fraction(0);
  CHECK(contention_recorder.mutex_fraction() == 0);
}

TEST_CASE("one row for a stack and a kind, whoever waits", "[B11]") {
  constexpr int kThreads = 4;
  constexpr int kTimes = 20'000;
  begin_test(0x901);
  contention_recorder.set_block_rate(1);
  contention_recorder.set_mutex_fraction(1);
  test::run_threads(kThreads, [&](int thread) {
    set_stack({0x901, 0x902});
    for (int i = 0; i < kTimes; ++i) {
      contention_recorder.on_wait(wait_for(lock_at(static_cast<std::uintptr_t>(thread))), 3, 0);
      contention_recorder.on_unlock(wait_for(lock_at(static_cast<std::uintptr_t>(thread))), {.nanos = 5});
    }
  });
  CHECK(sum(block_buckets, 0x901) == Amount{kThreads * kTimes, 3.0 * kThreads * kTimes, 1});
  CHECK(sum(mutex_buckets, 0x901) == Amount{kThreads * kTimes, 5.0 * kThreads * kTimes, 1});
}

TEST_CASE("rows are apart by kind and by the function that waited") {
  begin_test(0xa01);
  contention_recorder.set_block_rate(1);
  contention_recorder.on_wait(wait_for(lock_at(1), WaitKind::kMutex), 10, 0);
  contention_recorder.on_wait(wait_for(lock_at(1), WaitKind::kCond), 10, 0);
  contention_recorder.on_wait(wait_for(lock_at(1), WaitKind::kMutex, 0x2000), 10, 0);
  CHECK(sum(block_buckets, 0xa01) == Amount{3, 30, 3});
  CHECK(sum(block_buckets, 0x2000).rows >= 1);
}

TEST_CASE("locks and holders are told apart only when somebody asks") {
  begin_test(0xb01);
  contention_recorder.set_block_rate(1);
  contention_recorder.set_mutex_fraction(1);
  const auto wait_twice = [] {
    for (const std::uintptr_t number : {1, 2}) {
      contention_recorder.on_wait(wait_for(lock_at(number)), 10, number);
      contention_recorder.on_unlock(wait_for(lock_at(number)), {.nanos = 10});
    }
  };
  wait_twice();
  CHECK(sum(block_buckets, 0xb01) == Amount{2, 20, 1});
  CHECK(sum(mutex_buckets, 0xb01) == Amount{2, 20, 1});
  contention_recorder.set_labels({true, true});
  wait_twice();
  CHECK(sum(block_buckets, 0xb01) == Amount{4, 40, 3});
  CHECK(sum(mutex_buckets, 0xb01) == Amount{4, 40, 3});
  contention_recorder.set_labels({false, false});
  wait_twice();
  CHECK(sum(block_buckets, 0xb01) == Amount{6, 60, 3});
  CHECK(sum(mutex_buckets, 0xb01) == Amount{6, 60, 3});
}

TEST_CASE("whoever wants holders has locks watched, without the mutex profile") {
  begin_test(0xc01);
  contention_recorder.set_labels({false, true});
  CHECK(contention_recorder.is_watching_locks());
  const LockWaiters::Ticket ticket = lock_waiters.join(lock_at(6), ContentionRecorder::now() - 1000);
  CHECK(contention_recorder.before_unlock(wait_for(lock_at(6))).nanos == 0);
  const InternedStack* holder = stack_table.find(lock_waiters.holder(ticket));
  REQUIRE(holder != nullptr);
  CHECK(holder->pcs()[0] == 0xc01);
  lock_waiters.leave(lock_at(6), ticket);
  CHECK(sum(mutex_buckets, 0xc01) == Amount{});
  contention_recorder.set_labels({false, false});
  CHECK_FALSE(contention_recorder.is_watching_locks());
}

TEST_CASE("labels take at most half of the room; a wait that there is none for is dropped and counted") {
  begin_test(0xd01);
  contention_recorder.set_block_rate(1);
  const std::uint64_t dropped = counters.dropped_contention_table_full;
  arena.set_limit(arena.mapped() + (std::size_t{64} << 20));
  contention_recorder.set_labels({true, false});
  for (std::size_t i = 0; i < kMaxContentionBuckets; ++i)
    contention_recorder.on_wait(wait_for(lock_at(1000 + i)), 1, 0);
  CHECK(counters.dropped_contention_table_full == dropped);
  CHECK(block_buckets.size() <= kMaxContentionBuckets / 2 + 1);
  CHECK(sum(block_buckets, 0xd01).count == kMaxContentionBuckets);

  const std::size_t room = kMaxContentionBuckets - block_buckets.size();
  for (std::size_t i = 0; i < room + 100; ++i)
    contention_recorder.on_wait(wait_for(lock_at(1), WaitKind::kMutex, 0x100000 + i), 1, 0);
  CHECK(counters.dropped_contention_table_full >= dropped + 100);
}

}  // namespace
}  // namespace profagent::safe
