// A CPU profile works by signals, and the program must not notice one of them: the D rows of the fault table.
// Each victim counts what it should never see.
#include <chrono>
#include <csignal>
#include <regex>
#include <sstream>
#include <thread>

#include <unistd.h>

#include <catch2/catch.hpp>

#include "encoder/proto/profile.pb.h"
#include "test/support/cpu.h"

using namespace profagent::test;

namespace {

const std::vector<std::string> kNone;

void sleep_for(int milliseconds) {
  std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
}

}  // namespace

TEST_CASE("no wait is interrupted or shortened, no write cut", "[D1][D2][D3]") {
  Victim victim("cpu_waits");
  const Profile profile = victim.profile("/debug/pprof/profile?seconds=6&hz=1000");
  CHECK(broken_rules(profile) == kNone);
  CHECK(nanos_in(profile, "wait_often") > 0);
  CHECK(harmed_waits(victim) == std::vector<std::string>());
  CHECK(victim.finish().ok());
}

TEST_CASE("a program that resets all signals lives on, and is told what it has set", "[D4][P18]") {
  Victim victim("reset_signals");
  for (const std::string how : {"sigaction", "signal", "ignore"}) {
    CAPTURE(how);
    InBackground waiting(victim, "/debug/pprof/profile?seconds=3&hz=1000");
    REQUIRE(wait_until_profiled(victim));
    CHECK(answer_to(victim, how) == how + ": 0 wrong");
    const Profile during = waiting.profile();
    CHECK(broken_rules(during) == kNone);
    CHECK(nanos_in(during, "burn_for_ever") > 0);
    // After the profile the signal is still ours, as far as the program does not know.
    CHECK(answer_to(victim, how) == how + ": 0 wrong");
  }
  CHECK(victim.process().running());
}

TEST_CASE("signals reset behind our back are taken again by the next profile", "[D4]") {
  Victim victim("reset_signals");
  for (int round = 0; round < 3; ++round) {
    const Profile profile = victim.profile("/debug/pprof/profile?seconds=1&hz=1000");
    CHECK(nanos_in(profile, "burn_for_ever") > 0);
    victim.command("raw");
  }
  CHECK(victim.process().running());
}

TEST_CASE("a program's own SIGPROF handler runs for its own signals and no others", "[D5][P18]") {
  Victim victim("own_sigprof");
  const auto check_its_own = [&] {
    CHECK(answer_to(victim, "send 1000") == "tgkill 1000 value 1000 itimer 0 own 0 others 0");
    CHECK(answer_to(victim, "own") == "tgkill 0 value 0 itimer 0 own 1 others 0");
    victim.command("timer");
    const std::string timed = last_line(victim.process(), "tgkill");
    std::smatch match;
    REQUIRE(std::regex_match(timed, match, std::regex("0 value 0 itimer (\\d+) own 0 others 0")));
    std::istringstream steps(last_line(victim.process(), "steps"));
    int least = 0;
    int most = 0;
    steps >> least >> most;
    CHECK(least > 90);
    CHECK(std::stoi(match[1]) >= least - 1);
    CHECK(std::stoi(match[1]) <= most + 1);
  };
  SECTION("installed before any profile") {
    CHECK(answer_to(victim, "install") == "default -> mine");
    check_its_own();
    InBackground profile(victim, "/debug/pprof/profile?seconds=4&hz=1000");
    REQUIRE(wait_until_profiled(victim));
    check_its_own();
    CHECK(answer_to(victim, "install") == "mine -> mine");
    CHECK(nanos_in(profile.profile(), "burn_under_timer") > 0);
  }
  SECTION("installed during a profile") {
    InBackground profile(victim, "/debug/pprof/profile?seconds=4&hz=1000");
    REQUIRE(wait_until_profiled(victim));
    CHECK(answer_to(victim, "install") == "default -> mine");
    check_its_own();
    const Profile during = profile.profile();
    CHECK(broken_rules(during) == kNone);
    CHECK(nanos_in(during, "burn_under_timer") > 0);
  }
  SECTION("installed after a profile") {
    CHECK(broken_rules(victim.profile("/debug/pprof/profile?seconds=1")) == kNone);
    CHECK(answer_to(victim, "install") == "default -> mine");
    check_its_own();
    InBackground profile(victim, "/debug/pprof/profile?seconds=4&hz=1000");
    REQUIRE(wait_until_profiled(victim));
    check_its_own();
    CHECK(nanos_in(profile.profile(), "burn_under_timer") > 0);
  }
  CHECK(answer_to(victim, "default") == "mine -> default");
  CHECK(victim.finish().ok());
}

