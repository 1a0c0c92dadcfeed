// A CPU profile where there is little room: small stacks, small alternate stacks, few timers, threads that
// are gone before they are seen.
#include <chrono>
#include <cmath>
#include <thread>

#include <sys/auxv.h>
#include <catch2/catch.hpp>

#include "encoder/proto/profile.pb.h"
#include "test/support/cpu.h"

using namespace profagent::test;

namespace {

const std::vector<std::string> kNone;

// Signals that the user has pending, timers included.
std::int64_t pending_signals(pid_t pid) {
  return std::stoll(status_line("/proc/" + std::to_string(pid) + "/status", "SigQ"));
}

}  // namespace

TEST_CASE("threads with the smallest stack survive 1000 Hz", "[fault D12]") {
  Victim victim("cpu_stacks", {"small"});
  const Profile profile = victim.profile("/debug/pprof/profile?seconds=2&hz=1000");
  CHECK(broken_rules(profile) == kNone);
  CHECK(nanos_in(profile, "burn_between") > 0);
  CHECK(victim.process().running());
}

TEST_CASE("handlers of the program on alternate stacks of any size survive 1000 Hz",
          "[fault D12][fault D13]") {
  const std::size_t least = getauxval(AT_MINSIGSTKSZ);
  for (const std::size_t size : {std::size_t{2048}, least + 512, std::size_t{4096}, std::size_t{8192},
                                 2 * least + 1024, std::size_t{65536}}) {
    CAPTURE(size);
    Victim victim("cpu_stacks", {"alternate", std::to_string(size)});
    const Profile profile = victim.profile("/debug/pprof/profile?seconds=1&hz=1000");
    CHECK(broken_rules(profile) == kNone);
    CHECK(profile.total("cpu").all() > 0);
    CHECK(victim.process().running());
    victim.command("report");
    CHECK(last_line(victim.process(), "changed").rfind("0 ", 0) == 0);
    if (size < least + 512) continue;
    CHECK(last_line(victim.process(), "changed") != "0 handled 0");
    // With room for two frames the handler is sampled, above what it interrupted.
    if (size >= 65536) {
      CHECK(nanos_in(profile, "burn_in_handler") > 0);
      CHECK(profile.total("cpu").in("[not sampled: alternate signal stack too small]") == 0);
    }
  }
}

TEST_CASE("an alternate stack that comes in the middle of a profile", "[fault D13]") {
  for (const char* size : {"2048", "4096", "65536"}) {
    CAPTURE(size);
    Victim victim("cpu_stacks", {"late", size});
    InBackground waiting(victim, "/debug/pprof/profile?seconds=2&hz=1000");
    std::this_thread::sleep_for(std::chrono::milliseconds(700));
    victim.command("late");
    const Profile profile = waiting.profile();
    CHECK(broken_rules(profile) == kNone);
    CHECK(nanos_in(profile, "burn_between") > 0);
    CHECK(profile.total("cpu").all() > 0);
    CHECK(victim.process().running());
    victim.command("report");
    CHECK(last_line(victim.process(), "changed").rfind("0 ", 0) == 0);
  }
}

TEST_CASE("two hundred threads, fifty timers: some for the program, and no time lost", "[D14]") {
  Victim victim("few_timers");
  if (victim.process().out().find("no user") != std::string::npos) {
    WARN("not tried: there are no user namespaces");
    return;
  }
  const CpuMeter meter(victim.process().pid());
  InBackground waiting(victim, "/debug/pprof/profile?seconds=4&hz=1000");
  std::this_thread::sleep_for(std::chrono::milliseconds(1500));
  for (int i = 0; i < 20; ++i) victim.command("timer");
  CHECK(victim.process().out().find("timer: Resource") == std::string::npos);
  const Profile profile = waiting.profile();
  CHECK(broken_rules(profile) == kNone);
  // All that have no timer; one that has a timer may have been passed by the ticks. A quarter of the limit is
  // ours.
  CHECK(nanos_by_thread(profile).size() >= 200 - 50 / 4);
  // Sampled or not, every thread's time is there. At either end a thread may be up to a period and a tick
  // away from its clock, anywhere in between: 200 threads have a standard deviation of sqrt(2 * 200 / 12) of
  // that, and this is six times as much.
  const double off = static_cast<double>(profile.message().period() + kLongestTick);
  CHECK(std::abs(static_cast<double>(profile.total("cpu").all()) - meter.used_in(profile)) <=
        6 * off * std::sqrt(2 * 200 / 12.0));
  std::int64_t not_sampled = 0;
  for (const auto& [name, nanos] : not_sampled_by_thread(profile)) not_sampled += nanos;
  CHECK(not_sampled > 0);
  CHECK(not_sampled < profile.total("cpu").all());
}

