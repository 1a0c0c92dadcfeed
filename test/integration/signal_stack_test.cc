// Alternate signal stacks without room for a signal: the kernel ends a process whose thread is to take one
// there. So nothing of ours may send one, whatever it is for, and in whatever moment the stack comes.
#include <atomic>
#include <future>

#include <catch2/catch.hpp>

#include "encoder/proto/profile.pb.h"
#include "test/support/cpu.h"

using namespace profagent::test;

namespace {

// Without the connection by which a Victim otherwise finds out that it is served: nobody has asked yet.
constexpr VictimOptions kNotAsked = {.serves = false};

std::size_t thread_count(Victim& victim) {
  return threads_of(victim.process().pid()).size();
}

}  // namespace

TEST_CASE("the first client does not end a program of one thread", "[fault D13][H1]") {
  for (const char* way : {"small", "raw"}) {
    CAPTURE(way);
    Victim victim("signal_stacks", {}, {}, kNotAsked);
    REQUIRE(victim.process().wait_for_output("ready\n"));
    CHECK(thread_count(victim) == 1);
    victim.command(way);
    // No signal tells of clients any more, so there is a thread before the first one comes.
    CHECK(eventually([&] { return thread_count(victim) == 2; }));
    CHECK(victim.get("/debug/pprof/heap").status == 200);
    CHECK(victim.process().running());
    CHECK(victim.process().out().find("refused") == std::string::npos);
  }
}

TEST_CASE("a large alternate stack changes nothing", "[fault D13][H1]") {
  Victim victim("signal_stacks", {}, {}, kNotAsked);
  REQUIRE(victim.process().wait_for_output("ready\n"));
  victim.command("large");
  CHECK(thread_count(victim) == 1);
  CHECK(victim.get("/debug/pprof/heap").status == 200);
}

TEST_CASE("a stack that was small only for a while leaves the program reachable", "[fault D13]") {
  Victim victim("signal_stacks", {}, {}, kNotAsked);
  REQUIRE(victim.process().wait_for_output("ready\n"));
  for (int i = 0; i < 3; ++i) {
    victim.command("small");
    victim.command("large");
    CHECK(victim.get("/debug/pprof/heap").status == 200);
  }
}

TEST_CASE("the child of a fork has its parent's stack", "[fault D13][F3]") {
  Victim victim("signal_stacks");
  victim.command("small");
  victim.command("fork");
  REQUIRE(eventually([&] { return !last_line(victim.process(), "child").empty(); }));
  const std::string path = victim.socket_path();
  const std::string child =
      path.substr(0, path.rfind('/') + 1) + last_line(victim.process(), "child") + ".sock";
  REQUIRE(eventually([&] { return can_connect(Address::unix_socket(child)); }));
  for (int i = 0; i < 3; ++i) CHECK(http_get(Address::unix_socket(child), "/debug/pprof/heap").status == 200);
}

// Profiles begin and end, so that timers are made all the time, and running threads are asked where they are.
TEST_CASE("a stack that becomes small in the middle of anything", "[fault D13][D10]") {
  Victim victim("signal_stacks");
  victim.command("change");
  std::atomic<bool> stop = false;
  auto snapshots = std::async(std::launch::async, [&] {
    int answers = 0;
    for (; !stop; ++answers)
      if (victim.get("/debug/pprof/goroutine?debug=1").status != 200) return 0;
    return answers;
  });
  for (int i = 0; i < 150 && victim.process().running(); ++i)
    CHECK_NOTHROW(abort_a_profile(victim, "/debug/pprof/profile?seconds=30&hz=1000"));
  stop = true;
  CHECK(snapshots.get() > 0);
  CHECK(victim.process().running());
  // Their time is not lost.
  const Profile profile = victim.profile("/debug/pprof/profile?seconds=1&hz=1000");
  CHECK(broken_rules(profile) == std::vector<std::string>());
  CHECK(profile.total("cpu").all() > kSecond / 2);
}
