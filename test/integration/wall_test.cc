// /debug/pprof/wall: where all threads spend their time. What is compared is time with time, so it does not
// matter how busy the machine is. How true the shares are: wall_accuracy_test.cc.
#include <chrono>
#include <csignal>
#include <map>
#include <memory>
#include <thread>
#include <tuple>

#include <catch2/catch.hpp>

#include "encoder/proto/profile.pb.h"
#include "test/support/cpu.h"
#include "test/support/wall.h"

using namespace profagent::test;

namespace {

const std::vector<std::string> kNone;

// ns, by the numeric label.
std::map<std::int64_t, std::int64_t> nanos_by_tid(const Profile& profile) {
  std::map<std::int64_t, std::int64_t> result;
  for (const Sample& sample : profile.samples()) result[sample.numbers.at("tid")] += sample.values[1];
  return result;
}

}  // namespace

TEST_CASE("a wall profile has the form of fgprof's, under both of its paths") {
  Victim victim("stands");
  InBackground other(victim, "/debug/fgprof?seconds=1");
  const Response answer = victim.get(kWall + "1");
  CHECK(answer.status == 200);
  CHECK(answer.header("content-type") == "application/octet-stream");
  CHECK(answer.header("content-disposition") == "attachment; filename=\"wall\"");
  const Profile profile = Profile::parse(answer.body);
  CHECK(broken_wall_rules(profile) == kNone);
  CHECK(profile.message().period() == 10000000);
  CHECK(profile.message().duration_nanos() >= kSecond * 99 / 100);
  // One sample stands for all threads of a name in a place.
  const std::vector<Sample> standers = profile.in("f2");
  REQUIRE(standers.size() == 1);
  CHECK(wall_nanos(standers) == 50 * profile.message().duration_nanos());
  CHECK(standers[0].numbers.empty());
  CHECK(broken_wall_rules(other.profile()) == kNone);
}

TEST_CASE("every thread is charged with the whole time, where it stands and why") {
  Victim victim("stands", {"--burn"});
  const Profile profile = victim.profile(kWall + "2&tids=1");
  CHECK(broken_wall_rules(profile) == kNone);
  // All but the agent's own.
  const auto by_tid = nanos_by_tid(profile);
  CHECK(by_tid.size() == threads_of(victim.process().pid()).size() - 1);
  const std::int64_t each = profile.message().duration_nanos();
  for (const auto& [tid, nanos] : by_tid) {
    CAPTURE(tid);
    CHECK(nanos == each);
  }
  const std::string tasks = "/proc/" + std::to_string(victim.process().pid()) + "/task/";
  for (const Sample& sample : profile.samples())
    CHECK(read_text(tasks + std::to_string(sample.numbers.at("tid")) + "/comm") ==
          sample.labels.at("thread") + "\n");
  for (const auto& [function, threads, state] : std::vector<std::tuple<std::string, int, std::string>>{
           {"f1", 10, "io"}, {"f2", 50, "semaphore"}, {"f3", 40, "mutex"}}) {
    CAPTURE(function);
    CHECK(wall_nanos(profile.in(function)) == threads * each);
    for (const Sample& sample : profile.in(function)) CHECK(sample.labels.at("state") == state);
  }
  REQUIRE_FALSE(profile.of_thread("burner").empty());
  for (const Sample& sample : profile.of_thread("burner")) CHECK(sample.labels.at("state") == "running");
  REQUIRE_FALSE(profile.of_thread("masked").empty());
  for (const Sample& sample : profile.of_thread("masked"))
    CHECK(sample.stack.at(0).name == "[running: signal blocked]");
}

TEST_CASE("the rate of a wall profile, and what is no rate") {
  Victim victim("stands");
  for (const auto& [hertz, period] :
       std::vector<std::pair<std::string, std::int64_t>>{{"1", 1000000000}, {"1000", 1000000}}) {
    CAPTURE(hertz);
    const Profile profile = victim.profile(kWall + "1&hz=" + hertz);
    CHECK(profile.message().period() == period);
    CHECK(broken_wall_rules(profile) == kNone);
    CHECK(wall_nanos(profile.in("f2")) == 50 * profile.message().duration_nanos());
  }
  for (const char* hertz : {"0", "1001", "-5", "abc", "1.5", "99999999999999999999"}) {
    CAPTURE(hertz);
    const Response refused = victim.get(kWall + "1&hz=" + hertz);
    CHECK(refused.status == 400);
    CHECK(refused.header("x-go-pprof") == "1");
    CHECK(refused.body.find("hz") != std::string::npos);
  }
}

