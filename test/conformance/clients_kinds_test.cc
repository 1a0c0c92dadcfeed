// What clients and scrapers make of each kind of profile: checkprof has the scrapers' rules, pprof the
// options.
#include <regex>

#include <catch2/catch.hpp>

#include "test/support/clients.h"
#include "test/support/kinds.h"
#include "test/support/victim.h"

using namespace profagent::test;

namespace {

const Environment kExact = {{"PROFAGENT_MEM_PROFILE_RATE", "1"}};

}  // namespace

TEST_CASE("every profile passes the scrapers' rules", "[V01]") {
  for (const SnapshotKind& kind : kSnapshotKinds) {
    Victim victim(kind.victim, {}, kEverything);
    const std::string url = victim.url("/debug/pprof/" + kind.name);
    CAPTURE(url);
    const Outcome once = run({tool("checkprof"), url, url + "?seconds=1"});
    CHECK(once.out == url + ": ok\n" + url + "?seconds=1: ok\n");
    CHECK(once.ok());
    const Outcome twice = run({tool("checkprof"), "-sequence", url, url, url});
    CHECK(twice.out == url + ": ok\n" + url + ": ok\n" + url + ": ok\n");
  }
}

TEST_CASE("consecutive scrapes of a busy program pass the scrapers' rules", "[V01]") {
  Victim victim("storm", {"4000"}, {{"PROFAGENT_MEM_PROFILE_RATE", "4096"}});
  const std::string url = victim.url("/debug/pprof/allocs");
  const Outcome outcome = run({tool("checkprof"), "-sequence", url, url, url, url});
  CHECK(outcome.out == url + ": ok\n" + url + ": ok\n" + url + ": ok\n" + url + ": ok\n");
}

TEST_CASE("pprof -raw reads every profile, binary and text, as its kind", "[V02]") {
  for (const SnapshotKind& kind : kSnapshotKinds) {
    Victim victim(kind.victim, {}, kEverything);
    for (const std::string query : {"", "?debug=1", "?seconds=1"}) {
      CAPTURE(kind.name, query);
      for (const char* program : {"go_pprof", "pprof"}) {
        const Outcome raw =
            client(program, {"-raw", "-symbolize=none", victim.url("/debug/pprof/" + kind.name + query)});
        CAPTURE(raw.err);
        CHECK(raw.ok());
        CHECK(raw.out.find(std::string("PeriodType: ") + kind.period_type) != std::string::npos);
        if (query.empty()) CHECK(raw.out.find(" " + std::string(kind.shown) + " ") != std::string::npos);
      }
    }
  }
}

TEST_CASE("pprof sees the same totals in the binary profile and in the text", "[V02][M11]") {
  Victim victim("leak", {"--times", "3"}, kExact);
  const auto total = [&](const std::string& query, const std::string& type) {
    const Outcome top =
        go_pprof({"-top", "-unit=B", "-sample_index=" + type, victim.url("/debug/pprof/heap" + query)});
    std::smatch match;
    return std::regex_search(top.out, match, std::regex("of (\\d+B?) total")) ? match[1].str()
                                                                              : top.out + top.err;
  };
  for (const char* type : {"inuse_space", "inuse_objects", "alloc_space"})
    CHECK(total("", type) == total("?debug=1", type));
}

TEST_CASE("a profile over time passes the scrapers' rules, busy or idle", "[V01][V02][P03]") {
  for (const char* name : {"cpu_shares", "simple"}) {
    Victim victim(name);
    for (const TimedKind& kind : kTimedKinds) {
      CAPTURE(name, kind.name);
      const std::string url = victim.url("/debug/pprof/" + kind.name + "?seconds=1");
      CHECK(run({tool("checkprof"), url}).out == url + ": ok\n");
      for (const char* program : {"go_pprof", "pprof"}) {
        const Outcome raw = client(program, {"-raw", "-symbolize=none", url});
        CAPTURE(raw.err);
        CHECK(raw.ok());
        const std::string period = "PeriodType: " + std::string(kind.period_type) + "\nPeriod: 10000000\n";
        CHECK(raw.out.find(period) != std::string::npos);
      }
    }
  }
}

