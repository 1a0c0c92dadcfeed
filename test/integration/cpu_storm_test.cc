// CPU profiles of programs whose stacks are hard to walk, or change while one looks: E rows of the fault
// table, and processes that fork, execute and share their memory meanwhile.
#include <chrono>
#include <regex>
#include <thread>

#include <catch2/catch.hpp>

#include "encoder/proto/profile.pb.h"
#include "test/support/cpu.h"

using namespace profagent::test;

namespace {

const std::vector<std::string> kNone;

void sleep_for(int milliseconds) {
  std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
}

Profile profile_of(Victim& victim, const std::string& seconds = "2") {
  const Profile profile = victim.profile("/debug/pprof/profile?seconds=" + seconds + "&hz=1000");
  CHECK(broken_rules(profile) == kNone);
  CHECK(victim.process().running());
  return profile;
}

}  // namespace

TEST_CASE("a storm of switches, throws, signals, libraries and threads", "[P12][E2][D22]") {
  Victim victim("cpu_storm");
  const Profile profile = profile_of(victim, "5");
  for (const char* function :
       {"yields", "in_coroutine", "throws", "in_handler", "in_plugin", "vforks", "allocates"}) {
    CAPTURE(function);
    CHECK(nanos_in(profile, function) > 0);
  }
  CHECK(has_call(profile, "signals", "in_handler") == false);  // libc's trampoline is between them
  victim.command("report");
  for (const char* mover :
       {"yields", "switches", "throws", "signals", "loads", "vforks", "starts", "allocates"})
    CHECK(std::stol("0" + last_line(victim.process(), mover)) > 0);
  CHECK(victim.finish().ok());
}

TEST_CASE("stacks in the middle of a throw are whole", "[E2]") {
  Victim victim("cpu_storm", {"only", "throws"});
  const Profile profile = profile_of(victim);
  const std::int64_t all = sampled_nanos(profile);
  CHECK(nanos_in(profile, "throws") > all * 95 / 100);
  CHECK(nanos_in(profile, "throw_through") > 0);
  // The unwinder's own frames, in libgcc, are walked too.
  std::int64_t unwinding = 0;
  for (const Sample& sample : profile.in("throws"))
    if (sample.stack[0].mapping.find("libgcc_s") != std::string::npos) unwinding += sample.values[1];
  CHECK(unwinding > all / 10);
}

TEST_CASE("a coroutine's stack is its own, and ends where it ends", "[E9]") {
  Victim victim("cpu_places", {"coroutine"});
  const Profile profile = profile_of(victim);
  CHECK(nanos_in(profile, "in_coroutine") > sampled_nanos(profile) * 8 / 10);
  for (const Sample& sample : profile.in("in_coroutine")) {
    CAPTURE(sample.key());
    CHECK_FALSE(sample.has("burn_for_ever"));
  }
}

TEST_CASE("code without call-frame information and with a frame pointer of its own", "[E4][E10]") {
  Victim victim("cpu_places", {"bare"});
  const Profile profile = profile_of(victim);
  CHECK(profile.total("cpu").at("bare_loop") > sampled_nanos(profile) * 9 / 10);
}

TEST_CASE("code that was written a moment ago is a frame without a name", "[E10]") {
  Victim victim("cpu_places", {"generated"});
  const Profile profile = profile_of(victim);
  std::int64_t generated = 0;
  for (const Sample& sample : profile.samples())
    if (sample.labels.at("thread") == "generated" &&
        sample.stack[0].mapping.find("cpu_places") == std::string::npos)
      generated += sample.values[1];
  CHECK(generated > sampled_nanos(profile) * 9 / 10);
}

TEST_CASE("a library that burns, and comes and goes, is named", "[E11]") {
  Victim victim("cpu_storm", {"only", "loads"});
  const Profile profile = profile_of(victim);
  CHECK(nanos_in(profile, "in_plugin") > sampled_nanos(profile) / 10);
  for (const Sample& sample : profile.in("in_plugin")) {
    CAPTURE(sample.key());
    CHECK(sample.has("plugin_burn"));
    CHECK(sample.has("loads"));
  }
}

