// What the block and mutex profiles say about programs that measure their own waits: B01-B14, D07 and D08 of
// the conformance table (B03 and B07, which are mathematics, are in contention_recorder_test.cc). A victim
// prints between which bounds the true value lies, so that a busy machine widens the bounds and breaks
// nothing.
#include <algorithm>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <thread>

#include <catch2/catch.hpp>

#include "encoder/proto/profile.pb.h"
#include "test/support/cpu.h"
#include "test/support/measured.h"
#include "test/support/victim.h"

using namespace profagent::test;

namespace {

const Environment kAll = {{"PROFAGENT_BLOCK_PROFILE_RATE", "1"}, {"PROFAGENT_MUTEX_PROFILE_FRACTION", "1"}};
const std::vector<std::string> kTypes = {"contentions/count", "delay/nanoseconds"};
const char* const kBoth[] = {"block", "mutex"};

// Sums of many rows, and those of the table of waiters, are in units of 64 ns.
constexpr std::int64_t kUnit = 64;

void check_within(std::int64_t value, const Bounds& bounds, std::int64_t slack = 0) {
  CAPTURE(bounds.least, bounds.most);
  CHECK(value >= bounds.least - slack);
  CHECK(value <= bounds.most + slack);
}

void check_empty(const Profile& profile) {
  CHECK(profile.types() == kTypes);
  CHECK(profile.text(profile.message().period_type().type()) == "contentions");
  CHECK(profile.text(profile.message().period_type().unit()) == "count");
  CHECK(profile.message().period() == 1);
  CHECK(profile.samples().empty());
}

// The kind of a call's wait, as the label says it.
std::string kind_of(const std::string& call) {
  static const std::pair<const char*, const char*> kKinds[] = {
      {"rwlock", "rwlock"}, {"mutex", "mutex"},   {"mtx", "mutex"},       {"cond", "cond"},
      {"cnd", "cond"},      {"sem", "semaphore"}, {"barrier", "barrier"}, {"join", "join"}};
  for (const auto& [part, kind] : kKinds)
    if (call.find(part) != std::string::npos) return kind;
  return "futex";
}

}  // namespace

TEST_CASE("off, both profiles are valid, empty, and say how to switch them on", "[B01]") {
  Victim victim("mutex_hog");
  victim.command("hog1 2 10");
  for (const std::string name : kBoth) {
    CAPTURE(name);
    const Profile profile = victim.profile("/debug/pprof/" + name);
    check_empty(profile);
    const std::vector<std::string> comments = profile.comments();
    REQUIRE_FALSE(comments.empty());
    CHECK(comments[0].find(name == "block" ? "PROFAGENT_BLOCK_PROFILE_RATE"
                                           : "PROFAGENT_MUTEX_PROFILE_FRACTION") != std::string::npos);
    CHECK(comments[0].find("/debug/pprof/" + name + "?seconds=10&rate=1") != std::string::npos);
  }
}

