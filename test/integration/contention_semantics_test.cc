// Locks and waits behave under the agent as without it, whether they are profiled or not: rows B1, B3-B6, B8,
// B13 and B15 of the fault table.
#include <regex>
#include <thread>

#include <catch2/catch.hpp>

#include "test/support/victim.h"

using namespace profagent::test;

namespace {

const Environment kOff = {};
const Environment kAll = {{"PROFAGENT_BLOCK_PROFILE_RATE", "1"}, {"PROFAGENT_MUTEX_PROFILE_FRACTION", "1"}};

void check_same_as_alone(const std::string& name, const Arguments& arguments = {}) {
  const Outcome alone = run_victim_alone(name, arguments);
  REQUIRE(alone.ok());
  REQUIRE(alone.out.find("ready\n") != std::string::npos);
  for (const Environment& environment : {kOff, kAll}) {
    CAPTURE(environment.size());
    const Outcome watched = run_victim(name, arguments, environment);
    CHECK_FALSE(watched.timed_out);
    CHECK(watched.ok());
    CHECK(watched.out == alone.out);
    CHECK(watched.err == alone.err);
  }
}

}  // namespace

// EOWNERDEAD has the lock already, ENOTRECOVERABLE never gets it, however often one asks; recursive and
// error-checking locks, priority inheritance, locks between processes, wrong times, errno.
TEST_CASE("every kind of lock answers what it answers without us", "[B3][D20]") {
  check_same_as_alone("lock_semantics");
}

TEST_CASE("system calls by syscall() touch no more of their caller's stack than without us", "[B3]") {
  check_same_as_alone("raw_calls");
}

TEST_CASE("a library's own functions under names of libc's get all their arguments", "[B3]") {
  check_same_as_alone("foreign");
}

TEST_CASE("our thread does not call a library's functions under names of libc's", "[B3]") {
  Victim victim("foreign");
  for (int i = 0; i < 3; ++i) CHECK(victim.get("/debug/pprof/goroutine?debug=1").status == 200);
  CHECK(victim.process().running());
}

TEST_CASE("a preloaded library that stands in for libc does not hide its waits") {
  Victim victim("wait_io", {}, kAll, {.preload = "@ " + victim_path("libstand_in.so")});
  const Profile block = victim.profile("/debug/pprof/block?symbols=names");
  for (const char* call : {"poll", "flock"}) {
    CAPTURE(call);
    const std::vector<Sample> samples = block.in("calls_" + std::string(call));
    REQUIRE(samples.size() == 1);
    CHECK(samples[0].stack[0].mapping.find("libstand_in.so") != std::string::npos);
  }
}

TEST_CASE("a preloaded library that has the lock and not the try is told of every lock") {
  const Environment environment = GENERATE(kOff, kAll);
  Victim victim("mutex_hog", {}, environment, {.preload = "@ " + victim_path("libstand_in.so")});
  victim.command("hog1 2 20");
  victim.command("pairs 10");
  const Outcome outcome = victim.finish();
  CHECK(outcome.ok());
  CHECK(outcome.out.find("locks are") == std::string::npos);
}

TEST_CASE("a thread that may only read and write does", "[B3]") {
  check_same_as_alone("strict_filter");
}

TEST_CASE("a thread that may not read the processor's counter needs it nowhere", "[B3]") {
  check_same_as_alone("no_counter");
  check_same_as_alone("no_counter", {"by syscall"});
}

TEST_CASE("a thread that may not ask for its id, nor for what memory there is, waits and gives locks back",
          "[B3]") {
  check_same_as_alone("filtered_locks");
  check_same_as_alone("filtered_locks", {"no clock"});
}

TEST_CASE("threads that are cancelled in a wait unwind through the hook", "[B5]") {
  check_same_as_alone("wait_cancel");
  // And nothing is left behind that would keep the next ones from being recorded.
  Victim victim("wait_cancel", {}, kAll);
  CHECK(victim.profile("/debug/pprof/block").total("contentions").in("contends_later") == 1);
  CHECK(victim.profile("/debug/pprof/mutex").total("contentions").in("gives_back_later") == 1);
}

TEST_CASE("a handler that leaves waits by siglongjmp leaves nothing behind", "[B6]") {
  for (const Environment& environment : {kOff, kAll}) {
    Victim victim("wait_jumps", {"10000"}, environment);
    CHECK(victim.process().out().find("10000 jumps\n") != std::string::npos);
    const Profile block = victim.profile("/debug/pprof/block");
    const std::int64_t expected = environment.empty() ? 0 : 1;
    CHECK(block.total("contentions").in("sleeps_after") == 20 * expected);
    std::int64_t waits = 0;
    for (const Sample& sample : block.in("waits_after"))
      if (sample.stack[0].name == "pthread_mutex_lock") waits += sample.values[0];
    CHECK(waits == expected);
    CHECK(victim.profile("/debug/pprof/mutex").total("contentions").in("gives_back_after") == expected);
  }
}

