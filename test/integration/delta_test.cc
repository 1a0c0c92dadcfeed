// ?seconds=N: differences over time, in programs that do something known meanwhile.
// test/conformance/surface.py asks the rest.
#include <algorithm>
#include <chrono>
#include <regex>
#include <set>
#include <thread>

#include <catch2/catch.hpp>

#include "encoder/proto/profile.pb.h"
#include "test/support/cpu.h"
#include "test/support/kinds.h"
#include "test/support/victim.h"

using namespace profagent::test;

namespace {

const Environment kExact = {{"PROFAGENT_MEM_PROFILE_RATE", "1"}};

std::int64_t now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

}  // namespace

TEST_CASE("a delta takes its time, and says so", "[D01][D02]") {
  Victim victim("leak");
  for (const std::string& name : kSnapshotKinds) {
    CAPTURE(name);
    const std::int64_t begin = now();
    const Response answer = victim.get("/debug/pprof/" + name + "?seconds=1");
    const std::int64_t end = now();
    CHECK(answer.status == 200);
    CHECK(answer.header("content-type") == "application/octet-stream");
    CHECK(answer.header("content-disposition") == "attachment; filename=\"" + name + "-delta\"");
    CHECK(end - begin >= kSecond);
    const Profile delta = Profile::parse(answer.body);
    // Never less than asked; the upper bound is what the client itself saw, so that a busy machine cannot
    // break it.
    CHECK(delta.message().duration_nanos() >= kSecond * 99 / 100);
    CHECK(delta.message().duration_nanos() <= end - begin);
    CHECK(delta.message().time_nanos() >= begin);
    CHECK(delta.message().time_nanos() <= end);
    CHECK(delta.types() == Profile::parse(victim.get("/debug/pprof/" + name).body).types());
  }
}

TEST_CASE("a delta shows what happened meanwhile and nothing else", "[D07][D09]") {
  Victim victim("leak", {"--times", "3"}, kExact);
  InBackground collected(victim, "/debug/pprof/heap?seconds=2");
  victim.command("other");
  victim.command("other");
  const Profile delta = collected.profile();
  CHECK(delta.total("inuse_space").in("other_leak") == 2 * 1999993);
  CHECK(delta.total("alloc_objects").in("other_leak") == 2);
  CHECK(delta.in("leaky").empty());
  CHECK(delta.in("tidy").empty());
  for (const Sample& sample : delta.samples())
    CHECK(std::any_of(sample.values.begin(), sample.values.end(),
                      [](std::int64_t value) { return value != 0; }));
  // Only what the samples need is in the tables.
  std::set<std::uint64_t> used;
  for (const auto& sample : delta.message().sample())
    used.insert(sample.location_id().begin(), sample.location_id().end());
  CHECK(static_cast<std::size_t>(delta.message().location_size()) == used.size());
  const Profile whole = victim.profile();
  CHECK(whole.total("inuse_space").in("leaky") == 3 * 1999993);
  CHECK(whole.total("inuse_space").in("other_leak") == 2 * 1999993);
}

TEST_CASE("a delta in which nothing happened is a valid empty profile", "[D08]") {
  Victim victim("leak", {}, {{"PROFAGENT_MEM_PROFILE_RATE", "0"}});
  const Profile delta = victim.profile("/debug/pprof/heap?seconds=1");
  CHECK(delta.types() == std::vector<std::string>{"alloc_objects/count", "alloc_space/bytes",
                                                  "inuse_objects/count", "inuse_space/bytes"});
  CHECK(delta.text(delta.message().period_type().type()) == "space");
  CHECK(delta.samples().empty());
  CHECK(delta.message().duration_nanos() > 0);
}

TEST_CASE("memory that goes meanwhile is negative in use, never in allocations", "[D10]") {
  Victim victim("leak", {"--times", "2"}, kExact);
  InBackground collected(victim, "/debug/pprof/heap?seconds=2");
  victim.command("forget");
  const Profile delta = collected.profile();
  CHECK(delta.total("inuse_space").in("leaky") == -2 * 1999993);
  CHECK(delta.total("inuse_objects").in("leaky") == -2);
  CHECK(delta.total("alloc_space").in("leaky") == 0);
  for (const Sample& sample : delta.samples()) {
    CHECK(sample.values[0] >= 0);
    CHECK(sample.values[1] >= 0);
  }
}

TEST_CASE("a client that leaves a long delta leaves nothing behind", "[D11]") {
  Victim victim("leak");
  // The one that asks is among them.
  const auto connections = [&] {
    const std::string page = victim.get("/debug/pprof/agent").body;
    std::smatch match;
    return std::regex_search(page, match, std::regex("\"connections_open\": (\\d+)")) ? std::stoi(match[1])
                                                                                      : -1;
  };
  REQUIRE(eventually([&] { return connections() == 1; }));
  {
    Connection local(victim.unix_address());
    Connection tcp(victim.tcp_address());
    local.send(to_bytes({.target = "/debug/pprof/heap?seconds=300"}));
    tcp.send(to_bytes({.target = "/debug/pprof/heap?seconds=300"}));
    REQUIRE(eventually([&] { return connections() == 3; }));
    CHECK(victim.get("/debug/pprof/heap").status == 200);
    tcp.abort();
  }
  CHECK(eventually([&] { return connections() == 1; }, std::chrono::seconds(20)));
  CHECK(victim.get("/debug/pprof/heap").status == 200);
}

TEST_CASE("overlapping deltas are each right", "[D12]") {
  Victim victim("leak", {}, kExact);
  InBackground longer(victim, "/debug/pprof/heap?seconds=6");
  victim.command("leak");
  InBackground shorter(victim, "/debug/pprof/heap?seconds=3");
  victim.command("other");
  const Profile part = shorter.profile();
  const Profile whole = longer.profile();
  CHECK(whole.total("inuse_space").in("leaky") == 1999993);
  CHECK(whole.total("inuse_space").in("other_leak") == 1999993);
  CHECK(part.total("inuse_space").in("leaky") == 0);
  CHECK(part.total("inuse_space").in("other_leak") == 1999993);
}