TEST_CASE("a child inherits what the program has set, not what we have", "[D5]") {
  Victim victim("own_sigprof");
  const auto check_children = [&] {
    CHECK(answer_to(victim, "exec") == "inherited default, open");
    CHECK(answer_to(victim, "ignore") == "default -> ignored");
    CHECK(answer_to(victim, "exec") == "inherited ignored, open");
    CHECK(answer_to(victim, "default") == "ignored -> default");
  };
  check_children();
  {
    InBackground profile(victim, "/debug/pprof/profile?seconds=3&hz=1000");
    REQUIRE(wait_until_profiled(victim));
    check_children();
    CHECK(profile.response().status == 200);
  }
  check_children();
}

TEST_CASE("python's signal.setitimer(ITIMER_PROF) is python's", "[D5][programs]") {
  if (access("/usr/bin/python3", X_OK) != 0) {
    WARN("not installed: python3");
    return;
  }
  Victim victim("/usr/bin/python3",
                {"-c",
                 "import signal, sys, time\n"
                 "seen = []\n"
                 "signal.signal(signal.SIGPROF, lambda number, frame: seen.append(number))\n"
                 "print('waits', flush=True)\n"
                 "sys.stdin.readline()\n"
                 // See test/victims/own_sigprof.c for these clocks.
                 "end = time.clock_gettime(-4) + 1\n"
                 "while time.clock_gettime(-4) < end: sum(range(50000))\n"
                 "print('idle', len(seen), flush=True)\n"
                 "process, thread = time.clock_gettime(-8), time.clock_gettime(-4)\n"
                 "signal.setitimer(signal.ITIMER_PROF, 0.1, 0.1)\n"
                 "while time.clock_gettime(-4) < thread + 1: sum(range(50000))\n"
                 "signal.setitimer(signal.ITIMER_PROF, 0)\n"
                 "process, thread = time.clock_gettime(-8) - process, time.clock_gettime(-4) - thread\n"
                 "print('timed', int(thread * 10), len(seen), int(process * 10), flush=True)\n"
                 "sys.stdin.readline()\n"},
                {}, {.says_ready = false});
  REQUIRE(victim.process().wait_for_output("waits\n"));
  InBackground waiting(victim, "/debug/pprof/profile?seconds=3&hz=1000");
  // Before the first client a process of one thread has none of ours; it is here when timers are.
  REQUIRE(wait_until_profiled(victim));
  victim.process().tell("go");
  REQUIRE(victim.process().wait_for_output("timed "));
  CHECK(victim.process().out().find("idle 0\n") != std::string::npos);
  std::istringstream timed(last_line(victim.process(), "timed"));
  int least = 0;
  int called = 0;
  int most = 0;
  timed >> least >> called >> most;
  CHECK(least >= 9);
  CHECK(called >= least - 1);
  CHECK(called <= most + 1);
  CHECK(broken_rules(waiting.profile()) == kNone);
  victim.process().tell("end");
  CHECK(victim.finish().ok());
}

TEST_CASE("threads that wait for all signals get none of ours, and are shown", "[D6][P18]") {
  Victim victim("blocked_signals", {"wait"});
  InBackground waiting(victim, "/debug/pprof/profile?seconds=2&hz=1000");
  sleep_for(500);
  victim.command("sigwait");
  const Profile profile = waiting.profile();
  CHECK(broken_rules(profile) == kNone);
  const auto shown = not_sampled_by_thread(profile);
  for (const char* name : {"sigtimedwait", "sigwait", "signalfd", "burner"}) {
    CAPTURE(name);
    CHECK(shown.count(name) == 1);
  }
  CHECK(shown == nanos_by_thread(profile));
  bool said = false;
  for (const std::string& comment : profile.comments())
    said = said || comment.find("blocks") != std::string::npos;
  CHECK(said);
  CHECK(answer_to(victim, "report") == "received 0, last 0");
}