TEST_CASE("pprof shows wall-clock time by state, under fgprof's path too") {
  Victim victim("stands");
  for (const char* path : {"/debug/pprof/wall?seconds=1", "/debug/fgprof?seconds=1"}) {
    const Outcome top = go_pprof({"-top", "-tagroot=state", victim.url(path)});
    CAPTURE(path, top.out, top.err);
    CHECK(top.ok());
    CHECK(top.out.find("Type: wall\n") != std::string::npos);
    CHECK(std::regex_search(rows_of(top.out), std::regex(" mutex\n")));
    CHECK(std::regex_search(rows_of(top.out), std::regex(" f3\n")));
  }
}

TEST_CASE("-tagfocus keeps one thread's samples", "[P17]") {
  Victim victim("cpu_shares", {"--threads", "2", "--each"});
  const std::string url = victim.url("/debug/pprof/profile?seconds=1");
  const Outcome focused = go_pprof({"-raw", "-tagfocus=thread=share-2", url});
  CAPTURE(focused.out, focused.err);
  CHECK(focused.out.find("thread:[share-2]") != std::string::npos);
  CHECK(focused.out.find("thread:[share-1]") == std::string::npos);
  const Outcome root = go_pprof({"-top", "-tagroot=thread", url});
  CAPTURE(root.out, root.err);
  CHECK(std::regex_search(rows_of(root.out), std::regex(" share-1\n")));
}

// The totals are what pprof prints of binary and text, in its unit.
TEST_CASE("pprof's options for contentions choose the right column", "[B10][B13]") {
  Victim victim("mutex_hog", {}, kEverything);
  victim.command("hog1 4 50");
  for (const std::string name : {"block", "mutex"}) {
    const Profile profile = victim.profile("/debug/pprof/" + name);
    const std::string culprit = name == "block" ? "waits" : "hog1";
    const std::int64_t delay = profile.total("delay").in(culprit);
    const std::int64_t count = profile.total("contentions").in(culprit);
    REQUIRE(count == (name == "block" ? 4 : 1));
    const auto row = [&](const std::string& option, const std::string& query) {
      const Outcome top = go_pprof({"-top", "-cum", "-nodecount=1000", "-nodefraction=0", "-unit=ns", option,
                                    "-focus=^" + culprit + "$", victim.url("/debug/pprof/" + name + query)});
      CAPTURE(top.out, top.err);
      CHECK(top.ok());
      std::smatch match;
      // flat flat% sum% cum cum% name
      const std::regex line("\\s(\\d+)(?:ns)?\\s+\\S+%\\s+" + culprit + "\n");
      REQUIRE(std::regex_search(top.out, match, line));
      return std::stoll(match[1]);
    };
    CAPTURE(name);
    CHECK(row("-total_delay", "") == delay);
    CHECK(row("-contentions", "") == count);
    CHECK(row("-mean_delay", "") == delay / count);
    // The text form has no names of the program's own unless it is symbolized by its memory map, which go
    // tool pprof cannot; the sums are there all the same.
    const auto sum = [&](const std::string& option, const std::string& query) {
      const Outcome top = go_pprof({"-top", "-unit=ns", option, victim.url("/debug/pprof/" + name + query)});
      std::smatch match;
      return std::regex_search(top.out, match, std::regex("of (\\d+)(?:ns)? total")) ? match[1].str()
                                                                                     : top.out + top.err;
    };
    if (name == "mutex") {
      CHECK(sum("-total_delay", "?debug=1") == sum("-total_delay", ""));
      CHECK(sum("-contentions", "?debug=1") == sum("-contentions", ""));
    }
  }
}
