// delta_heap, delta_block and delta_mutex: each answer has what came since the last one, so that their sums
// are what the whole profiles say.
#include <regex>
#include <string>

#include <catch2/catch.hpp>

#include "encoder/proto/profile.pb.h"
#include "test/support/victim.h"

using namespace profagent::test;

namespace {

const Environment kEverySample = {{"PROFAGENT_MEM_PROFILE_RATE", "1"},
                                  {"PROFAGENT_BLOCK_PROFILE_RATE", "1"},
                                  {"PROFAGENT_MUTEX_PROFILE_FRACTION", "1"}};

}  // namespace

TEST_CASE("each answer has what was allocated since the last one, and all that is in use", "[A05]") {
  Victim victim("leak", {"--times", "3"}, kEverySample);
  const auto check = [&](std::int64_t allocated, std::int64_t freed_at_once, std::int64_t in_use) {
    const Profile delta = victim.profile("/debug/pprof/delta_heap");
    CHECK(delta.types() == victim.profile().types());
    CHECK(delta.total("alloc_objects").in("leaky") == allocated);
    CHECK(delta.total("alloc_space").in("leaky") == allocated * 1999993);
    CHECK(delta.total("inuse_objects").in("leaky") == in_use);
    CHECK(delta.total("inuse_space").in("leaky") == in_use * 1999993);
    // What neither came nor is there is left out.
    CHECK(delta.total("alloc_objects").in("tidy") == freed_at_once);
    CHECK(delta.in("tidy").empty() == (freed_at_once == 0));
    return delta;
  };
  // The first answer: everything since the start.
  CHECK(check(3, 3, 3).message().duration_nanos() == 0);
  CHECK(check(0, 0, 3).message().duration_nanos() > 0);
  victim.command("leak");
  victim.command("tidy");
  // Other profiles are not in its way.
  CHECK(victim.profile("/debug/pprof/heap?seconds=1").total("alloc_objects").in("leaky") == 0);
  CHECK(victim.profile().total("alloc_objects").in("leaky") == 4);
  check(1, 1, 4);
  victim.command("forget");
  check(0, 0, 0);
  check(0, 0, 0);
}

TEST_CASE("each answer has the waits since the last one", "[A05]") {
  Victim victim("mutex_hog", {}, kEverySample);
  for (const std::string kind : {"block", "mutex"}) {
    CAPTURE(kind);
    const std::string function = kind == "block" ? "waits" : "hog1";
    const std::int64_t each = kind == "block" ? 2 : 1;
    const auto contentions = [&](const std::string& path) {
      return victim.profile("/debug/pprof/" + path).total("contentions").in(function);
    };
    const std::int64_t before = contentions(kind);
    victim.command("hog1 2 20");
    CHECK(contentions("delta_" + kind) == before + each);
    CHECK(contentions("delta_" + kind) == 0);
    victim.command("hog1 2 20");
    victim.command("hog1 2 20");
    const Profile delta = victim.profile("/debug/pprof/delta_" + kind);
    CHECK(delta.total("contentions").in(function) == 2 * each);
    CHECK(delta.total("delay").in(function) > 0);
    CHECK(contentions("delta_" + kind) == 0);
  }
}

TEST_CASE("what is described in other words is not told again", "[A05]") {
  Victim victim("mutex_hog", {}, kEverySample);
  victim.command("hog1 2 20");
  CHECK(victim.profile("/debug/pprof/delta_mutex").total("contentions").in("hog1") == 1);
  const Response change = victim.put_config("{\"contention_labels\": \"lock\"}");
  REQUIRE(change.status == 200);
  for (const char* symbols : {"names", "none", "lines"}) {
    CAPTURE(symbols);
    const Profile nothing = victim.profile("/debug/pprof/delta_mutex?symbols=" + std::string(symbols));
    CHECK(nothing.samples().empty());
    CHECK(victim.profile("/debug/pprof/delta_heap?symbols=" + std::string(symbols)).types().size() == 4);
  }
  victim.command("hog1 2 20");
  const Profile delta = victim.profile("/debug/pprof/delta_mutex");
  CHECK(delta.total("contentions").in("hog1") == 1);
}

TEST_CASE("they are profiles of now, and only that", "[A05]") {
  Victim victim("leak", {}, kEverySample);
  for (const std::string name : {"delta_heap", "delta_block", "delta_mutex"}) {
    CAPTURE(name);
    CHECK(victim.get("/debug/pprof/" + name + "?debug=1").status == 400);
    CHECK(victim.get("/debug/pprof/" + name + "?seconds=1").status == 400);
    const Response answer = victim.get("/debug/pprof/" + name);
    CHECK(answer.header("content-type") == "application/octet-stream");
    CHECK(answer.header("content-disposition") == "attachment; filename=\"" + name + "\"");
    CHECK(victim.get("/debug/pprof/").body.find("<div class=profile-name>" + name + ": </div>") !=
          std::string::npos);
  }
  // A question that was refused has taken nothing away.
  CHECK(victim.profile("/debug/pprof/delta_heap").total("alloc_objects").in("leaky") == 0);
  victim.command("leak");
  CHECK(victim.get("/debug/pprof/delta_heap?debug=1").status == 400);
  CHECK(victim.profile("/debug/pprof/delta_heap").total("alloc_objects").in("leaky") == 1);
}

TEST_CASE("when the last answer is forgotten, nothing is told twice", "[A05]") {
  // A change of rights ends our thread and with it what it knows; the next client starts another.
  Victim victim("drop_rights", {}, kEverySample);
  // It waits for its commands; for one that is there before it asks it does not.
  REQUIRE(eventually([&] {
    victim.command("wait");
    return !victim.profile("/debug/pprof/block").samples().empty();
  }));
  CHECK_FALSE(victim.profile("/debug/pprof/delta_block").samples().empty());
  victim.command("drop");
  const Profile first = victim.profile("/debug/pprof/delta_block");
  CHECK(first.samples().empty());
  bool is_told = false;
  for (const std::string& comment : first.comments())
    is_told = is_told || comment.find("counting begins here") == 0;
  CHECK(is_told);
}

TEST_CASE("what is kept for the next answer is bounded", "[A05]") {
  Victim victim("leak", {}, kEverySample);
  for (int i = 0; i < 3; ++i) victim.get("/debug/pprof/delta_heap");
  const auto in_use = [&] {
    std::smatch match;
    const std::string page = victim.get("/debug/pprof/agent").body;
    return std::regex_search(page, match, std::regex("\"in_use_bytes\": (\\d+)")) ? std::stoll(match[1]) : -1;
  };
  const std::int64_t once = in_use();
  for (int i = 0; i < 100; ++i) victim.get("/debug/pprof/delta_heap");
  // One profile, however often it was asked for: these have few rows.
  CHECK(in_use() - once < 65536);
}
