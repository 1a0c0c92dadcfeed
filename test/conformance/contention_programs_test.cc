// Programs that keep their threads waiting, with every wait recorded all the time: they must do what they do
// without us, and what they wait for must be at the top of the profiles. Programs that this machine lacks are
// left out with a warning; servers are in contention_servers_test.cc.
#include <set>

#include <catch2/catch.hpp>

#include "test/support/contention.h"
#include "test/support/measured.h"
#include "test/support/programs.h"

using namespace profagent::test;

namespace {

const std::vector<std::string> kNone;

// A program that says "end" when it has done its work, and ends when its input does. With the agent it has to
// do the same as without; `look` asks it for profiles between the two.
template <typename Look>
void check_same(Arguments program, Look look) {
  CAPTURE(program);
  const Outcome alone = run(program);
  CHECK(alone.out.find("end\n") != std::string::npos);
  const std::string name = program.front();
  program.erase(program.begin());
  Victim under(name, program, kEveryWait, {.says_ready = false});
  REQUIRE(under.process().wait_for_output("end\n"));
  const Profile block = under.profile("/debug/pprof/block");
  const Profile mutex = under.profile("/debug/pprof/mutex");
  CHECK(broken_wait_rules(block) == kNone);
  CHECK(broken_wait_rules(mutex) == kNone);
  look(block, mutex);
  const Outcome end = under.finish();
  CHECK(end.exit_code == alone.exit_code);
  CHECK(end.signal == alone.signal);
  CHECK(end.out == alone.out);
  CHECK(end.err == alone.err);
}

}  // namespace

TEST_CASE("two hundred threads starve on a pool of four connections") {
  Victim victim("connection_pool", {}, kEveryWait);
  // Everybody has waited, and several exports are over.
  REQUIRE(eventually([&] {
    const Profile mutex = victim.profile("/debug/pprof/mutex");
    return mutex.total("contentions").in("shop::ConnectionPool::give_back_clean") >= 20;
  }));
  const Profile block = victim.profile("/debug/pprof/block");
  CHECK(broken_wait_rules(block) == kNone);
  // They wait for connections, in the pool.
  const std::vector<Sample> starving = of_kind(block, "cond");
  CHECK(delay_in(starving, "shop::ConnectionPool::take") == delay_of(starving));
  CHECK(top_of(starving).has("shop::look_up"));
  CHECK(delay_of(starving) > delay_of(of_kind(block, "mutex")));
  // Who keeps the connections is where time passes that is neither.
  CHECK(top_of(of_kind(block, "sleep")).has("shop::export_report"));
  // Who keeps the lock.
  const Profile mutex = victim.profile("/debug/pprof/mutex");
  CHECK(broken_wait_rules(mutex) == kNone);
  const Sample culprit = top_of(mutex.samples());
  CAPTURE(culprit.key());
  CHECK(culprit.has("shop::ConnectionPool::give_back_clean"));
  CHECK(culprit.has("shop::export_report"));
}

TEST_CASE("waiters for the pool's lock say who held it") {
  Victim victim("connection_pool");
  const Profile block = victim.profile("/debug/pprof/block?seconds=2&rate=1&labels=holder");
  CHECK(broken_wait_rules(block) == kNone);
  std::set<std::string> holders;
  for (const Sample& sample : of_kind(block, "mutex"))
    if (sample.labels.count("holder") == 1) holders.insert(sample.labels.at("holder"));
  CHECK(holders.count("shop::ConnectionPool::give_back_clean") == 1);
  // Only who takes and gives back has it.
  for (const std::string& holder : holders) CHECK(holder.rfind("shop::ConnectionPool::", 0) == 0);
}

// Those that queue behind it give the lock back, too, and each wait has the name of the last of them.
TEST_CASE("the one that held the pool's lock longest is at the top", "[!mayfail]") {
  Victim victim("connection_pool");
  const Profile block = victim.profile("/debug/pprof/block?seconds=2&rate=1&labels=holder");
  CHECK(top_label(of_kind(block, "mutex"), "holder") == "shop::ConnectionPool::give_back_clean");
}

TEST_CASE("what C++20 waits in is a futex, under the function that waits") {
  Victim victim("cpp20_waits", {}, kEveryWait);
  const Profile block = victim.profile("/debug/pprof/block");
  CHECK(broken_wait_rules(block) == kNone);
  const std::vector<Sample> futexes = of_kind(block, "futex");
  const auto waits = measured(victim.process().out());
  REQUIRE(waits.size() == 3);
  for (const auto& [function, bounds] : waits) {
    CAPTURE(function);
    CHECK(delay_in(futexes, function) >= bounds.least);
    CHECK(delay_in(futexes, function) <= bounds.most);
    CHECK(block.total("delay").in(function) == delay_in(futexes, function));
  }
  for (const Sample& sample : futexes) {
    CAPTURE(sample.key());
    CHECK(sample.stack[0].name == "syscall");
    CHECK(sample.has("work"));
    CHECK(sample.stack.back().name == "clone3");
  }
  // Nobody has held anything.
  CHECK(victim.profile("/debug/pprof/mutex").samples().empty());
}