TEST_CASE("a mutex may be gone as soon as it is given back", "[B4]") {
  Victim victim("mutex_gone", {"100000"}, kAll);
  CHECK(victim.process().out().find("all gone\n") != std::string::npos);
  CHECK(victim.profile("/debug/pprof/mutex").total("contentions").in("gives_back") > 0);
}

// A hook that takes the one for the other writes 48 bytes into 8.
TEST_CASE("condition variables of the old ABI stay as small as they are", "[B1]") {
  check_same_as_alone("old_cond");
  Victim victim("old_cond", {}, kAll);
  CHECK(victim.process().out().find("init 0, timed out 1, destroy 0\nguard bytes clobbered: 0\n") !=
        std::string::npos);
  const Profile block = victim.profile("/debug/pprof/block");
  const std::vector<Sample> waits = block.in("waits_as_of_old");
  std::int64_t conditions = 0;
  for (const Sample& sample : waits)
    if (sample.labels.at("wait") == "cond") conditions += sample.values[0];
  CHECK(conditions >= 3);
}

TEST_CASE("a child that was forked while others waited starts with no waiters", "[FOLLOW_FORK]") {
  Victim victim("fork_waiters", {}, kAll);
  const Address child = child_address(victim);
  const Profile childs = Profile::parse(http_get(child, "/debug/pprof/mutex").body);
  CHECK(childs.in("child_gives_back").empty());
  CHECK(childs.in("parent_gives_back").empty());
  CHECK(childs.total("contentions").in("child_gives_back_later") == 1);
  const Profile parents = victim.profile("/debug/pprof/mutex");
  CHECK(parents.total("contentions").in("parent_gives_back") == 1);
  CHECK(parents.in("child_gives_back_later").empty());
  CHECK(Profile::parse(http_get(child, "/debug/pprof/block").body).total("contentions").in("child_waits") ==
        1);
  CHECK(victim.finish().out.find("child ended well\n") != std::string::npos);
}

// Also while a CPU profile is taken, when a thread is handed over to its creator's choice of a first
// function.
TEST_CASE("threads that cannot be made leave nothing behind", "[B13]") {
  Victim victim("create_fails", {}, kAll);
  const auto memory = [&] {
    const std::string page = victim.get("/debug/pprof/agent").body;
    std::smatch match;
    REQUIRE(std::regex_search(page, match, std::regex("\"recorders_mapped_bytes\": (\\d+)")));
    return std::stoll(match[1]);
  };
  const auto fail_meanwhile = [&](const std::string& command) {
    Response cpu;
    std::thread client([&] { cpu = victim.get("/debug/pprof/profile?seconds=1"); });
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    victim.command(command);
    client.join();
    CHECK(cpu.status == 200);
  };
  fail_meanwhile("fail 10");
  victim.command("succeed");
  const auto calls = [&] {
    return victim.profile("/debug/pprof/block").total("contentions").in("after_failures");
  };
  CHECK(calls() == 2);
  const long long before = memory();
  fail_meanwhile("fail 10000");
  victim.command("fail 10000");
  victim.command("succeed");
  CHECK(calls() == 3);
  CHECK(memory() == before);
}

// The profiles are asked for and switched while the program does nothing but wait, give up and be
// interrupted.
TEST_CASE("switching and reading while threads contend never stops them", "[B8][B15]") {
  Victim victim("contention_storm", {"4000", victim_path("libcall_back.so")});
  for (int i = 0; i < 8; ++i) {
    CHECK(victim.get("/debug/pprof/block?seconds=1&rate=1000").status == 200);
    CHECK(victim.put_config(R"({"block_profile_rate": 1, "mutex_profile_fraction": 1})").status == 200);
    CHECK_NOTHROW(victim.profile("/debug/pprof/mutex"));
    CHECK(victim.put_config(R"({"block_profile_rate": 0, "mutex_profile_fraction": 0})").status == 200);
    if (victim.process().out().find("storm over\n") != std::string::npos) break;
  }
  REQUIRE(victim.process().wait_for_output("storm over\n"));
  CHECK(victim.finish().out.find("wrong") == std::string::npos);
}