TEST_CASE("a handler that asks for the time stands above what it interrupted", "[E12]") {
  Victim victim("cpu_places", {"handler"});
  const Profile profile = profile_of(victim);
  CHECK(nanos_in(profile, "handle_alarm") > sampled_nanos(profile) / 10);
  std::int64_t in_handler = 0;
  std::int64_t with_interrupted = 0;
  for (const Sample& sample : profile.in("handle_alarm")) {
    in_handler += sample.values[1];
    if (sample.has("interrupted") || sample.has("burn_for_ever")) with_interrupted += sample.values[1];
  }
  CHECK(with_interrupted == in_handler);
}

TEST_CASE("frames that lie, lead nowhere or to themselves", "[E4][E7][E13]") {
  Victim victim("hostile_frames", {"--burn"});
  const Profile profile = profile_of(victim);
  CHECK(nanos_in(profile, "work_here") > sampled_nanos(profile) * 8 / 10);
  for (const Sample& sample : profile.samples()) CHECK(sample.stack.size() <= 128);
  const Outcome end = victim.finish();
  CHECK(end.out == "ready\nsurvived\n");
  CHECK(end.ok());
}

TEST_CASE("a large process forks and executes under a profile", "[P08][D9]") {
  Victim victim("cpu_forks");
  InBackground waiting(victim, "/debug/pprof/profile?seconds=4&hz=1000");
  sleep_for(300);
  for (int i = 0; i < 3; ++i) victim.command("fork");
  const Profile profile = waiting.profile();
  CHECK(broken_rules(profile) == kNone);
  CHECK(victim.process().out().find("problem") == std::string::npos);
  CHECK(nanos_in(profile, "burn_meanwhile") > 0);
  CHECK(nanos_in(profile, "burn_in_child") == 0);
}

TEST_CASE("children that share our memory are not charged to us", "[D22]") {
  Victim victim("cpu_vforks");
  const Profile profile = profile_of(victim);
  CHECK(nanos_in(profile, "burn_in_parent") > 0);
  CHECK(nanos_in(profile, "burn_in_child") == 0);
  victim.command("report");
  CHECK(std::regex_search(victim.process().out(), std::regex("rounds [1-9]\\d* problems 0\n")));
}

TEST_CASE("fork in the middle of a profile: the parent's goes on, the child has its own", "[F3]") {
  Victim victim("cpu_forker");
  InBackground waiting(victim, "/debug/pprof/profile?seconds=4&hz=1000");
  sleep_for(500);
  victim.command("fork");
  REQUIRE(eventually([&] { return !last_line(victim.process(), "child").empty(); }));
  const std::string path = victim.socket_path();
  const Address child = Address::unix_socket(path.substr(0, path.rfind('/') + 1) +
                                             last_line(victim.process(), "child") + ".sock");
  REQUIRE(eventually([&] { return can_connect(child); }));
  const Profile childs = Profile::parse(http_get(child, "/debug/pprof/profile?seconds=1&hz=1000").body);
  CHECK(broken_rules(childs) == kNone);
  CHECK(nanos_in(childs, "burn_in_child") > 0);
  CHECK(nanos_in(childs, "burn_in_childs_thread") > 0);
  CHECK(nanos_in(childs, "burn_in_parent") == 0);
  const Profile parents = waiting.profile();
  CHECK(broken_rules(parents) == kNone);
  CHECK(nanos_in(parents, "burn_in_parent") > 0);
  CHECK(nanos_in(parents, "burn_in_child") == 0);
  CHECK(nanos_in(parents, "burn_in_childs_thread") == 0);
  const Outcome end = victim.finish();
  CHECK(end.out.find("wrong") == std::string::npos);
  CHECK(end.ok());
}

TEST_CASE("descriptors that the program closes and opens again in the middle of a profile are its own",
          "[F8]") {
  const TempDir files;
  Victim victim("closer", {files.path(), "--late"});
  Connection client(victim.unix_address());
  client.send(to_bytes({.target = "/debug/pprof/profile?seconds=2&hz=1000"}));
  sleep_for(500);
  victim.command("close");
  sleep_for(3000);
  const Outcome end = victim.finish();
  CHECK(end.out == "ready\ndone\n");
  CHECK(end.ok());
}