TEST_CASE("a hundred threads with all signals blocked are all listed", "[D7]") {
  Victim victim("blocked_signals", {"many"});
  const Profile profile = victim.profile("/debug/pprof/profile?seconds=3&hz=1000");
  CHECK(broken_rules(profile) == kNone);
  const auto shown = not_sampled_by_thread(profile);
  CHECK(shown.size() == 100);
  for (const auto& [name, nanos] : shown) CHECK(name.rfind("blocked-", 0) == 0);
}

constexpr std::chrono::seconds kLong(200);

TEST_CASE("three hundred execs in the middle of a profile, and none is killed", "[D8][D9]") {
  const TempDir dir;
  const Outcome outcome =
      run({victim_path("cpu_execs"), dir.path(), "300"}, agent_environment(dir.path()), {}, kLong);
  CAPTURE(outcome.exit_code, outcome.signal, outcome.timed_out, outcome.err);
  CHECK(outcome.out == "survived\n");
  CHECK(outcome.ok());
}

TEST_CASE("profiles that start and stop all the time, under load", "[fault D10][P10][J10]") {
  Victim victim("cpu_shares", {"--threads", "4"});
  const pid_t pid = victim.process().pid();
  const auto is_over = [&] { return timer_count(pid) <= 0; };
  for (int i = 0; i < 300; ++i) {
    abort_a_profile(victim, "/debug/pprof/profile?seconds=30&hz=1000");
    // Otherwise most would share the timers of those before, or find too many connections open.
    REQUIRE(eventually(is_over, std::chrono::seconds(5)));
    if (timer_count(pid) < 0) sleep_for(20);
  }
  CHECK(victim.process().running());
  CHECK(broken_rules(victim.profile("/debug/pprof/profile?seconds=1")) == kNone);
  CHECK(victim.finish().ok());
}

TEST_CASE("errno, registers, flags and the red zone stay as they were", "[fault D11]") {
  Victim victim("cpu_keepers");
  const Profile profile = victim.profile("/debug/pprof/profile?seconds=3&hz=1000");
  CHECK(broken_rules(profile) == kNone);
  for (const char* function : {"keep_errno", "keep_numbers", "keep_red_zone_for"}) {
    CAPTURE(function);
    CHECK(nanos_in(profile, function) > 0);
  }
  CHECK(answer_to(victim, "report") == "errno 0 numbers 0 red zone 0");
  CHECK(victim.finish().ok());
}

TEST_CASE("signals of the process go to the program's threads", "[D19]") {
  Victim victim("signal_home");
  InBackground profile(victim, "/debug/pprof/profile?seconds=2&hz=1000");
  REQUIRE(wait_until_profiled(victim));
  for (int i = 0; i < 200; ++i) {
    for (const int number : {SIGUSR1, SIGUSR2, SIGCHLD, SIGTERM, SIGHUP}) victim.process().signal(number);
    sleep_for(2);
  }
  CHECK(nanos_in(profile.profile(), "burn_for_ever") > 0);
  const std::string report = answer_to(victim, "report");
  std::smatch match;
  REQUIRE(std::regex_match(report, match, std::regex("at home (\\d+), elsewhere 0")));
  // Several of one kind that are pending at the same time are one.
  CHECK(std::stoi(match[1]) > 200);
}

TEST_CASE("the process has a handler for the wake signal, and after a CPU profile for one more", "[D21]") {
  Victim victim("idle_threads");
  const auto caught = [&] {
    const std::string path = "/proc/" + std::to_string(victim.process().pid()) + "/status";
    return std::stoull(status_line(path, "SigCgt"), nullptr, 16);
  };
  Process alone({victim_path("idle_threads")}, {});
  REQUIRE(alone.wait_for_output("ready\n"));
  const auto own =
      std::stoull(status_line("/proc/" + std::to_string(alone.pid()) + "/status", "SigCgt"), nullptr, 16);
  const auto before = caught() & ~own;
  CHECK((before & (before - 1)) == 0);
  CHECK(broken_rules(victim.profile("/debug/pprof/profile?seconds=1")) == kNone);
  CHECK((caught() & ~own) == (before | 1ULL << (SIGPROF - 1)));
}