TEST_CASE("two wall profiles at the same time have each their own window") {
  // One thread runs: most of the time its answer to the longer one is under way.
  Victim victim("stands", {"--burn"});
  InBackground longer(victim, kWall + "3&hz=1000&tids=1");
  REQUIRE(eventually([&] { return takes_wall(victim); }));
  const Profile shorter = victim.profile(kWall + "1&tids=1");
  const Profile whole = longer.profile();
  CHECK(whole.message().period() == 1000000);
  CHECK(shorter.message().period() == 10000000);
  CHECK(begin_of(shorter) > begin_of(whole));
  CHECK(shorter.message().duration_nanos() < whole.message().duration_nanos());
  for (const Profile& profile : {whole, shorter}) {
    CHECK(broken_wall_rules(profile) == kNone);
    CHECK_FALSE(nanos_by_tid(profile).empty());
    for (const auto& [tid, nanos] : nanos_by_tid(profile)) CHECK(nanos == profile.message().duration_nanos());
  }
}

TEST_CASE("looks that could not be made in time are told, and no time is missing") {
  Victim victim("stands");
  InBackground waiting(victim, kWall + "3");
  REQUIRE(eventually([&] { return takes_wall(victim); }));
  victim.process().signal(SIGSTOP);
  // Much longer than looks are apart on a busy machine.
  std::this_thread::sleep_for(std::chrono::milliseconds(1000));
  victim.process().signal(SIGCONT);
  const Profile profile = waiting.profile();
  CHECK(late_of(profile) > 400);
  // Each of them runs for a moment when it is let go on, and may be seen doing so.
  CAPTURE(described(profile));
  CHECK(wall_nanos(profile.of_thread("stander")) == 100 * profile.message().duration_nanos());
}

TEST_CASE("a client that leaves ends the wall profile, and the next one gets its own") {
  Victim victim("stands", {"--burn"});
  Connection connection(victim.unix_address());
  connection.send(to_bytes({.target = kWall + "30"}));
  REQUIRE(eventually([&] { return takes_wall(victim); }));
  connection.abort();
  CHECK(eventually([&] { return !takes_wall(victim); }));
  if (timer_count(victim.process().pid()) >= 0) CHECK(timer_count(victim.process().pid()) == 0);
  const Profile next = victim.profile(kWall + "1");
  CHECK(broken_wall_rules(next) == kNone);
  CHECK(wall_nanos(next.in("f2")) == 50 * next.message().duration_nanos());
}

TEST_CASE("what is no number of seconds means thirty, for a wall profile too") {
  Victim victim("stands");
  std::vector<std::unique_ptr<Connection>> waiting;
  for (const char* path : {"/debug/pprof/wall", "/debug/fgprof?seconds=abc", "/debug/pprof/wall?seconds=0"}) {
    waiting.push_back(std::make_unique<Connection>(victim.unix_address()));
    waiting.back()->send(to_bytes({.target = path}));
  }
  // Longer than one that was asked for after them.
  CHECK(victim.get(kWall + "2").status == 200);
  for (const auto& connection : waiting) CHECK_FALSE(connection->has_input());
  CHECK(victim.get("/debug/pprof/wall?seconds=3601").status == 400);
}

TEST_CASE("no wait is interrupted or shortened, no transfer cut, under a wall profile and snapshots",
          "[D1][D2]") {
  const auto wall_comes_first = GENERATE(true, false);
  CAPTURE(wall_comes_first);
  Victim victim("cpu_waits");
  auto next = std::chrono::steady_clock::now();
  // Fifty a second, where the machine is not too busy.
  const auto take_snapshot = [&] {
    std::this_thread::sleep_until(next += std::chrono::milliseconds(20));
    CHECK_FALSE(victim.profile("/debug/pprof/goroutine").samples().empty());
  };
  std::map<bool, std::int64_t> looks;
  int snapshots = 50;
  const auto take_both = [&] {
    for (int i = 0; i < snapshots && !wall_comes_first; ++i) take_snapshot();
    InBackground waiting(victim, kWall + "3&hz=1000");
    CHECK(eventually([&] { return takes_wall(victim); }));
    do {
      take_snapshot();
    } while (takes_wall(victim));
    const Profile profile = waiting.profile();
    for (int i = 0; i < snapshots && wall_comes_first; ++i) take_snapshot();
    snapshots = 10;
    CHECK(broken_wall_rules(profile) == kNone);
    for (const Sample& sample : profile.in("wait_often"))
      looks[sample.labels.at("state") == "running"] += sample.values[0];
    // On a busy machine there are few, and few answers.
    return looks[false] > 20 && looks[true] > 2;
  };
  if (!eventually(take_both))
    WARN("few looks: " << looks[false] << " waiting, " << looks[true] << " running");
  CHECK(looks[false] > 0);
  CHECK(looks[true] > 0);
  CHECK(harmed_waits(victim) == kNone);
  CHECK(victim.finish().ok());
}