TEST_CASE("ten thousand threads leave no timer behind", "[D15]") {
  Victim victim("brief_threads");
  const pid_t pid = victim.process().pid();
  InBackground waiting(victim, "/debug/pprof/profile?seconds=6&hz=1000");
  REQUIRE(wait_until_profiled(victim));
  victim.command("run 32 20000");  // these are sure to be sampled
  victim.command("run 10000 100");
  const Profile profile = waiting.profile();
  CHECK(victim.process().out().find("problem") == std::string::npos);
  CHECK(broken_rules(profile) == kNone);
  CHECK(nanos_in(profile, "brief") > 0);
  if (timer_count(pid) >= 0)
    CHECK(timer_count(pid) == 0);
  else
    CHECK(eventually([&] { return pending_signals(pid) == 0; }));
}

TEST_CASE("a hundred thousand threads that return at once, at 1000 Hz", "[D23]") {
  Victim victim("brief_threads");
  InBackground waiting(victim, "/debug/pprof/profile?seconds=10&hz=1000");
  REQUIRE(wait_until_profiled(victim));
  victim.command("run 100000 0");
  CHECK(victim.process().out().find("problem") == std::string::npos);
  CHECK(broken_rules(waiting.profile()) == kNone);
  CHECK(victim.finish().ok());
}

TEST_CASE("a thread's number given to another thread does not mix the two", "[F15]") {
  Victim victim("brief_threads");
  bool was_given = false;
  bool were_seen = false;
  // Each burns for a third of a second, which takes longer on a busy machine.
  for (int seconds = 2; seconds <= 32 && !were_seen; seconds *= 2) {
    InBackground waiting(victim, "/debug/pprof/profile?hz=1000&tids=1&seconds=" + std::to_string(seconds));
    REQUIRE(wait_until_profiled(victim));
    const bool is_given = answer_to(victim, "again").rfind("same ", 0) == 0;
    const Profile profile = waiting.profile();
    for (const Sample& sample : profile.samples()) {
      if (sample.has("first_owner")) CHECK(sample.labels.at("thread") == "first");
      if (sample.has("second_owner")) CHECK(sample.labels.at("thread") == "second");
    }
    were_seen = is_given && nanos_in(profile, "first_owner") > 0 && nanos_in(profile, "second_owner") > 0;
    was_given = was_given || is_given;
  }
  if (!was_given) WARN("the kernel did not give a number twice");
  CHECK(were_seen == was_given);
}

TEST_CASE("an idle process is not woken by a running profile", "[H6]") {
  Victim victim("idle_threads");
  const pid_t pid = victim.process().pid();
  const auto switches = [&] {
    std::map<pid_t, std::string> result;
    for (const pid_t tid : threads_of(pid)) {
      const std::string folder = "/proc/" + std::to_string(pid) + "/task/" + std::to_string(tid);
      if (read_text(folder + "/comm") == "profagent\n") continue;
      const std::string path = folder + "/status";
      result[tid] = status_line(path, "voluntary_ctxt_switches") + " " +
                    status_line(path, "nonvoluntary_ctxt_switches");
    }
    return result;
  };
  InBackground waiting(victim, "/debug/pprof/profile?seconds=6&hz=1000");
  // On a busy machine some may just be on their way into their sleep.
  bool stays = false;
  for (int i = 0; i < 4 && !stays; ++i) {
    const auto before = switches();
    CHECK(before.size() == 11);
    std::this_thread::sleep_for(std::chrono::milliseconds(1200));
    stays = switches() == before;
  }
  CHECK(stays);
  const Profile profile = waiting.profile();
  CHECK(profile.samples().empty());
  CHECK(broken_rules(profile) == kNone);
}

TEST_CASE("a thread under a system call filter is left alone, and shown", "[E8]") {
  Victim victim("filtered");
  victim.command("seccomp");
  const Profile profile = victim.profile("/debug/pprof/profile?seconds=1&hz=1000");
  CHECK(broken_rules(profile) == kNone);
  CHECK(not_sampled_by_thread(profile).count("prisoner") == 1);
  CHECK(nanos_in(profile, "burn_for_ever") > 0);
  CHECK(victim.process().running());
}

TEST_CASE("a thread may forbid itself all system calls by prctl()", "[E8]") {
  Victim victim("filtered");
  victim.command("prctl");
  CHECK(broken_rules(victim.profile("/debug/pprof/profile?seconds=1&hz=1000")) == kNone);
}

TEST_CASE("a thread that forbids itself all system calls in the middle of a profile ends the profile",
          "[E8]") {
  const std::string way = GENERATE("prctl", "seccomp");
  CAPTURE(way);
  Victim victim("filtered");
  InBackground waiting(victim, "/debug/pprof/profile?seconds=30&hz=1000");
  REQUIRE(wait_until_profiled(victim));
  victim.command(way);
  CHECK_THROWS(waiting.response());
  CHECK(victim.process().running());
  CHECK(victim.profile("/debug/pprof/profile?seconds=1").total("cpu").all() > 0);
}