TEST_CASE("off, a delta is valid and empty", "[D08]") {
  Victim victim("mutex_hog");
  for (const std::string name : kBoth) {
    CAPTURE(name);
    const Profile delta = victim.profile("/debug/pprof/" + name + "?seconds=1");
    check_empty(delta);
    CHECK(delta.message().duration_nanos() >= 1'000'000'000);
  }
}

// With debug information of libc, inlined functions of its own stand in front of those that a program calls:
// these cases look at the functions that have frames.
TEST_CASE("every call that waits is one record, as long as it took, under its caller", "[B02][B15]") {
  Victim victim("wait_calls", {}, kAll);
  const Profile block = victim.profile("/debug/pprof/block?symbols=names");
  const auto calls = measured(victim.process().out());
  REQUIRE(calls.size() >= 27);
  for (const auto& [call, bounds] : calls) {
    CAPTURE(call);
    // The conditions' mutexes are free when they are taken, so the wait is all there is.
    const std::vector<Sample> samples = block.in("calls_" + call);
    REQUIRE(samples.size() == 1);
    const Sample& sample = samples[0];
    CAPTURE(sample.key());
    CHECK(sample.values[0] == 1);
    check_within(sample.values[1], bounds);
    CHECK(sample.labels.at("wait") == kind_of(call));
    CHECK(sample.labels.size() == 1);
    // The function of libc first, then the program's; nothing of ours between.
    REQUIRE(sample.stack.size() > 2);
    const bool other_way = call == "old_mutex_lock" || call == "found_mutex_lock";
    CHECK(sample.stack[0].name == (other_way ? "pthread_mutex_lock" : call));
    CHECK(sample.stack[0].mapping.find("libc.so.6") != std::string::npos);
    CHECK(sample.stack[1].name == "calls_" + call);
    for (const Frame& frame : sample.stack) CHECK(frame.mapping.find("libprofagent") == std::string::npos);
  }
}

TEST_CASE("every lock that is waited for is charged to the one who gives it back") {
  Victim victim("wait_calls", {}, kAll);
  const Profile mutex = victim.profile("/debug/pprof/mutex?symbols=names");
  for (const auto& [call, bounds] : measured(victim.process().out())) {
    CAPTURE(call);
    const std::vector<Sample> samples = mutex.in("ends_" + call);
    const std::string kind = kind_of(call);
    if (kind != "mutex" && kind != "rwlock") {
      CHECK(samples.empty());
      continue;
    }
    REQUIRE(samples.size() == 1);
    const Sample& sample = samples[0];
    CAPTURE(sample.key());
    CHECK(sample.values[0] == 1);
    check_within(sample.values[1], bounds, 2 * kUnit);
    REQUIRE(sample.stack.size() > 2);
    CHECK(sample.stack[0].name == (kind == "rwlock"            ? "pthread_rwlock_unlock"
                                   : call.rfind("mtx", 0) == 0 ? "mtx_unlock"
                                                               : "pthread_mutex_unlock"));
    CHECK(sample.stack[1].name == "ends_" + call);
    for (const Frame& frame : sample.stack) CHECK(frame.mapping.find("libprofagent") == std::string::npos);
    // Who waited is not who is to blame.
    CHECK(mutex.in("calls_" + call).empty());
  }
}

TEST_CASE("waits for input, time, signals and children are records as well") {
  Victim victim("wait_io", {}, kAll);
  const Profile block = victim.profile("/debug/pprof/block?symbols=names");
  const auto calls = measured(victim.process().out());
  REQUIRE(calls.size() >= 40);
  const std::regex time("\\w*sleep|pause|sig\\w+|wait\\w*");
  for (const auto& [call, bounds] : calls) {
    CAPTURE(call);
    const std::vector<Sample> samples = block.in("calls_" + call);
    REQUIRE(samples.size() == 1);
    const Sample& sample = samples[0];
    CAPTURE(sample.key());
    CHECK(sample.values[0] == 1);
    check_within(sample.values[1], bounds);
    CHECK(sample.labels.at("wait") == (std::regex_match(call, time) ? "sleep"
                                       : call.rfind("sem", 0) == 0  ? "semaphore"
                                                                    : "io"));
    CHECK(sample.stack[0].name == call);
    CHECK(sample.stack[0].mapping.find("libc.so.6") != std::string::npos);
    for (const Frame& frame : sample.stack) CHECK(frame.mapping.find("libprofagent") == std::string::npos);
  }
}

TEST_CASE("everything in the C++ library that waits", "[B02][B2]") {
  Victim victim("wait_std", {}, kAll);
  const Profile block = victim.profile("/debug/pprof/block");
  const auto waits = measured(victim.process().out());
  REQUIRE(waits.size() >= 20);
  for (const auto& [name, bounds] : waits) {
    CAPTURE(name);
    const std::string function = "in_" + name;
    const std::vector<Sample> samples = block.in(function);
    CHECK_FALSE(samples.empty());
    // Some of them look again before they sleep, and some wait in more than one call.
    check_within(block.total("delay").in(function), bounds);
    for (const Sample& sample : samples) {
      CAPTURE(sample.key());
      CHECK(sample.stack.back().name != function);
      for (const Frame& frame : sample.stack) CHECK(frame.mapping.find("libprofagent") == std::string::npos);
    }
  }
}

TEST_CASE("a rate of 0 records nothing, a negative one is none", "[B04]") {
  Victim victim("mutex_hog", {},
                {{"PROFAGENT_BLOCK_PROFILE_RATE", "0"}, {"PROFAGENT_MUTEX_PROFILE_FRACTION", "-1"}});
  victim.command("hog1 3 20");
  check_empty(victim.profile("/debug/pprof/block"));
  check_empty(victim.profile("/debug/pprof/mutex"));
  for (const std::string name : kBoth)
    for (const char* rate : {"0", "-1", "abc", "1.5"})
      CHECK(victim.get("/debug/pprof/" + name + "?seconds=1&rate=" + rate).status == 400);
  check_empty(victim.profile("/debug/pprof/block"));
}

namespace {

struct TextRecord {
  std::int64_t cycles = 0;
  std::int64_t count = 0;
};

// The records of debug=1; every line must be one that clients know.
std::vector<TextRecord> read_records(const std::string& text, const std::regex& head,
                                     std::int64_t* cycles_per_second) {
  std::smatch match;
  REQUIRE(std::regex_search(text, match, head, std::regex_constants::match_continuous));
  *cycles_per_second = std::stoll(match[1]);
  std::istringstream lines(match.suffix().str());
  std::vector<TextRecord> records;
  static const std::regex record("(\\d+) (\\d+) @( 0x[0-9a-f]+)+");
  for (std::string line; std::getline(lines, line) && line != "--- Memory map: ---";) {
    CAPTURE(line);
    if (line.empty() || line[0] == '#') continue;
    REQUIRE(std::regex_match(line, match, record));
    records.push_back({std::stoll(match[1]), std::stoll(match[2])});
  }
  return records;
}

void check_text(Victim& victim, const std::string& name, const std::regex& head) {
  // Twice, so that nothing has happened between the text and the profile that it is compared with.
  std::int64_t cycles_per_second = 0;
  const auto records =
      read_records(victim.get("/debug/pprof/" + name + "?debug=1").body, head, &cycles_per_second);
  const Profile profile = victim.profile("/debug/pprof/" + name);
  CHECK(records.size() >= 2);
  CHECK(std::is_sorted(records.begin(), records.end(),
                       [](const TextRecord& a, const TextRecord& b) { return a.cycles > b.cycles; }));
  std::int64_t cycles = 0;
  std::int64_t count = 0;
  for (const TextRecord& record : records) {
    cycles += record.cycles;
    count += record.count;
  }
  CHECK(cycles_per_second == 1'000'000'000);  // so that what clients divide by it is exact
  CHECK(cycles == profile.total("delay").all());
  CHECK(count == profile.total("contentions").all());
}

}  // namespace

TEST_CASE("debug=1 of the block profile", "[B05]") {
  Victim victim("wait_cancel", {}, kAll);
  check_text(victim, "block", std::regex("--- contention:\ncycles/second=(\\d+)\n"));
}

TEST_CASE("debug=1 of the mutex profile has the profile's totals", "[B10]") {
  Victim victim("mutex_hog", {}, kAll);
  victim.command("hog1 3 20");
  victim.command("hog2 3 30");
  check_text(victim, "mutex", std::regex("--- mutex:\ncycles/second=(\\d+)\nsampling period=1\n"));
}

TEST_CASE("a hundred waiters are charged to the one that kept them waiting", "[B06]") {
  Victim victim("mutex_hog", {}, kAll);
  victim.command("hog1 100 100");
  const Profile mutex = victim.profile("/debug/pprof/mutex");
  const Bounds hog = measured(victim.process().out()).at("hog1");
  check_within(mutex.total("delay").in("hog1"), hog, 101 * kUnit);
  CHECK(mutex.total("delay").in("hog1") >= 9'000'000'000);
  CHECK(mutex.total("contentions").in("hog1") == 1);
  const std::vector<Sample> samples = mutex.in("hog1");
  REQUIRE(samples.size() == 1);
  CHECK(samples[0].stack[0].name == "pthread_mutex_unlock");
  CHECK(samples[0].stack[1].name == "hog1");
  for (const Frame& frame : samples[0].stack) CHECK(frame.name != "waits");
  // In the other profile it is the other way round.
  const Profile block = victim.profile("/debug/pprof/block");
  CHECK(block.total("contentions").in("waits") == 100);
  CHECK(block.total("delay").in("waits") >= hog.least);
}

TEST_CASE("switched off while running, the profiles keep what they have", "[B08]") {
  Victim victim("mutex_hog");
  REQUIRE(victim.put_config(R"({"block_profile_rate": 1, "mutex_profile_fraction": 1})").status == 200);
  victim.command("hog1 2 20");
  REQUIRE(victim.put_config(R"({"block_profile_rate": 0, "mutex_profile_fraction": 0})").status == 200);
  const Profile block = victim.profile("/debug/pprof/block");
  const Profile mutex = victim.profile("/debug/pprof/mutex");
  CHECK(block.total("contentions").in("waits") == 2);
  CHECK(mutex.total("contentions").in("hog1") == 1);
  for (int reading = 0; reading < 2; ++reading) {
    victim.command("hog2 2 20");
    const Profile block_now = victim.profile("/debug/pprof/block");
    const Profile mutex_now = victim.profile("/debug/pprof/mutex");
    for (const char* type : {"contentions", "delay"}) {
      CHECK(block_now.total(type).in("waits") == block.total(type).in("waits"));
      CHECK(mutex_now.total(type).all() == mutex.total(type).all());
    }
    CHECK(mutex_now.in("hog2").empty());
  }
}

TEST_CASE("a fraction below 0 changes nothing", "[B09]") {
  Victim victim("mutex_hog", {}, kAll);
  const std::string before = victim.get("/debug/pprof/config").body;
  CHECK(victim.put_config(R"({"mutex_profile_fraction": -1})").status == 400);
  CHECK(victim.get("/debug/pprof/config").body == before);
  victim.command("hog1 2 10");
  CHECK(victim.profile("/debug/pprof/mutex").total("contentions").in("hog1") == 1);
}

TEST_CASE("two threads that wait for each other again and again are one record for each place", "[B11]") {
  Victim victim("mutex_hog", {}, kAll);
  victim.command("pingpong 100");
  for (const std::string name : kBoth) {
    CAPTURE(name);
    const Profile profile = victim.profile("/debug/pprof/" + name);
    std::set<std::pair<std::vector<std::uint64_t>, std::string>> seen;
    for (const Sample& sample : profile.samples()) {
      CAPTURE(sample.key());
      std::vector<std::uint64_t> stack;
      for (const Frame& frame : sample.stack) stack.push_back(frame.address);
      const auto kind = sample.labels.find("wait");
      CHECK(seen.insert({stack, kind == sample.labels.end() ? "" : kind->second}).second);
    }
    std::int64_t waits = 0;
    for (const char* player : {"play", "play_back"})
      for (const Sample& sample : profile.in(player))
        if (sample.stack[0].name == (name == "block" ? "pthread_mutex_lock" : "pthread_mutex_unlock"))
          waits += sample.values[0];
    CHECK(waits == 200);
  }
}

TEST_CASE("locks that are free, and those that are only tried, record nothing", "[B14]") {
  Victim victim("mutex_hog", {}, kAll);
  victim.command("quiet 20000");
  for (const std::string name : kBoth) CHECK(victim.profile("/debug/pprof/" + name).in("quiet").empty());
}

TEST_CASE("a delta has what happened meanwhile and not what was before", "[D07]") {
  Victim victim("mutex_hog", {}, kAll);
  victim.command("hog1 2 20");
  InBackground collected(victim, "/debug/pprof/mutex?seconds=2");
  victim.command("hog2 2 20");
  const Profile delta = collected.profile();
  CHECK(delta.total("contentions").in("hog2") == 1);
  CHECK(delta.total("delay").in("hog2") > 0);
  CHECK(delta.in("hog1").empty());
  CHECK(delta.message().duration_nanos() >= 2'000'000'000);
  const Profile whole = victim.profile("/debug/pprof/mutex");
  CHECK(whole.total("contentions").in("hog1") == 1);
  CHECK(whole.total("contentions").in("hog2") == 1);
}

namespace {

// Runs `command` while `target` is collected, which takes long enough.
Profile collect(Victim& victim, const std::string& target, const std::string& command) {
  InBackground collected(victim, target);
  victim.command(command);
  return collected.profile();
}

}  // namespace

TEST_CASE("a request can switch the recording on for its own time") {
  Victim victim("mutex_hog");
  CHECK(collect(victim, "/debug/pprof/mutex?seconds=2&rate=1", "hog1 2 20").total("contentions").in("hog1") ==
        1);
  CHECK(
      collect(victim, "/debug/pprof/block?seconds=2&rate=1", "hog1 2 20").total("contentions").in("waits") ==
      2);
  // Then it is off again.
  victim.command("hog2 2 20");
  CHECK(victim.profile("/debug/pprof/mutex").in("hog2").empty());
  CHECK(victim.profile("/debug/pprof/block").total("contentions").in("waits") == 2);
}

TEST_CASE("a client that leaves switches the recording off again") {
  Victim victim("mutex_hog");
  {
    Connection connection(victim.unix_address());
    connection.send(to_bytes({.target = "/debug/pprof/mutex?seconds=300&rate=1"}));
    REQUIRE(eventually([&] {
      victim.command("hog1 1 1");
      return !victim.profile("/debug/pprof/mutex").in("hog1").empty();
    }));
  }
  CHECK(eventually([&] {
    const std::int64_t before = victim.profile("/debug/pprof/mutex").total("contentions").all();
    victim.command("hog1 1 1");
    return victim.profile("/debug/pprof/mutex").total("contentions").all() == before;
  }));
}

TEST_CASE("labels name the lock and who held it") {
  Victim victim("mutex_hog");
  std::smatch match;
  const std::string out = victim.process().out();
  REQUIRE(std::regex_search(out, match, std::regex("lock (0x[0-9a-f]+)")));
  const std::string lock = match[1];

  const Profile block =
      collect(victim, "/debug/pprof/block?seconds=2&rate=1&labels=lock,holder", "hog1 1 20");
  const std::vector<Sample> waits = block.in("waits");
  REQUIRE(waits.size() == 1);
  CHECK(waits[0].labels == std::map<std::string, std::string>{
                               {"holder", "hog1"}, {"lock", lock}, {"lock_name", "lock"}, {"wait", "mutex"}});
  const Profile mutex = collect(victim, "/debug/pprof/mutex?seconds=2&rate=1&labels=lock", "hog2 1 20");
  REQUIRE(mutex.in("hog2").size() == 1);
  CHECK(mutex.in("hog2")[0].labels ==
        std::map<std::string, std::string>{
            {"lock", lock}, {"lock_name", "lock"}, {"thread", "mutex_hog"}, {"wait", "mutex"}});

  const Profile nameless =
      collect(victim, "/debug/pprof/mutex?seconds=2&rate=1&labels=lock&symbols=none", "hog1 1 20");
  REQUIRE(nameless.samples().size() == 1);
  CHECK(nameless.samples()[0].labels ==
        std::map<std::string, std::string>{{"lock", lock}, {"thread", "mutex_hog"}, {"wait", "mutex"}});

  for (const char* wrong : {"labels=colour", "rate=0", "rate=-1", "rate=1.5", "rate=9000000000000000000"}) {
    CAPTURE(wrong);
    CHECK(victim.get(std::string("/debug/pprof/block?seconds=1&") + wrong).status == 400);
  }
}

TEST_CASE("who does not give a lock back is not charged, and who gets an error has not waited") {
  Victim victim("not_released", {}, kAll);
  const Profile mutex = victim.profile("/debug/pprof/mutex");
  const Profile block = victim.profile("/debug/pprof/block");
  // The inner of two unlocks, one that is not the owner's, and a wait for a condition without the lock.
  for (const char* function : {"unlocks_inner", "unlocks_of_another", "waits_without_lock"}) {
    CAPTURE(function);
    CHECK(mutex.in(function).empty());
  }
  // A deadlock that was found at once.
  CHECK(block.in("locks_again").empty());
  CHECK(block.in("waits_without_lock").empty());
  const auto releases = measured(victim.process().out());
  REQUIRE(releases.size() == 2);
  for (const auto& [function, bounds] : releases) {
    CAPTURE(function);
    check_within(mutex.total("delay").in(function), bounds, 2 * kUnit);
  }
}

// Each waiter's delay and each holder's charge, against what the threads have measured of one another.
TEST_CASE("who waited and who was waited for, on several locks at once") {
  Victim victim("lock_model", {}, kAll);
  const Profile block = victim.profile("/debug/pprof/block");
  const Profile mutex = victim.profile("/debug/pprof/mutex");
  const std::string out = victim.process().out();
  const auto waiters = measured(out, "waiter ");
  const auto holders = measured(out, "holder ");
  REQUIRE(waiters.size() == 5);
  REQUIRE(holders.size() == 5);
  // Four rounds of three locks; at each unlock at most three wait, each off by a unit at both ends.
  constexpr std::int64_t kSlack = 4 * 3 * 3 * 2 * kUnit;
  for (const auto& [name, bounds] : waiters) {
    CAPTURE(name);
    std::int64_t delay = 0;
    for (const Sample& sample : block.in(name))
      if (sample.labels.at("wait") == "mutex") delay += sample.values[1];
    check_within(delay, bounds);
  }
  for (const auto& [name, bounds] : holders) {
    CAPTURE(name);
    check_within(mutex.total("delay").in(name), bounds, kSlack);
  }
}
