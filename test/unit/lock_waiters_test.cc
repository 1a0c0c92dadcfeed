// Who waits for which lock, against a model that knows each waiter.
#include "agent/safe/lock_waiters.h"

#include <atomic>
#include <catch2/catch.hpp>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <vector>

#include <sys/wait.h>
#include <unistd.h>

#include "agent/safe/arena.h"
#include "agent/safe/clock.h"
#include "agent/safe/counters.h"
#include "test/unit/lock_waiters.h"
#include "test/unit/storm.h"

namespace profagent::safe {
namespace {

constexpr std::size_t kPerLine = 4;

// Locks that share the first one's line of the table, as the tickets tell.
std::vector<const void*> locks_of_one_line(std::size_t count) {
  const auto waiters = make_waiters();
  const auto line_of = [&](const void* lock) {
    const LockWaiters::Ticket ticket = waiters->join(lock, 0);
    waiters->leave(lock, ticket);
    return (ticket.place - 1) / kPerLine;
  };
  std::vector<const void*> locks;
  const auto line = line_of(lock_at(0));
  for (std::uintptr_t i = 0; locks.size() < count; ++i)
    if (line_of(lock_at(i)) == line) locks.push_back(lock_at(i));
  return locks;
}

TEST_CASE("an unlock takes over what all have waited since the last one") {
  const auto waiters = make_waiters();
  const Nanos begin = 1000 * kUnit;
  const LockWaiters::Ticket first = waiters->join(lock_at(1), begin);
  const LockWaiters::Ticket second = waiters->join(lock_at(1), begin + 10 * kUnit);
  REQUIRE(first.place != 0);
  REQUIRE(second.place != 0);
  CHECK(take_over_at(*waiters, lock_at(1), begin + 100 * kUnit) == (100 + 90) * kUnit);
  CHECK(take_over_at(*waiters, lock_at(1), begin + 100 * kUnit) == 0);
  CHECK(take_over_at(*waiters, lock_at(1), begin + 150 * kUnit) == 2 * 50 * kUnit);
  waiters->leave(lock_at(1), first);
  CHECK(take_over_at(*waiters, lock_at(1), begin + 250 * kUnit) == 100 * kUnit);
  waiters->leave(lock_at(1), second);
  CHECK(take_over_at(*waiters, lock_at(1), begin + 999 * kUnit) == 0);
}

TEST_CASE("an unlock that nobody waits for reads no clock") {
  const auto waiters = make_waiters();
  clock_calls = 0;
  CHECK(take_over_at(*waiters, lock_at(1), 640) == 0);
  const LockWaiters::Ticket ticket = waiters->join(lock_at(1), 0);
  CHECK(take_over_at(*waiters, lock_at(2), 640) == 0);
  CHECK(clock_calls == 0);
  CHECK(take_over_at(*waiters, lock_at(1), 640) == 640);
  CHECK(clock_calls == 1);
  waiters->leave(lock_at(1), ticket);
  CHECK(take_over_at(*waiters, lock_at(1), 6400) == 0);
  CHECK(clock_calls == 1);
}

TEST_CASE("the waiter that an unlock woke leaves the others' times as they are") {
  const auto waiters = make_waiters();
  const LockWaiters::Ticket early = waiters->join(lock_at(1), 0);
  const LockWaiters::Ticket late = waiters->join(lock_at(1), 500 * kUnit);
  CHECK(take_over_at(*waiters, lock_at(1), 1000 * kUnit) == 1500 * kUnit);
  waiters->leave(lock_at(1), early);
  CHECK(take_over_at(*waiters, lock_at(1), 1700 * kUnit) == 700 * kUnit);
  waiters->leave(lock_at(1), late);
}

TEST_CASE("times are right across the seconds, and for hours") {
  const auto waiters = make_waiters();
  for (const Nanos begin : {Nanos{0}, kBaseUnit - kUnit, kBaseUnit, 5 * kBaseUnit - kUnit,
                            (Nanos{1} << 47) - kUnit, (Nanos{1} << 47) + 77 * kBaseUnit}) {
    CAPTURE(begin);
    const LockWaiters::Ticket first = waiters->join(lock_at(1), begin);
    const LockWaiters::Ticket second = waiters->join(lock_at(1), begin + 2 * kUnit);
    CHECK(take_over_at(*waiters, lock_at(1), begin + 3 * kUnit) == 4 * kUnit);
    CHECK(take_over_at(*waiters, lock_at(1), begin + 3 * kUnit + 10 * kHour) == 2 * 10 * kHour);
    CHECK(take_over_at(*waiters, lock_at(1), begin + 3 * kUnit + 10 * kHour + kBaseUnit) == 2 * kBaseUnit);
    waiters->leave(lock_at(1), first);
    waiters->leave(lock_at(1), second);
  }
}

// Threads read the clock first and change the table a little later, so they may come to it in another order
// than that of their times. Around the moment at which the base moves this must not be taken for 39 hours.
TEST_CASE("a time that lies before the base counts as none, not as days") {
  const auto waiters = make_waiters();
  const Nanos base = 7 * kBaseUnit;
  SECTION("an unlock that read the clock before the first waiter did") {
    const LockWaiters::Ticket ticket = waiters->join(lock_at(1), base + kUnit);
    CHECK(take_over_at(*waiters, lock_at(1), base - kUnit) <= 2 * kUnit);
    CHECK(take_over_at(*waiters, lock_at(1), base + 100 * kUnit) <= 101 * kUnit);
    waiters->leave(lock_at(1), ticket);
  }
  SECTION("two readers give a lock back, the later one first") {
    const LockWaiters::Ticket ticket = waiters->join(lock_at(1), base - 50 * kUnit);
    CHECK(take_over_at(*waiters, lock_at(1), base + kUnit) == 51 * kUnit);
    CHECK(take_over_at(*waiters, lock_at(1), base - kUnit) <= 2 * kUnit);
    CHECK(take_over_at(*waiters, lock_at(1), base + 100 * kUnit) <= 101 * kUnit);
    waiters->leave(lock_at(1), ticket);
  }
  SECTION("a second waiter that read the clock before the first one") {
    const LockWaiters::Ticket first = waiters->join(lock_at(1), base);
    const LockWaiters::Ticket second = waiters->join(lock_at(1), base - 10 * kUnit);
    const Nanos waited = take_over_at(*waiters, lock_at(1), base + 100 * kUnit);
    CHECK(waited >= 200 * kUnit);
    CHECK(waited <= 210 * kUnit);
    waiters->leave(lock_at(1), first);
    waiters->leave(lock_at(1), second);
  }
}

// Who leaves a lock that it did not get takes its own time along, not the others'.
TEST_CASE("a waiter that gives up leaves the others' times as they are") {
  const auto waiters = make_waiters();
  const LockWaiters::Ticket patient = waiters->join(lock_at(1), 0);
  const LockWaiters::Ticket hasty = waiters->join(lock_at(1), 900 * kUnit);
  waiters->leave(lock_at(1), hasty);
  CHECK(take_over_at(*waiters, lock_at(1), 2000 * kUnit) == 2000 * kUnit);
  waiters->leave(lock_at(1), patient);
}

TEST_CASE("more waiters than an entry counts") {
  constexpr int kWaiters = 10'000;
  const auto waiters = make_waiters();
  std::vector<LockWaiters::Ticket> tickets;
  std::set<std::uint32_t> places;
  Nanos expected = 0;
  const Nanos end = kHour;
  for (int i = 0; i < kWaiters; ++i) {
    tickets.push_back(waiters->join(lock_at(1), i * kUnit));
    REQUIRE(tickets.back().place != 0);
    places.insert(tickets.back().place);
    expected += end - i * kUnit;
  }
  CHECK(places.size() > 1);
  CHECK(take_over_at(*waiters, lock_at(1), end / kUnit * kUnit) == expected);
  CHECK(take_over_at(*waiters, lock_at(1), end + 5 * kUnit) == kWaiters * 5 * kUnit);
  for (const LockWaiters::Ticket& ticket : tickets) CHECK(waiters->holder(ticket) == kHolder);
  for (const LockWaiters::Ticket& ticket : tickets) waiters->leave(lock_at(1), ticket);
  CHECK(take_over_at(*waiters, lock_at(1), 2 * end) == 0);
}

TEST_CASE("who finds no room waits unannounced, and is counted") {
  const auto waiters = make_waiters();
  const std::vector<const void*> locks = locks_of_one_line(kPerLine + 1);
  std::vector<LockWaiters::Ticket> tickets;
  for (std::size_t i = 0; i < kPerLine; ++i) tickets.push_back(waiters->join(locks[i], 0));
  const std::uint64_t dropped = counters.dropped_lock_waiters;
  const LockWaiters::Ticket none = waiters->join(locks.back(), 0);
  CHECK(none.place == 0);
  CHECK(counters.dropped_lock_waiters == dropped + 1);
  CHECK(waiters->holder(none) == 0);
  waiters->leave(locks.back(), none);
  CHECK(take_over_at(*waiters, locks.back(), 640) == 0);
  for (std::size_t i = 0; i < kPerLine; ++i) CHECK(take_over_at(*waiters, locks[i], 640) == 640);
  // A second waiter for a lock that is in there needs no room.
  const LockWaiters::Ticket second = waiters->join(locks[1], 640);
  CHECK(second.place != 0);
  waiters->leave(locks[1], second);

  waiters->leave(locks[2], tickets[2]);
  const LockWaiters::Ticket late = waiters->join(locks.back(), 6400);
  CHECK(late.place == tickets[2].place);
  CHECK(waiters->holder(late) == 0);  // not that of the place's last lock
  CHECK(take_over_at(*waiters, locks[2], 64000) == 0);
  CHECK(take_over_at(*waiters, locks.back(), 64000) == 57600);
  CHECK(counters.dropped_lock_waiters == dropped + 1);
}

TEST_CASE("a waiter can ask who had its lock longest while it waited") {
  const auto waiters = make_waiters();
  const LockWaiters::Ticket ticket = waiters->join(lock_at(1), 0);
  const LockWaiters::Ticket other = waiters->join(lock_at(2), 0);
  CHECK(waiters->holder(ticket) == kNoStack);
  CHECK(take_over_at(*waiters, lock_at(1), 64'000, 0x100) == 64'000);
  CHECK(waiters->holder(ticket) == 0x100);
  // Those that were served next have held it, too, but not for long.
  CHECK(take_over_at(*waiters, lock_at(1), 65'280, 0x200) == 1'280);
  CHECK(waiters->holder(ticket) == 0x100);
  CHECK(waiters->holder(other) == kNoStack);
  // Who came after the long one is gone has waited for the short ones.
  const LockWaiters::Ticket late = waiters->join(lock_at(1), 65'280);
  CHECK(waiters->holder(late) == kNoStack);
  CHECK(take_over_at(*waiters, lock_at(1), 66'560, 0x300) == 2'560);
  CHECK(waiters->holder(late) == 0x300);
  CHECK(waiters->holder(ticket) == 0x100);
  // As long as it held the lock again, it is remembered; then anybody is longer.
  CHECK(take_over_at(*waiters, lock_at(1), 130'560, 0x400) == 128'000);
  CHECK(waiters->holder(ticket) == 0x400);
}

TEST_CASE("whether anybody waits for a lock shows without a search") {
  const auto waiters = make_waiters();
  CHECK_FALSE(waiters->is_anybody_waiting());
  CHECK_FALSE(waiters->may_have(lock_at(1)));
  const LockWaiters::Ticket ticket = waiters->join(lock_at(1), 0);
  CHECK(waiters->may_have(lock_at(1)));
  CHECK_FALSE(waiters->may_have(lock_at(2)));
  waiters->leave(lock_at(1), ticket);
  CHECK_FALSE(waiters->may_have(lock_at(1)));
}

// In the processor's ticks, which go on by themselves: what is awaited must come, however slow this is.
TEST_CASE("what has been taken over just now is not due before a while has passed") {
  const auto waiters = make_waiters();
  CHECK_FALSE(waiters->may_be_due(lock_at(1)));
  const LockWaiters::Ticket ticket = waiters->join(lock_at(1), 0);
  CHECK(waiters->may_be_due(lock_at(1)));
  CHECK_FALSE(waiters->may_be_due(lock_at(2)));
  do {
    static_cast<void>(take_over_at(*waiters, lock_at(1), 640));
  } while (waiters->may_be_due(lock_at(1)));
  while (!waiters->may_be_due(lock_at(1))) {
  }
  // Where they may not be read, everything is due at once.
  allow_ticks(false);
  static_cast<void>(take_over_at(*waiters, lock_at(1), 640));
  CHECK(waiters->may_be_due(lock_at(1)));
  allow_ticks(true);
  waiters->leave(lock_at(1), ticket);
  CHECK_FALSE(waiters->may_be_due(lock_at(1)));
}

TEST_CASE(
    "who waited for a condition and was cancelled is charged to no lock at its place, and is taken out") {
  const auto waiters = make_waiters();
  static_cast<void>(waiters->join(LockWaiters::wakeable(lock_at(1)), 0));
  CHECK_FALSE(waiters->may_have(lock_at(1)));
  CHECK(take_over_at(*waiters, lock_at(1), 6'400) == 0);
  const LockWaiters::Ticket locking = waiters->join(lock_at(1), 6'400);
  waiters->forget_wakeables();
  CHECK(take_over_at(*waiters, LockWaiters::wakeable(lock_at(1)), 6'400) == 0);
  CHECK(take_over_at(*waiters, lock_at(1), 12'800) == 6'400);
  waiters->leave(lock_at(1), locking);
  CHECK_FALSE(waiters->is_anybody_waiting());
}

TEST_CASE("nobody is asked for a stack when nobody waits, or nobody wants to know") {
  const auto waiters = make_waiters();
  static int asked;
  asked = 0;
  const LockWaiters::Releaser releaser{[](const void*) noexcept {
                                         ++asked;
                                         return StackId{7};
                                       },
                                       nullptr};
  CHECK(waiters->take_over(lock_at(1), read_thread_clock, releaser).nanos == 0);
  const LockWaiters::Ticket ticket = waiters->join(lock_at(1), 0);
  thread_clock = 6'400;
  CHECK(waiters->take_over(lock_at(1), read_thread_clock, {}).nanos == 6'400);
  CHECK(waiters->holder(ticket) == kNoStack);
  CHECK(asked == 0);
}

TEST_CASE("without memory nobody is entered, and nothing breaks") {
  const auto waiters = std::make_unique<LockWaiters>();
  CHECK(waiters->join(lock_at(1), 0).place == 0);
  CHECK(take_over_at(*waiters, lock_at(1), 640) == 0);
  arena.set_limit(arena.mapped());
  CHECK_FALSE(waiters->prepare());
  CHECK(waiters->join(lock_at(1), 0).place == 0);
  waiters->forget_after_fork();
  arena.set_limit(arena.mapped() + (std::size_t{1} << 20));
  CHECK(waiters->prepare());
  CHECK(waiters->join(lock_at(1), 0).place != 0);
}

// One thread and many locks. The model knows each waiter.
TEST_CASE("whatever comes in whatever order, the sums are the model's") {
  struct Waiter {
    LockWaiters::Ticket ticket;
    Nanos since;
  };
  constexpr std::uintptr_t kLocks = 40;
  const auto waiters = make_waiters();
  std::map<std::uintptr_t, std::vector<Waiter>> model;
  std::mt19937 random(20'261'125);
  const auto below = [&](unsigned bound) { return random() % bound; };
  Nanos now = 3 * kBaseUnit;
  Nanos taken = 0;
  for (int step = 0; step < 200'000; ++step) {
    now += kUnit * below(1 << 16);
    const std::uintptr_t number = below(kLocks);
    std::vector<Waiter>& waiting = model[number];
    switch (below(3)) {
      case 0: {
        const LockWaiters::Ticket ticket = waiters->join(lock_at(number), now);
        REQUIRE(ticket.place != 0);
        waiting.push_back({ticket, now});
        break;
      }
      case 1: {
        if (waiting.empty()) break;
        const std::size_t who = below(static_cast<unsigned>(waiting.size()));
        waiters->leave(lock_at(number), waiting[who].ticket);
        waiting.erase(waiting.begin() + static_cast<std::ptrdiff_t>(who));
        break;
      }
      default: {
        const Nanos waited = take_over_at(*waiters, lock_at(number), now);
        Nanos expected = 0;
        for (Waiter& waiter : waiting) expected += now - std::exchange(waiter.since, now);
        INFO("step " << step);
        REQUIRE(waited == expected);
        taken += waited;
      }
    }
  }
  CHECK(taken > 0);
}

// Each thread has a lock and a clock of its own, but all locks are in one line, where entries pass from lock
// to lock all the time. A half read of one lock and a half of another would show as a wrong sum.
TEST_CASE("an entry that is given to another lock is never mistaken") {
  constexpr int kThreads = 6;  // more than entries, so that room is always scarce
  constexpr int kRounds = 60'000;
  const auto waiters = make_waiters();
  const std::vector<const void*> locks = locks_of_one_line(kThreads);
  std::atomic<int> wrong{0};
  std::atomic<int> entered{0};
  test::run_threads(kThreads, [&](int thread) {
    const auto pace = static_cast<Nanos>(thread + 1) * 1000 * kUnit;
    for (int round = 0; round < kRounds; ++round) {
      // Apart by hours, so that another's base is far off.
      const Nanos begin = thread * kHour + round * kUnit;
      const LockWaiters::Ticket ticket = waiters->join(locks[thread], begin);
      const Nanos waited = take_over_at(*waiters, locks[thread], begin + pace);
      if (waited != (ticket.place == 0 ? 0 : pace)) ++wrong;
      if (ticket.place == 0) continue;
      ++entered;
      waiters->leave(locks[thread], ticket);
      if (take_over_at(*waiters, locks[thread], begin + pace) != 0) ++wrong;
    }
  });
  CHECK(wrong == 0);
  CHECK(entered > 0);
  CHECK_FALSE(waiters->is_anybody_waiting());
}

// A lock with a clock of its own, which only its holder moves on: what is waited depends on the holders, not
// on the machine.
struct alignas(64) VirtualLock {
  std::mutex mutex;
  std::atomic<Nanos> now{0};
  Nanos last_take_over = 0;  // guarded by the mutex
};
thread_local const VirtualLock* held = nullptr;
Nanos read_clock_of_held() noexcept {
  return held->now.load();
}

// What the hooks do, at real locks. A pending sum W (n waiters times now, less their times) grows by n for
// each ns, a take-over makes it 0, and a leaver takes W / n of it. So what is taken over is at most what was
// waited in all. No time in the sum lies before the last take-over, but for those who read the clock and came
// late to the table: a leaver takes at most the time since then, and for each take-over there is one leaver.
TEST_CASE("a storm of threads that wait, leave and take over charges what was waited") {
  constexpr int kThreads = 6;
  constexpr int kRounds = 3000;
  constexpr Nanos kHeld = 1000 * kUnit;
  const auto waiters = make_waiters();
  VirtualLock locks[2];
  for (VirtualLock& lock : locks) {
    // The base moves half-way.
    lock.now = lock.last_take_over = 100 * kBaseUnit - kThreads * kRounds * kHeld / 4;
  }
  std::atomic<Nanos> taken{0};
  std::atomic<Nanos> at_most{0};
  std::atomic<Nanos> missing{0};
  std::atomic<int> waits{0};
  test::run_threads(kThreads, [&](int thread) {
    for (int round = 0; round < kRounds; ++round) {
      VirtualLock& lock = locks[(round + thread) % 2];
      if (!lock.mutex.try_lock()) {
        const Nanos before = lock.now;
        const LockWaiters::Ticket ticket = waiters->join(&lock, before);
        const Nanos entered = lock.now;
        lock.mutex.lock();
        waiters->leave(&lock, ticket);
        const Nanos after = lock.now;
        if (ticket.place != 0) {
          ++waits;
          at_most += after - before;
          missing += after - lock.last_take_over + entered - before;
        }
      }
      held = &lock;
      lock.now += kHeld;
      std::this_thread::yield();  // others come and find the lock taken
      taken += waiters->take_over(&lock, read_clock_of_held, {read_stack, &kHolder}).nanos;
      lock.last_take_over = lock.now;
      lock.mutex.unlock();
    }
  });
  const Nanos slack = waits * kUnit;  // of the divisions
  INFO(waits << " waits, taken over " << taken << ", waited " << at_most << ", missing at most " << missing);
  CHECK(waits > 0);
  CHECK(taken <= at_most + slack);
  CHECK(taken >= at_most - missing - slack);
  CHECK_FALSE(waiters->is_anybody_waiting());
  for (const VirtualLock& lock : locks) CHECK(take_over_at(*waiters, &lock, lock.now + kHour) == 0);
}

LockWaiters* stormy = nullptr;
std::atomic<int> handler_joins{0};

TEST_CASE("a signal handler may wait for the very lock that its thread is entering") {
  const auto waiters = make_waiters();
  stormy = waiters.get();
  handler_joins = 0;
  int rounds = 0;
  int without_ticket = 0;
  test::SignalStorm storm([] {
    const LockWaiters::Ticket ticket = stormy->join(lock_at(1), 64);
    stormy->leave(lock_at(1), ticket);
    ++handler_joins;
  });
  while (!storm.is_over()) {
    for (int i = 0; i < 200; ++i, ++rounds) {
      const LockWaiters::Ticket ticket = waiters->join(lock_at(1), 64);
      if (ticket.place == 0) ++without_ticket;
      static_cast<void>(take_over_at(*waiters, lock_at(1), 64));
      waiters->leave(lock_at(1), ticket);
    }
  }
  storm.end();
  CHECK(handler_joins > 0);
  CHECK(without_ticket == 0);
  CHECK_FALSE(waiters->is_anybody_waiting());
  CHECK(take_over_at(*waiters, lock_at(1), kHour) == 0);
}

TEST_CASE("a child of fork() has no waiters but its own") {
  const auto waiters = make_waiters();
  const LockWaiters::Ticket ticket = waiters->join(lock_at(1), 0);
  static_cast<void>(waiters->join(lock_at(2), 0));
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    waiters->forget_after_fork();
    if (take_over_at(*waiters, lock_at(1), 640) != 0 || take_over_at(*waiters, lock_at(2), 640) != 0)
      _exit(1);
    // Of a wait that the fork interrupted.
    waiters->leave(lock_at(1), ticket);
    const LockWaiters::Ticket own = waiters->join(lock_at(1), 640);
    if (take_over_at(*waiters, lock_at(1), 1280) != 640) _exit(2);
    waiters->leave(lock_at(1), own);
    _exit(take_over_at(*waiters, lock_at(1), 6400) == 0 ? 0 : 3);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
  CHECK(take_over_at(*waiters, lock_at(1), 640) == 640);
  CHECK(take_over_at(*waiters, lock_at(2), 640) == 640);
}

}  // namespace
}  // namespace profagent::safe
