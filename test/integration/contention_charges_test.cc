// Who is charged for a wait, where that is easily got wrong: locks that are taken back before their waiters
// run, that are given back by a wait without an end, that lie where cancelled threads have waited for
// something else, robust ones, and children forked while a request measures. A victim prints between which
// bounds the true value lies.
#include <regex>

#include <catch2/catch.hpp>

#include "test/support/contention.h"
#include "test/support/measured.h"

using namespace profagent::test;

namespace {

// Of the table of waiters, at both ends of a wait.
constexpr std::int64_t kSlack = 2 * 64;

void check_charges(Victim& victim, std::size_t how_many, std::int64_t waiters = 1) {
  const Profile mutex = victim.profile("/debug/pprof/mutex");
  CHECK(broken_wait_rules(mutex).empty());
  const auto charges = measured(victim.process().out());
  REQUIRE(charges.size() == how_many);
  for (const auto& [function, bounds] : charges) {
    CAPTURE(function, bounds.least, bounds.most);
    CHECK(mutex.total("contentions").in(function) == 1);
    CHECK(mutex.total("delay").in(function) >= bounds.least - waiters * kSlack);
    CHECK(mutex.total("delay").in(function) <= bounds.most + waiters * kSlack);
  }
}

// A request that measures waits until it is dropped.
class Measuring {
 public:
  Measuring(Victim& victim, const std::string& parameters) : connection_(victim.unix_address()) {
    connection_.send(to_bytes({.target = "/debug/pprof/block?seconds=300&rate=1" + parameters}));
    const auto waits = [&] { return victim.profile("/debug/pprof/block").total("contentions").all(); };
    REQUIRE(eventually([&] {
      const std::int64_t before = waits();
      victim.command("sleep");
      return waits() > before;
    }));
  }

 private:
  Connection connection_;
};

}  // namespace

TEST_CASE("who takes a lock again before its waiter has run is charged for both holds") {
  Victim victim("overtaken", {}, kEveryWait);
  check_charges(victim, 2);
}

TEST_CASE(
    "who takes a lock again and again before its waiter has run is not charged each time, but for all") {
  constexpr std::int64_t kTimes = 100'000;
  Victim victim("overtaken", {std::to_string(kTimes)}, kEveryWait);
  const Profile mutex = victim.profile("/debug/pprof/mutex");
  const auto charges = measured(victim.process().out());
  REQUIRE(charges.size() == 2);
  const std::int64_t often = mutex.total("contentions").in("gives_back_often");
  CHECK(often < kTimes);
  CHECK(mutex.total("contentions").in("gives_back_again") == 1);
  CHECK(mutex.total("delay").in("gives_back_again") >= charges.at("gives_back_again").least - kSlack);
  // Each charge is cut to the units of the table.
  std::int64_t all = 0;
  for (const char* function : {"gives_back", "gives_back_often", "gives_back_again"})
    all += mutex.total("delay").in(function);
  CHECK(all >= charges.at("all").least - (often + 2) * kSlack);
  CHECK(all <= charges.at("all").most + (often + 2) * kSlack);
}

// Most of these waits end while the waiter still tries, and only one in a number of them is entered. How many
// are, and that they stand for all, is lock_wait_test's; here the two profiles say about the same of the same
// waits. Their time is not compared from below: on a busy machine most of it is that of waiters which lost
// the processor while they tried, and nobody is charged with that.
TEST_CASE("waits too short to sleep are charged to who keeps the lock, not to who passes by") {
  Victim victim("brief_locks", {"1000"}, kEveryWait);
  const Profile block = victim.profile("/debug/pprof/block");
  const Profile mutex = victim.profile("/debug/pprof/mutex");
  const auto both = [](const Total& total) { return total.in("keeps_briefly") + total.in("passes_by"); };
  const std::int64_t waits = both(block.total("contentions"));
  const Total charged = mutex.total("delay");
  CAPTURE(waits, both(block.total("delay")), both(charged));
  CHECK(both(charged) < 2 * both(block.total("delay")));
  if (waits < 10'000) {
    WARN("the threads hardly met, " << waits << " times");
    return;
  }
  const Total counted = mutex.total("contentions");
  CHECK(10 * both(counted) > waits);
  // Not their time: one that loses the processor with the lock in its hands weighs more than thousands.
  CHECK(counted.in("keeps_briefly") > 2 * counted.in("passes_by"));
}

TEST_CASE("a wait for a condition that never comes is charged for the lock it gave back") {
  Victim victim("unlock_to_wait", {}, kEveryWait);
  check_charges(victim, 1, 2);
  const std::vector<Sample> charged = victim.profile("/debug/pprof/mutex").in("waits_for_ever");
  REQUIRE(charged.size() == 1);
  CHECK(charged[0].stack[0].name == "pthread_cond_wait");
}

TEST_CASE("cancelled waits for something else are not charged to a lock that lies there later") {
  SECTION("while holders are told") {
    Victim victim("cancelled_waiters", {}, kEveryWait);
    const Measuring measuring(victim, "&labels=holder");
    victim.command("cancel");
    victim.command("lock");
    check_charges(victim, 2);
  }
  SECTION("and later") {
    Victim victim("cancelled_waiters", {}, kEveryWait);
    {
      const Measuring measuring(victim, "&labels=holder");
      victim.command("cancel");
    }
    victim.command("lock");
    check_charges(victim, 2);
  }
}

TEST_CASE("who is refused an unlock of a robust mutex is not charged") {
  Victim victim("robust_locks", {}, kEveryWait);
  CHECK(victim.process().out().find("no EPERM\n") == std::string::npos);
  CHECK(victim.profile("/debug/pprof/mutex").in("is_refused").empty());
  CHECK(victim.profile("/debug/pprof/block").total("contentions").in("waits") == 1);
}

TEST_CASE("a robust mutex that is free is no wait, and who keeps others from one is charged") {
  Victim victim("robust_locks", {}, kEveryWait);
  CHECK(victim.profile("/debug/pprof/block").in("takes_what_is_free").empty());
  check_charges(victim, 1);
}

TEST_CASE("a child that is forked while a request measures does not measure") {
  Victim victim("measured_forks");
  const Measuring measuring(victim, "&labels=lock,holder");
  victim.command("fork");
  const Address child = child_address(victim);
  const Profile childs = Profile::parse(http_get(child, "/debug/pprof/block").body);
  CHECK(childs.in("child_sleeps").empty());
  // The parent goes on.
  const auto sleeps = [&] {
    return victim.profile("/debug/pprof/block").total("contentions").in("parent_sleeps");
  };
  const std::int64_t before = sleeps();
  victim.command("sleep");
  CHECK(sleeps() == before + 1);
}
