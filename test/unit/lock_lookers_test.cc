// Waiters that come to the table late, and those that only look whether the lock becomes free: they stand for
// all who do.
#include "test/unit/lock_waiters.h"

namespace profagent::safe {
namespace {

TEST_CASE("a waiter that is entered late has waited since before, and takes as much along") {
  const auto waiters = make_waiters();
  const LockWaiters::Ticket patient = waiters->join(lock_at(1), 0);
  CHECK(take_over_at(*waiters, lock_at(1), 50 * kUnit) == 50 * kUnit);
  const LockWaiters::Ticket late = waiters->join(lock_at(1), 20 * kUnit, 60 * kUnit);
  // Who released it before is not the holder that it met.
  CHECK(waiters->holder(late) == 0);
  SECTION("charged") {
    CHECK(take_over_at(*waiters, lock_at(1), 100 * kUnit) == (50 + 80) * kUnit);
    CHECK(waiters->holder(late) == kHolder);
    waiters->leave(lock_at(1), late);
    CHECK(take_over_at(*waiters, lock_at(1), 130 * kUnit) == 30 * kUnit);
  }
  SECTION("not charged, for it leaves first") {
    waiters->leave(lock_at(1), late);
    CHECK(take_over_at(*waiters, lock_at(1), 100 * kUnit) == 50 * kUnit);
  }
  waiters->leave(lock_at(1), patient);
}

TEST_CASE("of two that wait for a lock one may go") {
  const auto waiters = make_waiters();
  const LockWaiters::Ticket first = waiters->join(lock_at(1), 0);
  const LockWaiters::Ticket second = waiters->join(lock_at(1), 0);
  waiters->leave(lock_at(1), first);
  CHECK(waiters->is_anybody_waiting());
  CHECK(take_over_at(*waiters, lock_at(1), kUnit) == kUnit);
  waiters->leave(lock_at(1), second);
  CHECK_FALSE(waiters->is_anybody_waiting());
}

LockWaiters::Taken take_over_all(LockWaiters& waiters, const void* lock, Nanos now) {
  thread_clock = now;
  return waiters.take_over(lock, read_thread_clock, {});
}

TEST_CASE("who looks at a lock stands for all who do") {
  constexpr Nanos kAll = LockWaiters::kLookersPerEntered;
  const auto waiters = make_waiters();
  const void* looked_at = LockWaiters::looked_at(lock_at(1));
  const LockWaiters::Ticket looker = waiters->join(looked_at, 0);
  CHECK(waiters->is_anybody_waiting());
  CHECK(waiters->may_have(lock_at(1)));
  const LockWaiters::Taken alone = take_over_all(*waiters, lock_at(1), 10 * kUnit);
  CHECK(alone.nanos == kAll * 10 * kUnit);
  CHECK(alone.unlocks == kAll);

  const LockWaiters::Ticket waiter = waiters->join(lock_at(1), 10 * kUnit);
  const LockWaiters::Taken both = take_over_all(*waiters, lock_at(1), 30 * kUnit);
  CHECK(both.nanos == (kAll + 1) * 20 * kUnit);
  CHECK(both.unlocks == 1);

  waiters->leave(looked_at, looker);
  const LockWaiters::Taken waited = take_over_all(*waiters, lock_at(1), 70 * kUnit);
  CHECK(waited.nanos == 40 * kUnit);
  CHECK(waited.unlocks == 1);
  waiters->leave(lock_at(1), waiter);
  CHECK_FALSE(waiters->is_anybody_waiting());
  CHECK_FALSE(waiters->may_have(lock_at(1)));
}

TEST_CASE("who has looked in vain waits since then, less what was charged for all who did") {
  constexpr Nanos kAll = LockWaiters::kLookersPerEntered;
  const auto waiters = make_waiters();
  const Nanos begin = 1'000'000 * kUnit;
  const LockWaiters::Ticket looker = waiters->join(LockWaiters::looked_at(lock_at(1)), begin);
  Nanos charged = 0;
  SECTION("nothing") {}
  SECTION("a part") {
    charged = kAll * 20 * kUnit;
    CHECK(take_over_all(*waiters, lock_at(1), begin + 20 * kUnit).nanos == charged);
  }
  const LockWaiters::Ticket waiter = waiters->go_on_waiting(lock_at(1), looker, begin + 30 * kUnit);
  const LockWaiters::Taken taken = take_over_all(*waiters, lock_at(1), begin + 1000 * kUnit);
  CHECK(taken.nanos == 1000 * kUnit - charged);
  CHECK(taken.unlocks == 1);
  waiters->leave(lock_at(1), waiter);
  CHECK_FALSE(waiters->is_anybody_waiting());
}

TEST_CASE("what was charged for others lessens what they are charged with") {
  constexpr Nanos kAll = LockWaiters::kLookersPerEntered;
  const auto waiters = make_waiters();
  const LockWaiters::Ticket looker = waiters->join(LockWaiters::looked_at(lock_at(1)), 0);
  CHECK(take_over_all(*waiters, lock_at(1), 20 * kUnit).nanos == kAll * 20 * kUnit);
  const LockWaiters::Ticket waiter = waiters->go_on_waiting(lock_at(1), looker, 30 * kUnit);
  const LockWaiters::Ticket other = waiters->join(lock_at(1), 0, 30 * kUnit);
  SECTION("together") {
    CHECK(take_over_all(*waiters, lock_at(1), 200 * kUnit).nanos == (200 - kAll * 20 + 200) * kUnit);
    waiters->leave(lock_at(1), waiter);
  }
  SECTION("unless it goes first") {
    waiters->leave(lock_at(1), waiter);
    CHECK(take_over_all(*waiters, lock_at(1), 200 * kUnit).nanos == 200 * kUnit);
  }
  waiters->leave(lock_at(1), other);
}

// It would be charged 16 times to whoever happens to have the lock.
TEST_CASE("one whose look lasts too long did not wait for the lock") {
  constexpr Nanos kTooLong = LockWaiters::kLongestLook + kUnit;
  const auto waiters = make_waiters();
  const LockWaiters::Ticket looker = waiters->join(LockWaiters::looked_at(lock_at(1)), 0);
  SECTION("while it looks") {
    CHECK(take_over_all(*waiters, lock_at(1), kTooLong).nanos == 0);
    waiters->leave(LockWaiters::looked_at(lock_at(1)), looker);
  }
  SECTION("before it was entered") {
    waiters->leave(LockWaiters::looked_at(lock_at(1)), looker);
    const LockWaiters::Ticket late = waiters->join(LockWaiters::looked_at(lock_at(1)), 0, kTooLong);
    CHECK(take_over_all(*waiters, lock_at(1), kTooLong + kUnit).nanos == 0);
    waiters->leave(LockWaiters::looked_at(lock_at(1)), late);
  }
  CHECK_FALSE(waiters->is_anybody_waiting());
}

TEST_CASE("each unlock of a lock that somebody looks at is due: the look is over soon") {
  const auto waiters = make_waiters();
  const LockWaiters::Ticket waiter = waiters->join(lock_at(1), 0);
  take_over_all(*waiters, lock_at(1), 0);
  // Another thread may have had the processor in between.
  while (waiters->may_be_due(lock_at(1))) take_over_all(*waiters, lock_at(1), 0);
  const LockWaiters::Ticket looker = waiters->join(LockWaiters::looked_at(lock_at(1)), 0);
  for (int i = 0; i < 1000; ++i) {
    take_over_all(*waiters, lock_at(1), 0);
    REQUIRE(waiters->may_be_due(lock_at(1)));
  }
  waiters->leave(LockWaiters::looked_at(lock_at(1)), looker);
  waiters->leave(lock_at(1), waiter);
}

}  // namespace
}  // namespace profagent::safe
